"""THE CONTRACT: what a prepared folder and its token caches look like on disk; the writer and the reader together.

    prepared/
      manifest.json         written last: without it the folder is unfinished
      provenance.json       times, host, versions, paths: what may differ from run to run, outside every hash
      README.md             dataset card
      dataset_dict.json, train/, test/    a plain saved DatasetDict; a split without rows is left out
      quarantine/train.jsonl              every row not kept, with its reason
      tokens/<key>/         a token cache: a DatasetDict of token ids with its own manifest, and dropped.jsonl

Both kinds of folder are built in a `.partial` folder inside themselves and published file by file, the manifest last. A
killed run leaves `.partial` and no manifest; the next run starts it over.
"""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from dpo_data.errors import Interrupted, PreparedError, UsageError, reading, writing
from dpo_data.options import Axis, Form, OnOverlong, Pairing, Tie, TruncationMode
from dpo_data.records import Message
from dpo_data.truncation import Ragged

try:
    import fcntl
except ImportError:  # Windows: two runs into one folder are then the user's to avoid
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from datasets import DatasetDict

TOKENS_VERSION = 1
MANIFEST = "manifest.json"
PARTIAL = ".partial"
#: Rows of one Arrow file; a token cache reuses the shards that did not change.
SHARD_ROWS = 50_000

_MESSAGE = [("role", pa.string()), ("content", pa.string())]
_TOOL_FIELDS = [("tool_calls", pa.string()), ("tool_call_id", pa.string()), ("name", pa.string())]
_IDS = pa.list_(pa.int32())


class Stored(BaseModel):
    """Part of a manifest."""

    # Built on first use: worker processes import these models and need one of them.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class FileEntry(Stored):
    """A file of the folder."""

    sha256: str
    size_bytes: NonNegativeInt


class InputEntry(Stored):
    """A raw file, by the name that origins use, and how many rows were read from it."""

    file: str
    split: str
    rows: NonNegativeInt


class SourceEntry(Stored):
    """Where the data comes from."""

    name: str
    licence: str
    homepage: str
    direction: Annotated[str, Field(description="The rule that says which response is preferred.")]
    eval_only: Annotated[bool, Field(description="An evaluation set, not meant for training.")] = False


class PairingOptions(Stored):
    """How pairs were made of scored or ranked responses."""

    pairing: Pairing = "best-worst"
    min_margin: float = 0.0
    tie: Tie = "drop"
    max_pairs_per_prompt: int | None = None
    seed: int = 0


class ConvertOptions(Stored):
    """The options that shape the content."""

    mapping: dict[str, str] = {}
    axis: Axis | None = None
    revision: Annotated[str | None, Field(description="Of the files on the hub.")] = None
    pairing: Annotated[PairingOptions | None, Field(description="None where rows are pairs already.")] = None
    train_on_eval: bool = False
    split: str | None = None
    test_fraction: float = 0.0
    limit: int | None = None
    max_invalid: float = 0.05
    forbid: list[str] = []
    allow: list[str] = []
    redact: Annotated[bool, Field(description="Placeholders stand in the place of personal data.")] = False


class Warned(Stored):
    """How many kept rows a check warns about, and the first few of them."""

    rows: NonNegativeInt
    examples: list[str]


class SplitEntry(Stored):
    """One split: pairs kept, and rows of its raw files that went to quarantine or were left out."""

    pairs: NonNegativeInt
    quarantined: NonNegativeInt
    left_out: NonNegativeInt
    shards: list[str]


