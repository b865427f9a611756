"""Apply decisions about single pairs: drop, flip, edit, tag or keep."""

from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpo_data.checks import RowCheck, select_row_checks
from dpo_data.errors import UsageError, require_choice
from dpo_data.inspect.pairs import PairRow, parse_rows
from dpo_data.options import Form, OnLeak, Progress, silent
from dpo_data.prepared.files import hash_file
from dpo_data.prepared.lineage import with_ancestors
from dpo_data.prepared.manifest import Manifest
from dpo_data.prepared.reader import Prepared
from dpo_data.prepared.schema import TAGS, PairColumns
from dpo_data.prepared.steps import read_changes, read_left_out
from dpo_data.shaping.changes import Changed, ChangeLog, changed_pairs
from dpo_data.shaping.decisions import Verdict, read_decisions, verdicts_of
from dpo_data.shaping.filter import KEEP_TAG
from dpo_data.shaping.leaks import resolve_leaks
from dpo_data.shaping.parents import Parent, open_parent
from dpo_data.shaping.rows import FolderRows, columns_of, conform, map_ranges
from dpo_data.shaping.step import step, write_pairs

DROPPED = "dropped"


def apply(
    decisions: str | Path,
    path: str | Path,
    *,
    output: str | Path,
    on_leak: OnLeak = "drop-train",
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> Manifest:
    """Write the pairs of a prepared folder as decisions say; see `dpo_data.shaping.decisions.Decision`.

    A decision holds for all copies of an id. Edits and a flip of one id refer to the pair as it was. A flip swaps the
    scores with the texts; an edit removes the score of the edited text; both remove the margin. A changed pair has a
    new id, and changes.jsonl has both; row checks run on it again, and leave it out by their code. `keep` is the tag
    `keep`.

    Args:
        decisions: a file with one decision a line.
        path: the prepared folder whose ids the decisions name.
        output: the folder to write.
        on_leak: see `mix`; applies if prompts change.
        overwrite: replace a finished folder.
        workers: number of processes; the decisions are applied in one.
        progress: called with the share of pairs that were read, and their number.

    Raises:
        InputError: the file cannot be read, or a line is not a decision.
        UsageError: two persons disagree, nothing is decided, or no id is in the folder.
        PreparedError: the folder is unfinished, rejected or damaged.
    """
    require_choice("on_leak", on_leak, OnLeak)
    decisions = Path(decisions)
    parent = open_parent(path, output)
    wanted = verdicts_of(decisions, read_decisions(decisions))
    columns = _columns(parent, wanted)
    rows = FolderRows.of(parent.prepared)
    checks = select_row_checks(parent.manifest.options.forbid, parent.manifest.options.allow)
    options = {"decisions": hash_file(decisions), "on_leak": on_leak}
    with step("apply", options, [parent], output=output, overwrite=overwrite) as run:
        verdicts = run.verdicts(rows)
        ids = pa.array(sorted(wanted), pa.string())
        found: set[str] = set()
        with closing(ChangeLog(run.work / "changes", rows, columns, "edit", "")) as log:
            for range_, matches in map_ranges(_matches, rows, ids, progress=progress):
                if not len(matches):
                    continue
                table = conform(rows.read(range_), log.schema)
                row_ids = table.column("id").to_pylist()
                found.update(row_ids[row] for row in matches.tolist())
                by_row = {row: wanted[row_ids[row]] for row in matches.tolist()}
                dropped = [row for row, verdict in by_row.items() if verdict.action and verdict.action[0] == "drop"]
                verdicts.leave_out(range_.split, range_.start + np.array(dropped, np.int64), DROPPED)
                changed, actions = _changed(table, by_row, rows.form, checks)
                log.add(range_, changed, actions)
                for code, positions in changed.left_out.items():
                    verdicts.leave_out(range_.split, range_.start + np.array(positions, np.int64), code)
        run.notes += _unmatched(decisions, parent.prepared, wanted, found)
        new_rows = log.rows()
        if log.new_prompts:
            resolve_leaks(new_rows, verdicts, on_leak, run.work)
        return write_pairs(run, new_rows, verdicts, changes=log.changes)


def _columns(parent: Parent, wanted: dict[str, Verdict]) -> PairColumns:
    columns = columns_of(parent.manifest)
    tags = any(verdict.tags or _is_kept(verdict) for verdict in wanted.values())
    if not tags or TAGS in columns.steps:
        return columns
    if TAGS in columns.kept:
        raise UsageError(
            f"{parent.name} has a column {TAGS} of its own, which tags would fill.\n"
            f"  Convert it again under another name: --keep labels={TAGS}."
        )
    return replace(columns, steps=(*columns.steps, TAGS))


def _is_kept(verdict: Verdict) -> bool:
    return verdict.action is not None and verdict.action[0] == "keep"


def _matches(table: pa.Table, ids: pa.Array) -> Any:
    """Return the rows with one of the ids, (N,)."""
    return np.flatnonzero(pc.is_in(table.column("id"), ids).to_numpy())


def _changed(
    table: pa.Table, by_row: dict[int, Verdict], form: Form, checks: tuple[RowCheck, ...]
) -> tuple[Changed, dict[int, tuple[str, str]]]:
    """Return the changes of rows, and row -> what was done and by whom."""
    pairs: dict[int, PairRow] = {}
    tags: dict[int, dict[str, str]] = {}
    actions: dict[int, tuple[str, str]] = {}
    rows = list(by_row)
    parsed = parse_rows(form, table.take(pa.array(rows, pa.int64())))
    old_tags = table.column(TAGS).to_pylist() if TAGS in table.schema.names else []
    for row, pair in zip(rows, parsed, strict=True):
        verdict = by_row[row]
        if verdict.action and verdict.action[0] == "drop":
            continue
        is_flipped = verdict.action is not None and verdict.action[0] == "flip"
        if is_flipped or verdict.edits:
            pairs[row] = _edited(pair, verdict, is_flipped=is_flipped)
            done = (["flip"] if is_flipped else []) + (["edit"] if verdict.edits else [])
            actions[row] = "+".join(done), ", ".join(filter(None, verdict.by))
        new = [*verdict.tags, *([KEEP_TAG] if _is_kept(verdict) else [])]
        if new:
            tags[row] = {TAGS: ",".join(sorted({*filter(None, (old_tags[row] or "").split(",")), *new}))}
    return changed_pairs(table, pairs, checks, columns=tags), actions


def _edited(pair: PairRow, verdict: Verdict, *, is_flipped: bool) -> PairRow:
    """Return a pair with its edits, then flipped."""
    values: dict[str, Any] = {"margin": None}
    for name, (text, _) in verdict.edits.items():
        old = getattr(pair, name)
        values[name] = text if isinstance(old, str) else [*old[:-1], old[-1].model_copy(update={"content": text})]
        if name != "prompt":
            values[f"{name}_score"] = None
    edited = pair.model_copy(update=values)
    if not is_flipped:
        return edited
    swapped = {
        "chosen": edited.rejected,
        "rejected": edited.chosen,
        "chosen_score": edited.rejected_score,
        "rejected_score": edited.chosen_score,
    }
    return edited.model_copy(update=swapped)


def _unmatched(path: Path, prepared: Prepared, wanted: dict[str, Verdict], found: set[str]) -> list[str]:
    """Return sentences about the ids that are not in the folder.

    Raises: UsageError: none is in the folder, nor was in one that it was made from.
    """
    missing = wanted.keys() - found
    applied: set[str] = set()
    for folder in with_ancestors(prepared) if missing else ():
        applied |= missing & {change.old_id for change in read_changes(folder.path)}
        applied |= missing & {pair.id for pair in read_left_out(folder.path) if pair.reason == DROPPED}
    unknown = len(missing - applied)
    if wanted and unknown == len(wanted):
        raise UsageError(
            f"{path}: none of its {unknown:,} ids is in {prepared.path}.\n"
            "  Decisions hold for the folder whose ids they name, and for those made from it."
        )
    counts = Counter({"already_applied": len(applied), "unknown": unknown})
    return [f"{count:,} of {len(wanted):,} ids in the decisions: {name}." for name, count in counts.items() if count]
