"""The prepared folders that a folder was made from, as far as they are still where they were."""

import json
from collections.abc import Iterator
from pathlib import Path

from dpo_data.errors import PreparedError
from dpo_data.prepared.manifest import StepEntry
from dpo_data.prepared.reader import Prepared, open_prepared

PROVENANCE = "provenance.json"


def parents_of(prepared: Prepared) -> Iterator[tuple[str, Prepared]]:
    """Yield the name and the folder of each parent that is where provenance.json says, with the same content."""
    made_by = prepared.manifest.made_by
    if not isinstance(made_by, StepEntry):
        return
    paths = _parent_paths(prepared.path)
    for entry in made_by.parents:
        try:
            parent = open_prepared(paths[entry.name])
        except (PreparedError, KeyError):
            continue
        if parent.manifest.content_hash == entry.content_hash:
            yield entry.name, parent


def with_ancestors(prepared: Prepared) -> Iterator[Prepared]:
    """Yield a folder and all folders that it was made from, each once, a child before its parents."""
    seen: set[Path] = set()
    pending = [prepared]
    while pending:
        folder = pending.pop(0)
        if folder.path.resolve() not in seen:
            seen.add(folder.path.resolve())
            yield folder
            pending += [parent for _, parent in parents_of(folder)]


def _parent_paths(folder: Path) -> dict[str, str]:
    """Return the name of each parent to its path, as far as the file says."""
    try:
        content = json.loads((folder / PROVENANCE).read_bytes())
    except (OSError, ValueError):
        return {}
    paths = content.get("parents") if isinstance(content, dict) else None
    return {name: path for name, path in paths.items() if isinstance(path, str)} if isinstance(paths, dict) else {}
