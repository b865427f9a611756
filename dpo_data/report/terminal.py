"""Manifests and reports as rich tables. Texts out of the data are shown as they are: no markup in them is obeyed."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dpo_data.prepared import Manifest, TokenCache, TokensManifest
from dpo_data.validation import Quantiles, ValidationReport

SHOWN_EXAMPLES = 2
#: Columns where standard output is no terminal.
PLAIN_WIDTH = 140


def show(content: RenderableType) -> None:
    """Print to standard output; plain text where that is no terminal."""
    console = Console(highlight=False)
    console.width = console.width if console.is_terminal else PLAIN_WIDTH
    console.print(content)


def conversion(manifest: Manifest, folder: Path) -> RenderableType:
    """What `convert` did: every raw row accounted for."""
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{manifest.rows_read:,}", "bold"),
            " rows read = ",
            (f"{manifest.pairs:,}", "bold green"),
            " pairs + ",
            (f"{manifest.quarantined:,}", "bold red" if manifest.quarantined else "bold"),
            " in quarantine",
        )
    ]
    splits = _table("split", "pairs", "quarantined")
    for name, split in manifest.splits.items():
        splits.add_row(name, f"{split.pairs:,}", f"{split.quarantined:,}")
    parts.append(splits)
    if manifest.quarantined:
        reasons = _table("in quarantine because", "rows")
        for code, rows in manifest.quarantined_by_code.items():
            reasons.add_row(code, f"{rows:,}")
        parts += [reasons, Text(f"Each with its raw row and a hint: {folder / 'quarantine'}", style="dim")]
    if manifest.warnings:
        warnings = _table("kept with a warning", "rows", "for example")
        for code, warned in manifest.warnings.items():
            warnings.add_row(code, f"{warned.rows:,}", Text(warned.examples[0]))
        parts.append(warnings)
    if manifest.status == "rejected":
        share = manifest.quarantined / manifest.rows_read
        parts.append(
            Text(
                f"Rejected: {share:.1%} of the rows are in quarantine, over --max-invalid "
                f"{manifest.options.max_invalid:.1%}. Everything is written for you to look at, "
                "but no trainer will take it.",
                style="bold red",
            )
        )
    else:
        parts.append(Text(f"Prepared folder: {folder}", style="bold"))
    return Group(*parts)


def tokens(cache: TokenCache) -> RenderableType:
    """What `tokenize` made or found, and what it cut."""
    manifest = cache.manifest
    options = manifest.options
    state = "already there (hit)" if cache.hit else "made"
    limit = "nothing is cut" if options.max_length is None else f"max length {options.max_length}"
    prompt_limit = "" if options.max_prompt_length is None else f", max prompt length {options.max_prompt_length}"
    table = _table(
        "split", "pairs", "prompt tokens", "response tokens", "longest", "prompts cut", "responses cut", "seams"
    )
    for name, counts in manifest.splits.items():
        table.add_row(
            name,
            f"{counts.pairs:,}",
            f"{counts.prompt_tokens:,}",
            f"{counts.response_tokens:,}",
            f"{counts.longest_pair:,}",
            _with_tokens(counts.prompts_cut, counts.prompt_tokens_cut),
            _with_tokens(counts.responses_cut, counts.response_tokens_cut),
            f"{counts.seams:,}",
        )
    return Group(
        Text(f"Tokens {state}: {manifest.tokenizer.name}, {limit}{prompt_limit}, {options.truncation_mode}"),
        table,
        *_dropped(manifest),
        Text(f"Token cache: {cache.path}", style="bold"),
    )


def _with_tokens(pairs: int, lost: int) -> str:
    return f"{pairs:,} (−{lost:,} tokens)" if pairs else "0"


def _dropped(manifest: TokensManifest) -> Iterable[RenderableType]:
    lines = [
        f"{rows:,} pairs of {name} dropped: {reason}"
        for name, counts in manifest.splits.items()
        for reason, rows in counts.dropped.items()
    ]
    return [Text("\n".join(lines), style="yellow")] if lines else []


def validation(report: ValidationReport) -> RenderableType:
    """What `validate` found."""
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{report.path}", "bold"),
            f": {report.rows_read:,} rows = {report.pairs:,} pairs + {report.quarantined:,} in quarantine",
            f" ({', '.join(f'{name} {rows:,}' for name, rows in report.splits.items())})" if report.splits else "",
        )
    ]
    if report.damage:
        damage = _table("damaged", "what is wrong")
        for file, text in report.damage.items():
            damage.add_row(Text(file), Text(text))
        parts.append(damage)
    if report.findings:
        findings = _table("finding", "severity", "rows", "where")
        for code, finding in report.findings.items():
            where = Text("\n".join(finding.examples[:SHOWN_EXAMPLES]))
            findings.add_row(code, Text(finding.severity, SEVERITY_STYLE[finding.severity]), f"{finding.rows:,}", where)
            findings.add_row("", "", "", Text(finding.hint, style="dim"))
        parts.append(findings)
    parts.append(_lengths("characters", report.characters))
    if report.tokens:
        parts.append(_lengths("tokens", report.tokens))
    if report.cut:
        cut = _table("max length", "pairs cut", "responses that lose their end even alone")
        for entry in report.cut:
            cut.add_row(
                f"{entry.max_length:,}",
                _share(entry.pairs_cut, report.pairs),
                _share(entry.responses_cut, report.pairs),
            )
        parts.append(cut)
    if report.chosen_longer is not None:
        parts.append(Text(f"Chosen is longer than rejected in {report.chosen_longer:.1%} of the pairs."))
    verdicts = {"error": "Errors found.", "warning": "Warnings, and no errors.", None: "Nothing found."}
    styles = {"error": "bold red", "warning": "bold yellow", None: "bold green"}
    parts.append(Text(verdicts[report.worst()], style=styles[report.worst()]))
    return Group(*parts)


SEVERITY_STYLE = {"error": "red", "warning": "yellow"}


def _lengths(unit: str, quantiles: Mapping[str, Quantiles]) -> RenderableType:
    table = _table(unit, *Quantiles.model_fields)
    for side, values in quantiles.items():
        table.add_row(side, *(f"{value:,}" for value in values.model_dump().values()))
    return table


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else "0"


def _table(*columns: str) -> Table:
    """A table whose first column and texts are on the left and whose numbers are on the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    texts = {"for example", "where", "what is wrong", "what to do", "severity"}
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 or column in texts else "right", overflow="fold")
    return table
