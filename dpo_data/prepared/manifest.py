"""Manifest of a prepared folder: its models, the sums that must agree, and how manifests are read and written.

The version changes only when older programs would misread a folder. Until then a field may be added if its default
describes the folders written before; a program refuses fields that it does not know, and names them.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeInt,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dpo_data.errors import PreparedError, reading
from dpo_data.options import SPLITS, Axis, Form
from dpo_data.pairing import PairingPolicy
from dpo_data.prepared.files import MANIFEST, PARTIAL, VERSIONS, is_file_name, is_utf8

#: Version of the prepared folder; a new one needs a function that upgrades the manifests of the one before.
PREPARED_VERSION = VERSIONS["prepared"]

Counts = dict[str, NonNegativeInt]


def require_file_name(name: str) -> str:
    """Return a file name of a manifest; raise an error of pydantic if it is a path to elsewhere."""
    if not is_file_name(name):
        raise PydanticCustomError(_NAME, "names the file {name}, which is not below its folder", {"name": repr(name)})
    return name


def require_split(name: str) -> str:
    """Return the name of a split in a manifest; raise an error of pydantic if it is another one than train or test."""
    if name not in SPLITS:
        raise PydanticCustomError(_NAME, "names the split {name}, which is not train or test", {"name": repr(name)})
    return name


def require_shards(splits: Mapping[str, Iterable[str]], files: Mapping[str, Any]) -> None:
    """Raise ValueError, which pydantic reports, if a shard is not in the folder of its split, or not in `files`."""
    for split, shards in splits.items():
        for shard in shards:
            if PurePosixPath(shard).parent.as_posix() != split:
                raise ValueError(f"{shard!r} is a shard of {split}, but not in its folder")
            if shard not in files:
                raise ValueError(f"{shard} is a shard, but not in files")


#: Type of the errors about names, for pydantic.
_NAME = "name"
FileName = Annotated[str, AfterValidator(require_file_name)]
Split = Annotated[str, AfterValidator(require_split)]


class ManifestModel(BaseModel):
    """Part of a manifest."""

    # Built on first use: worker processes import these models and need one of them.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class FileEntry(ManifestModel):
    """A file of the folder."""

    sha256: str
    size_bytes: NonNegativeInt


class InputEntry(ManifestModel):
    """A raw file, by the name that origins use, and how many rows were read from it."""

    file: str
    split: str
    rows: NonNegativeInt


class SourceEntry(ManifestModel):
    """Where the data comes from."""

    name: str
    license: str
    homepage: str
    direction: Annotated[str, Field(description="The rule that says which response is preferred.")]
    eval_only: Annotated[bool, Field(description="An evaluation set, not meant for training.")] = False


class ConvertOptions(ManifestModel):
    """Options of a conversion that affect the content."""

    mapping: dict[str, str] = {}
    label_map: Annotated[
        dict[str, str], Field(description="Value of a label to the answer it prefers: a, b, tie or skip.")
    ] = {}
    where: Annotated[
        str | None, Field(description="The condition that a raw row must meet to be in a pair; null: none.")
    ] = None
    axis: Axis | None = None
    revision: Annotated[str | None, Field(description="Revision of the files on the Hub.")] = None
    pairing: Annotated[PairingPolicy | None, Field(description="Null if the source's rows are pairs.")] = None
    train_on_eval: bool = False
    split: str | None = None
    test_fraction: float = 0.0
    limit: int | None = None
    max_invalid: float = 0.05
    forbid: list[str] = []
    allow: list[str] = []
    redact: Annotated[bool, Field(description="Personal data was replaced with placeholders.")] = False


class WarningCount(ManifestModel):
    """Number of kept rows that a check warns about, with the first few as examples."""

    rows: NonNegativeInt
    examples: list[str]


class SplitEntry(ManifestModel):
    """One split: its pairs and shards, and the rows of its raw files that were quarantined or left out."""

    pairs: NonNegativeInt
    quarantined: NonNegativeInt
    left_out: NonNegativeInt
    shards: Annotated[list[FileName], Field(description="Arrow files in order, with any number of rows each.")]
    shard_rows: Annotated[list[NonNegativeInt], Field(description="Number of rows in each shard.")]

    @model_validator(mode="after")
    def _check_sums(self) -> Self:
        require_sum("pairs", self.pairs, "the rows of the shards", sum(self.shard_rows))
        require_sum("the length of shards", len(self.shards), "the length of shard_rows", len(self.shard_rows))
        return self

    def locate(self, position: int) -> tuple[str, int]:
        """Return the shard that holds a row of the split, and the row's position in it; both count from 0."""
        start = 0
        for shard, end in zip(self.shards, accumulate(self.shard_rows), strict=True):
            if position < end:
                return shard, position - start
            start = end
        raise IndexError(position)


