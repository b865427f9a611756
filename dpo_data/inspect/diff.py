"""How one prepared folder differs from another: pairs added, removed, flipped, changed, moved; and what that shifts.

Pairs are compared by hashes, 29 bytes a row; texts are read for the examples alone.
"""

from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, NonNegativeInt

from dpo_data.errors import UsageError
from dpo_data.inspect.pairs import pair_at
from dpo_data.inspect.statistics.distribution import MAX_EXAMPLES
from dpo_data.inspect.statistics.measuring import compute_statistics
from dpo_data.inspect.statistics.models import Statistics
from dpo_data.options import Progress, silent
from dpo_data.prepared.manifest import ManifestModel
from dpo_data.prepared.reader import Prepared, open_prepared
from dpo_data.records import ConversationalRow, TextRow, encoded_fields

if TYPE_CHECKING:
    import pandas as pd


class PairChange(ManifestModel):
    """One pair that differs; None on the side where it is not."""

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
    by_split: Annotated[dict[str, NonNegativeInt], Field(description='Split to pairs; of moved ones "train -> test".')]
    examples: list[PairChange]


class MetricChange(ManifestModel):
    """One number on both sides; None where a side has none."""

    name: str
    a: float | None
    b: float | None


class Comparison(ManifestModel):
    """What `dpo-data diff` found. Every pair of a is unchanged, moved, flipped, changed or removed; b likewise."""

    a: str
    b: str
    pairs_a: NonNegativeInt
    pairs_b: NonNegativeInt
    unchanged: NonNegativeInt
    moved: Annotated[Changes, Field(description="The same pair in another split.")]
    flipped: Annotated[Changes, Field(description="The same prompt and responses, chosen and rejected swapped.")]
    changed: Annotated[Changes, Field(description="The same prompt, and one of the two responses.")]
    removed: Annotated[Changes, Field(description="In a alone.")]
    added: Annotated[Changes, Field(description="In b alone.")]
    shifts: Annotated[list[MetricChange], Field(description="What the pairs are like, where that differs.")]

    @property
    def same(self) -> bool:
        """Whether both hold the same pairs in the same splits, in whatever order."""
        return self.unchanged == self.pairs_a == self.pairs_b


#: How a pair of a is found again in b, the nearest likeness first: columns of a to columns of b. What one step has
#: found is out of the next.
_STEPS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("unchanged", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "split": "split"}),
    ("moved", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}),
    ("flipped", {"prompt": "prompt", "chosen": "rejected", "rejected": "chosen"}),
    ("changed", {"prompt": "prompt", "chosen": "chosen"}),
    ("changed", {"prompt": "prompt", "rejected": "rejected"}),
)


def compare(a: str | Path, b: str | Path, *, progress: Progress = silent) -> Comparison:
    """How prepared folder b differs from a. A pair that stands twice counts twice.

    Raises:
        PreparedError: a folder is unfinished, rejected or damaged.
        UsageError: one holds text and the other conversations.
    """
    import pandas as pd

    one, other = open_prepared(a), open_prepared(b)
    if one.manifest.form != other.manifest.form:
        raise UsageError(
            f"{a} is {one.manifest.form}, {b} is {other.manifest.form}: no pair of one can be found in the other.\n"
            f"  Convert one again with --form {one.manifest.form}."
        )
    left, right = _keys(one), _keys(other)
    pairs_a, pairs_b = len(left), len(right)
    found: dict[str, list[pd.DataFrame]] = {}
    for name, columns in _STEPS:
        matched = _match(left, right, columns)
        found.setdefault(name, []).append(matched)
        left, right = left[~left.index.isin(matched["a"])], right[~right.index.isin(matched["b"])]
    lost = pd.DataFrame({"split_a": left["split"], "index_a": left["index"]})
    new = pd.DataFrame({"split_b": right["split"], "index_b": right["index"]})
    changes = {name: pd.concat(parts) for name, parts in found.items()} | {"removed": lost, "added": new}
    statistics = compute_statistics(one, progress=progress), compute_statistics(other, progress=progress)
    return Comparison(
        a=str(a),
        b=str(b),
        pairs_a=pairs_a,
        pairs_b=pairs_b,
        unchanged=len(changes.pop("unchanged")),
        shifts=_shifts(*statistics),
        **{name: _changes(rows, one, other) for name, rows in changes.items()},
    )


