"""Compare two prepared folders: pairs added, removed, flipped, changed and moved, and the statistics that shift.

Pairs are matched by hashes, 37 bytes per row, and by the changes that steps recorded; only the texts of the examples
are read.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from dpo_data.checks.counts import MAX_EXAMPLES
from dpo_data.checks.row_keys import RowKeyStore
from dpo_data.errors import UsageError, argument
from dpo_data.inspect.batches import PairBatch, read_pairs
from dpo_data.inspect.pairs import PairAt, PairPosition, pairs_at
from dpo_data.inspect.statistics.collector import StatisticsCollector, require_slicing
from dpo_data.inspect.statistics.lengths import LengthStatistics
from dpo_data.inspect.statistics.models import Statistics
from dpo_data.options import SPLITS, Progress, silent
from dpo_data.prepared.lineage import with_ancestors
from dpo_data.prepared.manifest import ManifestModel
from dpo_data.prepared.reader import Prepared, open_prepared
from dpo_data.prepared.steps import read_changes
from dpo_data.records import FIELDS

if TYPE_CHECKING:
    import pandas as pd


class PairChange(ManifestModel):
    """One pair that differs; None on a side that does not have it."""

    id_a: str | None
    id_b: str | None
    place_a: Annotated[str | None, Field(description="split:index, from 0.")]
    place_b: str | None
    prompt: str
    chosen_a: str | None
    rejected_a: str | None
    chosen_b: str | None
    rejected_b: str | None


class Changes(ManifestModel):
    """All pairs that differ in one way."""

    pairs: NonNegativeInt
    by_split: Annotated[
        dict[str, NonNegativeInt], Field(description='Split to pairs; for moved pairs "train -> test".')
    ]
    examples: list[PairChange]


class MetricChange(ManifestModel):
    """One number on both sides; None on a side that does not have it."""

    name: str
    a: float | None
    b: float | None


class Comparison(ManifestModel):
    """Result of `dpo-data diff`. Every pair of a is unchanged, moved, flipped, changed or removed; likewise in b."""

    a: str
    b: str
    pairs_a: NonNegativeInt
    pairs_b: NonNegativeInt
    unchanged: NonNegativeInt
    moved: Annotated[Changes, Field(description="The same pair in another split.")]
    flipped: Annotated[Changes, Field(description="The same prompt and responses, chosen and rejected swapped.")]
    changed: Annotated[Changes, Field(description="The same prompt and one of the two responses.")]
    removed: Annotated[Changes, Field(description="Only in a.")]
    added: Annotated[Changes, Field(description="Only in b.")]
    shifts: Annotated[list[MetricChange], Field(description="Statistics that differ.")]

    @property
    def same(self) -> bool:
        """True if both have the same pairs in the same splits, in any order."""
        return self.unchanged == self.pairs_a == self.pairs_b

    def _repr_html_(self) -> str:
        from dpo_data.reports.html.fragments import comparison

        return comparison(self)


#: How pairs of a are matched to pairs of b, closest match first: columns of a to columns of b. A step sees only the
#: pairs that no earlier step matched. `became` is what steps made of a pair.
_STEPS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("unchanged", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "split": "split"}),
    ("moved", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}),
    ("flipped", {"prompt": "prompt", "chosen": "rejected", "rejected": "chosen"}),
    ("changed", {"became": "pair"}),
    ("changed", {"prompt": "prompt", "chosen": "chosen"}),
    ("changed", {"prompt": "prompt", "rejected": "rejected"}),
)


def diff(a: str | Path, b: str | Path, *, by: str | None = None, progress: Progress = silent) -> Comparison:
    """Return how prepared folder b differs from a. A pair that occurs twice counts twice.

    Args:
        a: a folder.
        b: the other one.
        by: a metadata column of both, by whose values the shifts are also given.
        progress: called with the share of pairs that were read, and their number.

    Raises:
        PreparedError: a folder is unfinished, rejected or damaged.
        UsageError: one has text and the other conversations; one has no column `by`, or more than 50 values in it.
    """
    import pandas as pd

    prepared_a, prepared_b = open_prepared(a), open_prepared(b)
    if prepared_a.manifest.form != prepared_b.manifest.form:
        raise UsageError(
            f"{a} is {prepared_a.manifest.form}, {b} is {prepared_b.manifest.form}: their pairs cannot be compared.\n"
            f"  Convert one of them again with {argument('form', prepared_a.manifest.form)}."
        )
    for prepared in (prepared_a, prepared_b):
        require_slicing(prepared, by)
    left, statistics_a = _read(prepared_a, by, progress)
    right, statistics_b = _read(prepared_b, by, progress)
    pairs_a, pairs_b = len(left), len(right)
    left["became"] = _after_changes(left["pair"].to_numpy(), prepared_b)
    found: dict[str, list[pd.DataFrame]] = {}
    for name, columns in _STEPS:
        matched = _match(left, right, columns)
        found.setdefault(name, []).append(matched)
        left, right = left[~left.index.isin(matched["a"])], right[~right.index.isin(matched["b"])]
    removed = pd.DataFrame({"split_a": left["split"], "index_a": left["index"]})
    added = pd.DataFrame({"split_b": right["split"], "index_b": right["index"]})
    changes = {name: pd.concat(parts) for name, parts in found.items()} | {"removed": removed, "added": added}
    unchanged = len(changes.pop("unchanged"))
    examples_a, examples_b = (
        pairs_at(prepared, {position for rows in changes.values() for position in _example_positions(rows, side)})
        for prepared, side in ((prepared_a, "a"), (prepared_b, "b"))
    )
    return Comparison(
        a=str(a),
        b=str(b),
        pairs_a=pairs_a,
        pairs_b=pairs_b,
        unchanged=unchanged,
        shifts=_shifts(statistics_a, statistics_b),
        **{name: _changes(rows, {"a": examples_a, "b": examples_b}) for name, rows in changes.items()},
    )


class _PairTable:
    """Observer that keeps a 64-bit hash of each field of each pair, and its position."""

    def __init__(self) -> None:
        self._batches: list[pd.DataFrame] = []

    def add(self, batch: PairBatch) -> None:
        import pandas as pd

        hashes = {name: np.ascontiguousarray(batch.keys[name]).view(np.uint64)[::2] for name in (*FIELDS, "pair")}
        index = batch.keys["index"].astype(np.uint32)
        self._batches.append(pd.DataFrame({**hashes, "split": batch.keys["split"].copy(), "index": index}))

    def result(self) -> "pd.DataFrame":
        import pandas as pd

        columns = {**dict.fromkeys((*FIELDS, "pair"), np.uint64), "split": np.uint8, "index": np.uint32}
        empty = pd.DataFrame({name: np.empty(0, dtype) for name, dtype in columns.items()})
        return pd.concat(self._batches, ignore_index=True) if self._batches else empty


def _read(prepared: Prepared, by: str | None, progress: Progress) -> tuple["pd.DataFrame", Statistics]:
    table, collector = _PairTable(), StatisticsCollector(LengthStatistics(), by)
    with TemporaryDirectory(prefix="dpo-data-keys-") as scratch, closing(RowKeyStore(Path(scratch) / "keys")) as keys:
        read_pairs(prepared, [table, collector], keys=keys, progress=progress)
        return table.result(), collector.result(keys, prepared.manifest.judgments)


def _after_changes(pairs: NDArray[np.uint64], b: Prepared) -> NDArray[np.uint64]:
    """Return the first 64 bits of the id, (N,), that each pair has after the steps that made b, from those before."""
    changes = {change.old_id: change.new_id for folder in with_ancestors(b) for change in read_changes(folder.path)}
    became = pairs.copy()
    if changes:
        new_ids = {np.frombuffer(bytes.fromhex(old)[:8], np.uint64)[0]: _last(old, changes) for old in changes}
        for row in np.flatnonzero(np.isin(pairs, np.array(list(new_ids), np.uint64))):
            became[row] = np.frombuffer(bytes.fromhex(new_ids[pairs[row]])[:8], np.uint64)[0]
    return became


def _last(id_: str, changes: Mapping[str, str]) -> str:
    """Return the id that a pair has after all changes; one that comes back to an earlier id stays there."""
    seen = {id_}
    while id_ in changes and changes[id_] not in seen:
        id_ = changes[id_]
        seen.add(id_)
    return id_


def _match(left: "pd.DataFrame", right: "pd.DataFrame", columns: Mapping[str, str]) -> "pd.DataFrame":
    """Match rows that agree on the columns, each at most once: the n-th of a with the n-th of b.

    Returns: columns a and b, the labels of the rows, and split_a, index_a, split_b, index_b.
    """
    names = list(columns)
    ours = left.assign(a=left.index, nth=left.groupby(names).cumcount())
    theirs = right.rename(columns={theirs: ours for ours, theirs in columns.items()})
    theirs = theirs.assign(b=theirs.index, nth=theirs.groupby(names).cumcount())
    ours = ours[[*names, "nth", "a"]]
    matched = ours.merge(theirs[[*names, "nth", "b"]], on=[*names, "nth"])[["a", "b"]].sort_values("a")
    return matched.assign(
        split_a=left.loc[matched["a"], "split"].to_numpy(),
        index_a=left.loc[matched["a"], "index"].to_numpy(),
        split_b=right.loc[matched["b"], "split"].to_numpy(),
        index_b=right.loc[matched["b"], "index"].to_numpy(),
    )


def _example_positions(rows: "pd.DataFrame", side: str) -> list[PairPosition]:
    """Return the positions in one folder of the changes to show; none if the folder does not have the pairs."""
    if f"split_{side}" not in rows:
        return []
    shown = rows.head(MAX_EXAMPLES)
    return [
        PairPosition(SPLITS[split], int(index))
        for split, index in zip(shown[f"split_{side}"], shown[f"index_{side}"], strict=True)
    ]


def _changes(rows: "pd.DataFrame", examples: Mapping[str, Mapping[PairPosition, PairAt]]) -> Changes:
    sides = [side for side in ("a", "b") if f"split_{side}" in rows]
    splits = [[SPLITS[number] for number in rows[f"split_{side}"]] for side in sides]
    ways = (" -> ".join(dict.fromkeys(names)) for names in zip(*splits, strict=True))
    shown = [[examples[side][position] for position in _example_positions(rows, side)] for side in sides]
    return Changes(
        pairs=len(rows),
        by_split=dict(sorted(Counter(ways).items())),
        examples=[_pair_change(dict(zip(sides, pairs, strict=True))) for pairs in zip(*shown, strict=True)],
    )


def _pair_change(pairs: Mapping[str, PairAt]) -> PairChange:
    fields: dict[str, str | None] = dict.fromkeys(PairChange.model_fields)
    for side, pair in pairs.items():
        prompt, chosen, rejected = pair.row.texts
        fields |= {f"id_{side}": pair.row.id, f"place_{side}": f"{pair.split}:{pair.index}", "prompt": prompt}
        fields |= {f"chosen_{side}": chosen, f"rejected_{side}": rejected}
    return PairChange.model_validate(fields)


def _shifts(a: Statistics, b: Statistics) -> list[MetricChange]:
    """Return the numbers that differ."""
    numbers_a, numbers_b = _numbers(a), _numbers(b)
    return [
        MetricChange(name=name, a=numbers_a.get(name), b=numbers_b.get(name))
        for name in dict.fromkeys([*numbers_a, *numbers_b])
        if numbers_a.get(name) != numbers_b.get(name)
    ]


def _numbers(statistics: Statistics) -> dict[str, float]:
    numbers: dict[str, float] = {"pairs": statistics.pairs}
    if statistics.characters:
        for side in FIELDS:
            distribution = getattr(statistics.characters, side)
            for quantile in ("median", "p95", "max"):
                numbers[f"characters of {side}, {quantile}"] = getattr(distribution, quantile)
    if statistics.lengths:
        numbers["chosen longer, share"] = statistics.lengths.chosen_longer / statistics.pairs
    for rule in statistics.rules[1:]:
        if rule.overall.accuracy is not None:
            numbers[f"{rule.rule}, accuracy"] = rule.overall.accuracy
    if statistics.scores and statistics.scores.margin:
        for quantile in ("p5", "median", "p95"):
            numbers[f"margin, {quantile}"] = getattr(statistics.scores.margin, quantile)
    for file, pairs in statistics.pairs_by_file.items():
        numbers[f"pairs of {file}"] = pairs
    for value, pairs in statistics.pairs_by_value.items():
        numbers[f"pairs of {statistics.by} {value}"] = pairs
    for rule in statistics.rules[:1]:
        for value, score in rule.by_value.items():
            if score.accuracy is not None:
                numbers[f"{rule.rule} in {statistics.by} {value}, accuracy"] = score.accuracy
        for file, score in rule.by_file.items() if len(rule.by_file) > 1 else ():
            if score.accuracy is not None:
                numbers[f"{rule.rule} in {file}, accuracy"] = score.accuracy
    return numbers
