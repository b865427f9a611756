"""Leave out pairs that share runs of words with an evaluation set."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpo_data.checks.check import RowCheck
from dpo_data.checks.contamination import RUN, contamination
from dpo_data.errors import UsageError
from dpo_data.inspect.pairs import parse_rows
from dpo_data.options import Form, Progress, silent
from dpo_data.prepared.files import hash_file
from dpo_data.prepared.manifest import Manifest
from dpo_data.shaping.parents import open_parent
from dpo_data.shaping.rows import FolderRows, map_ranges
from dpo_data.shaping.step import step, write_pairs

REASON = "contamination"


def decontaminate(
    path: str | Path,
    *,
    output: str | Path,
    against: str | Path | Sequence[str | Path],
    n: int = RUN,
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> Manifest:
    """Write the pairs of a prepared folder that share no run of words with an evaluation set.

    left_out.jsonl names the field and the text of the evaluation set, by file:row, of each pair that is left out.

    Args:
        path: the prepared folder.
        output: the folder to write.
        against: evaluation sets; see `dpo_data.checks.contamination`.
        n: words of a run; a text of 8 words or more that is shorter counts as a whole.
        overwrite: replace a finished folder.
        workers: number of processes.
        progress: called with the share of pairs that were read, and their number.

    Raises:
        UsageError: no evaluation set, or one without text; a run of fewer than 2 words.
        InputError: an evaluation set cannot be read.
        PreparedError: the folder is unfinished, rejected or damaged.
    """
    files = tuple(map(str, [against] if isinstance(against, str | Path) else against))
    if not files:
        raise UsageError("name at least one evaluation set.", "against", "")
    if n < 2:
        raise UsageError("must be at least 2.", "n", n)
    parent = open_parent(path, output)
    rows = FolderRows.of(parent.prepared)
    _check(files, n)
    sets = {Path(file).name: hash_file(Path(file)) for file in files if Path(file).is_file()}
    options = {"against": {Path(file).name: sets.get(Path(file).name) for file in files}, "n": n}
    with step("decontaminate", options, [parent], output=output, overwrite=overwrite) as run:
        verdicts = run.verdicts(rows)
        evidence: dict[tuple[str, int], str] = {}
        job = (rows.form, files, n)
        for range_, found in map_ranges(_contaminated, rows, job, workers=workers, progress=progress):
            positions = range_.start + np.array(list(found), np.int64)
            verdicts.leave_out(range_.split, positions, REASON)
            evidence.update({(range_.split, range_.start + row): text for row, text in found.items()})
        _check.cache_clear()
        return write_pairs(run, rows, verdicts, evidence=evidence)


def _contaminated(table: pa.Table, job: tuple[Form, tuple[str, ...], int]) -> dict[int, str]:
    """Return the rows that share a run of words, each with its field and the place in the evaluation set; pure."""
    form, files, n = job
    check = _check(files, n)
    found = {}
    for row, pair in enumerate(parse_rows(form, table)):
        if finding := check.find(pair, pair.texts):
            place = finding.message.rpartition('" with ')[2].removesuffix(".")
            found[row] = f"{finding.field}: {place}"
    return found


@lru_cache(maxsize=1)
def _check(files: tuple[str, ...], n: int) -> RowCheck:
    """Return the check, which each process makes once."""
    return contamination(files, n)
