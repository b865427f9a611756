"""Export of a prepared folder to the files of another trainer or service."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from dpo_data.errors import LossError, UsageError, argument, did_you_mean
from dpo_data.exports import load_export
from dpo_data.exports.files import LineWriter, line_writer
from dpo_data.exports.format import KINDS, STRUCTURAL, Exported, ExportFormat, Layout, Line, kinds_of
from dpo_data.exports.report import ExportedFile, ExportReport
from dpo_data.exports.rules import problems
from dpo_data.inspect.pairs import PairRow, parse_rows
from dpo_data.options import Form, Progress, silent
from dpo_data.prepared.building import building
from dpo_data.prepared.files import EXPORT, hash_file
from dpo_data.prepared.reader import Prepared, open_prepared
from dpo_data.prepared.writer import write_json

#: Reason of a line that repeats one of the pairs right before it with the same prompt.
REPEATED = "repeated_line"
#: Columns of a prepared folder whose values differ in their keys, so that no Parquet column can hold them.
_UNTYPED = ("tool_calls", "chat_template_kwargs")


def export(
    format: str,
    path: str | Path,
    *,
    output: str | Path,
    layout: str | None = None,
    file_format: str = "jsonl",
    allow_loss: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> ExportReport:
    """Write a prepared folder as the files of another trainer or service, one for each split.

    The pairs are held against the rules of the reader. Loss is whatever a model would read or a loss would use and the
    format cannot hold, see `dpo_data.exports.format.KINDS`; lineage and kept metadata are never loss.

    Args:
        format: a name in `dpo_data.exports.EXPORTS`.
        path: the prepared folder.
        output: the folder to write.
        layout: layout of the lines; None for the first one of the format.
        file_format: "jsonl", or "parquet" where the layout allows it.
        allow_loss: write pairs without what the format cannot hold, and leave out those of which a rule or a turn
            would be lost.
        overwrite: replace a finished export.
        progress: called with the share of pairs that were read, and their number.

    Returns: the counts, as export.json has them.

    Raises:
        LossError: without `allow_loss`, a pair that the format cannot hold, or that breaks a rule of the reader.
        UsageError: an unknown format or layout, a form that it cannot hold, or an output that cannot be used.
        PreparedError: the folder is unfinished, rejected or damaged.
    """
    target = load_export(format)
    name, chosen = select_layout(target, layout)
    prepared = open_prepared(path)
    _check_form(target, chosen, prepared, file_format)
    with building(Path(output), "export", overwrite=overwrite) as scratch:
        with closing(_Exporting(target, chosen, prepared, scratch, file_format, allow_loss=allow_loss)) as run:
            run.read(progress)
        if run.refused is not None and not allow_loss:
            raise LossError(_loss_message(target, prepared, run))
        return run.finish(name)


def select_layout(target: ExportFormat, name: str | None) -> tuple[str, Layout]:
    """Return the name and the layout of that name, or the default one.

    Raises: UsageError: the format has no such layout.
    """
    if name is None:
        return next(iter(target.layouts.items()))
    if name not in target.layouts:
        choices = ", ".join(target.layouts)
        raise UsageError(f"{target.name} has {choices}.{did_you_mean(name, target.layouts)}", "layout", name)
    return name, target.layouts[name]


def _check_form(target: ExportFormat, layout: Layout, prepared: Prepared, file_format: str) -> None:
    form: Form = prepared.manifest.form
    if form not in layout.forms:
        raise UsageError(
            f"{target.name} holds conversations, and {prepared.path} has text, which a chat template would change.\n"
            f"  Convert it first: dpo-data convert pairs --input {prepared.path} --form conversational --output OUT."
        )
    if file_format not in layout.file_formats:
        raise UsageError(f"{target.name} takes {' or '.join(layout.file_formats)}.", "file_format", file_format)
    untyped = [name for name in _UNTYPED if any(name in column for column in _named(prepared.manifest.columns))]
    if file_format == "parquet" and untyped:
        raise UsageError(
            f"{prepared.path} has {untyped[0]}, to which Parquet would add the keys of all rows as nulls.\n"
            f"  Write JSON Lines: {argument('file_format', 'jsonl')}.",
            "file_format",
            file_format,
        )


def _named(columns: Mapping[str, str]) -> Iterator[str]:
    """Yield the names and types of columns, the kept ones apart."""
    for name, type_ in columns.items():
        if name in ("prompt", "chat_template_kwargs"):
            yield f"{name} {type_}"


class _Refusal(NamedTuple):
    """The first pair that the format cannot hold."""

    origin: str
    message: str


class _Exporting:
    """One pass over the pairs of a folder, which writes their lines and counts what became of them."""

    def __init__(
        self,
        target: ExportFormat,
        layout: Layout,
        prepared: Prepared,
        folder: Path,
        file_format: str,
        *,
        allow_loss: bool,
    ) -> None:
        self.refused: _Refusal | None = None
        self.refusals: Counter[str] = Counter()
        self._target, self._layout, self._prepared, self._folder = target, layout, prepared, folder
        self._allow_loss = allow_loss
        self._file_format = file_format
        self._writers: dict[str, LineWriter] = {}
        self._pairs: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._cautions: Counter[str] = Counter()
        self._columns: dict[str, None] = {}
        self._fill = {name: value for name, value in layout.fill.items() if name in prepared.manifest.columns}
        #: Lines of the current prompt, where a format writes a response once.
        self._recent: tuple[str, set[str]] = ("", set())
        self._writes_once = layout.lines_per_pair > 1 or not layout.read_back

    def read(self, progress: Progress) -> None:
        """Read all pairs and write their lines; after a refusal, pairs are only counted."""
        manifest = self._prepared.manifest
        done = 0
        for split, entry in manifest.splits.items():
            if not entry.pairs:
                continue
            self._writers[split] = line_writer(self._folder, split, self._file_format, self._schema())
            self._recent = ("", set())
            for stored in self._prepared.batches(split):
                for row in parse_rows(manifest.form, stored):
                    self._add(split, row)
                done += stored.num_rows
                progress(min(1.0, done / max(1, manifest.pairs)), done)

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def finish(self, layout: str) -> ExportReport:
        """Write the side files, and return the report, which is export.json."""
        manifest, target = self._prepared.manifest, self._target
        name = manifest.name or manifest.source.name
        files = {
            split: ExportedFile(
                file=writer.path.name,
                pairs=self._pairs[split],
                lines=writer.lines,
                size_bytes=writer.path.stat().st_size,
                sha256=hash_file(writer.path),
            )
            for split, writer in self._writers.items()
        }
        report = ExportReport(
            target=target.name,
            layout=layout,
            reader=target.reader,
            name=name,
            license=manifest.license or manifest.source.license,
            form=manifest.form,
            content_hash=manifest.content_hash,
            pairs=sum(self._pairs.values()),
            lines_per_pair=self._layout.lines_per_pair,
            lines=sum(file.lines for file in files.values()),
            left_out=dict(sorted(self._left_out.items())),
            lost=dict(sorted(self._lost.items())),
            cautions=dict(sorted(self._cautions.items())),
            warnings=[*target.notes, *file_problems(target, {f.file: (f.lines, f.size_bytes) for f in files.values()})],
            files=files,
        )
        exported = Exported(name, layout, {split: file.file for split, file in files.items()}, tuple(self._columns))
        for file, content in {**target.side_files(exported), "README.md": card(target, report)}.items():
            (self._folder / file).write_text(content, encoding="utf-8")
        write_json(self._folder / EXPORT, report.model_dump(mode="json"))
        return report

    def _schema(self) -> pa.Schema | None:
        """Return the types of the columns of Parquet files."""
        if self._file_format != "parquet":
            return None
        manifest = self._prepared.manifest
        split = next(name for name, entry in manifest.splits.items() if entry.pairs)
        stored = next(self._prepared.batches(split)).schema
        types = {"bool": pa.bool_(), "number": pa.float64(), "objects": pa.string(), "object": pa.string()}
        columns = {**self._layout.columns, **self._layout.optional}
        return pa.schema(
            [
                (name, types.get(type_, stored.field("prompt").type))
                for name, type_ in columns.items()
                if name in self._layout.columns or name in stored.names
            ]
        )

    def _add(self, split: str, row: PairRow) -> None:
        """Write the lines of a pair, or count why not."""
        self._pairs[split] += 1
        lost = kinds_of(row) - self._layout.carries
        lines: list[Line] = []
        reasons = sorted(lost & STRUCTURAL)
        messages = [f"{self._target.name} cannot hold {KINDS[kind]}." for kind in sorted(lost)]
        if not reasons:
            lines = self._layout.lines(row)
            found = [(rule.code, text) for rule in self._layout.pair_rules if (text := rule.check(row)) is not None]
            found += [problem for line in lines for problem in problems(self._layout, line)]
            reasons += [code for code, _ in found]
            messages += [text for _, text in found]
        if lost or reasons:
            self.refusals.update(lost | set(reasons))
            self.refused = self.refused or _Refusal(row.origin, messages[0])
        if reasons:
            self._left_out[reasons[0]] += self._layout.lines_per_pair
        elif self.refused is None or self._allow_loss:
            self._lost.update(lost)
            for line in lines:
                self._write(split, row.prompt_key, line)

    def _write(self, split: str, prompt_key: str, line: Line) -> None:
        if self._writes_once:
            if self._recent[0] != prompt_key:
                self._recent = (prompt_key, set())
            text = json.dumps(line, ensure_ascii=False, sort_keys=True)
            if text in self._recent[1]:
                self._left_out[REPEATED] += 1
                return
            self._recent[1].add(text)
        line = {name: value for name, value in self._fill.items() if name not in line} | line
        self._columns.update(dict.fromkeys(line))
        self._cautions.update(caution.code for caution in self._target.cautions if caution.applies(line))
        self._writers[split].write(line)


def file_problems(target: ExportFormat, files: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return what is wrong with whole files, in sentences.

    Args:
        target: the format.
        files: name to number of lines and of bytes.
    """
    found = []
    for name, (lines, size) in files.items():
        if lines < target.min_lines:
            found.append(f"{name} has {lines:,} lines; {target.name} takes at least {target.min_lines}.")
        if target.max_bytes is not None and size > target.max_bytes:
            found.append(f"{name} has {size:,} bytes; {target.name} takes at most {target.max_bytes:,}.")
    return found


