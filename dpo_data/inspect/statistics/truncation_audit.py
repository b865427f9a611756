"""What maximum lengths would do to pairs, found by cutting them with the rule of `dpo_data.truncation`."""

from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np

from dpo_data.inspect.statistics.distribution import MAX_EXAMPLES
from dpo_data.inspect.statistics.models import Truncation
from dpo_data.options import TruncationMode
from dpo_data.ragged import equal_rows
from dpo_data.tokens.encoder import EncodedPairs
from dpo_data.tokens.truncation import check_limits, cut_prompts, kept_lengths

MODES: tuple[TruncationMode, ...] = get_args(TruncationMode)


class TruncationAudit:
    """Cuts every pair to every length in both modes, and counts what is lost."""

    def __init__(self, max_lengths: Sequence[int], max_prompt_length: int | None = None) -> None:
        for max_length in max_lengths:
            check_limits(max_length, max_prompt_length)
        self._max_prompt_length = max_prompt_length
        self._counts: dict[tuple[int, TruncationMode], Counter[str]] = {
            (max_length, mode): Counter() for max_length in sorted(set(max_lengths)) for mode in MODES
        }
        self._examples: dict[tuple[int, str], list[str]] = {}

    def add(self, pairs: EncodedPairs, ids: Sequence[str]) -> None:
        """Cut more pairs.

        Args:
            pairs: N pairs as ids, not yet cut.
            ids: (N,) of the pairs.
        """
        prompt, chosen, rejected = pairs.prompts, pairs.chosen, pairs.rejected
        equal_before = equal_rows(chosen, rejected)
        for (max_length, mode), counts in self._counts.items():
            kept = kept_lengths(prompt.lengths, chosen.lengths, rejected.lengths, max_length, self._max_prompt_length)
            lost = [whole.lengths - left for whole, left in zip((prompt, chosen, rejected), kept, strict=True)]
            cut = [side > 0 for side in lost]
            # Which tokens stay is read off their positions, cut like the tokens.
            stayed = cut_prompts(prompt.positions, kept.prompt, mode, None)
            filled = stayed.lengths > 0
            first, last = stayed.values[stayed.offsets[:-1][filled]], stayed.values[stayed.offsets[1:][filled] - 1]
            identical = equal_rows(chosen.cut_end(kept.chosen), rejected.cut_end(kept.rejected)) & ~equal_before
            one_side = cut[1] ^ cut[2]
            counts.update(
                pairs=len(ids),
                pairs_cut=int((cut[0] | cut[1] | cut[2]).sum()),
                prompts_losing_start=int((first > 0).sum()),
                prompts_losing_end=int((last < prompt.lengths[filled] - 1).sum()),
                prompt_tokens_lost=int(lost[0].sum()),
                chosen_losing_end=int(cut[1].sum()),
                rejected_losing_end=int(cut[2].sum()),
                one_side_losing_end=int(one_side.sum()),
                response_tokens_lost=int(lost[1].sum() + lost[2].sum()),
                identical=int(identical.sum()),
                empty=int((kept.prompt == 0).sum()),
            )
            for name, found in (("identical", identical), ("one_side", one_side)):
                examples = self._examples.setdefault((max_length, name), [])
                if mode == MODES[0]:
                    examples += [ids[row] for row in np.flatnonzero(found)[: MAX_EXAMPLES - len(examples)]]

    def results(self) -> list[Truncation]:
        """One entry a length and mode, lengths in order."""
        return [
            Truncation(
                max_length=max_length,
                max_prompt_length=self._max_prompt_length,
                truncation_mode=mode,
                **{name: counts[name] for name in COUNTS},
                identical_examples=self._examples.get((max_length, "identical"), []),
                one_side_examples=self._examples.get((max_length, "one_side"), []),
            )
            for (max_length, mode), counts in self._counts.items()
        ]


COUNTS = (
    "pairs",
    "pairs_cut",
    "prompts_losing_start",
    "prompts_losing_end",
    "prompt_tokens_lost",
    "chosen_losing_end",
    "rejected_losing_end",
    "one_side_losing_end",
    "response_tokens_lost",
    "identical",
    "empty",
)
