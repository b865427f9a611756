"""Manifests and reports as rich tables. Texts out of the data are shown as they are: no markup in them is obeyed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # no command loads what another one needs
    from dpo_data.conversion.detect import DetectedSource
    from dpo_data.inspect.run_pairs import JudgedPair
    from dpo_data.inspect.validation import Quantiles, ValidationReport
    from dpo_data.prepared.manifest import Manifest
    from dpo_data.sources.source import SourceSummary
    from dpo_data.tokens.cache import TokenCache
    from dpo_data.tokens.manifest import TokensManifest

SHOWN_EXAMPLES = 2
SHOWN_CHARACTERS = 600
#: Columns where standard output is no terminal.
PLAIN_WIDTH = 140


def show(content: RenderableType) -> None:
    """Print to standard output; plain text where that is no terminal."""
    console = Console(highlight=False)
    console.width = console.width if console.is_terminal else PLAIN_WIDTH
    console.print(content)


def conversion(manifest: "Manifest", folder: Path) -> RenderableType:
    """What `convert` did: every raw row accounted for."""
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{manifest.rows_read:,}", "bold"),
            " rows read = ",
            *_kept(manifest),
            " + ",
            (f"{manifest.quarantined:,}", "bold red" if manifest.quarantined else "bold"),
            " in quarantine",
            f" + {manifest.left_out:,} left out" if manifest.left_out else "",
        )
    ]
    if manifest.form_reason is not None:
        other = "conversational" if manifest.form == "text" else "text"
        parts.append(Text(f"Form: {manifest.form} ({manifest.form_reason}). For the other one: --form {other}."))
    shown = ("pairs", "quarantined", "left_out") if manifest.left_out else ("pairs", "quarantined")
    splits = plain_table("split", *(name.replace("_", " ") for name in shown))
    for name, split in manifest.splits.items():
        splits.add_row(name, *(f"{getattr(split, column):,}" for column in shown))
    parts.append(splits)
    for title, unit, counts in (
        ("left out because", "rows", manifest.left_out_by_reason),
        ("in no pair because", "pairs or responses", manifest.pairs_left_out),
        ("column that went into no pair", "rows", manifest.unused_columns),
    ):
        if counts:
            reasons = plain_table(title, unit)
            for reason, count in counts.items():
                reasons.add_row(Text(reason), f"{count:,}")
            parts.append(reasons)
    if manifest.quarantined:
        reasons = plain_table("in quarantine because", "rows")
        for code, rows in manifest.quarantined_by_code.items():
            reasons.add_row(code, f"{rows:,}")
        parts += [reasons, Text(f"Each with its raw row and a hint: {folder / 'quarantine'}", style="dim")]
    if manifest.warnings:
        warnings = plain_table("kept with a warning", "rows", "for example")
        for code, warned in manifest.warnings.items():
            warnings.add_row(code, f"{warned.rows:,}", Text(warned.examples[0]))
        parts.append(warnings)
    if manifest.redacted:
        redacted = plain_table("placeholder for", "times")
        for kind, times in manifest.redacted.items():
            redacted.add_row(kind, f"{times:,}")
        parts.append(redacted)
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


def _kept(manifest: "Manifest") -> list[str | tuple[str, str]]:
    pairs = (f"{manifest.pairs:,}", "bold green")
    if manifest.pairs == manifest.rows_paired:
        return [pairs, " pairs"]
    return [f"{manifest.rows_paired:,} that gave ", pairs, " pairs"]


def sources(entries: Iterable["SourceSummary"]) -> RenderableType:
    """All sources: what they are, and which response they prefer."""
    table = plain_table("source", "preferred is", "license", "where")
    for entry in entries:
        name = f"{entry.name} (evaluation only)" if entry.eval_only else entry.name
        table.add_row(Text(name), Text(entry.direction), Text(entry.license), Text(entry.homepage))
    return table


def sniffed(found: "DetectedSource") -> RenderableType:
    """Which source a file is of, and what became of its first rows; the command is to be printed after it, unbroken."""
    if found.source is None:
        advice = "Try:" if found.complete else "Fill in what stands in capitals:"
        return Group(Text(f"{found.file}: no source fits. It has: {', '.join(found.columns)}."), Text(advice))
    others = f" ({', '.join(found.others)} would fit too)" if found.others else ""
    counts = found.counts
    parts: list[RenderableType] = [
        Text(f"{found.file}: {found.source}{others}. Preferred is: {found.direction}."),
        Text(
            f"Of the first {counts.rows_read:,} rows {counts.rows_paired:,} give {counts.pairs:,} pairs, "
            f"{counts.quarantined:,} go to quarantine, {counts.left_out:,} are left out."
        ),
    ]
    if counts.reasons:
        reasons = plain_table("gave no pair because", "rows")
        for reason, rows in counts.reasons.items():
            reasons.add_row(reason, f"{rows:,}")
        parts.append(reasons)
    if found.example:
        example = plain_table("first pair", "for example")
        for name, text in found.example.items():
            example.add_row(name, Text(text))
        parts.append(example)
    return Group(*parts)


def tokens(cache: "TokenCache") -> RenderableType:
    """What `tokenize` made or found, and what it cut."""
    manifest = cache.manifest
    options = manifest.options
    state = "already there (hit)" if cache.hit else "made"
    limit = "nothing is cut" if options.max_length is None else f"max length {options.max_length}"
    prompt_limit = "" if options.max_prompt_length is None else f", max prompt length {options.max_prompt_length}"
    table = plain_table(
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


def _dropped(manifest: "TokensManifest") -> Iterable[RenderableType]:
    lines = [
        f"{rows:,} pairs of {name} dropped: {reason}"
        for name, counts in manifest.splits.items()
        for reason, rows in counts.dropped.items()
    ]
    return [Text("\n".join(lines), style="yellow")] if lines else []


def validation(report: "ValidationReport") -> RenderableType:
    """What `validate` found."""
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{report.path}", "bold"),
            f": {report.rows_read:,} rows = {_kept_rows(report)} pairs + {report.quarantined:,} in quarantine",
            f" + {report.left_out:,} left out" if report.left_out else "",
            f" ({', '.join(f'{name} {rows:,}' for name, rows in report.splits.items())})" if report.splits else "",
        )
    ]
    if report.damage:
        damage = plain_table("damaged", "what is wrong")
        for file, text in report.damage.items():
            damage.add_row(Text(file), Text(text))
        parts.append(damage)
    if report.findings:
        findings = plain_table("finding", "severity", "rows", "where")
        for code, finding in report.findings.items():
            where = Text("\n".join(finding.examples[:SHOWN_EXAMPLES]))
            findings.add_row(code, Text(finding.severity, SEVERITY_STYLE[finding.severity]), f"{finding.rows:,}", where)
            findings.add_row("", "", "", Text(finding.hint, style="dim"))
        parts.append(findings)
    parts.append(_lengths("characters", report.characters))
    if report.tokens:
        parts.append(_lengths("tokens", report.tokens))
    if report.cut:
        cut = plain_table("max length", "pairs cut", "responses that lose their end even alone")
        for entry in report.cut:
            cut.add_row(
                f"{entry.max_length:,}",
                _share(entry.pairs_cut, report.pairs),
                _share(entry.responses_cut, report.pairs),
            )
        parts.append(cut)
    if report.languages:
        languages = plain_table("language", *report.languages)
        for language in dict.fromkeys(name for counts in report.languages.values() for name in counts):
            rows = (counts.get(language, 0) for counts in report.languages.values())
            languages.add_row(language, *(_share(row, report.pairs) for row in rows))
        parts.append(languages)
    if report.personal_data:
        personal = plain_table("personal data", "times")
        for name, times in report.personal_data.items():
            personal.add_row(name, f"{times:,}")
        parts.append(personal)
    if report.chosen_longer is not None:
        parts.append(Text(f"Chosen is longer than rejected in {report.chosen_longer:.1%} of the pairs."))
    verdicts = {"error": "Errors found.", "warning": "Warnings, and no errors.", None: "Nothing found."}
    styles = {"error": "bold red", "warning": "bold yellow", None: "bold green"}
    parts.append(Text(verdicts[report.worst()], style=styles[report.worst()]))
    return Group(*parts)


def _kept_rows(report: "ValidationReport") -> str:
    rows = report.rows_read - report.quarantined - report.left_out
    return f"{report.pairs:,}" if rows == report.pairs else f"{rows:,} that gave {report.pairs:,}"


def judged_pairs(pairs: Sequence["JudgedPair"]) -> RenderableType:
    """Pairs, chosen beside rejected, each under its margin and where it comes from."""
    parts: list[RenderableType] = []
    for number, pair in enumerate(pairs, 1):
        head = f"{number}. margin {pair.margin:+.3f}   {pair.split}, step {pair.step}   {pair.origin}   {pair.id}"
        sides = Table("chosen", "rejected", box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
        sides.add_row(Text(_clipped(pair.chosen, end=False)), Text(_clipped(pair.rejected, end=False)))
        parts += [Text(head, style="bold"), Text(_clipped(pair.prompt, end=True), style="dim"), sides]
    disagree = sum(pair.margin < 0 for pair in pairs)
    parts.append(Text(f"{disagree} of these {len(pairs)} pairs have a negative margin: the model prefers rejected."))
    return Group(*parts)


def _clipped(text: str, *, end: bool) -> str:
    """A text of at most `SHOWN_CHARACTERS`: its end, where the question of a prompt stands, or its beginning."""
    text = text.strip()
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"… {text[-SHOWN_CHARACTERS:]}" if end else f"{text[:SHOWN_CHARACTERS]} …"


SEVERITY_STYLE = {"error": "red", "warning": "yellow"}


def _lengths(unit: str, quantiles: Mapping[str, "Quantiles"]) -> RenderableType:
    from dpo_data.inspect.validation import Quantiles

    table = plain_table(unit, *Quantiles.model_fields)
    for side, values in quantiles.items():
        table.add_row(side, *(f"{value:,}" for value in values.model_dump().values()))
    return table


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else "0"


def plain_table(*columns: str, text_columns: Collection[str] = ()) -> Table:
    """A table whose first column and texts are on the left and whose numbers are on the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    texts = {
        "for example",
        "where",
        "preferred is",
        "license",
        "what is wrong",
        "what to do",
        "severity",
        *text_columns,
    }
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 or column in texts else "right", overflow="fold")
    return table
