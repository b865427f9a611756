"""Contamination: overlap of word 13-grams, or 20 characters of a script without spaces, with an evaluation set."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.text import ngrams, words
from dpo_data.errors import InputError, RowError, UsageError, reading
from dpo_data.readers.inputs import find_inputs
from dpo_data.records import FIELDS, PairTexts, PreferencePair, TextPair

#: Words per run; two texts hardly share 13 by chance. Source: Brown et al. 2020, arXiv:2005.14165, appendix C.
RUN = 13
#: Characters per run in scripts without spaces: about as many words.
UNSPACED_RUN = 20
#: Words that an evaluation text must have; one that is shorter than a run must be in the pair as a whole.
MIN_WORDS = 8
#: Characters that it must have in a script without spaces.
MIN_UNSPACED = 13

#: Run of words in an evaluation set -> "file:row" of its first occurrence.
Runs = dict[str, str]


def find(pair: PreferencePair, texts: PairTexts, runs: Runs, lengths: Sequence[int] = (RUN,)) -> Finding | None:
    """Return a finding if a field shares a run of words with an evaluation set; the message has both positions.

    >>> runs = {"what has many keys but can not open even one single wooden door": "riddles.txt:1"}
    >>> find(CHECK.example, CHECK.example.texts, runs).message
    'prompt shares "what has many keys but can not open even one single wooden door" with riddles.txt:1.'
    """
    for field, text in zip(FIELDS, texts, strict=True):
        tokens = words(text)
        for length in lengths:
            if len(tokens) >= length:
                for run in ngrams(tokens, length):
                    if run in runs:
                        return Finding(field, f'{field} shares "{run}" with {runs[run]}.')
    return None


CHECK = RowCheck(
    code="contamination",
    severity="warning",
    summary="thirteen consecutive words of a text are also in an evaluation set",
    hint="Evaluation would measure memorization. Check the shared words: common phrases and quotations are harmless.",
    find=partial(find, runs={}),
    example=TextPair(
        prompt="What has many keys, but can NOT open even one single wooden door?", chosen="A piano.", rejected="A map."
    ),
)


def contamination(files: Iterable[str | Path], run_words: int = RUN) -> RowCheck:
    """Return the check against evaluation sets, which are held in memory.

    Args:
        files: plain text files with one text per line, or files in any format that convert reads, of whose records
            every string counts, at any depth.
        run_words: words of a run.

    Raises:
        InputError: a file cannot be read.
        UsageError: a file has no text that is long enough.
    """
    runs: Runs = {}
    for file in map(str, files):
        before = len(runs)
        for origin, text in _texts(file):
            tokens = words(text)
            unspaced = 2 * sum(word >= "\u0e00" and len(word) == 1 for word in tokens) > len(tokens)
            if len(tokens) >= (MIN_UNSPACED if unspaced else MIN_WORDS):
                for run in ngrams(tokens, UNSPACED_RUN if unspaced else run_words):
                    runs.setdefault(run, origin)
        if len(runs) == before:
            raise UsageError(f"has no new text of {MIN_WORDS} words or more.", "against", file)
    lengths = sorted({run.count(" ") + 1 for run in runs})
    return replace(CHECK, find=partial(find, runs=runs, lengths=lengths))


def _texts(file: str) -> Iterator[tuple[str, str]]:
    if Path(file).suffix.lower() in (".txt", ".md"):
        with reading(file), open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                yield f"{Path(file).name}:{number}", line
        return
    for input_ in find_inputs([file]):
        for chunk in input_.chunks():
            for row in chunk.rows():
                origin = f"{input_.label}:{row.line}"
                if isinstance(row.value, RowError):
                    raise InputError(
                        f"{origin}: {row.value.message}\n  All rows of an evaluation set must be readable."
                    )
                for text in _strings(row.value):
                    yield origin, text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
