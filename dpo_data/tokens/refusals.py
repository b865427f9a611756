"""The limit on pairs that a chat template refuses."""

from collections import Counter

from dpo_data.errors import TooManyInvalid, argument
from dpo_data.prepared.reader import Prepared
from dpo_data.tokens.coverage import DROPS_CONTENT, DROPS_MESSAGE
from dpo_data.tokens.encoder import Encoder
from dpo_data.tokens.manifest import TokenCounts
from dpo_data.tokens.rendering import TEMPLATE_REFUSED, TEMPLATE_REWRITES_PROMPT

#: Reason of a refusal -> what it means.
REFUSALS = {
    TEMPLATE_REFUSED: "the template raises an error",
    TEMPLATE_REWRITES_PROMPT: "the template renders the prompt otherwise once a response follows",
    DROPS_CONTENT: "the template leaves out a part of a response",
    DROPS_MESSAGE: "the template leaves out a part of a prompt",
}
#: What to do about refused pairs.
REFUSAL_HINT = "Give a chat template that renders them, or remove these rows."


class RefusalLimit:
    """The share of a folder's pairs that its chat template may refuse."""

    def __init__(self, prepared: Prepared, encoder: Encoder, max_invalid: float) -> None:
        self._folder = prepared.path
        self._pairs = prepared.manifest.pairs
        self._tokenizer = encoder.tokenizer.name_or_path
        self._max_invalid = max_invalid
        self._refused: Counter[str] = Counter()
        self._messages: dict[str, str] = {}
        self._read = 0

    def add(self, counts: TokenCounts) -> None:
        """Add the counts of some of the pairs.

        Raises: TooManyInvalid: the limit is exceeded, whatever the others are.
        """
        self._read += counts.pairs_read
        self._refused.update({reason: rows for reason, rows in counts.dropped.items() if reason in REFUSALS})
        self._messages = counts.refusals | self._messages
        if self._refused.total() > self._max_invalid * self._pairs:
            raise TooManyInvalid(self._text())

    def _text(self) -> str:
        of_pairs = f"of {self._pairs:,}" if self._read == self._pairs else f"of the first {self._read:,}"
        name = f" of {self._tokenizer}" if self._tokenizer else ""
        reasons = "".join(
            f"\n  {reason} ({rows:,}): {REFUSALS[reason]}: {self._messages.get(reason, '')}".rstrip(": ")
            for reason, rows in self._refused.most_common()
        )
        return (
            f"{self._folder}: the chat template{name} refuses {self._refused.total():,} {of_pairs} pairs, more than "
            f"{argument('max_invalid', format(self._max_invalid, '.3g'))} allows; no token cache was made.{reasons}\n"
            f"  Give a template that renders them with {argument('chat_template')}, or raise {argument('max_invalid')}."
        )
