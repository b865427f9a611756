"""Pairs of a training run that its model ranks worst."""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from dpo_data.errors import InputError, UsageError
from dpo_data.inspect.pairs import pairs_by_id
from dpo_data.prepared.reader import Prepared, open_prepared
from dpo_data.run_pairs import RUN_COLUMNS, RUN_PAIRS, read_run_pairs


class JudgedPair(NamedTuple):
    """A pair, and how the model of a run judged it.

    Attributes:
        margin: reward of chosen minus reward of rejected; below 0 the model disagrees with the label.
        split: train or test.
        step: the optimizer step at which the margin was measured.
        origin: "file:line" of the raw row.
        id: pair id.
        prompt: text of the prompt; for a conversation the contents of its messages.
        chosen: likewise.
        rejected: likewise.
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
    """Return the pairs that the model of a run ranks worst, lowest margin first: the place to look for wrong labels.

    Args:
        prepared: the prepared folder that the run was trained on.
        run: the run's folder.
        count: maximum number of pairs. A pair that was measured several times counts with its last step.

    Raises:
        PreparedError: the prepared folder is unfinished or rejected.
        InputError: the run has no file of pairs, or one that cannot be read.
        UsageError: the run was trained on other data.
    """
    if count < 1:
        raise UsageError("must be at least 1.", "count", count)
    folder = open_prepared(prepared)
    if not (Path(run) / RUN_PAIRS).is_file():
        raise InputError(
            f"{Path(run) / RUN_PAIRS}: there is no such file.\n"
            f"  Train first: dpo-train --data {prepared} --output {run}."
        )
    judged = read_run_pairs(run)
    known = judged.filter(pc.is_in(judged.column("id"), _present_ids(folder)))
    if judged.num_rows and not known.num_rows:
        raise UsageError(f"{run}: was trained on other data than {prepared}: they have no pair in common.")
    # The last step of each pair; texts are read only for the few pairs that are shown.
    latest = (
        known.sort_by("step")
        .group_by("id", use_threads=False)
        .aggregate([(name, "last") for name in RUN_COLUMNS if name != "id"])
    )
    worst = latest.sort_by("margin_last").slice(0, count).to_pylist()
    texts = pairs_by_id(folder, {row["id"] for row in worst})
    return [
        JudgedPair(
            row["margin_last"], row["split_last"], row["step_last"], row["origin_last"], row["id"],
            *texts[row["id"]].row.texts,
        )
        for row in worst
    ]  # fmt: skip


def _present_ids(folder: Prepared) -> pa.ChunkedArray:
    chunks = [batch.column("id") for split in folder.split_names for batch in folder.batches(split)]
    return pa.chunked_array(chunks, pa.string())
