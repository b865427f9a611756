"""Raw files to Arrow batches of pairs, quarantined rows and counts, a chunk of rows at a time."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, islice

import pyarrow as pa

from dpo_data.checks import Finding, RowCheck
from dpo_data.checks.check import RowKeys
from dpo_data.checks.counts import CodeCounts
from dpo_data.checks.personal_data import redact, redact_pair
from dpo_data.checks.row_keys import row_keys
from dpo_data.conversion.adapt import ConversionJob, EncodedFields, GroupResult, adapt, check
from dpo_data.engine import ordered_map
from dpo_data.errors import InputError, RowError, argument
from dpo_data.options import SPLITS, Form, Progress, silent
from dpo_data.prepared.columns import messages_column, scores_column, text_column
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.prepared.schema import pair_schema
from dpo_data.readers.grouping import gathered, groups, whole_groups
from dpo_data.readers.inputs import InputFile
from dpo_data.readers.rows import Chunk, RawRow
from dpo_data.records import FIELDS, PairKeys, PreferencePair
from dpo_data.sources import load_source, matching_sources
from dpo_data.sources.source import Source, SourceOptions

#: Bytes of texts from which on the pairs of a chunk need a further batch: the offsets of an Arrow column end at 2 GiB.
MAX_BATCH_BYTES = 1 << 30


@dataclass
class ConvertedChunk:
    """Pairs and counts of one chunk: rows_read = rows_paired + rows in `quarantined` + the sum of `left_out`."""

    file: str
    split: str
    rows_read: int = 0
    rows_paired: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    pairs_left_out: Counter[str] = field(default_factory=Counter)
    unused_columns: Counter[str] = field(default_factory=Counter)
    batches: dict[str, pa.RecordBatch | pa.Table] = field(default_factory=dict)
    keys: dict[str, RowKeys] = field(default_factory=dict)
    quarantined: list[QuarantinedRow] = field(default_factory=list)
    warned: CodeCounts = field(default_factory=CodeCounts)
    redacted: Counter[str] = field(default_factory=Counter)

    def count_pair(
        self, origin: str, warnings: Sequence[tuple[RowCheck, Finding]], redacted: Mapping[str, int]
    ) -> None:
        """Count the warnings about a pair, and its placeholders."""
        for row_check, finding in warnings:
            self.warned.add(row_check.code, [f"{origin}: {finding.message}"])
        self.redacted.update(redacted)

    def count_rows(self, rows: Sequence[RawRow], result: GroupResult, *, redacting: bool) -> None:
        """Count each row of a group as paired, quarantined or left out."""
        self.rows_read += len(rows)
        self.rows_paired += len(result.paired)
        if result.left_out or result.refused:
            self.pairs_left_out.update(result.pairs_left_out())
        if len(result.paired) < len(rows):
            for row, verdict in result.unpaired(rows):
                if isinstance(verdict, RowError):
                    self.quarantined.append(_quarantined(self.file, row, verdict, redacting=redacting))
                else:
                    self.left_out[verdict] += 1


class PairBatchBuilder:
    """Kept rows of one split, which become one Arrow batch.

    Attributes:
        keys: of the rows.
        text_bytes: of all texts.
    """

    def __init__(self, source: str) -> None:
        self.keys: list[PairKeys] = []
        self.text_bytes = 0
        self._source = source
        self._pairs: list[PreferencePair] = []
        self._fields: list[EncodedFields] = []
        self._origins: list[str] = []

    def add(self, pair: PreferencePair, fields: EncodedFields, keys: PairKeys, origin: str) -> None:
        """Append one pair."""
        self._pairs.append(pair)
        self._fields.append(fields)
        self.keys.append(keys)
        self.text_bytes += sum(map(len, fields))
        self._origins.append(origin)

    def batch(self, schema: pa.Schema) -> pa.RecordBatch:
        """Return the pairs as an Arrow batch."""
        columns: dict[str, pa.Array] = {
            "source": text_column([self._source.encode()] * len(self._pairs)),
            "origin": text_column([origin.encode() for origin in self._origins]),
            "id": text_column([keys.pair.hex().encode() for keys in self.keys]),
            "prompt_key": text_column([keys.prompt.hex().encode() for keys in self.keys]),
        }
        for position, name in enumerate(FIELDS):
            if schema.field(name).type == pa.string():
                columns[name] = text_column([fields[position] for fields in self._fields])
            else:
                columns[name] = messages_column([getattr(pair, name) for pair in self._pairs], schema.field(name).type)
        if "tools" in schema.names:
            tools = [getattr(pair, "tools", None) for pair in self._pairs]
            columns["tools"] = text_column([None if text is None else text.encode() for text in tools])
        for name in set(schema.names) - set(columns):  # scores
            columns[name] = scores_column([getattr(pair, name) for pair in self._pairs])
        return pa.record_batch([columns[name] for name in schema.names], schema=schema)


@dataclass
class ReadProgress:
    """Position in the raw bytes of all files, of which `total` is None if unknown."""

    total: int | None
    before: int = 0
    in_file: int = 0

    def fraction(self) -> float | None:
        """Return the share of all bytes that has been read, or None if the total is unknown."""
        return (self.before + self.in_file) / self.total if self.total else None

    def on_read(self, position: int) -> None:
        """Note the position in the current file."""
        self.in_file = position

    def end_file(self, file: InputFile) -> None:
        """Note the end of the current file."""
        self.before, self.in_file = self.before + (file.size_bytes() or 0), 0


def schema_of(source: Source, form: Form) -> pa.Schema:
    """Return the columns of the pairs of a source."""
    return pair_schema(form, scores=source.has_scores, tools=source.has_tools)


def convert_chunks(
    files: Sequence[InputFile],
    job: ConversionJob,
    *,
    limit: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Iterator[ConvertedChunk]:
    """Convert raw files chunk by chunk, in the order of reading, for any number of workers.

    Raises: InputError: a file that cannot be read, lacks a column, or is of another source.
    """
    sizes = [file.size_bytes() for file in files]
    reading = ReadProgress(None if None in sizes else sum(size or 0 for size in sizes))
    rows = 0
    for chunk in ordered_map(convert_chunk, _raw_chunks(files, job, limit, reading), job, workers=workers):
        rows += chunk.rows_read
        progress(reading.fraction(), rows)
        yield chunk


def convert_chunk(chunk: Chunk, job: ConversionJob) -> ConvertedChunk:
    """Convert the rows of one chunk to pairs, quarantined rows and rows left out; pure."""
    source = load_source(job.source)
    converted = ConvertedChunk(chunk.file, chunk.split)
    builders: dict[str, list[PairBatchBuilder]] = {}
    shapes = Counter[tuple[str, ...]]()
    for rows in groups(chunk.rows(), source.grouping.key if source.grouping else None):
        for row in rows:
            if isinstance(row.value, dict):
                shapes[tuple(row.value)] += 1
            if row.warning is not None:
                code, message = row.warning
                converted.warned.add(code, [f"{chunk.file}:{row.line}: {message}"])
        result = adapt(rows, source, job)
        for pair, positions in result.pairs:
            redacted: Mapping[str, int] = {}
            if job.redact:
                pair, redacted = redact_pair(pair)
            try:
                fields, keys, warnings = check(pair, job.checks)
            except RowError as error:
                result.refuse(positions, error)
                continue
            result.paired.update(positions)
            origin = f"{chunk.file}:{rows[positions[0]].line}"
            split = _split_by_prompt(keys, job.test_fraction) if job.test_fraction else chunk.split
            if split not in builders:
                builders[split] = [PairBatchBuilder(source.name)]
            elif builders[split][-1].text_bytes > MAX_BATCH_BYTES:
                builders[split].append(PairBatchBuilder(source.name))
            builders[split][-1].add(pair, fields, keys, origin)
            if warnings or redacted:
                converted.count_pair(origin, warnings, redacted)
        converted.count_rows(rows, result, redacting=job.redact)
    used = source.used_columns(job.options.mapping)
    for shape, count in shapes.items():
        converted.unused_columns.update({column: count for column in shape if column not in used})
    for split, of_split in builders.items():
        batches = [builder.batch(schema_of(source, job.options.form)) for builder in of_split]
        converted.batches[split] = batches[0] if len(batches) == 1 else pa.Table.from_batches(batches)
        keys_of_split = [keys for builder in of_split for keys in builder.keys]
        converted.keys[split] = row_keys(keys_of_split, SPLITS.index(split))
    return converted


def grouped_chunks(chunks: Iterator[Chunk], source: Source) -> Iterator[Chunk]:
    """Yield the chunks of a file so that rows that belong together are in one of them."""
    if (grouping := source.grouping) is None:
        return chunks
    return whole_groups(gathered(chunks, grouping.key) if grouping.buffer_whole_file else chunks, grouping.key)


def _raw_chunks(
    files: Sequence[InputFile], job: ConversionJob, limit: int | None, reading: ReadProgress
) -> Iterator[Chunk]:
    source = load_source(job.source)
    remaining = limit
    for file in files:
        # An archive has several files, and one file may have rows of several splits.
        parts = groupby(file.chunks(reading.on_read), lambda chunk: (chunk.file, chunk.split))
        checked = ""
        for chunk in chain.from_iterable(grouped_chunks(part, source) for _, part in parts):
            if remaining is not None:
                rows = list(islice(chunk.rows(), remaining))
                remaining -= len(rows)
                chunk = chunk.with_rows(rows)
            if checked != chunk.file:
                first = next(chunk.rows(), None)
                _require_source(chunk, first, source, job.options)
                checked = chunk.file if first is not None else ""
            yield chunk
            if remaining == 0:
                return
        reading.end_file(file)


def _require_source(chunk: Chunk, first: RawRow | None, source: Source, options: SourceOptions) -> None:
    """Raise InputError if the first row of a file, or its header, shows that it is of another source.

    A row that matches no source at all proves nothing: it is quarantined like any other.
    """
    if first is not None and isinstance(first.value, dict):
        if reason := source.check_file(first.value, options):
            raise InputError(f"{chunk.file}: {reason}")
        if not source.matches(first.value, options.mapping) and (others := matching_sources(first.value)):
            raise InputError(
                f"{chunk.file}: holds rows of {others[0]}, not of {source.name}.\n"
                f"  Convert it with: dpo-data convert {others[0]} --input FILE"
            )
    if chunk.columns is not None:
        for column in source.required_columns(options.mapping):
            if column not in chunk.columns and column.split(".")[0] not in chunk.columns:
                raise InputError(
                    f'{chunk.file}: has no column "{column}".\n  It has: {", ".join(chunk.columns)}.\n'
                    f"  Name the right columns with the source `pairs`: {argument('mapping', 'FIELD=COLUMN')}."
                )


def _quarantined(file: str, row: RawRow, error: RowError, *, redacting: bool) -> QuarantinedRow:
    def clean(text: str) -> str:
        text = text.encode("utf-8", "backslashreplace").decode()
        return redact(text)[0] if redacting else text

    return QuarantinedRow(
        file=file,
        line=row.line,
        code=error.code,
        field=clean(error.field),
        message=clean(error.message),
        hint=error.hint,
        raw=clean(row.raw()),
    )


def _split_by_prompt(keys: PairKeys, test_fraction: float) -> str:
    return "test" if int.from_bytes(keys.prompt[:8]) < test_fraction * 2**64 else "train"
