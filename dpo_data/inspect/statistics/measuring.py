"""One pass over a prepared folder that feeds every statistic at once."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpo_data.checks.row_keys import RowKeyStore, row_keys
from dpo_data.inspect.statistics.distribution import MAX_EXAMPLES, Largest, ValueCounts, round_edges
from dpo_data.inspect.statistics.label_noise import estimate_label_noise
from dpo_data.inspect.statistics.models import (
    GapScore,
    LengthDifference,
    Lengths,
    MarginScore,
    RuleEntry,
    RuleScore,
    ScoreDistributions,
    Statistics,
)
from dpo_data.inspect.statistics.rules import RULES, PreferenceRule, rule_score
from dpo_data.inspect.statistics.truncation_audit import TruncationAudit
from dpo_data.options import DEFAULT_AUDIT_LENGTHS, Progress, silent
from dpo_data.prepared.reader import Prepared
from dpo_data.records import FIELDS, ConversationalRow, PairKeys, TextRow, pair_keys
from dpo_data.tokens.build import encode_rows
from dpo_data.tokens.encoder import EncodedPairs, Encoder

#: Rules are scored apart on the quarters of the margins.
MARGIN_BINS = 4
#: Where the classes of length differences begin, in characters.
GAPS = (1, 10, 30, 100, 300, 1000)
Numbers = NDArray[np.float64]


def compute_statistics(
    prepared: Prepared,
    *,
    encoder: Encoder | None = None,
    max_lengths: Sequence[int] = DEFAULT_AUDIT_LENGTHS,
    max_prompt_length: int | None = None,
    progress: Progress = silent,
) -> Statistics:
    """The statistics of the pairs of a prepared folder.

    Args:
        prepared: the folder; may be a rejected one.
        encoder: for lengths in tokens and the truncation audit.
        max_lengths: maximum lengths, in tokens, to cut the pairs to.
        max_prompt_length: most tokens of the prompt of a pair that is too long; None protects the responses.
        progress: told the share of rows that are done, and how many.

    Raises:
        PreparedError: an Arrow file is missing or damaged.
        UsageError: lengths that leave no room for a prompt or a response.
    """
    audit = TruncationAudit(max_lengths, max_prompt_length)
    characters, tokens, difference = _Lengths(), _Lengths(), _LengthDifference()
    scores, rules = _Scores(), _Rules(_margin_edges(prepared))
    files, refused = Counter[str](), Counter[str]()
    rows = 0
    with TemporaryDirectory(prefix="dpo-data-keys-") as scratch, closing(RowKeyStore(Path(scratch) / "keys")) as store:
        for split_number, split in enumerate(prepared.manifest.splits):
            for batch in prepared.batches(split):
                pairs = PairBatch.of(prepared, batch)
                store.add(row_keys(pairs.keys, split_number))
                files.update(pairs.files)
                characters.add(pairs.characters, pairs.ids)
                difference.add(pairs)
                scores.add(pairs)
                rules.add(pairs)
                if encoder is not None:
                    encoded, reasons = encode_rows(encoder, prepared.manifest.form, batch)
                    refused.update(reasons.values())
                    encoded, ids = _without(encoded, pairs.ids, reasons)
                    tokens.add([side.lengths for side in (encoded.prompts, encoded.chosen, encoded.rejected)], ids)
                    audit.add(encoded, ids)
                rows += batch.num_rows
                progress(rows / max(1, prepared.manifest.pairs), rows)
        label_noise = estimate_label_noise(store.buckets())
    return Statistics(
        pairs=rows,
        pairs_by_file=dict(files),
        characters=characters.result(),
        tokens=tokens.result(),
        tokenizer=None if encoder is None else str(encoder.tokenizer.name_or_path),
        refused=dict(refused),
        lengths=difference.result(),
        scores=scores.result(),
        rules=rules.result() if rows else [],
        label_noise=label_noise,
        truncation=audit.results() if tokens.seen else [],
    )


def row_margins(batch: pa.RecordBatch) -> Numbers:
    """(N,) by how much chosen is better: what the source says, or the difference of its scores; NaN where unknown."""
    margin, chosen, rejected = (_floats(batch, name) for name in ("margin", "chosen_score", "rejected_score"))
    return np.where(np.isnan(margin), chosen - rejected, margin)


def _floats(batch: pa.RecordBatch, name: str) -> Numbers:
    if name not in batch.schema.names:
        return np.full(batch.num_rows, np.nan)
    values: Numbers = batch.column(name).to_numpy(zero_copy_only=False)
    return values


def _margin_edges(prepared: Prepared) -> list[float]:
    """The edges of the quarters of all margins; fewer where margins repeat, none where there are none."""
    margins = ValueCounts()
    for split in prepared.manifest.splits:
        for batch in prepared.batches(split):
            margins.add(row_margins(batch))
    if not margins.count:
        return []
    inner = margins.quantiles([number / MARGIN_BINS for number in range(1, MARGIN_BINS)])
    return sorted({margins.min, *inner, margins.max})


@dataclass(frozen=True)
class PairBatch:
    """N consecutive pairs, as the statistics read them."""

    ids: list[str]
    files: list[str]
    responses: list[tuple[str, str]]
    keys: list[PairKeys]
    characters: list[NDArray[np.int64]]
    chosen_scores: Numbers
    rejected_scores: Numbers
    margins: Numbers

    @classmethod
    def of(cls, prepared: Prepared, batch: pa.RecordBatch) -> "PairBatch":
        """Read one Arrow batch of a prepared folder."""
        model = TextRow if prepared.manifest.form == "text" else ConversationalRow
        rows = [model.model_validate(row) for row in batch.to_pylist()]
        texts = [row.texts for row in rows]
        return cls(
            ids=[row.id for row in rows],
            files=[row.origin.rpartition(":")[0] for row in rows],
            responses=[(chosen, rejected) for _, chosen, rejected in texts],
            keys=[pair_keys(row) for row in rows],
            characters=list(np.array([[len(text) for text in sides] for sides in texts], np.int64).reshape(-1, 3).T),
            chosen_scores=_floats(batch, "chosen_score"),
            rejected_scores=_floats(batch, "rejected_score"),
            margins=row_margins(batch),
        )


def _without(pairs: EncodedPairs, ids: Sequence[str], refused: dict[int, str]) -> tuple[EncodedPairs, list[str]]:
    """The pairs that a chat template takes."""
    keep = np.ones(len(ids), bool)
    keep[list(refused)] = False
    prompts, chosen, rejected = (side.select(keep) for side in (pairs.prompts, pairs.chosen, pairs.rejected))
    return EncodedPairs(prompts, chosen, rejected, pairs.seams), [
        id_ for id_, kept in zip(ids, keep, strict=True) if kept
    ]


class _Lengths:
    def __init__(self) -> None:
        self._counts = [ValueCounts() for _ in FIELDS]
        self._longest = Largest()

    @property
    def seen(self) -> int:
        return self._counts[0].count

    def add(self, lengths: Sequence[NDArray[np.int64]], ids: Sequence[str]) -> None:
        for counts, side in zip(self._counts, lengths, strict=True):
            counts.add(side)
        prompt, chosen, rejected = lengths
        self._longest.add((prompt + np.maximum(chosen, rejected)).tolist(), ids)

    def result(self) -> Lengths | None:
        if not self.seen:
            return None
        responses = round_edges(0, max(counts.quantiles([0.99])[0] for counts in self._counts[1:]))
        edges = [round_edges(0, self._counts[0].quantiles([0.99])[0]), responses, responses]
        prompt, chosen, rejected = (
            counts.distribution(of_side) for counts, of_side in zip(self._counts, edges, strict=True)
        )
        return Lengths(prompt=prompt, chosen=chosen, rejected=rejected, longest=self._longest.ids())


class _LengthDifference:
    def __init__(self) -> None:
        self._signs = Counter[int]()
        self._differences = ValueCounts()
        # (class of difference, chosen is longer)
        self._gaps = np.zeros((len(GAPS), 2), np.int64)
        self._chosen, self._rejected = Largest(), Largest()

    def add(self, pairs: PairBatch) -> None:
        _, chosen, rejected = pairs.characters
        difference = chosen - rejected
        self._signs.update(np.sign(difference).tolist())
        self._differences.add(difference)
        differs = difference[difference != 0]
        np.add.at(self._gaps, (np.searchsorted(GAPS, abs(differs), side="right") - 1, (differs > 0).astype(int)), 1)
        self._chosen.add(np.where(difference > 0, difference, np.nan).tolist(), pairs.ids)
        self._rejected.add(np.where(difference < 0, -difference, np.nan).tolist(), pairs.ids)

    def result(self) -> LengthDifference | None:
        if not self._differences.count:
            return None
        low, high = self._differences.quantiles([0.01, 0.99])
        reach = max(abs(low), abs(high))
        return LengthDifference(
            chosen_longer=self._signs[1],
            equal=self._signs[0],
            rejected_longer=self._signs[-1],
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


class _Scores:
    def __init__(self) -> None:
        self._chosen, self._rejected, self._margins = ValueCounts(), ValueCounts(), ValueCounts()
        self._widest, self._narrowest = Largest(), Largest()

    def add(self, pairs: PairBatch) -> None:
        self._chosen.add(pairs.chosen_scores)
        self._rejected.add(pairs.rejected_scores)
        self._margins.add(pairs.margins)
        self._widest.add(pairs.margins.tolist(), pairs.ids)
        self._narrowest.add((-pairs.margins).tolist(), pairs.ids)

    def result(self) -> ScoreDistributions | None:
        if not (self._chosen.count or self._rejected.count or self._margins.count):
            return None
        both = [counts for counts in (self._chosen, self._rejected) if counts.count]
        edges = round_edges(min(c.min for c in both), max(c.max for c in both)) if both else []
        chosen, rejected = (
            counts.distribution(edges) if counts.count else None for counts in (self._chosen, self._rejected)
        )
        margin = None
        if self._margins.count:
            margin = self._margins.distribution(round_edges(self._margins.min, self._margins.max))
        return ScoreDistributions(
            chosen=chosen,
            rejected=rejected,
            margin=margin,
            widest=self._widest.ids(),
            narrowest=self._narrowest.ids(),
        )


@dataclass
class _RuleTally:
    """What one rule prefers: pairs by raw file, bin of the margin, and sign (1 chosen, -1 rejected, 0 neither)."""

    rule: PreferenceRule
    counts: Counter[tuple[str, int | None, int]] = field(default_factory=Counter)
    right_examples: list[str] = field(default_factory=list)
    wrong_examples: list[str] = field(default_factory=list)

    def add(self, pairs: PairBatch, bins: Sequence[int | None]) -> None:
        measure_ = self.rule.measure
        measures = ((measure_(chosen), measure_(rejected)) for chosen, rejected in pairs.responses)
        signs = [(one > other) - (one < other) for one, other in measures]
        self.counts.update(zip(pairs.files, bins, signs, strict=True))
        for examples, sign in ((self.right_examples, 1), (self.wrong_examples, -1)):
            found = (id_ for id_, of_pair in zip(pairs.ids, signs, strict=True) if of_pair == sign)
            examples += islice(found, MAX_EXAMPLES - len(examples))

    def score(self, file: str | None = None, bin_: int | None = None) -> RuleScore:
        """The score on the pairs of one file, of one bin, or on all."""
        by_sign = Counter[int]()
        for (of_file, of_bin, sign), pairs in self.counts.items():
            if file in (None, of_file) and bin_ in (None, of_bin):
                by_sign[sign] += pairs
        return rule_score(by_sign.total(), by_sign[1] + by_sign[-1], by_sign[1])

    def entry(self, edges: Sequence[float]) -> RuleEntry:
        files = dict.fromkeys(file for file, _, _ in self.counts)
        return RuleEntry(
            rule=self.rule.name,
            overall=self.score(),
            by_file={file: self.score(file=file) for file in files},
            by_margin=[
                MarginScore(low=low, high=high, score=self.score(bin_=number))
                for number, (low, high) in enumerate(pairwise(edges))
            ],
            right_examples=self.right_examples,
            wrong_examples=self.wrong_examples,
        )


class _Rules:
    def __init__(self, margin_edges: Sequence[float]) -> None:
        self._edges = margin_edges
        self._tallies = [_RuleTally(rule) for rule in RULES]

    def add(self, pairs: PairBatch) -> None:
        bins: list[int | None] = [None] * len(pairs.ids)
        if len(self._edges) > 1:
            # A margin that is the last edge lies in the last bin; an unknown one in none.
            places = np.clip(np.searchsorted(self._edges, pairs.margins, side="right") - 1, 0, len(self._edges) - 2)
            unknown = np.isnan(pairs.margins).tolist()
            bins = [None if missing else place for place, missing in zip(places.tolist(), unknown, strict=True)]
        for tally in self._tallies:
            tally.add(pairs, bins)

    def result(self) -> list[RuleEntry]:
        return [tally.entry(self._edges) for tally in self._tallies]
