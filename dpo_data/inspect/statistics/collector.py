"""All statistics of a prepared folder, gathered in one pass."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from dpo_data.checks.row_keys import RowKeyStore
from dpo_data.errors import UsageError, argument, did_you_mean
from dpo_data.inspect.batches import PairBatch, read_pairs
from dpo_data.inspect.statistics.label_noise import estimate_label_noise
from dpo_data.inspect.statistics.lengths import LengthStatistics
from dpo_data.inspect.statistics.models import Statistics
from dpo_data.inspect.statistics.rules import RuleStatistics
from dpo_data.inspect.statistics.scores import ScoreStatistics
from dpo_data.options import DEFAULT_AUDIT_LENGTHS, Progress, silent
from dpo_data.prepared.manifest import JudgmentCounts
from dpo_data.prepared.reader import Prepared
from dpo_data.tokens.encoder import Encoder

#: Values of a column by which pairs are sliced.
MAX_VALUES = 50


def require_slicing(prepared: Prepared, by: str | None) -> None:
    """Raise UsageError if a prepared folder has no metadata column `by`."""
    columns = ["source", *prepared.manifest.kept_columns]
    if by is not None and by not in columns:
        raise UsageError(
            f"{prepared.path} has no such metadata column, only {', '.join(columns)}.\n"
            f"  Keep it when you convert: {argument('keep', by)}.{did_you_mean(by, columns)}",
            "by",
            by,
        )


class StatisticsCollector:
    """Observer that feeds every statistic.

    Args:
        lengths: the statistics of lengths.
        by: column by whose values the pairs are sliced; see `require_slicing`.
    """

    def __init__(self, lengths: LengthStatistics, by: str | None = None) -> None:
        self.lengths, self.by = lengths, by
        self._values = Counter[str | None]()
        self._scores, self._rules = ScoreStatistics(), RuleStatistics()
        self._files = Counter[str]()

    def add(self, batch: PairBatch) -> None:
        """Count more pairs.

        Raises: UsageError: the column has more than `MAX_VALUES` values.
        """
        self._files.update(batch.files)
        values = [None] * len(batch.rows) if self.by is None else batch.values(self.by)
        self._values.update(values)
        if len(self._values) > MAX_VALUES:
            raise UsageError(f"the column has more than {MAX_VALUES} values; name one with fewer.", "by", self.by)
        self.lengths.add(batch)
        self._scores.add(batch)
        self._rules.add(batch, values)

    def result(self, keys: RowKeyStore, judgments: JudgmentCounts | None) -> Statistics:
        """Return the statistics of all pairs that were added.

        Args:
            keys: of the pairs.
            judgments: counts of the manifest.
        """
        truncation = self.lengths.truncation
        return Statistics(
            pairs=self._files.total(),
            pairs_by_file=dict(self._files),
            by=self.by,
            pairs_by_value={value: pairs for value, pairs in self._values.items() if value is not None},
            characters=self.lengths.characters,
            tokens=self.lengths.tokens,
            tokenizer=self.lengths.tokenizer,
            refused=self.lengths.refused,
            lengths=self.lengths.difference,
            scores=self._scores.result(),
            rules=self._rules.result(self._scores.margin_edges()) if self._files else [],
            label_noise=estimate_label_noise(judgments, keys.buckets()),
            truncation=truncation.results() if truncation else [],
        )


def compute_statistics(
    prepared: Prepared,
    *,
    encoder: Encoder | None = None,
    max_lengths: Sequence[int] = DEFAULT_AUDIT_LENGTHS,
    max_prompt_length: int | None = None,
    progress: Progress = silent,
) -> Statistics:
    """Return the statistics of the pairs of a prepared folder.

    Args:
        prepared: the folder; may be a rejected one.
        encoder: for lengths in tokens and the truncation audit.
        max_lengths: maximum lengths to audit, in tokens.
        max_prompt_length: maximum prompt tokens when a pair is too long; None keeps as much of the responses as fits.
        progress: called with the share of pairs that were read, and their number.

    Raises:
        PreparedError: an Arrow file is missing or damaged.
        UsageError: lengths that leave no room for a prompt or a response.
    """
    collector = StatisticsCollector(LengthStatistics(encoder, max_lengths, max_prompt_length))
    with TemporaryDirectory(prefix="dpo-data-keys-") as scratch, closing(RowKeyStore(Path(scratch) / "keys")) as keys:
        read_pairs(prepared, [collector], keys=keys, encoder=encoder, progress=progress)
        return collector.result(keys, prepared.manifest.judgments)


def named_ids(statistics: Statistics) -> Iterable[str]:
    """Yield the ids of all pairs that the statistics name as examples."""
    for lengths in (statistics.characters, statistics.tokens):
        if lengths:
            yield from lengths.longest
    if statistics.lengths:
        yield from statistics.lengths.chosen_longest
        yield from statistics.lengths.rejected_longest
    if statistics.scores:
        yield from statistics.scores.widest
        yield from statistics.scores.narrowest
    if statistics.label_noise:
        yield from statistics.label_noise.examples
    for rule in statistics.rules:
        yield from rule.right_examples
        yield from rule.wrong_examples
    for entry in statistics.truncation:
        yield from entry.identical_examples
        yield from entry.one_side_examples
