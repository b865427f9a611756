"""Read the inputs in chunks, and convert them in order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dpo_data.conversion.adapt import ConversionJob, ConvertedChunk, convert_chunk
from dpo_data.engine.processes import ordered_map
from dpo_data.errors import InputError
from dpo_data.options import Progress, silent
from dpo_data.readers.grouping import gathered, whole_groups
from dpo_data.readers.inputs import InputFile
from dpo_data.readers.rows import Chunk
from dpo_data.sources import load_source, matching_sources
from dpo_data.sources.source import Source, SourceOptions


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
    total = None if None in sizes else sum(size or 0 for size in sizes)
    rows = 0
    place = ReadProgress(total)
    for chunk in ordered_map(convert_chunk, _chunks(files, job, limit, place), job, workers=workers):
        rows += chunk.rows_read
        progress(place.fraction(), rows)
        yield chunk


@dataclass
class ReadProgress:
    """How far reading is, in raw bytes."""

    total: int | None
    before: int = 0
    in_file: int = 0

    def fraction(self) -> float | None:
        """Return the share of all bytes that has been read, or None if the total is unknown."""
        return (self.before + self.in_file) / self.total if self.total else None


def _chunks(files: Sequence[InputFile], job: ConversionJob, limit: int | None, place: ReadProgress) -> Iterator[Chunk]:
    source = load_source(job.source)
    left = limit

    def on_read(position: int) -> None:
        place.in_file = position

    for file in files:
        for chunk in grouped_chunks(file.chunks(on_read), source):
            if chunk.opens_file:
                _require_fit(chunk, source, job.options)
            if left is not None:
                chunk = replace(chunk, max_rows=left)
                left -= sum(1 for _ in chunk.rows())
            yield chunk
            if left == 0:
                return
        place.before, place.in_file = place.before + (file.size_bytes() or 0), 0


def grouped_chunks(chunks: Iterator[Chunk], source: Source) -> Iterator[Chunk]:
    """The chunks of a file, rows that belong together in one of them."""
    if (grouping := source.grouping) is None:
        return chunks
    return whole_groups(gathered(chunks, grouping.key) if grouping.buffer_whole_file else chunks, grouping.key)


def _require_fit(chunk: Chunk, source: Source, options: SourceOptions) -> None:
    """Refuse a file that its first row, or its header, shows to be none of the source's.

    A row that fits no source at all is no proof: it goes to quarantine like any other.

    Raises: InputError: with the name of the source that fits.
    """
    first = next(chunk.rows(), None)
    if first is not None and isinstance(first.value, dict):
        if reason := source.check_file(first.value, options):
            raise InputError(f"{chunk.file}: {reason}")
        if not source.matches(first.value, options.mapping) and (others := matching_sources(first.value)):
            raise InputError(
                f"{chunk.file}: holds rows of {others[0]}, not of {source.name}.\n"
                f"  Convert it so: dpo-data convert {others[0]} --input FILE"
            )
    for column in source.required_columns(options.mapping) if chunk.columns is not None else ():
        if column not in (columns := chunk.columns or []) and column.split(".")[0] not in columns:
            raise InputError(
                f'{chunk.file}: has no column "{column}".\n  It has: {", ".join(columns)}.\n'
                "  Name the right ones with the source `pairs`: --map prompt=... --map chosen=... --map rejected=..."
            )
