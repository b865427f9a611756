"""Assign pairs to train and test anew, a whole family of pairs at a time."""

from fractions import Fraction
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpo_data.checks.near_prompts import MIN_SIMILARITY
from dpo_data.errors import UsageError, argument, did_you_mean, require_choice
from dpo_data.options import OnLeak, Progress, silent
from dpo_data.prepared.manifest import Manifest
from dpo_data.shaping.leaks import resolve_leaks
from dpo_data.shaping.near import families
from dpo_data.shaping.parents import Parent, open_parent
from dpo_data.shaping.rows import FolderRows, keys_column, map_ranges
from dpo_data.shaping.sampling import mixed_bits, rounded
from dpo_data.shaping.step import Step, step, write_pairs
from dpo_data.shaping.verdicts import Verdicts, row_values

#: Families are handled in this many groups, so that memory holds one of them.
GROUPS = 64

FamilyKeys = dict[str, NDArray[np.uint64]]


def split(
    path: str | Path,
    *,
    output: str | Path,
    test: float,
    by: str = "prompt",
    keep_test: bool = False,
    seed: int = 0,
    on_leak: OnLeak = "drop-train",
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> Manifest:
    """Write the pairs of a prepared folder with a new test split; pairs of one family are never in two splits.

    The pairs of all splits are pooled. Families go to test in the order of a keyed hash, as long as they fit into the
    share; a family that is larger than the share is in train, and the manifest says so.

    Args:
        path: the prepared folder.
        output: the folder to write.
        test: share of the pairs that go to test, more than 0 and less than 1.
        by: what makes a family: the same "prompt"; a "near-prompt", the connected components of near-duplicate prompts
            (needs the extra `checks`); or the name of a column with the same value, where null is the prompt's own.
        keep_test: leave the pairs of test where they are, and move further families there only as the share allows;
            other pairs of a family that is in test move there first.
        seed: of the hash.
        on_leak: see `mix`; families of a column may share prompts.
        overwrite: replace a finished folder.
        workers: number of processes.
        progress: called with the share of pairs that were read, and their number.

    Raises:
        UsageError: an option out of its range, an unknown column, or an evaluation set, of which nothing may go to
            train; "near-prompt" without its library.
        PreparedError: the folder is unfinished, rejected or damaged.
    """
    require_choice("on_leak", on_leak, OnLeak)
    if not 0 < test < 1:
        raise UsageError("must be more than 0 and less than 1, as in 5% or 0.05.", "test", test)
    parent = open_parent(path, output)
    rows = FolderRows.of(parent.prepared)
    _require_usable(parent, rows, by)
    options = {"test": test, "by": by, "keep_test": keep_test, "seed": seed, "on_leak": on_leak}
    with step("split", options, [parent], output=output, overwrite=overwrite) as run:
        verdicts = run.verdicts(rows)
        keys = row_values(run.work / "families", rows.counts, "u8")
        column = None if by in ("prompt", "near-prompt") else by
        for range_, found in map_ranges(_family_keys, rows, column, workers=workers, progress=progress):
            keys[range_.split][range_.start : range_.stop] = found
        if by == "near-prompt":
            _join_near(rows, keys, run.work / "near", workers, progress)
        for split_keys in keys.values():
            split_keys[:] = mixed_bits(split_keys ^ np.uint64(seed % 2**64))
        wanted = rounded(Fraction(str(test)) * sum(rows.counts.values()))
        _assign(run, verdicts, keys, wanted, keep_test=keep_test)
        resolve_leaks(rows, verdicts, on_leak, run.work)
        return write_pairs(run, rows, verdicts)


def _require_usable(parent: Parent, rows: FolderRows, by: str) -> None:
    manifest = parent.manifest
    if manifest.source.eval_only and not manifest.options.train_on_eval:
        raise UsageError(
            f"{parent.name} is an evaluation set: a model that is trained on it can no longer be evaluated with it.\n"
            f"  To train on it anyway, convert it with {argument('train_on_eval', True)}."
        )
    choices = ["prompt", "near-prompt", *(name for name in rows.schema.names if name not in ("prompt", "tools"))]
    if by not in choices:
        raise UsageError(
            f"choose prompt, near-prompt or a column.\n  Columns: {', '.join(choices[2:])}.{did_you_mean(by, choices)}",
            "by",
            by,
        )


def _family_keys(table: pa.Table, column: str | None) -> NDArray[np.uint64]:
    """Return a hash of the family of each row, (N,): that of its prompt, or of the value of a column; pure."""
    keys: NDArray[np.uint64] = keys_column(table, "prompt_key").view(np.uint64)[::2].copy()
    for row, value in enumerate(table.column(column).to_pylist() if column is not None else ()):
        if value is not None:
            keys[row] = int.from_bytes(blake2b(repr(value).encode(), digest_size=8).digest())
    return keys


def _join_near(rows: FolderRows, keys: FamilyKeys, folder: Path, workers: int, progress: Progress) -> None:
    """Give rows with near-duplicate prompts the key of the first of them."""
    labels = families(rows, ("prompt",), MIN_SIMILARITY, folder, workers=workers, progress=progress)["prompt"]
    of_rows = np.concatenate(list(keys.values()))[labels]
    start = 0
    for split_keys in keys.values():
        split_keys[:] = of_rows[start : start + len(split_keys)]
        start += len(split_keys)


def _assign(run: Step, verdicts: Verdicts, keys: FamilyKeys, wanted: int, *, keep_test: bool) -> None:
    """Move whole families to test until it has the wanted number of pairs, and all others to train."""
    room, larger, pairs_of_larger, in_test = wanted, 0, 0, 0
    width = 2**64 // GROUPS
    groups = [(np.uint64(number * width), np.uint64((number + 1) * width - 1)) for number in range(GROUPS)]
    if keep_test:
        for low, high in groups:
            members = _members(keys, low, high)
            kept = np.unique(_of_split(keys, members, "test"))
            in_test += sum(int(np.isin(keys[name][rows], kept).sum()) for name, rows in members.items())
        room -= in_test
    for low, high in groups:
        members = _members(keys, low, high)
        names, sizes = np.unique(
            np.concatenate([keys[name][rows] for name, rows in members.items()] or [np.empty(0, np.uint64)]),
            return_counts=True,
        )
        kept = np.unique(_of_split(keys, members, "test")) if keep_test else names[:0]
        free = ~np.isin(names, kept)
        names, sizes = names[free], sizes[free]
        larger += int((sizes > wanted).sum())
        pairs_of_larger += int(sizes[sizes > wanted].sum())
        taken = _fitting(sizes, room)
        room -= int(sizes[taken].sum())
        in_test += int(sizes[taken].sum())
        for name, rows in members.items():
            is_test = np.isin(keys[name][rows], np.concatenate([kept, names[taken]]))
            verdicts.move(name, rows[is_test], "test")
            verdicts.move(name, rows[~is_test], "train")
    if larger:
        run.notes.append(
            f"{larger:,} famil{'y' if larger == 1 else 'ies'} of more pairs than test would have ({wanted:,}): "
            f"{pairs_of_larger:,} pairs, all in train."
        )
    if in_test != wanted:
        run.notes.append(f"test has {in_test:,} pairs instead of {wanted:,}: families are not cut.")


def _members(keys: FamilyKeys, low: np.uint64, high: np.uint64) -> dict[str, NDArray[np.int64]]:
    """Return split to the positions of the rows whose family is in a range of keys."""
    return {name: np.flatnonzero((of_split >= low) & (of_split <= high)) for name, of_split in keys.items()}


def _of_split(keys: FamilyKeys, members: dict[str, NDArray[np.int64]], name: str) -> NDArray[np.uint64]:
    return keys[name][members[name]] if name in members else np.empty(0, np.uint64)


def _fitting(sizes: NDArray[np.int64], room: int) -> NDArray[np.int64]:
    """Return the numbers of the families that fit into a number of pairs, first come first served, (N,)."""
    taken = []
    numbers = np.arange(len(sizes))
    while room > 0 and len(numbers := numbers[sizes[numbers] <= room]):
        fits = np.searchsorted(np.cumsum(sizes[numbers]), room, side="right")
        taken.append(numbers[:fits])
        room -= int(sizes[numbers[:fits]].sum())
        numbers = numbers[fits:]
    return np.concatenate(taken) if taken else np.empty(0, np.int64)