class Manifest(Stored):
    """What a prepared folder holds. rows_read = rows_paired + quarantined + left_out, always."""

    format: Literal["dpo-data prepared"] = "dpo-data prepared"
    version: Literal[1] = 1
    status: Annotated[Literal["complete", "rejected"], Field(description="rejected: more than max_invalid is bad.")]
    form: Form
    source: SourceEntry
    options: ConvertOptions
    inputs: list[InputEntry]
    rows_read: NonNegativeInt
    rows_paired: Annotated[NonNegativeInt, Field(description="Raw rows that gave at least one pair.")]
    pairs: Annotated[NonNegativeInt, Field(description="One row may give several, and several rows one.")]
    quarantined: NonNegativeInt
    quarantined_by_code: dict[str, NonNegativeInt]
    left_out: Annotated[NonNegativeInt, Field(description="Sound raw rows of which the pairing policy made no pair.")]
    left_out_by_reason: dict[str, NonNegativeInt]
    pairs_left_out: Annotated[
        dict[str, NonNegativeInt], Field(description="Reason to possible pairs, or responses, that are in no pair.")
    ]
    unused_columns: Annotated[
        dict[str, NonNegativeInt], Field(description="Column that went into no pair to the rows that have it.")
    ]
    warnings: Annotated[dict[str, Warned], Field(description="Code of a check to what it found in kept pairs.")]
    redacted: Annotated[
        dict[str, NonNegativeInt], Field(description="Kind of personal data to its placeholders in kept pairs.")
    ] = {}
    splits: dict[str, SplitEntry]
    files: dict[str, FileEntry]


class QuarantinedRow(Stored):
    """A raw row that was not kept, and why."""

    file: str
    line: Annotated[int, Field(ge=1, description="Physical line of a text file, or row number of a table.")]
    code: str
    field: str
    message: str
    hint: str
    raw: Annotated[str, Field(description="The row as it stands in the file; a table's row as JSON.")]


class TokenizerEntry(Stored):
    """The tokenizer that made the ids; `hash` covers all that decides them, special tokens and chat template too."""

    name: str
    hash: str
    vocab_size: Annotated[int, Field(description="The largest id + 1.")]
    bos_token_id: int | None
    eos_token_id: int
    pad_token_id: int | None


class TokenOptions(Stored):
    """The options that shape the ids; lengths in tokens."""

    max_length: int | None
    max_prompt_length: int | None
    truncation_mode: TruncationMode
    on_overlong: OnOverlong
    chat_template: Annotated[str | None, Field(description="Hash of a template given by the user.")] = None


class TokenCounts(Stored):
    """What became of the pairs of one split; pairs_read = pairs + the sum of dropped."""

    pairs_read: NonNegativeInt
    pairs: NonNegativeInt
    dropped: Annotated[dict[str, NonNegativeInt], Field(description="Reason to number of pairs.")]
    prompts_cut: NonNegativeInt
    responses_cut: NonNegativeInt
    prompt_tokens_cut: NonNegativeInt
    response_tokens_cut: NonNegativeInt
    prompt_tokens: NonNegativeInt
    response_tokens: NonNegativeInt
    longest_pair: Annotated[NonNegativeInt, Field(description="Tokens of the longest prompt with its longer response.")]
    seams: Annotated[
        NonNegativeInt, Field(description="Responses that joint tokenization would have begun differently.")
    ]


class TokenShard(Stored):
    """One Arrow file of ids, under the key of the text shard and the options that it was made from."""

    key: str
    file: str
    counts: TokenCounts


class TokensManifest(Stored):
    """What a token cache holds."""

    format: Literal["dpo-data tokens"] = "dpo-data tokens"
    version: Literal[1] = 1
    key: str
    text_hash: Annotated[str, Field(description="Hash of the text shards that the ids were made from.")]
    tokenizer: TokenizerEntry
    options: TokenOptions
    splits: dict[str, TokenCounts]
    shards: dict[str, list[TokenShard]]
    files: dict[str, FileEntry]


AnyManifest = TypeVar("AnyManifest", Manifest, TokensManifest)


# Schemas of the Arrow files.


