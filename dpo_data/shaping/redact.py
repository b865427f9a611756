"""Replace personal data with placeholders in the pairs of a folder."""

from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpo_data.checks import RowCheck, select_row_checks
from dpo_data.checks.personal_data import redact as redact_text
from dpo_data.checks.personal_data import redact_pair
from dpo_data.errors import require_choice
from dpo_data.inspect.pairs import PairRow, parse_rows
from dpo_data.options import Form, OnLeak, Progress, silent
from dpo_data.prepared.manifest import Manifest
from dpo_data.shaping.changes import Changed, ChangeLog, changed_pairs
from dpo_data.shaping.leaks import resolve_leaks
from dpo_data.shaping.parents import open_parent
from dpo_data.shaping.rows import FolderRows, columns_of, map_ranges
from dpo_data.shaping.step import step, write_pairs


def redact(
    path: str | Path,
    *,
    output: str | Path,
    on_leak: OnLeak = "drop-train",
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> Manifest:
    """Write the pairs of a prepared folder with placeholders for personal data, also in kept metadata.

    A pair that a row check forbids afterwards, such as one whose responses have become equal, is left out. The
    quarantine of the folder is not copied.

    Args:
        path: the prepared folder.
        output: the folder to write.
        on_leak: see `mix`; applies if prompts change.
        overwrite: replace a finished folder.
        workers: number of processes.
        progress: called with the share of pairs that were read, and their number.

    Raises: PreparedError: the folder is unfinished, rejected or damaged.
    """
    require_choice("on_leak", on_leak, OnLeak)
    parent = open_parent(path, output)
    rows = FolderRows.of(parent.prepared)
    checks = select_row_checks(parent.manifest.options.forbid, parent.manifest.options.allow)
    texts = tuple(name for name, column in parent.manifest.kept_columns.items() if column.type == "text")
    with step("redact", {"on_leak": on_leak}, [parent], output=output, overwrite=overwrite) as run:
        verdicts = run.verdicts(rows)
        log = ChangeLog(run.work / "changes", rows, columns_of(parent.manifest), "redact", "dpo-data")
        with closing(log):
            job = (rows.form, checks, texts)
            for range_, changed in map_ranges(_redacted, rows, job, workers=workers, progress=progress):
                log.add(range_, changed)
                for code, positions in changed.left_out.items():
                    verdicts.leave_out(range_.split, range_.start + np.array(positions, np.int64), code)
        new_rows = log.rows()
        if log.new_prompts:
            resolve_leaks(new_rows, verdicts, on_leak, run.work)
        return write_pairs(run, new_rows, verdicts, changes=log.changes, redacted=log.counts)


def _redacted(table: pa.Table, job: tuple[Form, tuple[RowCheck, ...], tuple[str, ...]]) -> Changed:
    """Return the rows with personal data, redacted; pure."""
    form, checks, columns = job
    pairs: dict[int, PairRow] = {}
    kept: dict[int, dict[str, str]] = {}
    counts: dict[int, Counter[str]] = {}
    for row, pair in enumerate(parse_rows(form, table)):
        redacted, found = redact_pair(pair)
        if found:
            pairs[row] = redacted  # type: ignore[assignment]
            counts[row] = found
    for name in columns:
        for row, text in enumerate(table.column(name).to_pylist()):
            if text is not None and (clean := redact_text(text)[0]) != text:
                kept.setdefault(row, {})[name] = clean
    changed = changed_pairs(table, pairs, checks, columns=kept)
    changed.counts = counts
    return changed