class KeptColumn(ManifestModel):
    """A metadata column that was kept with the pairs."""

    column: Annotated[str, Field(description="Name of the column in the raw rows.")]
    type: Literal["text", "number", "bool"] = "text"
    misfits: Annotated[NonNegativeInt, Field(description="Values that did not fit the type and became null.")] = 0


class JudgmentCounts(ManifestModel):
    """Pairs of responses with the judgments of several judges, whom a column of the raw rows tells apart."""

    repeated: Annotated[NonNegativeInt, Field(description="Number of these pairs.")] = 0
    judgments: Annotated[NonNegativeInt, Field(description="Judgments of them.")] = 0
    disputed: Annotated[NonNegativeInt, Field(description="Those that were judged both ways.")] = 0
    disagreements: Annotated[
        float, Field(ge=0, description="Sum, over these pairs, of the share of two judgments that disagree.")
    ] = 0.0


class ParentEntry(ManifestModel):
    """A prepared folder that a step read."""

    name: str
    content_hash: str
    pairs: NonNegativeInt


class StepEntry(ManifestModel):
    """The step that made the folder from its parents.

    The pairs of the parents + repeated = the pairs of the folder + left_out.
    """

    verb: str
    version: NonNegativeInt
    options: dict[str, JsonValue]
    parents: list[ParentEntry]
    repeated: Annotated[NonNegativeInt, Field(description="Pairs that were taken once more than they occur.")] = 0
    left_out: Annotated[Counts, Field(description="Reason to number of pairs.")] = {}
    changed: Annotated[NonNegativeInt, Field(description="Pairs in the folder whose content was changed.")] = 0
    moved: Annotated[NonNegativeInt, Field(description="Pairs in the folder that changed their split.")] = 0
    notes: Annotated[list[str], Field(description="What the step found out about the pairs, in sentences.")] = []