def pair_schema(form: Form, *, scores: bool, tools: bool = False) -> pa.Schema:
    """Columns of a text shard, in order; tools stand in conversations alone."""
    tools = tools and form == "conversational"
    message = pa.struct([*_MESSAGE, *(_TOOL_FIELDS if tools else [])])
    text = pa.string() if form == "text" else pa.list_(message)
    tool_columns = [("tools", pa.string())] if tools else []
    score_columns = [(name, pa.float64()) for name in ("chosen_score", "rejected_score", "margin")] if scores else []
    return _with_features(
        pa.schema(
            [
                ("prompt", text),
                ("chosen", text),
                ("rejected", text),
                *tool_columns,
                *score_columns,
                ("source", pa.string()),
                ("origin", pa.string()),
                ("id", pa.string()),
                ("prompt_key", pa.string()),
            ]
        )
    )


def token_schema(text_schema: pa.Schema) -> pa.Schema:
    """Columns of a token shard, in order, made from a text shard with that schema."""
    carried = [text_schema.field(name).remove_metadata() for name in text_schema.names if name in CARRIED_COLUMNS]
    ids = [pa.field(name, _IDS) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    return _with_features(pa.schema([*ids, *carried]))


def text_column(texts: Sequence[bytes | None]) -> pa.Array:
    """UTF-8 texts, or nulls, as an Arrow column.

    Put together from buffers: `pa.array` of a list imports pandas, 0.4 s in every process.
    """
    filled = [text or b"" for text in texts]
    validity = None
    if None in texts:
        present = np.fromiter((text is not None for text in texts), np.bool_, len(texts))
        validity = pa.py_buffer(np.packbits(present, bitorder="little"))
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, filled), np.int32, len(texts)), out=offsets[1:])
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(b"".join(filled))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def numbers_column(values: NDArray[Any], type_: pa.DataType) -> pa.Array:
    """Numbers of that type's width as an Arrow column; `pa.array` of an array imports pandas too."""
    return pa.Array.from_buffers(type_, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def scores_column(scores: Sequence[float | None]) -> pa.Array:
    """Scores, or nulls, as an Arrow column."""
    present = np.fromiter((score is not None for score in scores), np.bool_, len(scores))
    values = np.fromiter((score or 0.0 for score in scores), np.float64, len(scores))
    validity = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.Array.from_buffers(pa.float64(), len(scores), [validity, pa.py_buffer(values)])


def ids_column(ids: Ragged) -> pa.Array:
    """Sequences of token ids as an Arrow column."""
    offsets = pa.py_buffer(ids.offsets.astype(np.int32))
    return pa.Array.from_buffers(
        _IDS, len(ids.offsets) - 1, [None, offsets], children=[numbers_column(ids.values, pa.int32())]
    )


def messages_column(conversations: Sequence[Sequence[Message]], type_: pa.DataType) -> pa.Array:
    """Lists of messages as an Arrow column of a type out of `pair_schema`."""
    messages = [message for conversation in conversations for message in conversation]
    offsets = np.zeros(len(conversations) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, conversations), np.int32, len(conversations)), out=offsets[1:])
    children = []
    for field_ in type_.value_type:
        texts = (getattr(message, field_.name) for message in messages)
        children.append(text_column([None if text is None else text.encode() for text in texts]))
    structs = pa.StructArray.from_arrays(children, fields=list(type_.value_type))
    return pa.Array.from_buffers(type_, len(conversations), [None, pa.py_buffer(offsets)], children=[structs])


#: What a token cache takes over from the text.
CARRIED_COLUMNS = ("chosen_score", "rejected_score", "margin", "origin", "id", "prompt_key")


def _with_features(schema: pa.Schema) -> pa.Schema:
    features = {"info": {"features": _features(schema)}}
    return schema.with_metadata({"huggingface": json.dumps(features)})


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The columns in the notation of datasets' dataset_info.json."""
    return {field.name: _feature(field.type) for field in schema}


