"""The flow from raw rows to a prepared folder: rows -> source -> checks -> prepared + quarantine.

One chunk of raw rows becomes one Arrow batch in a pure function, in this process or in others, and the chunks are
written in the order of reading: the same input and options give the same bytes for any number of workers.
"""

import json
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import get_args

import pyarrow as pa

from dpo_data.card import dataset_card
from dpo_data.checks import CHECK_HINTS, DATASET_CHECKS, RowCheck, run_row_checks, select_row_checks
from dpo_data.checks.check import RowKeys
from dpo_data.checks.counts import CodeCounts
from dpo_data.checks.row_keys import Place, RowKeyStore, row_keys, run_dataset_checks
from dpo_data.errors import DataError, InputError, RowError, UsageError, require_choice
from dpo_data.options import DEFAULT_MAX_INVALID, Form, OnError, Progress, SplitName, silent
from dpo_data.prepared import (
    SHARD_ROWS,
    ConvertOptions,
    InputEntry,
    Manifest,
    QuarantinedRow,
    SourceEntry,
    SplitEntry,
    SplitWriter,
    Warned,
    building,
    finish_folder,
    messages_column,
    pair_schema,
    text_column,
    write_manifest,
)
from dpo_data.records import FIELDS, PairKeys, PreferencePair, content_keys, encoded_fields
from dpo_data.rows import Chunk, InputFile, RawRow, find_inputs
from dpo_data.sources import load_source
from dpo_data.sources.source import Source

SPLITS = get_args(SplitName)
#: Smaller inputs are done before a second process would have started.
CHUNKS_WITHOUT_POOL = 8
#: What a prepared folder may hold besides its manifest and its token caches, which stay valid for unchanged shards.
CONTENTS = (
    "train",
    "test",
    "quarantine",
    "dataset_dict.json",
    "README.md",
    "provenance.json",
    "report.json",
    "report.html",
)


@dataclass(frozen=True)
class Adapting:
    """All that a raw row needs to become a pair; travels to other processes."""

    source: str
    form: Form
    mapping: Mapping[str, str]
    checks: tuple[RowCheck, ...]
    test_fraction: float = 0.0


@dataclass
class ConvertedChunk:
    """What became of one chunk; rows_read = kept rows of all batches + quarantined rows."""

    file: str
    split: str
    rows_read: int = 0
    batches: dict[str, pa.RecordBatch] = field(default_factory=dict)
    keys: dict[str, RowKeys] = field(default_factory=dict)
    quarantined: list[QuarantinedRow] = field(default_factory=list)
    warned: CodeCounts = field(default_factory=CodeCounts)