class ManifestHeader(ManifestModel):
    """The part of a manifest that whoever makes the pairs fills in; `PreparedWriter` adds splits, columns and files."""

    format: Literal["dpo-data prepared"] = "dpo-data prepared"
    version: Annotated[int, Field(ge=PREPARED_VERSION, le=PREPARED_VERSION)] = PREPARED_VERSION
    status: Annotated[
        Literal["complete", "rejected"], Field(description="rejected: more than max_invalid of the rows are invalid.")
    ]
    name: Annotated[str | None, Field(description="Name of the dataset; null: the name of its source.")] = None
    description: str | None = None
    license: Annotated[str | None, Field(description="License of the dataset; null: the source's.")] = None
    form: Form
    form_reason: Annotated[
        str | None, Field(description="Why the form was detected; null if it was given, or is the source's own.")
    ] = None
    source: SourceEntry
    made_by: Annotated[
        Literal["convert"] | StepEntry, Field(description="A step makes the folder from other prepared folders.")
    ] = "convert"
    options: ConvertOptions
    kept_columns: Annotated[
        dict[str, KeptColumn], Field(description="Metadata columns of the pairs, by their names.")
    ] = {}
    inputs: list[InputEntry]
    skipped: Annotated[
        list[str],
        Field(description="Folders below the inputs that were not read: prepared folders, token caches, the output."),
    ] = []
    rows_read: Annotated[NonNegativeInt, Field(description="Raw rows; of a step: pairs of its parents, and repeated.")]
    rows_paired: Annotated[NonNegativeInt, Field(description="Raw rows that gave at least one pair; of a step: pairs.")]
    pairs: Annotated[NonNegativeInt, Field(description="One row may give several pairs, and several rows one pair.")]
    quarantined: NonNegativeInt
    quarantined_by_code: Counts
    left_out: Annotated[
        NonNegativeInt, Field(description="Valid raw rows that are in no pair; of a step: pairs that it left out.")
    ]
    left_out_by_reason: Counts
    pairs_left_out: Annotated[
        Counts, Field(description="Reason to number of possible pairs, or responses, that are in no pair.")
    ]
    unused_columns: Annotated[
        Counts, Field(description="Raw column that is used in no pair to the number of rows that have it.")
    ]
    warnings: Annotated[
        dict[str, WarningCount], Field(description="Code of a check to its findings in the kept pairs.")
    ]
    redacted: Annotated[Counts, Field(description="Kind of personal data to its placeholders in the kept pairs.")] = {}
    judgments: Annotated[JudgmentCounts | None, Field(description="Null if the raw rows name no judges.")] = None

    @property
    def rows_unit(self) -> str:
        """The unit of `rows_read`: raw rows of a conversion, or pairs that a step read."""
        return "raw rows" if self.made_by == "convert" else "pairs"

    @model_validator(mode="after")
    def _check_balance(self) -> Self:
        require_sum(
            "rows_read", self.rows_read, "rows_paired + quarantined + left_out",
            self.rows_paired + self.quarantined + self.left_out,
        )  # fmt: skip
        require_sum("quarantined", self.quarantined, "quarantined_by_code", sum(self.quarantined_by_code.values()))
        require_sum("left_out", self.left_out, "left_out_by_reason", sum(self.left_out_by_reason.values()))
        if isinstance(self.made_by, StepEntry):
            step = self.made_by
            require_sum(
                "pairs + left_out of the step", self.pairs + sum(step.left_out.values()),
                "the pairs of its parents + repeated", sum(parent.pairs for parent in step.parents) + step.repeated,
            )  # fmt: skip
        return self


class Manifest(ManifestHeader):
    """Content of a prepared folder: the header, and the splits and files that were written."""

    splits: dict[Split, SplitEntry]
    columns: Annotated[dict[str, str], Field(description="Columns of the shards, in order, with their Arrow types.")]
    content_hash: Annotated[
        str, Field(description="SHA-256 of form, columns and shards: equal for folders with the same pairs.")
    ]
    files: dict[FileName, FileEntry]

    @model_validator(mode="after")
    def _check_splits(self) -> Self:
        for name in ("pairs", "quarantined", "left_out"):
            total = sum(getattr(split, name) for split in self.splits.values())
            require_sum(name, getattr(self, name), f"{name} of the splits", total)
        shards = {name: split.shards for name, split in self.splits.items()}
        require_shards(shards, self.files)
        hashes = {name: [self.files[shard].sha256 for shard in names] for name, names in shards.items()}
        if self.content_hash != content_hash(self.form, self.columns, hashes):
            raise ValueError("content_hash is not the hash of form, columns and shards")
        return self

    def _repr_html_(self) -> str:
        from dpo_data.reports.html.fragments import manifest

        return manifest(self)