def _feature(type_: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(type_):
        return {"feature": _feature(type_.value_type), "_type": "List"}
    if pa.types.is_struct(type_):
        return {field.name: _feature(field.type) for field in type_}
    return {"dtype": "float64" if pa.types.is_float64(type_) else str(type_), "_type": "Value"}


# Writing.


@contextmanager
def building(folder: Path, *, overwrite: bool, contents: Sequence[str]) -> Iterator[Path]:
    """A scratch folder that becomes `folder` when the block ends without an error, and leaves no trace otherwise.

    Args:
        folder: new, empty, unfinished, or (with `overwrite`) finished before.
        overwrite: replace a finished folder; what stands in it stays whole until the new one is.
        contents: the names that a finished folder of this kind may have; with `overwrite` the old ones go.

    Raises:
        UsageError: the folder holds something else, or something finished, or another run is writing it, or the
            system refuses (permission, full disk).
        Interrupted: Ctrl-C in the block.
    """
    partial = folder / PARTIAL
    existed = folder.exists()
    with writing(folder):
        _refuse_target(folder, overwrite=overwrite)
        partial.mkdir(parents=True, exist_ok=True)
        lock = (partial / "lock").open("w")
    try:
        _lock(lock, folder)
        with writing(folder):
            _clear(partial)
        try:
            with writing(folder):
                yield partial
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if not existed:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(f"{folder}: stopped; nothing of this run is left there.") from error
            raise
        # Stopped from here on, `.partial` stays and marks the folder as unfinished.
        with writing(folder):
            _publish(partial, folder, contents)
    finally:
        lock.close()


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_target(folder: Path, *, overwrite: bool) -> None:
    if not _is_utf8(folder):
        raise UsageError(f"{folder}: the name is not UTF-8, and Arrow opens no other.\n  Name another folder.")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file.\n  Name a folder that is new or empty.")
    if (folder / MANIFEST).exists():
        if not overwrite:
            raise UsageError(f"{folder}: holds a finished data set.\n  Replace it with --overwrite, or name another.")
    elif folder.exists() and not (folder / PARTIAL).exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: holds files that are not ours.\n  Name a folder that is new or empty.")


def _lock(lock: Any, folder: Path) -> None:
    if fcntl is None:
        return  # type: ignore[unreachable]
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(f"{folder}: another run is writing it.\n  Wait for it, or name another folder.") from error


def _clear(partial: Path) -> None:
    """Remove what a killed run left."""
    for leftover in partial.iterdir():
        if leftover.is_dir():
            shutil.rmtree(leftover)
        elif leftover.name != "lock":
            leftover.unlink()


def _publish(partial: Path, folder: Path, contents: Sequence[str]) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in contents:
        old = folder / name
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    for new in sorted(partial.iterdir()):
        if new.name not in (MANIFEST, "lock"):
            os.replace(new, folder / new.name)
    os.replace(partial / MANIFEST, folder / MANIFEST)
    shutil.rmtree(partial, ignore_errors=True)


class SplitWriter:
    """Writes the Arrow files of one split as `datasets` would save them, a shard at a time."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema) -> None:
        self.split = split
        self.rows = 0
        self._folder = folder / split
        self._schema = schema
        self._shards = 0
        self._shard_rows = 0
        self._sink: Any = None
        self._writer: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows to the shard at hand, opening one if there is none."""
        if self._writer is None:
            self._sink = pa.OSFile(str(self._next_shard()), "wb")
            self._writer = pa.ipc.new_stream(self._sink, self._schema)
        self._writer.write_batch(batch)
        self._shard_rows += batch.num_rows
        self.rows += batch.num_rows

    def write_in_shards(self, batch: pa.RecordBatch) -> None:
        """Append rows; a shard is full at exactly `SHARD_ROWS`, whatever the sizes of the batches."""
        while batch.num_rows:
            part = batch.slice(0, SHARD_ROWS - self._shard_rows)
            if part.num_rows < batch.num_rows:
                # Arrow writes a slice with traces of the rows after it; the copy's bytes depend on its own rows alone.
                part = part.take(pa.array(range(part.num_rows)))
            self.write(part)
            batch = batch.slice(part.num_rows)
            if self._shard_rows == SHARD_ROWS:
                self.end_shard()

    def end_shard(self) -> None:
        """Finish the shard at hand."""
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = None
            self._shard_rows = 0

    def adopt_shard(self, shard: Path, rows: int) -> None:
        """Take over a finished shard from elsewhere: linked where the file system can, else copied."""
        try:
            os.link(shard, self._next_shard())
        except OSError:
            shutil.copyfile(shard, self._folder / f"{self._shards - 1:05d}")
        self.rows += rows

    def close(self) -> dict[str, str]:
        """Finish the split and return its Arrow files, relative to the folder above it, with their SHA-256."""
        self.end_shard()
        names = [f"data-{index:05d}-of-{self._shards:05d}.arrow" for index in range(self._shards)]
        for index, name in enumerate(names):
            os.replace(self._folder / f"{index:05d}", self._folder / name)
        hashes = {name: hash_file(self._folder / name) for name in names}
        write_split_description(self._folder, self.split, self._schema, hashes)
        return {f"{self.split}/{name}": hash_ for name, hash_ in hashes.items()}

    def _next_shard(self) -> Path:
        self._folder.mkdir(exist_ok=True)
        self._shards += 1
        return self._folder / f"{self._shards - 1:05d}"


def write_split_description(folder: Path, split: str, schema: pa.Schema, hashes: Mapping[str, str]) -> None:
    """Write the two small files that `datasets.load_from_disk` reads beside the Arrow files of a split.

    Args:
        hashes: name of each Arrow file to its SHA-256.
    """
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in hashes],
        # A content hash: datasets keys the results of `map` by it, so that a constant would mix up data sets.
        "_fingerprint": sha256("".join(hashes.values()).encode()).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    info = {"citation": "", "description": "", "features": _features(schema), "homepage": "", "license": ""}
    write_json(folder / "state.json", state)
    write_json(folder / "dataset_info.json", info)


