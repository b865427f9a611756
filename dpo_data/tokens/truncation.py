"""Truncation: how many tokens of a pair are kept, and which.

Lengths are in tokens: p of the prompt, r of the longer response, L = max_length, P = max_prompt_length. A pair with
p + r <= L is left as it is. Otherwise the prompt keeps min(p, P) tokens, or max(L - r, min(p, L // 4), 1) without P,
and each response keeps its first L - (tokens of the prompt kept). A prompt never becomes empty.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpo_data.errors import UsageError, argument
from dpo_data.options import TruncationMode
from dpo_data.ragged import Lengths, Ragged


class KeptLengths(NamedTuple):
    """Tokens kept of each prompt, chosen and rejected response; (N,) each."""

    prompt: Lengths
    chosen: Lengths
    rejected: Lengths


class TurnCut(NamedTuple):
    """The prompt of a pair without its oldest turns.

    Attributes:
        prompt: the ids kept.
        turns: number of turns dropped.
        tokens: number of tokens cut from the turns that are left.
    """

    prompt: NDArray[np.int32]
    turns: int
    tokens: int


def check_limits(max_length: int | None, max_prompt_length: int | None) -> None:
    """Raise UsageError if the limits leave no room for a prompt or for a response."""
    if max_length is not None and max_length < 2:
        raise UsageError("must be at least 2: a prompt token and a response token.", "max_length", max_length)
    if max_prompt_length is not None and max_prompt_length < 1:
        raise UsageError("must be at least 1: a prompt never becomes empty.", "max_prompt_length", max_prompt_length)
    if max_prompt_length is not None and max_length is None:
        raise UsageError(
            f"has no effect without truncation.\n  Give {argument('max_length')} too.",
            "max_prompt_length",
            max_prompt_length,
        )
    if max_length is not None and max_prompt_length is not None and max_prompt_length >= max_length:
        raise UsageError(
            f"leaves no token of {argument('max_length', max_length)} for the response.\n"
            "  Give a smaller value; a quarter of the maximum length is common.",
            "max_prompt_length",
            max_prompt_length,
        )


def kept_lengths(
    prompt: Lengths, chosen: Lengths, rejected: Lengths, max_length: int | None, max_prompt_length: int | None
) -> KeptLengths:
    """Return the number of tokens kept of each prompt and response.

    Args:
        prompt: (N,) tokens of the prompts; a prompt without any, which no trainer takes, stays so.
        chosen: (N,) tokens of the chosen responses.
        rejected: (N,) tokens of the rejected responses.
        max_length: maximum tokens in the prompt plus its longer response; None disables truncation.
        max_prompt_length: maximum tokens in the prompt of a pair that is too long; less than max_length.
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


def cut_prompts(prompts: Ragged, kept: Lengths, mode: TruncationMode, bos_token_id: int | None) -> Ragged:
    """Return the prompts truncated to `kept` tokens each, (N,): their last with keep_end, their first with keep_start.

    With keep_end a prompt that began with `bos_token_id` still does: it replaces the oldest token kept.
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
