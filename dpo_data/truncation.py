"""keep_end / keep_start truncation on token ids; knows nothing of text or tokenizers.

Lengths are in tokens, for a pair: p the prompt's, r the longer response's; L is max_length, P max_prompt_length.

    p + r <= L:  nothing is cut.
    else:        the prompt keeps min(p, P) tokens where P is given, and max(L - r, min(p, L // 4), 1) where it is not;
                 keep_end keeps its last tokens, keep_start its first;
                 then each response keeps its first L - (prompt tokens kept).

The prompt is cut once for both responses and never becomes empty; a begin-of-sequence token survives keep_end.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpo_data.errors import UsageError
from dpo_data.options import TruncationMode

Lengths = NDArray[np.int64]


class KeptLengths(NamedTuple):
    """Tokens kept of each prompt, chosen and rejected; (N,) each."""

    prompt: Lengths
    chosen: Lengths
    rejected: Lengths


def check_limits(max_length: int | None, max_prompt_length: int | None) -> None:
    """Refuse limits that leave no room for a prompt or for a response.

    Raises: UsageError.
    """
    if max_length is not None and max_length < 2:
        raise UsageError(f"--max-length {max_length}: must be at least 2, a prompt token and a response token.")
    if max_prompt_length is not None and max_prompt_length < 1:
        raise UsageError(f"--max-prompt-length {max_prompt_length}: must be at least 1: a prompt never becomes empty.")
    if max_prompt_length is not None and max_length is None:
        raise UsageError("--max-prompt-length works only beside --max-length: nothing is cut without it.")
    if max_length is not None and max_prompt_length is not None and max_prompt_length >= max_length:
        raise UsageError(
            f"--max-prompt-length {max_prompt_length} leaves no token of --max-length {max_length} for the response.\n"
            "  Give a smaller --max-prompt-length; the field's custom is a quarter of --max-length."
        )


def kept_lengths(
    prompt: Lengths, chosen: Lengths, rejected: Lengths, max_length: int | None, max_prompt_length: int | None
) -> KeptLengths:
    """How many tokens of each prompt and response stay, by the rule above.

    Args:
        prompt: (N,) tokens of the prompts; one without any, which no trainer takes, stays so.
        chosen: (N,) tokens of the chosen responses.
        rejected: (N,) tokens of the rejected responses.
        max_length: most tokens of a prompt with its longer response; None cuts nothing.
        max_prompt_length: most tokens of a prompt in a pair that is too long; under max_length.
    """
    if max_length is None:
        return KeptLengths(prompt, chosen, rejected)
    longer = np.maximum(chosen, rejected)
    if max_prompt_length is not None:
        short = np.minimum(prompt, max_prompt_length)
    else:
        short = np.maximum(np.maximum(max_length - longer, np.minimum(prompt, max_length // 4)), np.minimum(prompt, 1))
    kept_prompt = np.where(prompt + longer <= max_length, prompt, short)
    room = max_length - kept_prompt
    return KeptLengths(kept_prompt, np.minimum(chosen, room), np.minimum(rejected, room))


@dataclass(frozen=True)
class Ragged:
    """N sequences of token ids end to end.

    Attributes:
        values: all ids, int32.
        offsets: (N + 1,) int64; sequence i is values[offsets[i]:offsets[i + 1]].
    """

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @property
    def lengths(self) -> Lengths:
        """(N,) tokens of each sequence."""
        return np.diff(self.offsets)

    @property
    def positions(self) -> "Ragged":
        """Where each id stands in its own sequence, from 0; cut like the ids, it tells which of them stayed."""
        starts = np.repeat(self.offsets[:-1], self.lengths)
        return Ragged((np.arange(len(self.values)) - starts).astype(np.int32), self.offsets)

    def take(self, rows: NDArray[np.int64]) -> "Ragged":
        """The sequences at `rows`, (M,), in that order."""
        return self._gather(self.offsets[:-1][rows], self.lengths[rows])

    def cut_end(self, lengths: Lengths) -> "Ragged":
        """The first `lengths` ids, (N,), of each sequence."""
        return self.cut(np.zeros_like(lengths), lengths)

    def cut(self, starts: Lengths, lengths: Lengths) -> "Ragged":
        """Of each sequence the `lengths` ids from `starts` on; both (N,), inside the sequence."""
        if np.array_equal(lengths, self.lengths):
            return self
        return self._gather(self.offsets[:-1] + starts, lengths)

    def select(self, keep: NDArray[np.bool_]) -> "Ragged":
        """The sequences that `keep`, (N,), marks."""
        return self if keep.all() else self.take(np.flatnonzero(keep))

    def _gather(self, starts: NDArray[np.int64], lengths: Lengths) -> "Ragged":
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Ragged(self.values[np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])], offsets)


def cut_prompts(prompts: Ragged, kept: Lengths, mode: TruncationMode, bos_token_id: int | None) -> Ragged:
    """The prompts cut to `kept` tokens each, (N,): their last with keep_end, their first with keep_start.

    With keep_end a prompt that began with `bos_token_id` still does: it takes the place of the oldest token kept.
    """
    if mode == "keep_start":
        return prompts.cut_end(kept)
    starts = prompts.lengths - kept
    cut = prompts.cut(starts, kept)
    if bos_token_id is not None and cut is not prompts:
        shortened = np.flatnonzero(starts > 0)
        had_bos = shortened[prompts.values[prompts.offsets[shortened]] == bos_token_id]
        cut.values[cut.offsets[had_bos]] = bos_token_id
    return cut


def equal_rows(one: Ragged, other: Ragged) -> NDArray[np.bool_]:
    """(N,) whether sequence i of both holds the same ids."""
    equal: NDArray[np.bool_] = one.lengths == other.lengths
    for row in np.flatnonzero(equal):
        first, second = one.offsets[row], other.offsets[row]
        length = one.offsets[row + 1] - first
        equal[row] = np.array_equal(one.values[first : first + length], other.values[second : second + length])
    return equal