def convert(
    source: str,
    inputs: Sequence[str | Path] = (),
    *,
    output: str | Path,
    sample: bool = False,
    form: Form = "text",
    mapping: Mapping[str, str] | None = None,
    split: str | None = None,
    input_format: str | None = None,
    test_fraction: float = 0.0,
    limit: int | None = None,
    on_error: OnError = "quarantine",
    max_invalid: float = DEFAULT_MAX_INVALID,
    forbid: Sequence[str] = (),
    allow: Sequence[str] = (),
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Manifest:
    """Turn a raw source into a prepared folder, every raw row kept or in quarantine with its reason.

    Args:
        source: a name in `dpo_data.sources.SOURCES`.
        inputs: files, folders, globs, URLs or "-"; when empty, the source's files on the Hugging Face hub.
        output: the prepared folder; new, empty, unfinished, or finished and `overwrite`.
        sample: read the source's embedded sample instead of inputs.
        form: "text", or "conversational" for lists of {role, content}.
        mapping: field of the pair -> column of the table, dotted for nested ones; for sources that take one.
        split: the split of all rows; when None it is read off each file's path.
        input_format: format of all inputs; when None it is read off their names.
        test_fraction: when over 0, the share of prompts that goes to test, by prompt hash, over any split.
        limit: read at most this many rows.
        on_error: put bad rows in quarantine, or stop at the first.
        max_invalid: share of rows read that may go to quarantine before the whole is marked as rejected.
        forbid: codes of row checks that quarantine.
        allow: codes of row checks that only warn.
        workers: processes; over 1 needs the usual `if __name__ == "__main__"` in a script.
        overwrite: replace a finished folder.
        progress: told how far reading is.

    Returns: the manifest; its `status` is "rejected" when more than `max_invalid` of the rows are in quarantine.

    Raises:
        UsageError: options that contradict each other or the source; an output that cannot be used.
        InputError: an input that cannot be read, or is of another source.
        RowError: with on_error="stop", the first bad row.
    """
    require_choice("--on-error", on_error, OnError)
    if split is not None:
        require_choice("--split", split, SplitName)
    if split is not None and test_fraction:
        raise UsageError("--split and --test-fraction both say which split a row belongs to. Give one of them.")
    if not 0 <= test_fraction < 1:
        raise UsageError(f"--test-fraction {test_fraction}: must be at least 0 and under 1.")
    if not 0 <= max_invalid <= 1:
        raise UsageError(f"--max-invalid {max_invalid}: must be between 0 and 1 (or 0% and 100%).")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: must be at least 1.")
    adapting = prepare_adapting(source, form, mapping or {}, forbid, allow, test_fraction)
    source_ = load_source(source)
    files = find_inputs(_input_names(source_, inputs, sample), split=split, input_format=input_format)

    folder = Path(output)
    schema = pair_schema(form, scores=source_.has_scores)
    tally = Tally()
    with building(folder, overwrite=overwrite, contents=CONTENTS) as scratch:
        store = RowKeyStore(scratch / "keys")
        writers = {name: SplitWriter(scratch, name, schema) for name in SPLITS}
        with ExitStack() as open_files:
            open_files.enter_context(closing(store))
            quarantine: dict[str, object] = {}
            for chunk in convert_chunks(files, adapting, limit=limit, workers=workers, progress=progress):
                if chunk.quarantined and on_error == "stop":
                    raise _stopped_at(chunk.quarantined[0])
                tally.add(chunk)
                for name, batch in chunk.batches.items():
                    chunk.keys[name]["index"] += writers[name].rows
                    store.add(chunk.keys[name])
                    writers[name].write_in_shards(batch)
                if chunk.quarantined:
                    if chunk.split not in quarantine:
                        (scratch / "quarantine").mkdir(exist_ok=True)
                        path = scratch / "quarantine" / f"{chunk.split}.jsonl"
                        quarantine[chunk.split] = open_files.enter_context(path.open("w", encoding="utf-8"))
                    _write_quarantine(quarantine[chunk.split], chunk.quarantined)
        if not tally.rows_read:
            raise InputError(f"{', '.join(file.label for file in files)}: no rows in it.")
        hashes = {name: writer.close() for name, writer in writers.items() if writer.rows}
        shards = {name: list(hashes_of_split) for name, hashes_of_split in hashes.items()}
        tally.warned.merge(dataset_findings(store, scratch, shards))
        store.remove()
        entry = SourceEntry(
            name=source_.name, licence=source_.licence, homepage=source_.homepage, direction=source_.direction
        )
        options = ConvertOptions(
            mapping=dict(adapting.mapping),
            split=split,
            test_fraction=test_fraction,
            limit=limit,
            max_invalid=max_invalid,
            forbid=sorted(forbid),
            allow=sorted(allow),
        )
        manifest = tally.manifest(
            form, entry, options, files, {name: (writers[name].rows, shards.get(name, [])) for name in SPLITS}
        )
        (scratch / "README.md").write_text(dataset_card(manifest), encoding="utf-8")
        manifest = manifest.model_copy(update={"files": finish_folder(scratch, hashes)})
        write_manifest(scratch, manifest)
    return manifest


def prepare_adapting(
    source: str,
    form: Form,
    mapping: Mapping[str, str],
    forbid: Sequence[str] = (),
    allow: Sequence[str] = (),
    test_fraction: float = 0.0,
) -> Adapting:
    """What `convert_chunks` needs, with the options checked.

    Raises: UsageError: an unknown source, form or code, or a mapping for a source that takes none.
    """
    source_ = load_source(source)
    require_choice("--form", form, Form)
    if mapping and not source_.takes_mapping:
        raise UsageError(f"{source} knows its columns and takes no --map.\n  Use the source `pairs` for other tables.")
    if unknown := sorted(set(mapping) - set(MAPPED_FIELDS)):
        raise UsageError(f"--map {unknown[0]}=...: there is no such field.\n  Fields: {', '.join(MAPPED_FIELDS)}.")
    return Adapting(source, form, mapping, select_row_checks(forbid, allow), test_fraction)


MAPPED_FIELDS = ("prompt", "chosen", "rejected", "chosen_score", "rejected_score")


def _input_names(source: Source, inputs: Sequence[str | Path], sample: bool) -> list[str]:
    if sample and inputs:
        raise UsageError("--sample reads the embedded sample, and --input something else. Give one of them.")
    if sample:
        if not source.sample:
            raise UsageError(f"{source.name} has no embedded sample.\n  hh-rlhf has one.")
        return [str(Path(__file__).parent / name) for name in source.sample]
    if not inputs and not source.hub_files:
        raise UsageError(f"{source.name} reads your own files.\n  Name them: --input FILE.")
    return [str(name) for name in inputs] or list(source.hub_files)


def _stopped_at(row: QuarantinedRow) -> DataError:
    error = RowError(row.code, row.field, f"{row.file}:{row.line}: {row.message}", row.hint)
    error.hint += "\n  To put such rows in quarantine and go on: --on-error quarantine."
    return error


def _write_quarantine(file: object, rows: Iterable[QuarantinedRow]) -> None:
    for row in rows:
        file.write(json.dumps(row.model_dump(), ensure_ascii=False) + "\n")  # type: ignore[attr-defined]


# Chunks.


def convert_chunks(
    files: Sequence[InputFile],
    adapting: Adapting,
    *,
    limit: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Iterator[ConvertedChunk]:
    """Convert raw files chunk by chunk, in the order of reading, for any number of workers.

    Raises: InputError: a file that cannot be read, lacks a column, or is of another source.
    """
    sizes = [file.size_bytes() for file in files]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    rows = 0
    place = _Place(total)
    for chunk in _in_order(convert_chunk, _chunks(files, adapting, limit, place), adapting, workers):
        rows += chunk.rows_read
        progress(place.fraction(), rows)
        yield chunk


@dataclass
class _Place:
    """How far reading is, in raw bytes."""

    total: int | None
    before: int = 0
    in_file: int = 0

    def fraction(self) -> float | None:
        return (self.before + self.in_file) / self.total if self.total else None


def _chunks(files: Sequence[InputFile], adapting: Adapting, limit: int | None, place: _Place) -> Iterator[Chunk]:
    source = load_source(adapting.source)
    left = limit

    def on_read(position: int) -> None:
        place.in_file = position

    for file in files:
        for chunk in file.chunks(on_read):
            if chunk.columns is not None:
                _require_columns(chunk, source, adapting.mapping)
            if left is not None:
                chunk = replace(chunk, max_rows=left)
                left -= sum(1 for _ in chunk.rows())
            yield chunk
            if left == 0:
                return
        place.before, place.in_file = place.before + (file.size_bytes() or 0), 0


def _require_columns(chunk: Chunk, source: Source, mapping: Mapping[str, str]) -> None:
    columns = chunk.columns or []
    for column in source.columns(mapping):
        if column not in columns and column.split(".")[0] not in columns:
            raise InputError(
                f'{chunk.file}: has no column "{column}".\n  It has: {", ".join(columns)}.\n'
                "  Name the right ones with the source `pairs`: --map prompt=... --map chosen=... --map rejected=..."
            )


def convert_chunk(chunk: Chunk, adapting: Adapting) -> ConvertedChunk:
    """Turn the raw rows of one chunk into pairs and quarantined rows; pure.

    Raises: InputError: the first row shows that the file can hold no pairs of this source.
    """
    source = load_source(adapting.source)
    converted = ConvertedChunk(chunk.file, chunk.split)
    columns: dict[str, _Columns] = {}
    for number, raw in enumerate(chunk.rows()):
        converted.rows_read += 1
        try:
            if isinstance(raw.value, RowError):
                raise raw.value
            # The file's first row alone: a stray one later on is a row in quarantine, wherever its chunk begins.
            first = chunk.opens_file and number == 0
            if first and (reason := source.refuse(raw.value, adapting.form, adapting.mapping)):
                raise InputError(f"{chunk.file}: {reason}")
            pair = source.adapt(raw.value, adapting.form, adapting.mapping)
            try:
                fields = encoded_fields(pair)
            except UnicodeEncodeError as error:
                message = f"a text holds {error.object[error.start]!r}, which is no character."
                raise RowError("invalid_unicode", "", message) from None
            keys = content_keys(*fields)
            origin = f"{chunk.file}:{raw.line}"
            for check, finding in (findings := run_row_checks(pair, adapting.checks)):
                if check.severity == "error":
                    raise RowError(check.code, finding.field, finding.message, check.hint)
            for check, finding in findings:
                converted.warned.add(check.code, [f"{origin}: {finding.message}"])
        except RowError as error:
            converted.quarantined.append(_quarantined(chunk.file, raw, error))
            continue
        split = _split_of(keys, adapting.test_fraction) if adapting.test_fraction else chunk.split
        if split not in columns:
            columns[split] = _Columns(source.name)
        columns[split].add(pair, fields, keys, origin)
    schema = pair_schema(adapting.form, scores=source.has_scores)
    for split, kept in columns.items():
        converted.batches[split] = kept.batch(schema)
        converted.keys[split] = row_keys(kept.keys, SPLITS.index(split))
    return converted


def _quarantined(file: str, raw: RawRow, error: RowError) -> QuarantinedRow:
    def clean(text: str) -> str:
        return text.encode("utf-8", "backslashreplace").decode()

    return QuarantinedRow(
        file=file,
        line=raw.line,
        code=error.code,
        field=clean(error.field),
        message=clean(error.message),
        hint=error.hint,
        raw=raw.raw(),
    )


def _split_of(keys: PairKeys, test_fraction: float) -> str:
    return "test" if int.from_bytes(keys.prompt[:8]) < test_fraction * 2**64 else "train"


class _Columns:
    """Kept rows of one split, column by column."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.keys: list[PairKeys] = []
        self.pairs: list[PreferencePair] = []
        self.fields: list[tuple[bytes, bytes, bytes]] = []
        self.origins: list[str] = []

    def add(self, pair: PreferencePair, fields: tuple[bytes, bytes, bytes], keys: PairKeys, origin: str) -> None:
        self.pairs.append(pair)
        self.fields.append(fields)
        self.keys.append(keys)
        self.origins.append(origin)

    def batch(self, schema: pa.Schema) -> pa.RecordBatch:
        columns: dict[str, pa.Array] = {
            "source": text_column([self.source.encode()] * len(self.pairs)),
            "origin": text_column([origin.encode() for origin in self.origins]),
            "id": text_column([keys.pair.hex().encode() for keys in self.keys]),
            "prompt_key": text_column([keys.prompt.hex().encode() for keys in self.keys]),
        }
        for position, name in enumerate(FIELDS):
            if schema.field(name).type == pa.string():
                # Encoded already, for the keys.
                columns[name] = text_column([fields[position] for fields in self.fields])
            else:
                columns[name] = messages_column([getattr(pair, name) for pair in self.pairs])
        for name in set(schema.names) - set(columns):  # scores
            columns[name] = pa.array([getattr(pair, name) for pair in self.pairs], schema.field(name).type)
        return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _in_order(
    function: Callable[[Chunk, Adapting], ConvertedChunk], chunks: Iterable[Chunk], adapting: Adapting, workers: int
) -> Iterator[ConvertedChunk]:
    """`function` over all chunks, results in their order, at most twice `workers` of them in flight."""
    chunks = iter(chunks)
    first = list(islice(chunks, CHUNKS_WITHOUT_POOL + 1)) if workers > 1 else []
    if len(first) <= CHUNKS_WITHOUT_POOL:
        for chunk in chain(first, chunks):
            yield function(chunk, adapting)
        return
    # spawn: forking a process that has Arrow's threads can hang it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    pending: deque[Future[ConvertedChunk]] = deque()
    try:
        for chunk in chain(first, chunks):
            with _ctrl_c_blocked():
                pending.append(pool.submit(function, chunk, adapting))
            if len(pending) >= 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process was killed, most often because memory ran out.\n  Run again with fewer --workers."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Processes that start in the block never see Ctrl-C, not even while they are loading: it is their parent's."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _start_worker() -> None:
    """End with the parent: a killed one can tell its workers nothing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


# Counting.


@dataclass
class Tally:
    """Counts over all chunks, from which the manifest is made."""

    rows_read: int = 0
    pairs: int = 0
    rows_by_file: Counter[str] = field(default_factory=Counter)
    quarantined_by_split: Counter[str] = field(default_factory=Counter)
    quarantined_by_code: Counter[str] = field(default_factory=Counter)
    warned: CodeCounts = field(default_factory=CodeCounts)

    def add(self, chunk: ConvertedChunk) -> None:
        """Count one chunk."""
        self.rows_read += chunk.rows_read
        self.pairs += chunk.rows_read - len(chunk.quarantined)
        self.rows_by_file[chunk.file] += chunk.rows_read
        self.quarantined_by_split[chunk.split] += len(chunk.quarantined)
        self.quarantined_by_code.update(row.code for row in chunk.quarantined)
        self.warned.merge(chunk.warned)

    def manifest(
        self,
        form: Form,
        source: SourceEntry,
        options: ConvertOptions,
        files: Iterable[InputFile],
        written: Mapping[str, tuple[int, list[str]]],
    ) -> Manifest:
        """The manifest of these counts, without the file hashes."""
        quarantined = self.rows_read - self.pairs
        return Manifest(
            status="rejected" if quarantined > options.max_invalid * self.rows_read else "complete",
            form=form,
            source=source,
            options=options,
            inputs=[InputEntry(file=f.label, split=f.split, rows=self.rows_by_file[f.label]) for f in files],
            rows_read=self.rows_read,
            pairs=self.pairs,
            quarantined=quarantined,
            quarantined_by_code=dict(sorted(self.quarantined_by_code.items())),
            warnings={
                code: Warned(rows=rows, examples=examples)
                for code, (rows, examples) in self.warned.in_order(CHECK_HINTS).items()
            },
            splits={
                name: SplitEntry(pairs=rows, quarantined=self.quarantined_by_split[name], shards=shards)
                for name, (rows, shards) in written.items()
                if rows or self.quarantined_by_split[name]
            },
            files={},
        )


def dataset_findings(store: RowKeyStore, folder: Path, shards: Mapping[str, Sequence[str]]) -> CodeCounts:
    """What the dataset checks find, with the origins that stand in the shards of `folder`, split to files."""

    def origin_of(place: Place) -> str:
        shard, row = divmod(place.position, SHARD_ROWS)
        with pa.memory_map(str(folder / shards[SPLITS[place.split]][shard])) as file:
            return str(pa.ipc.open_stream(file).read_all().column("origin")[row])

    return run_dataset_checks(store, DATASET_CHECKS, origin_of)
