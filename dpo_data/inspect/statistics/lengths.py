"""Lengths of prompts and responses, and how often chosen is the longer one."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dpo_data.inspect.batches import PairBatch
from dpo_data.inspect.statistics.distribution import Largest, ValueCounts, round_edges
from dpo_data.inspect.statistics.models import GapScore, LengthDifference, Lengths
from dpo_data.inspect.statistics.rules import rule_score
from dpo_data.inspect.statistics.truncation_audit import TruncationAudit
from dpo_data.tokens.encoder import Encoder

#: Lower bounds of the classes of length differences, in characters.
GAPS = (1, 10, 30, 100, 300, 1000)
SIDES = ("prompt", "chosen", "rejected", "pair")


class LengthStatistics:
    """Observer of all lengths, in characters and in tokens, and of what maximum lengths would truncate.

    Args:
        encoder: the encoder of the batches; None without tokens.
        max_lengths: maximum lengths to audit, in tokens.
        max_prompt_length: maximum prompt tokens when a pair is too long; None keeps as much of the responses as fits.

    Attributes:
        tokenizer: name of the tokenizer; None without tokens.

    Raises: UsageError: lengths that leave no room for a prompt or a response.
    """

    def __init__(
        self, encoder: Encoder | None = None, max_lengths: Sequence[int] = (), max_prompt_length: int | None = None
    ) -> None:
        self.tokenizer = None if encoder is None else str(encoder.tokenizer.name_or_path)
        self._characters, self._tokens, self._difference = _LengthCounts(), _LengthCounts(), _DifferenceCounts()
        self._audit = TruncationAudit(max_lengths, max_prompt_length)
        self._refused = Counter[str]()

    def add(self, batch: PairBatch) -> None:
        """Count more pairs."""
        self._characters.add(batch.characters, batch.ids)
        self._difference.add(batch)
        if batch.tokens is not None:
            encoded = batch.tokens.encoded
            lengths = np.stack([side.lengths for side in (encoded.prompts, encoded.chosen, encoded.rejected)])
            self._tokens.add(lengths, batch.tokens.ids)
            self._audit.add(encoded, batch.tokens.ids)
            self._refused.update(refusal.reason for refusal in batch.tokens.refused.values())

    @property
    def characters(self) -> Lengths | None:
        """Lengths in characters; None without pairs."""
        return self._characters.result()

    @property
    def tokens(self) -> Lengths | None:
        """Lengths in tokens; None without a tokenizer, or if the chat template refuses every pair."""
        return self._tokens.result()

    @property
    def difference(self) -> LengthDifference | None:
        """Chosen compared with rejected; None without pairs."""
        return self._difference.result()

    @property
    def truncation(self) -> TruncationAudit | None:
        """Truncation audit; None without tokens."""
        return self._audit if self._tokens.count else None

    @property
    def refused(self) -> dict[str, int]:
        """Reasons of the chat template to pairs that it refuses."""
        return dict(self._refused)


class _LengthCounts:
    def __init__(self) -> None:
        self._sides = {side: ValueCounts(exact=True) for side in SIDES}
        self._longest = Largest()

    @property
    def count(self) -> int:
        return self._sides["prompt"].count

    def add(self, lengths: NDArray[np.int64], ids: Sequence[str]) -> None:
        """Count lengths, (3, N)."""
        prompt, chosen, rejected = lengths
        pair = prompt + np.maximum(chosen, rejected)
        for side, values in zip(SIDES, (prompt, chosen, rejected, pair), strict=True):
            self._sides[side].add(values)
        self._longest.add(pair, ids)

    def result(self) -> Lengths | None:
        if not self.count:
            return None
        reach = {side: counts.quantiles([0.99])[0] for side, counts in self._sides.items()}
        reach["chosen"] = reach["rejected"] = max(reach["chosen"], reach["rejected"])
        sides = {side: counts.distribution(round_edges(0, reach[side])) for side, counts in self._sides.items()}
        return Lengths(**sides, longest=self._longest.ids())


class _DifferenceCounts:
    def __init__(self) -> None:
        self._chosen_longer = self._rejected_longer = 0
        self._differences = ValueCounts(exact=True)
        # (class of difference, chosen is longer)
        self._gaps = np.zeros((len(GAPS), 2), np.int64)
        self._chosen, self._rejected = Largest(), Largest()

    def add(self, batch: PairBatch) -> None:
        _, chosen, rejected = batch.characters
        difference = chosen - rejected
        self._chosen_longer += int((difference > 0).sum())
        self._rejected_longer += int((difference < 0).sum())
        self._differences.add(difference)
        differs = difference[difference != 0]
        np.add.at(self._gaps, (np.searchsorted(GAPS, abs(differs), side="right") - 1, (differs > 0).astype(int)), 1)
        self._chosen.add(np.where(difference > 0, difference, np.nan), batch.ids)
        self._rejected.add(np.where(difference < 0, -difference, np.nan), batch.ids)

    def result(self) -> LengthDifference | None:
        if not self._differences.count:
            return None
        low, high = self._differences.quantiles([0.01, 0.99])
        reach = max(abs(low), abs(high))
        return LengthDifference(
            chosen_longer=self._chosen_longer,
            equal=self._differences.count - self._chosen_longer - self._rejected_longer,
            rejected_longer=self._rejected_longer,
            difference=self._differences.distribution(round_edges(-reach, reach)),
            by_gap=[
                GapScore(low=low, high=high, score=rule_score(rejected + chosen, rejected + chosen, chosen))
                for low, high, (rejected, chosen) in zip(
                    GAPS, [*(gap - 1 for gap in GAPS[1:]), None], self._gaps.tolist(), strict=True
                )
                if rejected + chosen
            ],
            chosen_longest=self._chosen.ids(),
            rejected_longest=self._rejected.ids(),
        )
