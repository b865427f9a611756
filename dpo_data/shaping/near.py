"""Families of near-duplicate texts: connected components of the texts that are similar; needs datasketch.

Two texts are similar if the Jaccard similarity of their word triples, estimated by MinHash sketches, reaches a
threshold. Locality-sensitive hashing finds the candidates. The sketches are on disk, 512 bytes a text; in memory there
are some numbers for each text.
Source: Broder 1997, On the resemblance and containment of documents.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpo_data.checks.near_prompts import SKETCH_SIZE, word_triples
from dpo_data.errors import require_packages
from dpo_data.inspect.pairs import parse_rows
from dpo_data.options import Form, Progress, silent
from dpo_data.records import FIELDS
from dpo_data.shaping.rows import Rows, map_ranges

#: Texts whose candidates are compared at a time.
COMPARED_AT_ONCE = 1 << 16


def families(
    rows: Rows,
    fields: tuple[str, ...],
    threshold: float,
    folder: Path,
    *,
    workers: int = 1,
    progress: Progress = silent,
) -> dict[str, NDArray[np.int64]]:
    """Return field -> the family of each row, (N,), in the order of the rows: the number of the family's first row.

    Args:
        rows: all rows.
        fields: prompt, chosen or rejected.
        threshold: similarity from which two texts are near duplicates, more than 0 and at most 1.
        folder: for the sketches.
        workers: number of processes.
        progress: called with the share of rows that were read, and their number.

    Raises: UsageError: datasketch is not installed.
    """
    require_packages("near-duplicate detection", "datasketch")
    total = sum(rows.counts.values())
    folder.mkdir(exist_ok=True)
    sketches = {
        field: np.memmap(folder / f"{field}.sketches", np.uint32, "w+", shape=(max(total, 1), SKETCH_SIZE))[:total]
        for field in fields
    }
    start = 0
    for range_, found in map_ranges(_sketch, rows, (rows.form, fields), workers=workers, progress=progress):
        stop = start + range_.stop - range_.start
        for field, sketch in found.items():
            sketches[field][start:stop] = sketch
        start = stop
    return {field: _components(sketch, threshold) for field, sketch in sketches.items()}


def _sketch(table: pa.Table, job: tuple[Form, tuple[str, ...]]) -> dict[str, NDArray[np.uint32]]:
    """Return the sketch of each text of some fields, (N, SKETCH_SIZE); pure."""
    form, fields = job
    pairs = parse_rows(form, table)
    found = {}
    for field in fields:
        sketches = np.empty((len(pairs), SKETCH_SIZE), np.uint32)
        for row, pair in enumerate(pairs):
            sketches[row] = _text_sketch(pair.texts[FIELDS.index(field)])
        found[field] = sketches
    return found


@lru_cache(maxsize=1024)
def _text_sketch(text: str) -> NDArray[np.uint32]:
    sketch = _empty_sketch().copy()
    sketch.update_batch(word_triples(text))
    low_bits: NDArray[np.uint32] = sketch.hashvalues.astype(np.uint32)
    return low_bits


@lru_cache(maxsize=1)
def _empty_sketch() -> Any:
    from datasketch import MinHash

    return MinHash(num_perm=SKETCH_SIZE, seed=1, hashfunc=crc32)


def _components(sketches: NDArray[np.uint32], threshold: float) -> NDArray[np.int64]:
    """Return the number of the first row of the component of each row, (N,)."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=SKETCH_SIZE)
    labels = np.arange(len(sketches))
    for band in range(index.b):
        hashes = _hashes(sketches[:, band * index.r : (band + 1) * index.r])
        order = np.argsort(hashes, kind="stable")
        begins = np.ones(len(order), bool)
        begins[1:] = hashes[order][1:] != hashes[order][:-1]
        firsts = order[np.flatnonzero(begins)][np.cumsum(begins) - 1]
        # Each text is compared with the first of its bucket and with the one before it.
        previous = np.where(begins, order, np.roll(order, 1))
        for others in (firsts, previous):
            labels = _join(labels, order, others, sketches, threshold)
    return labels


def _join(
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    others: NDArray[np.int64],
    sketches: NDArray[np.uint32],
    threshold: float,
) -> NDArray[np.int64]:
    """Return the labels after joining the components of those of the pairs of rows that are similar."""
    apart = labels[rows] != labels[others]
    rows, others = rows[apart], others[apart]
    similar = np.zeros(len(rows), bool)
    for start in range(0, len(rows), COMPARED_AT_ONCE):
        part = slice(start, start + COMPARED_AT_ONCE)
        similar[part] = (sketches[rows[part]] == sketches[others[part]]).mean(axis=1) >= threshold
    rows, others = rows[similar], others[similar]
    while True:
        lowest = np.minimum(labels[rows], labels[others])
        before = labels.copy()
        for side in (labels[rows], labels[others]):
            np.minimum.at(labels, side, lowest)
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels


def _hashes(values: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each row of numbers (FNV-1a over 32-bit words, then a SplitMix64 step)."""
    hashes = np.full(len(values), 0xCBF29CE484222325, np.uint64)
    for column in values.T:
        hashes = (hashes ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes
