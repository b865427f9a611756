"""Check of an existing file against the rules of a format."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_data.errors import InputError, RowError
from dpo_data.exports import load_export
from dpo_data.exports.export import file_problems, select_layout
from dpo_data.exports.format import ExportFormat
from dpo_data.exports.report import FormatReport, LineFinding
from dpo_data.exports.rules import problems
from dpo_data.options import Progress, silent
from dpo_data.readers.inputs import find_inputs
from dpo_data.sources.fields import lookup

MAX_EXAMPLES = 5


def check_export(
    path: str | Path,
    format: str,
    *,
    layout: str | None = None,
    max_examples: int = MAX_EXAMPLES,
    progress: Progress = silent,
) -> FormatReport:
    """Hold the lines of a file, or of a folder's files, against the rules of a format.

    Args:
        path: a file, folder, glob, URL or "-".
        format: a name in `dpo_data.exports.EXPORTS`.
        layout: layout of the lines; None for the one whose columns the first line has, or the default.
        max_examples: examples to keep of each finding.
        progress: called with None and the number of lines that were read.

    Raises:
        UsageError: an unknown format or layout.
        InputError: the input cannot be read, or has no lines.
    """
    target = load_export(format)
    name: str | None = layout
    selected = None if layout is None else select_layout(target, layout)[1]
    counts: Counter[str] = Counter()
    cautions: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    files: dict[str, tuple[int, int]] = {}
    total = valid = 0
    for file in find_inputs([path]):
        lines = 0
        for chunk in file.chunks():
            for row in chunk.rows():
                lines += 1
                if isinstance(row.value, RowError):
                    found = [(row.value.code, row.value.message)]
                else:
                    if selected is None:
                        name = _layout_of(target, row.value)
                        selected = target.layouts[name]
                    found = list(problems(selected, row.value))
                    if not found:
                        cautions.update(each.code for each in target.cautions if each.applies(row.value))
                valid += not found
                counts.update({code for code, _ in found})
                for code, message in found:
                    kept = examples.setdefault(code, [])
                    if len(kept) < max_examples:
                        kept.append(f"{chunk.file}:{row.line}: {message}")
            progress(None, total + lines)
        files[file.label] = (lines, file.size_bytes() or 0)
        total += lines
    if not total:
        raise InputError(f"{path}: no lines in it.")
    return FormatReport(
        path=str(path),
        target=target.name,
        layout=name or next(iter(target.layouts)),
        reader=target.reader,
        lines=total,
        valid=valid,
        findings={code: LineFinding(lines=counts[code], examples=examples[code]) for code in sorted(counts)},
        cautions=dict(sorted(cautions.items())),
        warnings=file_problems(target, files),
    )


def _layout_of(target: ExportFormat, row: Mapping[str, Any]) -> str:
    """Return the name of the first layout all of whose columns a row has, or of the first one."""
    fits = [
        name for name, each in target.layouts.items() if all(lookup(row, column) is not None for column in each.columns)
    ]
    return next(iter(fits or target.layouts))