def finish_folder(folder: Path, hashes: Mapping[str, Mapping[str, str]]) -> dict[str, FileEntry]:
    """Write dataset_dict.json and provenance.json, and return the entries of all files but provenance.json.

    Args:
        hashes: split to its Arrow files and their SHA-256, as `SplitWriter.close` returned them.
    """
    write_json(folder / "dataset_dict.json", {"splits": list(hashes)})
    known = {name: hash_ for of_split in hashes.values() for name, hash_ in of_split.items()}
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "lock":
            name = path.relative_to(folder).as_posix()
            files[name] = FileEntry(sha256=known.get(name) or hash_file(path), size_bytes=path.stat().st_size)
    packages = ("dpo-data", "pyarrow", "pydantic", "transformers")
    provenance = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "command": sys.argv,
        "working_directory": os.getcwd(),
    }
    write_json(folder / "provenance.json", provenance)
    return files


def write_manifest(folder: Path, manifest: Manifest | TokensManifest) -> None:
    """Write the manifest; `building` moves it into place last."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON."""
    # A word of the command line that is not UTF-8 becomes the escape that JSON has for it.
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Reading.


@dataclass(frozen=True)
class Prepared:
    """A finished prepared folder."""

    path: Path
    manifest: Manifest

    @property
    def split_names(self) -> list[str]:
        """The splits that have pairs."""
        return list(self.manifest.splits)

    def dataset(self) -> "DatasetDict":
        """The pairs, memory-mapped."""
        return _load_dataset(self.path)

    def batches(self, split: str) -> Iterator[pa.RecordBatch]:
        """The pairs of one split, in order, a batch at a time; memory-mapped."""
        for shard in self.manifest.splits[split].shards:
            yield from read_shard(self.path / shard)


@dataclass(frozen=True)
class TokenCache:
    """A finished token cache; `hit` says that it was there before."""

    path: Path
    manifest: TokensManifest
    hit: bool = field(default=True, compare=False)

    def dataset(self) -> "DatasetDict":
        """The token ids, memory-mapped."""
        return _load_dataset(self.path)


