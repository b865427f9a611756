"""Prepared folders that a step reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dpo_data.errors import PreparedError, UsageError
from dpo_data.prepared.manifest import ConvertOptions, KeptColumn, Manifest, ParentEntry, SourceEntry
from dpo_data.prepared.reader import Prepared, damaged_files, open_prepared

#: Words in a license that restrict its use, the strictest first; a license without any of them comes last.
STRICT = ("unknown", "other", "proprietary", "-nc", "-nd", "gpl", "-sa", "cc-by", "odc")


@dataclass(frozen=True)
class Parent:
    """A folder that a step reads.

    Attributes:
        name: in manifests, counts and the column `dataset`.
        prepared: the folder.
    """

    name: str
    prepared: Prepared

    @property
    def manifest(self) -> Manifest:
        """The manifest of the folder."""
        return self.prepared.manifest

    def entry(self) -> ParentEntry:
        """Return what the manifest of the step's folder says about this one."""
        return ParentEntry(name=self.name, content_hash=self.manifest.content_hash, pairs=self.manifest.pairs)


def open_parent(path: str | Path, output: str | Path, name: str | None = None) -> Parent:
    """Return a prepared folder whose shards are as they were written.

    Args:
        path: the folder.
        output: the folder that the step writes.
        name: of the folder in the manifest; default: its own.

    Raises:
        PreparedError: the folder is unfinished, rejected, damaged or of a newer version.
        UsageError: the step would replace the folder that it reads.
    """
    path = Path(path)
    prepared = open_prepared(path)
    if path.resolve() == Path(output).resolve():
        raise UsageError("is a folder that the step reads.\n  Name another folder.", "output", output)
    shards = {shard for split in prepared.manifest.splits.values() for shard in split.shards}
    files = {shard: entry for shard, entry in prepared.manifest.files.items() if shard in shards}
    for file, damage in damaged_files(path, files).items():
        raise PreparedError(f"{path / file}: {damage}.\n  Make the folder again; see dpo-data validate {path}.")
    return Parent(name or path.resolve().name, prepared)


def combined_source(parents: Sequence[Parent]) -> SourceEntry:
    """Return the source of the pairs of several folders: that which all share, or one that names all."""
    sources = list(dict.fromkeys(parent.manifest.source for parent in parents))
    if len(sources) == 1:
        return sources[0]
    return SourceEntry(
        name=" + ".join(dict.fromkeys(source.name for source in sources)),
        license=combined_license([source.license for source in sources]),
        homepage="",
        direction="; ".join(dict.fromkeys(f"{source.direction} ({source.name})" for source in sources)),
        eval_only=all(source.eval_only for source in sources),
    )


def combined_license(licenses: Sequence[str]) -> str:
    """Return all licenses in one text, the strictest first.

    >>> combined_license(["mit", "cc-by-4.0", "cc-by-nc-4.0", "mit"])
    'cc-by-nc-4.0, cc-by-4.0, mit'
    """
    names = dict.fromkeys(name for text in licenses for name in text.split(", "))
    return ", ".join(sorted(names, key=lambda name: next((n for n, w in enumerate(STRICT) if w in name), len(STRICT))))


def combined_options(parents: Sequence[Parent]) -> ConvertOptions:
    """Return the options of conversion that hold for the pairs of all folders."""
    options = [parent.manifest.options for parent in parents]
    if len(options) == 1:
        return options[0]
    return ConvertOptions(
        forbid=sorted(set.intersection(*(set(each.forbid) for each in options))),
        allow=sorted(set.union(*(set(each.allow) for each in options))),
        redact=all(each.redact for each in options),
    )


def combined_kept(parents: Sequence[Parent]) -> dict[str, KeptColumn]:
    """Return the metadata columns of all folders.

    Raises: UsageError: two folders have a column of the same name with two types.
    """
    kept: dict[str, tuple[str, KeptColumn]] = {}
    for parent in parents:
        for name, column in parent.manifest.kept_columns.items():
            first, other = kept.setdefault(name, (parent.name, column))
            if other.type != column.type:
                raise UsageError(
                    f"the column {name} is {other.type} in {first} and {column.type} in {parent.name}.\n"
                    f"  Convert one of them again, with --keep {name}:{other.type} or under another name."
                )
            misfits = other.misfits + (column.misfits if first != parent.name else 0)
            kept[name] = first, other.model_copy(update={"misfits": misfits})
    return {name: column for name, (_, column) in kept.items()}
