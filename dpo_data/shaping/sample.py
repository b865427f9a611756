"""Take a sample of the pairs, in the proportions of a column if wanted."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpo_data.errors import UsageError, did_you_mean
from dpo_data.options import Progress, silent
from dpo_data.prepared.manifest import Manifest
from dpo_data.shaping.parents import open_parent
from dpo_data.shaping.rows import FolderRows, map_ranges
from dpo_data.shaping.sampling import Sample, rounded
from dpo_data.shaping.step import step, write_pairs

#: Values of a column from which on it is not one to stratify by: their counts are in memory.
MAX_STRATA = 100_000

#: A split and a value.
Stratum = tuple[str, str]


def sample_pairs(
    path: str | Path,
    *,
    output: str | Path,
    size: int | float,
    stratify: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> Manifest:
    """Write a sample of the pairs of a prepared folder, in their order.

    Every split, and every value of `stratify` in it, has its share of the sample, rounded by largest remainders. A
    larger sample of the same folder with the same seed contains the smaller one, but for rows that rounding moves.

    Args:
        path: the prepared folder.
        output: the folder to write.
        size: number of pairs, if a whole number; else their share, more than 0 and less than 1.
        stratify: column whose values keep their proportions.
        seed: decides which pairs are taken.
        overwrite: replace a finished folder.
        workers: number of processes.
        progress: called with the share of pairs that were read, and their number.

    Raises:
        UsageError: a size that is zero or more than there is, or an unknown column.
        PreparedError: the folder is unfinished, rejected or damaged.
    """
    parent = open_parent(path, output)
    rows = FolderRows.of(parent.prepared)
    if stratify is not None and stratify not in rows.schema.names:
        names = rows.schema.names
        raise UsageError(
            f"there is no such column.\n  Columns: {', '.join(names)}.{did_you_mean(stratify, names)}",
            "stratify",
            stratify,
        )
    total = parent.manifest.pairs
    wanted = size if isinstance(size, int) else rounded(Fraction(str(size)) * total)
    if not 0 < wanted <= total or (isinstance(size, float) and not 0 < size < 1):
        raise UsageError(f"must be a share, as in 5%, or a number of pairs up to {total:,}.", "size", size)
    options = {"size": size, "stratify": stratify, "seed": seed}
    with step("sample", options, [parent], output=output, overwrite=overwrite) as run:
        verdicts = run.verdicts(rows)
        counts = Counter[Stratum]()
        for range_, values in map_ranges(_values, rows, stratify, workers=workers, progress=progress):
            counts.update((range_.split, value) for value in values)
            if len(counts) > MAX_STRATA:
                raise UsageError(f"has more than {MAX_STRATA:,} values.", "stratify", stratify)
        samples = {
            stratum: Sample(f"{seed}/{'/'.join(stratum)}", counts[stratum], share)
            for stratum, share in apportioned(counts, wanted).items()
        }
        seen = Counter[Stratum]()
        for range_, values in map_ranges(_values, rows, stratify, workers=workers):
            out: list[int] = []
            strata = np.array(values)
            for value in dict.fromkeys(values):
                members = np.flatnonzero(strata == value)
                ranks = seen[range_.split, value] + np.arange(len(members))
                out += members[~samples[range_.split, value].contains(ranks)].tolist()
                seen[range_.split, value] += len(members)
            verdicts.leave_out(range_.split, range_.start + np.array(sorted(out), np.int64), "not_sampled")
        return write_pairs(run, rows, verdicts)


def apportioned(counts: Counter[Stratum], wanted: int) -> dict[Stratum, int]:
    """Return how many of the wanted rows each stratum gives, by largest remainders, ties to the first name.

    >>> apportioned(Counter({("train", "a"): 7, ("train", "b"): 3}), 5)
    {('train', 'a'): 4, ('train', 'b'): 1}
    """
    total = counts.total()
    exact = {stratum: Fraction(wanted * counts[stratum], total) for stratum in sorted(counts)}
    shares = {stratum: int(share) for stratum, share in exact.items()}
    by_remainder = sorted(exact, key=lambda stratum: (shares[stratum] - exact[stratum], stratum))
    for stratum in by_remainder[: wanted - sum(shares.values())]:
        shares[stratum] += 1
    return shares


def _values(table: pa.Table, column: str | None) -> list[str]:
    """Return the value of a column in each row as text; pure."""
    return [repr(value) for value in table.column(column).to_pylist()] if column is not None else [""] * table.num_rows