def content_hash(form: Form, columns: Mapping[str, str], shards: Mapping[str, list[str]]) -> str:
    """Return the hash that identifies the pairs of a folder, whatever its name, card or quarantine.

    It is the SHA-256 of the JSON array [form, [[column, type], ...], {split: [SHA-256 of a shard, ...], ...}], written
    without spaces, splits in alphabetical order and without those that have no shard.

    Args:
        form: of the pairs.
        columns: name of each column to its type, in order.
        shards: split to the SHA-256 of its Arrow files, in order.
    """
    content = [form, list(columns.items()), {split: hashes for split, hashes in shards.items() if hashes}]
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def require_sum(name: str, value: int, parts: str, total: int) -> None:
    """Raise ValueError, which pydantic reports, if a count differs from the sum of its parts."""
    if value != total:
        raise ValueError(f"{name} is {value:,}, but {parts} give {total:,}")


AnyManifest = TypeVar("AnyManifest", bound=ManifestModel)


def write_manifest(folder: Path, manifest: ManifestModel) -> None:
    """Write manifest.json into a folder; `building` publishes it last."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_manifest(
    folder: Path, model: type[AnyManifest], make: str, upgrade: Callable[[dict[str, Any], Path], dict[str, Any]]
) -> AnyManifest:
    """Read the manifest of a prepared folder or of a token cache.

    Args:
        folder: the folder.
        model: the manifest's type; its defaults of `format` and `version` are those that are read.
        make: the command that makes such a folder, for error messages.
        upgrade: turns the fields of an older version, and the folder, into those of the present one.

    Raises: PreparedError: the folder is unfinished, of a newer version or not a folder of this kind, or the manifest is
        damaged or does not add up.
    """
    kind, version = (model.model_fields[name].default for name in ("format", "version"))
    file = folder / MANIFEST
    damaged = f"{file}: is damaged, or not a manifest of {kind}.\n  Make it again: {make}."
    fields = _read_fields(folder, kind, make, damaged)
    found = fields.get("version")
    try:
        if found != version:
            if not isinstance(found, int) or not 0 < found < version:
                raise PreparedError(
                    f"{folder}: has format version {found}; this program reads version {version} and older ones.\n"
                    f"  Upgrade dpo-data, or make the folder again: {make}."
                )
            fields = upgrade(fields, folder)
        return model.model_validate(fields)
    except ValidationError as error:
        raise PreparedError(_explain(error, file, make) or damaged) from error
    except (LookupError, TypeError, AttributeError) as error:  # an older manifest without a field that `upgrade` reads
        raise PreparedError(damaged) from error


def _read_fields(folder: Path, kind: str, make: str, damaged: str) -> dict[str, Any]:
    if not is_utf8(folder):
        raise PreparedError(f"{folder}: the name is not UTF-8, which Arrow requires.\n  Rename the folder.")
    if not folder.is_dir():
        raise PreparedError(f"{folder}: there is no such folder.\n  Make it: {make} {folder}.")
    file = folder / MANIFEST
    if not file.is_file():
        if (folder / PARTIAL).is_dir():
            raise PreparedError(f"{folder}: is unfinished: a run was stopped.\n  Run it again: {make} {folder}.")
        raise PreparedError(f"{folder}: is not a folder of {kind}: it has no {MANIFEST}.\n  Make one: {make} FOLDER.")
    with reading(file):
        content = file.read_bytes()
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PreparedError(damaged) from error
    if not isinstance(fields, dict) or fields.get("format") != kind:
        raise PreparedError(damaged)
    return fields


def _explain(error: ValidationError, file: Path, make: str) -> str | None:
    """Return a message for a wrong sum or an unknown field, or None if the manifest is damaged in another way."""
    for detail in error.errors(include_url=False):
        if detail["type"] == "value_error":
            return f"{file}: does not add up: {detail['ctx']['error']}.\n  Make it again: {make}."
        if detail["type"] == _NAME:
            return f"{file}: {detail['msg']}.\n  It was changed, or is damaged: make the folder again: {make}."
        if detail["type"] == "extra_forbidden":
            field = ".".join(map(str, detail["loc"]))
            return (
                f'{file}: has the field "{field}", which this program does not know.\n'
                "  If a newer release wrote it, upgrade dpo-data; otherwise the manifest is damaged."
            )
    return None
