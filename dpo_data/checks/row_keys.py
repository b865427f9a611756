"""Row keys on disk, so that dataset checks run in constant memory."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dpo_data.checks.check import ROW_KEY, DatasetCheck, RowKeys
from dpo_data.checks.counts import MAX_EXAMPLES, CodeCounts
from dpo_data.records import PairKeys

BUCKETS = 64


def row_keys(keys: Sequence[PairKeys], split: int) -> RowKeys:
    """Return the keys of consecutive rows of one split as a table; `index` counts from the first of them."""
    table = np.empty(len(keys), ROW_KEY)
    hashes = np.frombuffer(b"".join(chain.from_iterable(keys)), "V16").reshape(len(keys), len(PairKeys._fields))
    for name, column in zip(PairKeys._fields, hashes.T, strict=True):
        table[name] = column
    table["split"] = split
    table["index"] = np.arange(len(keys))
    return table


class RowKeyStore:
    """Keys of any number of rows, bucketed in 64 files by the hash of the prompt or of another field.

    Rows of one prompt are in one bucket, and dataset checks only compare rows of one prompt, so they need one bucket at
    a time in memory.
    """

    def __init__(self, folder: Path, by: str = "prompt", dtype: np.dtype[np.void] = ROW_KEY) -> None:
        self._folder = folder
        self._dtype = dtype
        self._by = by
        self._paths = [folder / f"{bucket:02d}.keys" for bucket in range(BUCKETS)]
        folder.mkdir(parents=True)
        self._open_files = ExitStack()
        self._files = [self._open_files.enter_context(path.open("wb")) for path in self._paths]

    def add(self, keys: RowKeys) -> None:
        """Append keys in reading order."""
        first_bytes = np.ascontiguousarray(keys[self._by]).view("u1")[::16]
        bucket = first_bytes % BUCKETS
        order = np.argsort(bucket, kind="stable")
        ends = np.cumsum(np.bincount(bucket, minlength=BUCKETS))
        for file, bucket_keys in zip(self._files, np.split(keys[order], ends[:-1]), strict=True):
            file.write(bucket_keys.tobytes())

    def buckets(self) -> Iterator[RowKeys]:
        """Yield the keys of each bucket in reading order; no more keys can be added afterwards."""
        self.close()
        for path in self._paths:
            yield np.fromfile(path, self._dtype)

    def close(self) -> None:
        """Close the files; no more keys can be added afterwards."""
        self._open_files.close()

    def remove(self) -> None:
        """Delete the files."""
        shutil.rmtree(self._folder)


class RowPosition(NamedTuple):
    """A row: the number of its split and its position in it."""

    split: int
    position: int


def run_dataset_checks(
    store: RowKeyStore,
    checks: Sequence[DatasetCheck],
    origin_of: Callable[[RowPosition], str],
    max_examples: int = MAX_EXAMPLES,
    id_of: Callable[[RowPosition], str] | None = None,
) -> CodeCounts:
    """Run dataset checks over all keys of a store.

    Args:
        store: the keys.
        checks: the checks.
        origin_of: returns "file:row" of a row; called for examples only.
        max_examples: number of examples per code, the first ones in reading order.
        id_of: returns the id of a pair, for the examples; None for examples without ids.
    """
    rows = Counter[str]()
    examples: dict[str, list[tuple[RowPosition, RowPosition]]] = {check.code: [] for check in checks}
    for keys in store.buckets():
        for check in checks:
            found = check.find(keys)
            rows[check.code] += len(found)
            positions = [(_position(keys[row]), _position(keys[other])) for row, other in found[:max_examples]]
            examples[check.code] = sorted(examples[check.code] + positions)[:max_examples]
    counts = CodeCounts(max_examples)
    for check in checks:
        if rows[check.code]:
            texts = [f"{origin_of(row)}: {check.summary} ({origin_of(other)})." for row, other in examples[check.code]]
            ids = [id_of(row) for row, _ in examples[check.code]] if id_of is not None else ()
            counts.add(check.code, texts, rows[check.code], ids)
    return counts


def _position(key: np.void) -> RowPosition:
    return RowPosition(int(key["split"]), int(key["index"]))