def open_prepared(path: str | Path) -> Prepared:
    """A prepared folder, once its manifest says that it is whole.

    Raises: PreparedError: unfinished, rejected, of an unknown version, or no prepared folder at all.
    """
    path = Path(path)
    manifest = _read_manifest(path, Manifest, "dpo-data convert SOURCE --output")
    if manifest.status == "rejected":
        raise PreparedError(
            f"{path}: was rejected: {manifest.quarantined:,} of {manifest.rows_read:,} rows are in quarantine, more "
            f"than --max-invalid {manifest.options.max_invalid:.3g} allows.\n"
            f"  See {path / 'quarantine'} for the reasons; mend the rows or raise --max-invalid, and convert again."
        )
    return Prepared(path, manifest)


def open_tokens(path: str | Path) -> TokenCache:
    """A token cache, once its manifest says that it is whole.

    Raises: PreparedError: unfinished, of an unknown version, or no token cache at all.
    """
    path = Path(path)
    return TokenCache(path, _read_manifest(path, TokensManifest, "dpo-data tokenize"))


def read_manifest(path: Path) -> Manifest:
    """The manifest of a prepared folder, rejected ones too.

    Raises: PreparedError: as `open_prepared`, save for rejected folders.
    """
    return _read_manifest(path, Manifest, "dpo-data convert SOURCE --output")


def is_prepared(path: Path) -> bool:
    """Whether a folder is meant to be a prepared one: whole, rejected or unfinished."""
    return (path / MANIFEST).is_file() or (path / PARTIAL).is_dir()


def damaged_files(folder: Path, manifest: Manifest | TokensManifest) -> dict[str, str]:
    """Files of the manifest that are missing or changed, each with what is wrong with it."""
    damaged = {}
    for name, entry in manifest.files.items():
        path = folder / name
        with reading(path):
            if not path.is_file():
                damaged[name] = "is missing"
            elif path.stat().st_size != entry.size_bytes:
                damaged[name] = f"has {path.stat().st_size:,} bytes, not {entry.size_bytes:,}"
            elif hash_file(path) != entry.sha256:
                damaged[name] = "has other bytes than when it was written (SHA-256 differs)"
    return damaged


def read_shard(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file, memory-mapped.

    Raises: PreparedError: the file is missing or damaged.
    """
    try:
        with pa.memory_map(str(path)) as file:
            yield from pa.ipc.open_stream(file)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).rstrip(".")
        raise PreparedError(f"{path}: cannot be read: {reason}.\n  Find out more: dpo-data validate FOLDER.") from error


def _read_manifest(path: Path, model: type[AnyManifest], command: str) -> AnyManifest:
    file = path / MANIFEST
    kind = model.model_fields["format"].default
    if not _is_utf8(path):
        raise PreparedError(f"{path}: the name is not UTF-8, and Arrow opens no other.\n  Rename the folder.")
    if not path.is_dir():
        raise PreparedError(f"{path}: there is no such folder.\n  Make it: {command} {path}.")
    if not file.is_file():
        if (path / PARTIAL).is_dir():
            raise PreparedError(f"{path}: is unfinished: a run was stopped.\n  Run it again: {command} {path}.")
        raise PreparedError(f"{path}: is no folder of {kind}: it has no {MANIFEST}.\n  Make one: {command} FOLDER.")
    with reading(file):
        content = file.read_bytes()
    try:
        found = json.loads(content)
        if isinstance(found, Mapping) and found.get("format") == kind and found.get("version") != 1:
            raise PreparedError(f"{path}: has format version {found.get('version')}; this program reads version 1.")
        return model.model_validate_json(content)
    except (ValueError, ValidationError) as error:
        raise PreparedError(f"{file}: is no manifest of {kind}, or damaged.\n  Make it again: {command}.") from error


def _load_dataset(path: Path) -> "DatasetDict":
    import datasets

    try:
        return datasets.DatasetDict.load_from_disk(str(path))
    except (OSError, pa.ArrowException) as error:
        raise PreparedError(f"{path}: cannot be loaded: {error}.") from error
