"""Keep the pairs that meet a condition, or have or lack findings of checks."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dpo_data.checks import CHECKS, DATASET_CHECKS, DEEP_ROW_CHECKS, ROW_CHECKS
from dpo_data.checks.check import RowKeys
from dpo_data.checks.deep import require_libraries
from dpo_data.checks.row_keys import RowKeyStore, row_keys
from dpo_data.errors import UsageError, did_you_mean
from dpo_data.expressions import Expression, parse_expression
from dpo_data.inspect.pairs import PairRow, parse_rows
from dpo_data.options import SPLITS, Form, Progress, silent
from dpo_data.prepared.manifest import Manifest
from dpo_data.prepared.schema import TAGS
from dpo_data.records import FIELDS, ConversationalRow, pair_keys
from dpo_data.shaping.parents import open_parent
from dpo_data.shaping.rows import FolderRows, Positions, map_ranges
from dpo_data.shaping.step import step, write_pairs
from dpo_data.shaping.verdicts import row_values

#: Tag that protects a pair from being dropped for a finding; the decision `keep` gives it.
KEEP_TAG = "keep"
#: Names in a condition besides those of columns.
DERIVED = ("turns",)


@dataclass(frozen=True)
class _Job:
    """Criteria for each pair.

    Attributes:
        form: of the pairs.
        where: the condition, or None.
        drop: codes of checks whose findings drop a pair.
        keep: codes of checks of which a pair must have a finding; none if empty.
        needs_keys: dataset checks need the keys of the pairs.
    """

    form: Form
    where: Expression | None
    drop: tuple[str, ...]
    keep: tuple[str, ...]
    needs_keys: bool


def filter(
    path: str | Path,
    *,
    output: str | Path,
    where: str | None = None,
    drop_findings: Sequence[str] = (),
    keep_findings: Sequence[str] = (),
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> Manifest:
    """Write the pairs of a prepared folder that meet a condition, and have or lack findings of checks.

    Args:
        path: the prepared folder.
        output: the folder to write.
        where: a condition as in "margin >= 1 and len(chosen) < 2000"; see `dpo_data.expressions`. It sees the columns
            of the folder and `turns`, the number of messages of the prompt (null for text); prompt, chosen
            and rejected are texts, also of conversations. A pair for which a null decides is left out.
        drop_findings: codes of checks: pairs with such a finding are left out, except those with the tag `keep`.
        keep_findings: codes of checks: only pairs with such a finding are kept.
        overwrite: replace a finished folder.
        workers: number of processes.
        progress: called with the share of pairs that were read, and their number.

    Raises:
        UsageError: a condition that cannot be read or evaluated, an unknown code, or nothing to filter by.
        PreparedError: the folder is unfinished, rejected or damaged.
    """
    parent = open_parent(path, output)
    rows = FolderRows.of(parent.prepared)
    expression = _expression(where, rows)
    if expression is None and not (drop_findings or keep_findings):
        raise UsageError("nothing to filter by.\n  Pass where, drop_findings or keep_findings.")
    drop, keep = _codes("drop_findings", drop_findings), _codes("keep_findings", keep_findings)
    if both := sorted({*drop} & {*keep}):
        raise UsageError(f"{', '.join(both)}: both dropped and kept. Name each code once.")
    of_dataset = [check for check in DATASET_CHECKS if check.code in (*drop, *keep)]
    job = _Job(rows.form, expression, drop, keep, needs_keys=bool(of_dataset))
    options = {"where": where, "drop_findings": sorted(drop), "keep_findings": sorted(keep)}
    with step("filter", options, [parent], output=output, overwrite=overwrite) as run:
        verdicts = run.verdicts(rows)
        has_finding, is_protected = (row_values(run.work / name, rows.counts) for name in ("finding", "protected"))
        with closing(RowKeyStore(run.work / "keys")) as store:
            for range_, result in map_ranges(_judge, rows, job, workers=workers, progress=progress):
                for reason, positions in result.left_out.items():
                    verdicts.leave_out(range_.split, range_.start + positions, reason)
                has_finding[range_.split][range_.start + result.with_finding] = True
                is_protected[range_.split][range_.start + result.protected] = True
                if result.keys is not None:
                    result.keys["split"] = SPLITS.index(range_.split)
                    result.keys["index"] += range_.start
                    store.add(result.keys)
            for keys in store.buckets() if of_dataset else ():
                for check in of_dataset:
                    found = keys[check.find(keys)[:, 0]]
                    for number, split in enumerate(SPLITS):
                        positions = found["index"][found["split"] == number].astype(np.int64)
                        if check.code in drop and len(positions):
                            positions = positions[is_protected[split][positions] == 0]
                            verdicts.leave_out(split, positions, check.code)
                        elif len(positions):
                            has_finding[split][positions] = True
        for split, finding in has_finding.items() if keep else ():
            verdicts.leave_out(split, np.flatnonzero(finding == 0), "no_finding")
        return write_pairs(run, rows, verdicts)


def _expression(where: str | None, rows: FolderRows) -> Expression | None:
    if where is None:
        return None
    try:
        expression = parse_expression(where)
    except UsageError as error:
        raise UsageError(error.message, "where", where) from error
    known = [*rows.schema.names, *DERIVED]
    for column in expression.columns:
        if column not in known:
            raise UsageError(
                f'there is no column "{column}".\n  Columns: {", ".join(known)}.{did_you_mean(column, known)}',
                "where",
                where,
            )
    return expression


def _codes(option: str, codes: Sequence[str]) -> tuple[str, ...]:
    """Return codes of checks that `filter` can run.

    Raises: UsageError: an unknown code, or one of another command.
    """
    known = [check.code for check in (*ROW_CHECKS, *DEEP_ROW_CHECKS)] + [check.code for check in DATASET_CHECKS]
    for code in codes:
        if code not in known:
            elsewhere = "\n  Near duplicates: dpo-data dedup --near 0.8." if code in CHECKS else ""
            raise UsageError(
                f"is not a check that filter runs.\n  Checks: {', '.join(known)}."
                f"{did_you_mean(code, known)}{elsewhere}",
                option,
                code,
            )
    if {check.code for check in DEEP_ROW_CHECKS} & {*codes}:
        require_libraries()
    return tuple(dict.fromkeys(codes))


class _Judged(NamedTuple):
    """Result for N consecutive pairs; rows count from 0.

    Attributes:
        left_out: reason to rows.
        with_finding: rows with a finding for which pairs are kept.
        protected: rows that are kept whatever is found in them.
        keys: of the rows that are not left out, if dataset checks need them.
    """

    left_out: dict[str, Positions]
    with_finding: Positions
    protected: Positions
    keys: RowKeys | None


def _judge(table: pa.Table, job: _Job) -> _Judged:
    """Return what the condition and the row checks say about pairs; pure."""
    left_out: dict[str, list[int]] = {}
    with_finding, protected, keys, kept = [], [], [], []
    checks = [check for check in (*ROW_CHECKS, *DEEP_ROW_CHECKS) if check.code in (*job.drop, *job.keep)]
    needs_pairs = bool(checks) or job.needs_keys or job.where is not None
    pairs = parse_rows(job.form, table) if needs_pairs else []
    stored = _condition_values(table, job.where)
    tags = table.column(TAGS).to_pylist() if TAGS in table.schema.names else [None] * table.num_rows
    for row, pair in enumerate(pairs):
        if job.where is not None:
            holds = _holds(job.where, {**stored[row], **_derived(pair)}, pair.origin)
            if not holds:
                left_out.setdefault("filtered_null" if holds is None else "filtered", []).append(row)
                continue
        is_protected = KEEP_TAG in (tags[row] or "").split(",")
        if is_protected:
            protected.append(row)
        texts = pair.texts
        found = [check.code for check in checks if check.find(pair, texts)]
        if any(code in job.keep for code in found):
            with_finding.append(row)
        dropped = next((code for code in found if code in job.drop), None)
        if dropped is not None and not is_protected:
            left_out.setdefault(dropped, []).append(row)
        elif job.needs_keys:
            kept.append(row)
            keys.append(pair_keys(pair))
    table_of_keys = row_keys(keys, 0) if job.needs_keys else None
    if table_of_keys is not None:
        table_of_keys["index"] = kept
    return _Judged(
        {reason: np.array(rows, np.int64) for reason, rows in left_out.items()},
        np.array(with_finding, np.int64),
        np.array(protected, np.int64),
        table_of_keys,
    )


def _condition_values(table: pa.Table, where: Expression | None) -> list[dict[str, Any]]:
    """Return the values of the columns that a condition names, those of the texts apart, by row."""
    if where is None:
        return []
    names = [name for name in table.schema.names if name in where.columns and name not in FIELDS]
    if not names:
        return [{}] * table.num_rows
    rows: list[dict[str, Any]] = table.select(names).to_pylist()
    return rows


def _derived(pair: PairRow) -> dict[str, Any]:
    turns = len(pair.prompt) if isinstance(pair, ConversationalRow) else None
    return {**dict(zip(FIELDS, pair.texts, strict=True)), "turns": turns}


def _holds(where: Expression, values: Mapping[str, Any], origin: str) -> bool | None:
    try:
        return where.holds(values.get)
    except UsageError as error:
        raise UsageError(f"{error.message}\n  The pair of {origin} has such a value.", "where", where.text) from error
