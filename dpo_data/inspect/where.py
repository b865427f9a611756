"""Find the prepared folders and training runs that use a pair."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pyarrow.compute as pc
from pydantic import Field

from dpo_data.errors import UsageError
from dpo_data.inspect.pairs import pairs_with_id
from dpo_data.inspect.search import check_id
from dpo_data.prepared.manifest import ManifestModel
from dpo_data.prepared.reader import is_prepared, open_prepared
from dpo_data.run_pairs import RUN_PAIRS, read_run_pairs
from dpo_data.tokens.cache import list_tokens
from dpo_data.tokens.dropped import read_dropped


class PairUse(ManifestModel):
    """A use of a pair: its row in a prepared folder, its removal from a token cache, or a measurement by a run."""

    path: str
    kind: Literal["prepared", "tokens", "run"]
    id: str
    split: str
    origin: str
    index: Annotated[int | None, Field(description="In a prepared folder: index in the split, from 0.")] = None
    dropped: Annotated[str | None, Field(description="Reason that a token cache does not have the pair.")] = None
    step: Annotated[int | None, Field(description="Optimizer step at which a run measured the pair.")] = None
    margin: Annotated[float | None, Field(description="Reward of chosen minus reward of rejected, at that step.")] = (
        None
    )


def where(id_: str, paths: Sequence[str | Path]) -> list[PairUse]:
    """Return the uses of a pair in prepared folders, in their token caches that dropped it, and in training runs.

    Args:
        id_: pair id, or a unique prefix of one.
        paths: prepared folders, and folders of dpo-train runs.

    Raises:
        PreparedError: a prepared folder is unfinished or rejected.
        InputError: a run's file of pairs is damaged.
        UsageError: a path is neither, or several pairs have such an id.
    """
    check_id(id_)
    uses = [use for path in paths for use in _uses_in(id_, Path(path))]
    if len(ids := sorted({use.id for use in uses})) > 1:
        shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
        raise UsageError(f"{id_}: {len(ids):,} pairs have an id that starts with it: {shown}.\n  Give more digits.")
    return uses


def _uses_in(id_: str, path: Path) -> Iterator[PairUse]:
    if (path / RUN_PAIRS).is_file():
        yield from _in_run(id_, path)
    elif is_prepared(path):
        yield from _in_prepared(id_, path)
    else:
        raise UsageError(f"{path}: neither a prepared folder nor a run with {RUN_PAIRS}.")


def _in_prepared(id_: str, path: Path) -> Iterator[PairUse]:
    prepared = open_prepared(path)
    found = set()
    for pair in pairs_with_id(prepared, id_):
        found.add(pair.row.id)
        yield PairUse(
            path=str(path), kind="prepared", id=pair.row.id, split=pair.split, origin=pair.row.origin, index=pair.index
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


def _in_run(id_: str, path: Path) -> Iterator[PairUse]:
    table = read_run_pairs(path)
    for row in table.filter(pc.starts_with(table.column("id"), id_)).sort_by("step").to_pylist():
        yield PairUse(path=str(path), kind="run", **row)