def _loss_message(target: ExportFormat, prepared: Prepared, run: _Exporting) -> str:
    if run.refused is None:
        raise AssertionError("nothing was refused")
    width = max(map(len, run.refusals))
    counts = "\n".join(f"  {code.ljust(width)}  {count:,} pairs" for code, count in sorted(run.refusals.items()))
    return (
        f"{prepared.path}: {target.name} cannot hold every pair as it is. The first, {run.refused.origin}: "
        f"{run.refused.message}\n{counts}\n"
        f"  Nothing was written. To export without these, and leave out the pairs that the reader would not take: "
        f"{argument('allow_loss', True)}."
    )


def card(target: ExportFormat, report: ExportReport) -> str:
    """Return the README.md of an export."""
    counts = "".join(
        f"| {name} | {file.file} | {file.pairs:,} | {file.lines:,} |\n" for name, file in report.files.items()
    )
    notes = "".join(f"\n- {note}" for note in report.warnings)
    return f"""# {report.name} for {target.name}

Written by `dpo-data export {target.name}`, layout {report.layout}, for {target.reader}: <{target.homepage}>.
License of the data: {report.license}.

{export_balance(report)}.

| split | file | pairs | lines |
| --- | --- | --- | --- |
{counts}
{target.usage}
{notes}
"""


def export_balance(report: ExportReport) -> str:
    """Return the balance of an export in words: pairs = lines + left out."""
    times = f" x {report.lines_per_pair} lines" if report.lines_per_pair > 1 else ""
    left_out = sum(report.left_out.values())
    return f"{report.pairs:,} pairs{times} = {report.lines:,} lines + {left_out:,} left out"
