"""Which prepared folders and which training runs used a pair."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pyarrow.compute as pc
from pydantic import Field

from dpo_data.errors import UsageError
from dpo_data.inspect.pairs import pairs_with_id
from dpo_data.inspect.search import HEX_DIGITS
from dpo_data.prepared.manifest import ManifestModel
from dpo_data.prepared.reader import is_prepared, open_prepared
from dpo_data.run_pairs import RUN_PAIRS, read_run_pairs
from dpo_data.tokens.cache import list_tokens
from dpo_data.tokens.dropped import read_dropped


class PairUse(ManifestModel):
    """A place where a pair is."""

    path: str
    kind: Literal["prepared", "tokens", "run"]
    id: str
    split: str
    origin: str
    index: Annotated[int | None, Field(description="Position in the split, from 0; of a prepared folder.")] = None
    dropped: Annotated[str | None, Field(description="Why this token cache does not hold the pair.")] = None
    step: Annotated[int | None, Field(description="Optimizer step at which a run measured the pair.")] = None
    margin: Annotated[float | None, Field(description="Reward of chosen less reward of rejected, at that step.")] = None


def find_uses(id_: str, paths: Sequence[str | Path]) -> list[PairUse]:
    """Where a pair is: in prepared folders, dropped by their token caches, and in the pairs that runs saw.

    Args:
        id_: of the pair, or how it begins, where that is enough to tell it from the others.
        paths: prepared folders, and folders of dpo-train runs.

    Raises:
        PreparedError: a prepared folder is unfinished or rejected.
        InputError: a run's file of pairs is damaged.
        UsageError: a path is neither, or several pairs have such an id.
    """
    if not HEX_DIGITS.fullmatch(id_):
        raise UsageError(f"{id_}: is no id, which has up to 32 digits 0-9 and a-f.")
    uses = [use for path in paths for use in _uses_in(id_, Path(path))]
    if len(ids := sorted({use.id for use in uses})) > 1:
        shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
        raise UsageError(f"{id_}: {len(ids):,} pairs have an id that begins so: {shown}.\n  Give more of its digits.")
    return uses


def _uses_in(id_: str, path: Path) -> Iterator[PairUse]:
    if (path / RUN_PAIRS).is_file():
        yield from _in_run(id_, path)
    elif is_prepared(path):
        yield from _in_prepared(id_, path)
    else:
        raise UsageError(f"{path}: is neither a prepared folder nor a run with {RUN_PAIRS}.")


def _in_prepared(id_: str, path: Path) -> Iterator[PairUse]:
    prepared = open_prepared(path)
    places = {}
    for pair in pairs_with_id(prepared, id_):
        places[pair.row.id] = pair
        yield PairUse(
            path=str(path), kind="prepared", id=pair.row.id, split=pair.split, origin=pair.row.origin, index=pair.index
        )
    for cache in list_tokens(prepared) if places else ():
        for row in read_dropped(cache.path):
            if row.id in places:
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
