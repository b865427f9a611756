"""Effect of maximum lengths on pairs, found by truncating them with the rule of `dpo_data.tokens.truncation`."""

from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np

from dpo_data.checks.counts import MAX_EXAMPLES
from dpo_data.inspect.statistics.models import Truncation
from dpo_data.options import TruncationMode
from dpo_data.ragged import equal_rows
from dpo_data.tokens.encoder import EncodedPairs
from dpo_data.tokens.truncation import check_limits, cut_prompts, kept_lengths

MODES: tuple[TruncationMode, ...] = get_args(TruncationMode)


class TruncationAudit:
    """Truncates every pair to every length in both modes, and counts what is lost.

    Raises: UsageError: lengths that leave no room for a prompt or a response.
    """

    def __init__(self, max_lengths: Sequence[int], max_prompt_length: int | None = None) -> None:
        for max_length in max_lengths:
            check_limits(max_length, max_prompt_length)
        self._max_prompt_length = max_prompt_length
        self._counts: dict[int, dict[TruncationMode, Counter[str]]] = {
            max_length: {mode: Counter() for mode in MODES} for max_length in sorted(set(max_lengths))
        }
        self._identical_examples: dict[int, list[str]] = {max_length: [] for max_length in self._counts}
        self._one_side_examples: dict[int, list[str]] = {max_length: [] for max_length in self._counts}

    def add(self, pairs: EncodedPairs, ids: Sequence[str]) -> None:
        """Truncate more pairs.

        Args:
            pairs: N pairs as ids, not truncated.
            ids: (N,) pair ids.
        """
        prompt, chosen, rejected = pairs.prompts, pairs.chosen, pairs.rejected
        positions = prompt.positions
        equal_before = equal_rows(chosen, rejected)
        for max_length, by_mode in self._counts.items():
            kept = kept_lengths(prompt.lengths, chosen.lengths, rejected.lengths, max_length, self._max_prompt_length)
            lost = [whole.lengths - left for whole, left in zip((prompt, chosen, rejected), kept, strict=True)]
            cut = [side > 0 for side in lost]
            identical = equal_rows(chosen.cut_end(kept.chosen), rejected.cut_end(kept.rejected)) & ~equal_before
            one_side = cut[1] ^ cut[2]
            counts = {
                "pairs": len(ids),
                "pairs_cut": cut[0] | cut[1] | cut[2],
                "prompt_tokens_lost": lost[0],
                "chosen_losing_end": cut[1],
                "rejected_losing_end": cut[2],
                "one_side_losing_end": one_side,
                "response_tokens_lost": lost[1] + lost[2],
                "responses_too_long": np.maximum(chosen.lengths, rejected.lengths) >= max_length,
                "identical": identical,
                "empty": kept.prompt == 0,
            }
            totals = {name: int(np.sum(values)) for name, values in counts.items()}
            for mode, tally in by_mode.items():
                # Positions, truncated like the tokens, show which end of a prompt is lost.
                stayed = cut_prompts(positions, kept.prompt, mode, None)
                filled = stayed.lengths > 0
                first, last = stayed.values[stayed.offsets[:-1][filled]], stayed.values[stayed.offsets[1:][filled] - 1]
                tally.update(totals)
                tally.update(
                    prompts_losing_start=int((first > 0).sum()),
                    prompts_losing_end=int((last < prompt.lengths[filled] - 1).sum()),
                )
            for examples, found in (
                (self._identical_examples[max_length], identical),
                (self._one_side_examples[max_length], one_side),
            ):
                examples += [ids[row] for row in np.flatnonzero(found)[: MAX_EXAMPLES - len(examples)]]

    def results(self) -> list[Truncation]:
        """Return one entry per length and mode, in the order of the lengths."""
        return [
            Truncation(
                max_length=max_length,
                max_prompt_length=self._max_prompt_length,
                truncation_mode=mode,
                **counts,
                identical_examples=self._identical_examples[max_length],
                one_side_examples=self._one_side_examples[max_length],
            )
            for max_length, by_mode in self._counts.items()
            for mode, counts in by_mode.items()
        ]
