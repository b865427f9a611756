"""Pairs of a prepared folder beside what a training run made of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from dpo_data.errors import InputError, UsageError, reading
from dpo_data.prepared import open_prepared
from dpo_data.records import ConversationalRow, TextRow

#: What `dpo-train` writes of every pair that it saw.
RUN_PAIRS = "pairs.parquet"
RUN_COLUMNS = ("split", "id", "origin", "step", "margin")


class JudgedPair(NamedTuple):
    """A pair, and how the model of a run judged it.

    Attributes:
        margin: reward of chosen less reward of rejected; below 0 the model disagrees with the label.
        split: train or test.
        step: the optimizer step at which the margin was measured.
        origin: "file:line" of the raw row.
        id: of the pair.
        prompt, chosen, rejected: the texts; of a conversation, the contents of its messages.
    """

    margin: float
    split: str
    step: int
    origin: str
    id: str
    prompt: str
    chosen: str
    rejected: str


def worst_pairs(prepared: str | Path, run: str | Path, *, count: int = 20) -> list[JudgedPair]:
    """The pairs that the model of a run disagrees with most, the worst first: where wrong labels are found.

    Args:
        prepared: the prepared folder that the run was trained on.
        run: the run's folder.
        count: how many at most. A pair that was measured several times counts with its last step.

    Raises:
        PreparedError: the prepared folder is unfinished or rejected.
        InputError: the run has no file of pairs, or one that cannot be read.
        UsageError: the run is about other data.
    """
    if count < 1:
        raise UsageError(f"--worst {count}: must be at least 1.")
    folder = open_prepared(prepared)
    path = Path(run) / RUN_PAIRS
    if not path.is_file():
        raise InputError(f"{path}: there is no such file.\n  Train first: dpo-train --data {prepared} --output {run}.")
    with reading(path):
        table = pq.read_table(path)
    if missing := [name for name in RUN_COLUMNS if name not in table.column_names]:
        raise InputError(f"{path}: has no column {', '.join(missing)}; it has {', '.join(table.column_names)}.")
    latest: dict[str, Mapping[str, Any]] = {}
    for row in table.select(RUN_COLUMNS).sort_by("step").to_pylist():
        latest[row["id"]] = row
    texts = _texts_of(folder.batches, folder.split_names, set(latest), form=folder.manifest.form)
    if latest and not texts:
        raise UsageError(f"{run}: was trained on other data than {prepared}: no pair of it is there.")
    ordered = sorted((row for row in latest.values() if row["id"] in texts), key=lambda row: row["margin"])
    return [
        JudgedPair(row["margin"], row["split"], row["step"], row["origin"], row["id"], *texts[row["id"]])
        for row in ordered[:count]
    ]


def _texts_of(batches: Any, splits: list[str], wanted: set[str], *, form: str) -> dict[str, tuple[str, str, str]]:
    model = TextRow if form == "text" else ConversationalRow
    found = {}
    for split in splits:
        for batch in batches(split):
            ids = batch.column("id").to_pylist()
            for index, id_ in enumerate(ids):
                if id_ in wanted:
                    found[id_] = model.model_validate(batch.slice(index, 1).to_pylist()[0]).texts
    return found
