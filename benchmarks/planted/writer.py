"""Random texts of a pool: prompts, responses and the rows that hold them."""

import random
import tomllib
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def row(prompt: str, chosen: str, rejected: str, **columns: Any) -> Row:
    """Return a conversational row of one user turn."""
    return {"prompt": [user(prompt)], "chosen": [assistant(chosen)], "rejected": [assistant(rejected)]} | columns


class Writer:
    """Source of random texts in the languages of a pool.

    Attributes:
        pool: "development" or "held_out".
        language: of the next texts; `next_language` picks another.
    """

    def __init__(self, pool: str, seed: int) -> None:
        self.pool = pool
        self.random = random.Random(f"{pool} {seed}")
        self.texts: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name(f"{pool}.toml").read_text())
        self.languages = list(self.texts)
        self.language = self.languages[0]
        self._serial = 0

    @property
    def is_spaced(self) -> bool:
        """True if the language writes spaces between words."""
        return self.language not in {"zh", "ja"}

    @property
    def space(self) -> str:
        return " " if self.is_spaced else ""

    def next_language(self) -> str:
        self.language = self.random.choice(self.languages)
        return self.language

    def other_language(self) -> str:
        return self.random.choice([language for language in self.languages if language != self.language])

    def of(self, kind: str, language: str | None = None) -> str:
        """Return a random text of one kind, with its slots filled in."""
        texts = self.texts[language or self.language]
        text: str = self.random.choice(texts[kind])
        return self.fill(text, language)

    def fill(self, text: str, language: str | None = None) -> str:
        texts = self.texts[language or self.language]
        for slot, kind in (("name", "names"), ("city", "cities"), ("thing", "things")):
            while f"{{{slot}}}" in text:
                text = text.replace(f"{{{slot}}}", self.random.choice(texts[kind]), 1)
        return text.replace("{n}", str(self.random.randint(3, 97)))

    def sentences(self, count: int, language: str | None = None) -> str:
        """Return different sentences of a response as one paragraph."""
        language = language or self.language
        chosen = self.random.sample(self.texts[language]["sentences"], count)
        space = "" if language in {"zh", "ja"} else " "
        return space.join(self.fill(text, language) for text in chosen)

    def prompt(self, language: str | None = None) -> str:
        """Return two situations and a question, so that no two prompts are alike."""
        language = language or self.language
        space = "" if language in {"zh", "ja"} else " "
        situations = self.random.sample(self.texts[language]["situations"], self.random.choice([2, 2, 3]))
        parts = [*(self.fill(text, language) for text in situations), self.of("prompts", language)]
        return space.join(parts)

    def response(self, language: str | None = None) -> str:
        """Return a response of one to three paragraphs."""
        language = language or self.language
        space = "" if language in {"zh", "ja"} else " "
        first = self.sentences(self.random.randint(2, 5), language)
        if self.random.random() < 0.5:
            first = self.of("openers", language) + space + first
        more = [self.sentences(self.random.randint(1, 3), language) for _ in range(self.random.choice([0, 0, 1, 2]))]
        return "\n\n".join([first, *more])

    def pair(self) -> list[str]:
        """Return prompt, chosen and rejected in a new random language."""
        self.next_language()
        return [self.prompt(), self.response(), self.response()]

    def one_side(self, change: Any) -> Row:
        """Return a row with one response, or both, changed."""
        texts = self.pair()
        for side in self.random.choice([(1,), (2,), (2,), (1, 2)]):
            texts[side] = change(texts[side], texts[0])
        return row(*texts)