def _keys(prepared: Prepared) -> "pd.DataFrame":
    """One row a pair: 64-bit hashes of prompt, chosen and rejected, the number of its split, its position there."""
    import pandas as pd

    model = TextRow if prepared.manifest.form == "text" else ConversationalRow
    parts = [np.empty((0, 5), np.uint64)]
    for number, split in enumerate(_SPLITS):
        start = 0
        for batch in prepared.batches(split) if split in prepared.manifest.splits else ():
            rows = [model.model_validate(row) for row in batch.to_pylist()]
            digests = b"".join(blake2b(text, digest_size=8).digest() for row in rows for text in encoded_fields(row))
            hashes = np.frombuffer(digests, np.uint64).reshape(-1, 3)
            places = np.stack([np.full(len(rows), number), np.arange(start, start + len(rows))], axis=1)
            parts.append(np.concatenate([hashes, places.astype(np.uint64)], axis=1))
            start += len(rows)
    table = np.concatenate(parts)
    columns = dict(zip(("prompt", "chosen", "rejected", "split", "index"), table.T, strict=True))
    narrow = {"split": np.uint8, "index": np.uint32}
    return pd.DataFrame({name: column.astype(narrow.get(name, np.uint64)) for name, column in columns.items()})


_SPLITS = ("train", "test")


def _match(left: "pd.DataFrame", right: "pd.DataFrame", columns: Mapping[str, str]) -> "pd.DataFrame":
    """The rows of both that agree on the columns, each in one couple at most: the n-th of a with the n-th of b.

    Returns: columns a and b, the labels of the rows, and split_a, index_a, split_b, index_b.
    """
    names = list(columns)
    ours = left.assign(a=left.index, nth=left.groupby(names).cumcount())
    theirs = right.rename(columns={theirs: ours for ours, theirs in columns.items()})
    theirs = theirs.assign(b=theirs.index, nth=theirs.groupby(names).cumcount())
    ours = ours[[*names, "nth", "a"]]
    couples = ours.merge(theirs[[*names, "nth", "b"]], on=[*names, "nth"])[["a", "b"]].sort_values("a")
    return couples.assign(
        split_a=left.loc[couples["a"], "split"].to_numpy(),
        index_a=left.loc[couples["a"], "index"].to_numpy(),
        split_b=right.loc[couples["b"], "split"].to_numpy(),
        index_b=right.loc[couples["b"], "index"].to_numpy(),
    )


def _changes(rows: "pd.DataFrame", one: Prepared, other: Prepared) -> Changes:
    sides = [side for side in ("a", "b") if f"split_{side}" in rows]
    splits = [[_SPLITS[number] for number in rows[f"split_{side}"]] for side in sides]
    ways = (" -> ".join(dict.fromkeys(names)) for names in zip(*splits, strict=True))
    examples = []
    for row in rows.head(MAX_EXAMPLES).to_dict("records"):
        places = {side: (_SPLITS[row[f"split_{side}"]], int(row[f"index_{side}"])) for side in sides}
        examples.append(_example({"a": one, "b": other}, places))
    return Changes(pairs=len(rows), by_split=dict(sorted(Counter(ways).items())), examples=examples)


def _example(folders: Mapping[str, Prepared], places: Mapping[str, tuple[str, int]]) -> PairChange:
    fields: dict[str, str | None] = dict.fromkeys(PairChange.model_fields)
    for side, (split, index) in places.items():
        row = pair_at(folders[side], split, index).row
        prompt, chosen, rejected = row.texts
        fields |= {f"id_{side}": row.id, f"place_{side}": f"{split}:{index}", "prompt": prompt}
        fields |= {f"chosen_{side}": chosen, f"rejected_{side}": rejected}
    return PairChange.model_validate(fields)


def _shifts(a: Statistics, b: Statistics) -> list[MetricChange]:
    """The numbers of two folders that differ."""
    numbers_a, numbers_b = _numbers(a), _numbers(b)
    return [
        MetricChange(name=name, a=numbers_a.get(name), b=numbers_b.get(name))
        for name in dict.fromkeys([*numbers_a, *numbers_b])
        if numbers_a.get(name) != numbers_b.get(name)
    ]


def _numbers(statistics: Statistics) -> dict[str, float]:
    numbers: dict[str, float] = {"pairs": statistics.pairs}
    if statistics.characters:
        for side in ("prompt", "chosen", "rejected"):
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
    for rule in statistics.rules[:1]:
        for file, score in rule.by_file.items() if len(rule.by_file) > 1 else ():
            if score.accuracy is not None:
                numbers[f"{rule.rule} in {file}, accuracy"] = score.accuracy
    return numbers
