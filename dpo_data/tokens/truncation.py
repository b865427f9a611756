"""Truncation: how many tokens of a pair are kept, and which."""

from typing import NamedTuple

import numpy as np

from dpo_data.errors import UsageError
from dpo_data.options import TruncationMode
from dpo_data.ragged import Lengths, Ragged


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
