"""Find the prepared folders and training runs that use a pair, through the steps that made the folders."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from dpo_data.errors import UsageError
from dpo_data.inspect.pairs import matching_pairs, pairs_with_id
from dpo_data.inspect.search import check_id
from dpo_data.prepared.lineage import with_ancestors
from dpo_data.prepared.manifest import ManifestModel
from dpo_data.prepared.reader import Prepared, is_prepared, open_prepared
from dpo_data.prepared.schema import DATASET
from dpo_data.prepared.steps import ChangedPair, LeftOutPair, read_changes, read_left_out
from dpo_data.run_pairs import RUN_PAIRS, read_run_pairs
from dpo_data.tokens.cache import list_tokens
from dpo_data.tokens.dropped import read_dropped


class PairUse(ManifestModel):
    """A use of a pair: its row in a prepared folder, its removal by a step or from a token cache, or a measurement by a
    run.
    """

    path: str
    kind: Literal["prepared", "left_out", "tokens", "run"]
    id: str
    dataset: Annotated[str | None, Field(description="The part of a mix that the pair comes from.")] = None
    split: Annotated[str | None, Field(description="Null for a pair that a step left out.")]
    origin: str
    index: Annotated[int | None, Field(description="In a prepared folder: index in the split, from 0.")] = None
    dropped: Annotated[
        str | None, Field(description="Reason that a step left the pair out, or that a token cache does not have it.")
    ] = None
    changed: Annotated[
        str | None, Field(description="What the step that made the folder did to the pair, and its id before.")
    ] = None
    step: Annotated[int | None, Field(description="Optimizer step at which a run measured the pair.")] = None
    margin: Annotated[float | None, Field(description="Reward of chosen minus reward of rejected, at that step.")] = (
        None
    )


def where(id_: str, paths: Sequence[str | Path]) -> list[PairUse]:
    """Return the uses of a pair in prepared folders, in their token caches that dropped it, and in training runs.

    Folders that a folder was made from are searched too, as long as they are where they were, with the same content. A
    pair that a step changed is found under its old and its new id.

    Args:
        id_: pair id, or a unique prefix of one.
        paths: prepared folders, and folders of dpo-train runs.

    Raises:
        PreparedError: a prepared folder is unfinished or rejected.
        InputError: a run's file of pairs is damaged.
        UsageError: a path is neither, or several pairs have such an id.
    """
    check_id(id_)
    runs: list[Path] = []
    folders: dict[Path, Prepared] = {}
    for path in map(Path, paths):
        if (path / RUN_PAIRS).is_file():
            runs.append(path)
        elif is_prepared(path):
            for folder in with_ancestors(open_prepared(path)):
                folders.setdefault(folder.path.resolve(), folder)
        else:
            raise UsageError(f"{path}: neither a prepared folder nor a run with {RUN_PAIRS}.")
    changes = {path: list(read_changes(path)) for path in folders}
    left_out = {path: list(_left_out(path, id_)) for path in folders}
    matching = {id for of_folder in changes.values() for change in of_folder for id in (change.old_id, change.new_id)}
    matching = {id for id in matching if id.startswith(id_)} | {
        pair.id for pairs in left_out.values() for pair in pairs
    }
    matching.update(pair.row.id for folder in folders.values() for pair in pairs_with_id(folder, id_))
    matching.update(use.id for path in runs for use in _in_run([id_], path))
    if len(matching) > 1:
        ids = sorted(matching)
        shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
        raise UsageError(f"{id_}: {len(ids):,} pairs have an id that starts with it: {shown}.\n  Give more digits.")
    wanted = _related(matching, [change for of_folder in changes.values() for change in of_folder])
    order = dict.fromkeys([path.resolve() for path in map(Path, paths)] + list(folders))
    uses: list[PairUse] = []
    for path in order:
        if path in folders:
            uses += _in_prepared(wanted, folders[path], changes[path])
        else:
            uses += _in_run(wanted, next(run for run in runs if run.resolve() == path)) if wanted else []
    return uses


def _left_out(folder: Path, prefix: str) -> Iterator[LeftOutPair]:
    return (pair for pair in read_left_out(folder) if pair.id.startswith(prefix))


def _related(ids: Iterable[str], changes: Sequence[ChangedPair]) -> list[str]:
    """Return ids with those that changes made of them, or made them of, through any number of steps."""
    found = set(ids)
    while True:
        more = {id for change in changes for id in (change.old_id, change.new_id) if _touches(change, found)} - found
        if not more:
            return sorted(found)
        found |= more


def _touches(change: ChangedPair, ids: set[str]) -> bool:
    return change.old_id in ids or change.new_id in ids


def _in_prepared(ids: Sequence[str], prepared: Prepared, changes: Sequence[ChangedPair]) -> Iterator[PairUse]:
    path = str(prepared.path)
    made = {change.new_id: f"{change.action} of {change.old_id}" for change in changes if change.new_id in ids}
    found = set()
    for pair in matching_pairs(prepared, lambda rows: pc.is_in(rows.column("id"), pa.array(ids, pa.string()))):
        found.add(pair.row.id)
        dataset = pair.stored.column(DATASET)[0].as_py() if DATASET in pair.stored.schema.names else None
        yield PairUse(
            path=path,
            kind="prepared",
            id=pair.row.id,
            dataset=dataset,
            split=pair.split,
            origin=pair.row.origin,
            index=pair.index,
            changed=made.get(pair.row.id),
        )
    for left in read_left_out(prepared.path):
        if left.id in ids:
            reason = left.reason if left.evidence is None else f"{left.reason} ({left.evidence})"
            yield PairUse(
                path=path,
                kind="left_out",
                id=left.id,
                dataset=left.dataset,
                split=None,
                origin=left.origin,
                dropped=reason,
            )
    for cache in list_tokens(prepared) if found else ():
        for row in read_dropped(cache.path):
            if row.id in found:
                yield PairUse(
                    path=str(cache.path),
                    kind="tokens",
                    id=row.id,
                    split=row.split,
                    origin=row.origin,
                    dropped=row.reason,
                )


def _in_run(prefixes: Sequence[str], path: Path) -> Iterator[PairUse]:
    table = read_run_pairs(path)
    for prefix in prefixes:
        for row in table.filter(pc.starts_with(table.column("id"), prefix)).sort_by("step").to_pylist():
            yield PairUse(path=str(path), kind="run", **row)
