"""Leave out duplicates: exact copies, near duplicates, contradictions, and more than some pairs of a prompt."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpo_data.checks.row_keys import RowKeyStore
from dpo_data.errors import UsageError, require_choice
from dpo_data.inspect.batches import row_margins
from dpo_data.inspect.pairs import parse_rows
from dpo_data.options import SPLITS, Contradictions, Form, Progress, SplitName, silent
from dpo_data.prepared.manifest import Manifest
from dpo_data.records import FIELDS, pair_keys
from dpo_data.shaping.near import families
from dpo_data.shaping.parents import open_parent
from dpo_data.shaping.rows import FolderRows, keys_column, map_ranges
from dpo_data.shaping.step import step, write_pairs
from dpo_data.shaping.verdicts import KEPT, Verdicts

#: Keys and margin of a row; `order` is smaller for a row that is preferred.
DEDUP_KEY = np.dtype(
    [
        *((name, "V16") for name in ("prompt", "pair", "unordered")),
        ("split", "u1"),
        ("index", "u8"),
        ("order", "u8"),
        ("margin", "f8"),
    ]
)
Keys = NDArray[np.void]


def dedup(
    path: str | Path,
    *,
    output: str | Path,
    near: float | None = None,
    per_prompt: int | None = None,
    contradictions: Contradictions = "keep",
    prefer: SplitName = "test",
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> Manifest:
    """Write the pairs of a prepared folder without duplicates; by default only exact copies are left out.

    Of equal pairs, the first one is kept, in the order of the splits (see `prefer`), then of the rows.

    Args:
        path: the prepared folder.
        output: the folder to write.
        near: also leave out pairs of which prompt, chosen and rejected are each near duplicates of those of an earlier
            pair: Jaccard similarity of their word triples, more than 0 and at most 1, as in 0.8. Needs the extra
            `checks`.
        per_prompt: maximum pairs of one prompt, preferring the largest margins, then the first ones.
        contradictions: of A over B and B over A for one prompt, "keep" both, "drop" both, or keep the side with the
            larger margin ("margin"; both are left out where the margins are equal or unknown).
        prefer: the split whose copy is kept.
        overwrite: replace a finished folder.
        workers: number of processes.
        progress: called with the share of pairs that were read, and their number.

    Raises:
        UsageError: an option out of its range; `near` without its library.
        PreparedError: the folder is unfinished, rejected or damaged.
    """
    require_choice("contradictions", contradictions, Contradictions)
    require_choice("prefer", prefer, SplitName)
    if near is not None and not 0 < near <= 1:
        raise UsageError("must be more than 0 and at most 1.", "near", near)
    if per_prompt is not None and per_prompt < 1:
        raise UsageError("must be at least 1.", "per_prompt", per_prompt)
    parent = open_parent(path, output)
    rows = FolderRows.of(parent.prepared)
    options = {"near": near, "per_prompt": per_prompt, "contradictions": contradictions, "prefer": prefer}
    with step("dedup", options, [parent], output=output, overwrite=overwrite) as run:
        verdicts = run.verdicts(rows)
        preferred = [prefer, *(split for split in SPLITS if split != prefer)]
        with closing(RowKeyStore(run.work / "keys", dtype=DEDUP_KEY)) as store:
            job = (rows.form, contradictions != "keep")
            for range_, keys in map_ranges(_keys, rows, job, workers=workers, progress=progress):
                keys["split"] = SPLITS.index(range_.split)
                keys["index"] += range_.start
                keys["order"] = keys["index"] + sum(
                    rows.counts.get(split, 0) for split in preferred[: preferred.index(range_.split)]
                )
                store.add(keys)
            for keys in store.buckets():
                keys.sort(order="order")
                keys = _leave_out(verdicts, keys, _copies(keys), "duplicate_pair")
                if contradictions != "keep":
                    keys = _leave_out(verdicts, keys, _contradicting(keys, contradictions), "contradiction")
                if per_prompt is not None and near is None:
                    _leave_out(verdicts, keys, _beyond(keys, per_prompt), "over_per_prompt")
            if near is not None:
                found = families(rows, FIELDS, near, run.work / "near", workers=workers, progress=progress)
                _leave_out_near(rows, verdicts, found, preferred)
                for keys in store.buckets() if per_prompt is not None else ():
                    keys.sort(order="order")
                    keys = keys[_is_kept(verdicts, keys)]
                    _leave_out(verdicts, keys, _beyond(keys, per_prompt or 1), "over_per_prompt")
        return write_pairs(run, rows, verdicts)


def _keys(table: pa.Table, job: tuple[Form, bool]) -> Keys:
    """Return the keys of rows; pure. Only contradictions need the texts."""
    form, with_texts = job
    keys = np.zeros(table.num_rows, DEDUP_KEY)
    keys["pair"], keys["prompt"] = keys_column(table, "id"), keys_column(table, "prompt_key")
    keys["index"] = np.arange(table.num_rows)
    keys["margin"] = row_margins(table.to_batches()[0]) if table.num_rows else 0.0
    if with_texts:
        unordered = b"".join(pair_keys(pair).unordered for pair in parse_rows(form, table))
        keys["unordered"] = np.frombuffer(unordered, "V16")
    return keys


def _leave_out(verdicts: Verdicts, keys: Keys, duplicate: NDArray[np.bool_], reason: str) -> Keys:
    """Leave out the marked rows, and return the keys of the others."""
    for number, split in enumerate(SPLITS):
        positions = keys["index"][duplicate & (keys["split"] == number)].astype(np.int64)
        verdicts.leave_out(split, positions, reason)
    return keys[~duplicate]


def _is_kept(verdicts: Verdicts, keys: Keys) -> NDArray[np.bool_]:
    kept = np.zeros(len(keys), bool)
    for number, split in enumerate(SPLITS):
        of_split = keys["split"] == number
        if of_split.any():
            kept[of_split] = verdicts.all_codes(split)[keys["index"][of_split].astype(np.int64)] == KEPT
    return kept


def _copies(keys: Keys) -> NDArray[np.bool_]:
    """Return the rows that are copies of an earlier one, (N,)."""
    first = np.unique(keys["pair"], return_index=True)[1]
    copies = np.ones(len(keys), bool)
    copies[first] = False
    return copies


def _contradicting(keys: Keys, contradictions: Contradictions) -> NDArray[np.bool_]:
    """Return the rows that are left out of those that contradict another one, (N,); there are no copies among them."""
    _, group, size = np.unique(keys["unordered"], return_inverse=True, return_counts=True)
    contradicting = size[group] > 1
    if contradictions == "margin":
        best = np.full(len(size), -np.inf)
        margins = np.where(np.isnan(keys["margin"]), np.inf, keys["margin"])
        np.maximum.at(best, group, margins)
        is_best = margins == best[group]
        decided = (np.bincount(group[is_best], minlength=len(size)) == 1) & np.isfinite(best)
        contradicting &= ~(is_best & decided[group])
    return contradicting


def _beyond(keys: Keys, per_prompt: int) -> NDArray[np.bool_]:
    """Return the rows that are beyond the first `per_prompt` of their prompt, (N,)."""
    _, group = np.unique(keys["prompt"], return_inverse=True)
    margins = np.where(np.isnan(keys["margin"]), -np.inf, keys["margin"])
    order = np.lexsort((keys["order"], -margins, group))
    begins = np.flatnonzero(np.diff(group[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
    beyond = np.zeros(len(keys), bool)
    beyond[order[rank >= per_prompt]] = True
    return beyond


def _leave_out_near(
    rows: FolderRows, verdicts: Verdicts, found: dict[str, NDArray[np.int64]], preferred: list[str]
) -> None:
    """Leave out the kept rows that are in the same three families as a kept row that is preferred."""
    starts = dict(zip(rows.counts, np.cumsum([0, *rows.counts.values()]).tolist(), strict=False))
    numbers = np.concatenate(
        [
            starts[split] + np.flatnonzero(verdicts.all_codes(split) == KEPT)
            for split in preferred
            if split in rows.counts
        ]
    )
    labels = np.stack([found[field][numbers] for field in FIELDS], axis=1)
    first = np.unique(labels, axis=0, return_index=True)[1]
    near = np.ones(len(numbers), bool)
    near[first] = False
    for split, start in starts.items():
        of_split = near & (numbers >= start) & (numbers < start + rows.counts[split])
        verdicts.leave_out(split, numbers[of_split] - start, "near_duplicate_pair")
