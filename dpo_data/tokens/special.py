"""Edges of a text: special tokens that end a turn, and a space that the tokenizer puts before the text."""

import json
from collections.abc import Mapping
from typing import Any


class EndTokens:
    """The special tokens of a tokenizer that may end a turn.

    Args:
        tokenizer: of transformers.
        template: the text of its chat template.

    Attributes:
        eos: the end-of-sequence token.
    """

    def __init__(self, tokenizer: Any, template: str = "") -> None:
        # Not all_special_tokens alone: it has only those with a role, and a turn may end with another.
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        special.update(tokenizer.all_special_tokens)
        self.eos: str = tokenizer.eos_token
        # Tokens for other purposes end a turn only where a template writes them.
        others = {getattr(tokenizer, f"{role}_token", None) for role in ("bos", "unk", "pad", "mask")} - {self.eos}
        self._texts = tuple(text for text in special if text and (text not in others or text in template))
        self._last_characters = frozenset(text[-1] for text in self._texts)

    def are_at_end_of(self, text: str) -> bool:
        """Return True if a text ends with a special token, apart from white space."""
        stripped = text.rstrip()
        # The last character first: a tokenizer may have hundreds of special tokens.
        return stripped[-1:] in self._last_characters and stripped.endswith(self._texts)

    def strip_after(self, text: str) -> str:
        """Return a text without the white space behind the special token that it ends with; others as they are."""
        return text.rstrip() if self.are_at_end_of(text) else text


def without_prefix_space(backend: Any) -> Any | None:
    """Return a tokenizer of the tokenizers library that puts no space before a text, or None if it puts none now.

    SentencePiece models put one before every text, also before a response that follows its prompt directly.
    """
    changed = {}
    for name in ("normalizer", "pre_tokenizer"):
        part = getattr(backend, name)
        before = json.loads(part.__getstate__()) if part is not None else None
        after = _without_prefix(before)
        if after != before:
            changed[name] = after
    if not changed:
        return None
    return type(backend).from_str(json.dumps({**json.loads(backend.to_str()), **changed}))


def _without_prefix(part: Any) -> Any:
    """Return the description of a normalizer or pre-tokenizer without what it puts before a text."""
    if not isinstance(part, Mapping):
        return part
    for steps in ("normalizers", "pretokenizers"):
        if steps in part:
            kept = [step for step in part[steps] if step.get("type") != "Prepend"]
            return {**part, steps: [_without_prefix(step) for step in kept]}
    if part.get("type") == "Prepend":
        return None
    if part.get("type") == "Metaspace":
        return {**part, "prepend_scheme": "never"}
    if part.get("type") == "ByteLevel":
        return {**part, "add_prefix_space": False}
    return part
