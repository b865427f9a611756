"""Raw files to Arrow batches of pairs, quarantined rows and counts, a chunk of rows at a time."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, islice

import pyarrow as pa

from dpo_data.checks import Finding, RowCheck
from dpo_data.checks.check import RowKeys
from dpo_data.checks.counts import CodeCounts
from dpo_data.checks.judgments import Judgments, judge_of, judgment_table
from dpo_data.checks.one_sided_marker import OneSidedMarks
from dpo_data.checks.personal_data import redact, redact_json, redact_pair
from dpo_data.checks.row_keys import row_keys
from dpo_data.conversion.adapt import ConversionJob, GroupResult, adapt, check, filtered_rows
from dpo_data.conversion.batches import PairBatchBuilder
from dpo_data.conversion.kept import Value, kept_values
from dpo_data.conversion.plain import PlainRun, plain_runs
from dpo_data.conversion.raw_inputs import RawInputs
from dpo_data.conversion.unused import UNUSED_PROMPT_COLUMN, UnusedColumns
from dpo_data.engine import ordered_map
from dpo_data.errors import InputError, RowError, UsageError, argument, did_you_mean
from dpo_data.expressions import Expression
from dpo_data.options import SPLITS, Progress, silent
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.prepared.schema import pair_schema
from dpo_data.readers.grouping import GroupKey, gathered, groups, whole_groups
from dpo_data.readers.rows import Chunk, RawRow
from dpo_data.records import PairKeys, PreferencePair
from dpo_data.sources import load_source, matching_sources
from dpo_data.sources.fields import Row, has_column
from dpo_data.sources.source import Source, SourceOptions

#: Columns that every prepared folder has besides the pairs.
PREPARED_COLUMNS = ("source", "origin", "id", "prompt_key")
#: Bytes of texts from which on the pairs of a chunk need a further batch: the offsets of an Arrow column end at 2 GiB.
MAX_BATCH_BYTES = 1 << 30


@dataclass
class ConvertedChunk:
    """Pairs and counts of one chunk: rows_read = rows_paired + rows in `quarantined` + the sum of `left_out`.

    Attributes:
        lacking: number of rows at the beginning of the chunk that all lack `lacking_field`.
    """

    file: str
    split: str
    rows_read: int = 0
    rows_paired: int = 0
    lacking: int = 0
    lacking_field: str | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    pairs_left_out: Counter[str] = field(default_factory=Counter)
    unused_columns: Counter[str] = field(default_factory=Counter)
    batches: dict[str, pa.RecordBatch | pa.Table] = field(default_factory=dict)
    keys: dict[str, RowKeys] = field(default_factory=dict)
    quarantined: list[QuarantinedRow] = field(default_factory=list)
    warned: CodeCounts = field(default_factory=CodeCounts)
    redacted: Counter[str] = field(default_factory=Counter)
    misfits: Counter[str] = field(default_factory=Counter)
    judgments: Judgments | None = None
    marks: OneSidedMarks = field(default_factory=OneSidedMarks)

    def count_pair(
        self, origin: str, warnings: Sequence[tuple[RowCheck, Finding]], redacted: Mapping[str, int]
    ) -> None:
        """Count the warnings about a pair, and its placeholders."""
        for row_check, finding in warnings:
            self.warned.add(row_check.code, [f"{origin}: {finding.message}"])
        self.redacted.update(redacted)

    def count_rows(self, rows: Sequence[RawRow], result: GroupResult, source: Source, job: ConversionJob) -> None:
        """Count each row of a group as paired, quarantined or left out."""
        if self.lacking == self.rows_read:
            self._count_lacking(len(rows), result)
        self.rows_read += len(rows)
        self.rows_paired += len(result.paired)
        if result.left_out or result.refused:
            self.pairs_left_out.update(result.pairs_left_out())
        if len(result.paired) < len(rows):
            for row, verdict in result.unpaired(rows):
                if isinstance(verdict, RowError):
                    hint = source.hint(verdict, job.options.mapping)
                    self.quarantined.append(_quarantined(self.file, row, verdict, hint, redacting=job.redact))
                else:
                    self.left_out[verdict] += 1

    def _count_lacking(self, rows: int, result: GroupResult) -> None:
        for position in range(rows):
            error = result.errors.get(position)
            if error is None or error.code != "missing_field" or self.lacking_field not in (None, error.field):
                break
            self.lacking, self.lacking_field = self.lacking + 1, error.field


def convert_chunks(
    inputs: RawInputs,
    job: ConversionJob,
    *,
    limit: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Iterator[ConvertedChunk]:
    """Convert raw files chunk by chunk, in the order of reading, for any number of workers.

    Raises: InputError: a file that cannot be read, lacks a column, or is of another source.
    """
    rows = 0
    for chunk in ordered_map(convert_chunk, _raw_chunks(inputs, job, limit), job, workers=workers):
        rows += chunk.rows_read
        progress(inputs.fraction_read(), rows)
        yield chunk


def convert_chunk(chunk: Chunk, job: ConversionJob) -> ConvertedChunk:
    """Convert the rows of one chunk to pairs, quarantined rows and rows left out; pure."""
    source = load_source(job.source)
    conversion = ChunkConversion(chunk, source, job)
    rows = list(chunk.rows())
    done = 0
    # Most rows need nothing but to be copied: those in between are converted one by one.
    for run in plain_runs(rows, source, job):
        conversion.add_rows(rows[done : run.start])
        conversion.add_plain(run, rows[run.start : run.stop])
        done = run.stop
    conversion.add_rows(rows[done:])
    return conversion.finish()


class ChunkConversion:
    """The conversion of one chunk, whose rows are added in their order."""

    def __init__(self, chunk: Chunk, source: Source, job: ConversionJob) -> None:
        self._chunk, self._source, self._job = chunk, source, job
        self._converted = ConvertedChunk(chunk.file, chunk.split)
        self._builders: dict[str, list[PairBatchBuilder]] = {}
        self._unused = UnusedColumns(source, job)
        self._judged: list[tuple[PairKeys, bytes]] = []

    def add_plain(self, run: PlainRun, rows: Sequence[RawRow]) -> None:
        """Add rows whose pairs have no findings."""
        chunk, converted = self._chunk, self._converted
        converted.rows_read += len(rows)
        converted.rows_paired += len(rows)
        origins = [f"{chunk.file}:{row.line}" for row in rows]
        self._builder(chunk.split).extend(run.fields, run.keys, origins)
        converted.marks.pairs += len(rows) - len(run.marked)
        for position, texts in run.marked.items():
            converted.marks.add(origins[position], texts)

    def add_rows(self, rows: Sequence[RawRow]) -> None:
        """Add any rows."""
        chunk, source, job, converted = self._chunk, self._source, self._job, self._converted
        for group in groups(rows, _group_key(source, job.options)):
            for row in group:
                if isinstance(row.value, dict):
                    self._unused.see(row.value)
                if row.warning is not None:
                    code, message = row.warning
                    converted.warned.add(code, [f"{chunk.file}:{row.line}: {message}"])
            result = adapt(group, source, job, filtered_rows(group, job.where, chunk.file, cells=chunk.cells))
            for pair, positions in result.pairs:
                self._add_pair(pair, positions, group, result)
            converted.count_rows(group, result, source, job)

    def _add_pair(
        self, pair: PreferencePair, positions: tuple[int, int], rows: Sequence[RawRow], result: GroupResult
    ) -> None:
        """Add one pair of the rows of a group, or note in `result` why it is left out."""
        chunk, source, job, converted = self._chunk, self._source, self._job, self._converted
        redacted: Mapping[str, int] = {}
        if job.redact:
            pair, redacted = redact_pair(pair)
        try:
            fields, keys, warnings = check(pair, job.checks, job.columns)
            split = _split(keys, rows[positions[0]], chunk.split, source, job)
        except RowError as error:
            result.refuse(positions, error)
            return
        if job.only_split not in (None, split):
            result.leave_out(positions, "other_split")
            return
        result.paired.update(positions)
        raw = rows[positions[0]].value
        origin, own_source = f"{chunk.file}:{rows[positions[0]].line}", None
        if chunk.is_prepared and isinstance(raw, dict):
            origin, own_source = str(raw["origin"]), str(raw["source"])
        metadata = _kept_values(raw, job, converted) if job.kept and isinstance(raw, dict) else {}
        self._builder(split).add(pair, fields, keys, origin, metadata, own_source)
        converted.marks.add(origin, pair.texts)
        if isinstance(raw, dict) and (judge := judge_of(raw)) is not None:
            self._judged.append((keys, judge))
        if source.contents is not None and isinstance(raw, dict):
            for column in self._unused.prompt_columns(raw, pair.texts[0]):
                converted.warned.add(UNUSED_PROMPT_COLUMN, [f"{origin}: the column {column} is not in the prompt."])
        if warnings or redacted:
            converted.count_pair(origin, warnings, redacted)

    def _builder(self, split: str) -> PairBatchBuilder:
        """Return the builder of the batch that the next pair of a split belongs to."""
        builders = self._builders.setdefault(split, [])
        if not builders or builders[-1].text_bytes > MAX_BATCH_BYTES:
            builders.append(PairBatchBuilder(self._source.name))
        return builders[-1]

    def finish(self) -> ConvertedChunk:
        """Return what became of all rows."""
        converted = self._converted
        schema = pair_schema(self._job.options.form, self._job.columns)
        converted.unused_columns = self._unused.counts()
        if self._chunk.is_prepared:
            for name in PREPARED_COLUMNS:
                converted.unused_columns.pop(name, None)
        converted.judgments = judgment_table(self._judged) if self._judged else None
        for split, builders in self._builders.items():
            batches = [builder.batch(schema) for builder in builders]
            converted.batches[split] = batches[0] if len(batches) == 1 else pa.Table.from_batches(batches)
            keys = [keys for builder in builders for keys in builder.keys]
            converted.keys[split] = row_keys(keys, SPLITS.index(split))
        return converted


def _kept_values(row: Row, job: ConversionJob, converted: ConvertedChunk) -> dict[str, Value]:
    """Return the kept metadata of a row, redacted if the job says so, and count what does not fit."""
    values, misfits = kept_values(row, job.kept)
    converted.misfits.update(misfits)
    if job.redact:
        values = {name: redact(value)[0] if isinstance(value, str) else value for name, value in values.items()}
    return values


def grouped_chunks(chunks: Iterator[Chunk], source: Source, options: SourceOptions) -> Iterator[Chunk]:
    """Yield the chunks of a file so that rows that belong together are in one of them."""
    key = _group_key(source, options)
    if source.grouping is None or key is None:
        return chunks
    return whole_groups(gathered(chunks, key) if source.grouping.buffer_whole_file else chunks, key)


def _group_key(source: Source, options: SourceOptions) -> GroupKey | None:
    grouping = source.grouping
    return None if grouping is None else lambda row: grouping.key(row, options)


def _raw_chunks(inputs: RawInputs, job: ConversionJob, limit: int | None) -> Iterator[Chunk]:
    source = load_source(job.source)
    remaining = limit
    # An archive has several files, and one file may have rows of several splits.
    parts = chain.from_iterable(
        groupby(chunks, lambda chunk: (chunk.file, chunk.split)) for _, chunks in inputs.chunks()
    )
    for _, chunks in parts:
        checked = False
        for chunk in grouped_chunks(chunks, source, job.options):
            if remaining is not None:
                rows = list(islice(chunk.rows(), remaining))
                remaining -= len(rows)
                chunk = chunk.with_rows(rows)
            if not checked and job.where is not None:
                chunk = chunk.with_rows(list(chunk.rows()))
                _require_columns(chunk, job.where)
            if not checked:
                first = next(chunk.rows(), None)
                require_source(chunk, first, source, job.options)
                checked = first is not None
            yield chunk
            if remaining == 0:
                return


def require_source(chunk: Chunk, first: RawRow | None, source: Source, options: SourceOptions) -> None:
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
    columns = chunk.columns
    if columns is not None and (missing := source.missing_columns(columns, options.mapping, options.axis)):
        names = " or ".join(f'"{name}"' for name in missing)
        raise InputError(
            f"{chunk.file}: has no column {names}.\n  It has: {', '.join(columns)}.\n  {_columns_hint(source)}"
        )


def _require_columns(chunk: Chunk, where: Expression) -> None:
    """Raise UsageError if a condition names a column that none of the first rows of a file has."""
    rows = [row.value for row in chunk.rows() if isinstance(row.value, dict)]
    columns = list(dict.fromkeys(name for row in rows for name in row)) if chunk.columns is None else chunk.columns
    for column in where.columns:
        if rows and column not in columns and not any(has_column(row, column) for row in rows):
            raise UsageError(
                f'{chunk.file} has no column "{column}".\n  It has: {", ".join(columns)}.'
                f"{did_you_mean(column, columns)}",
                "where",
                where.text,
            )


def _columns_hint(source: Source) -> str:
    if source.mapped_fields:
        return f"Name the right columns: {argument('mapping', 'FIELD=COLUMN')}."
    return (
        f"The columns of {source.name} are fixed. For other tables there is the source `pairs`: "
        f"{argument('mapping', 'FIELD=COLUMN')}."
    )


def _quarantined(file: str, row: RawRow, error: RowError, hint: str, *, redacting: bool) -> QuarantinedRow:
    def clean(text: str) -> str:
        text = text.encode("utf-8", "backslashreplace").decode()
        return redact(text)[0] if redacting else text

    raw = row.raw()
    if redacting:
        raw = redact_json(raw)[0]
    return QuarantinedRow(
        file=file,
        line=row.line,
        code=error.code,
        field=clean(error.field),
        message=clean(error.message),
        hint=hint,
        raw=raw.encode("utf-8", "backslashreplace").decode(),
    )


def _split(keys: PairKeys, row: RawRow, split_of_file: str, source: Source, job: ConversionJob) -> str:
    """Return the split of a pair: that of its prompt, of its row or of its file.

    Raises: RowError: the row names a split that is not known.
    """
    if job.test_fraction:
        return "test" if int.from_bytes(keys.prompt[:8]) < job.test_fraction * 2**64 else "train"
    if job.rows_name_split and source.row_split is not None and isinstance(row.value, dict):
        return source.row_split(row.value) or split_of_file
    return split_of_file
