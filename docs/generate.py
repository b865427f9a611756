"""Generator of the reference pages: sources, checks, losses, command lines and schemas, from the registries.

    python docs/generate.py

writes docs/reference/*.md anew; tests/test_docs.py fails where a committed page differs.
"""

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unicodedata import is_normalized

import typer.main

from dpo_data.checks import (
    CONTAMINATION,
    DATASET_CHECKS,
    DEEP_DATASET_CHECKS,
    DEEP_ROW_CHECKS,
    ROW_CHECKS,
    DatasetCheck,
    RowCheck,
)
from dpo_data.cli.app import app as data_app
from dpo_data.cli.runner import CONTEXT, is_example, option_sections
from dpo_data.errors import ROW_ERRORS
from dpo_data.exports import EXPORTS, load_export
from dpo_data.exports.format import KINDS, ExportFormat, Layout
from dpo_data.inspect.validation import validate
from dpo_data.options import Form
from dpo_data.readers.rows import READER_WARNINGS
from dpo_data.records import TextPair
from dpo_data.schemas import SCHEMAS, json_schema
from dpo_data.sources import SOURCES, load_source
from dpo_data.sources.source import Source
from dpo_data.tokens.dropped import DroppedRow
from dpo_data.tokens.manifest import TokensManifest
from dpo_train import losses
from dpo_train.cli import app as train_app

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py: do not edit. -->"

SOURCES_INTRO = """\
`dpo-data convert` reads these {count} sources; `dpo-data sources` lists them. Without `--input`, the files on the
Hugging Face Hub are read where the command below allows it; `--revision` pins them and `--split` selects among them.

"Golden rows" means that the adapter has been tested only on synthetic rows that follow the dataset's schema, odd rows
included; neither real files nor the Hub file names have been checked. "In the layout of a real row" means that a row of
the dataset was read, and the golden rows written like it. Licenses are those of the dataset cards as far as
known; read the card before you publish."""
NOT_INCLUDED = """\
## Not included

The columns of these datasets could not be confirmed: allenai/tulu-2.5-preference-data and mlabonne/orpo-dpo-mix-40k.
The axis config of summarize_from_feedback rates one summary per row in several aspects. RLAIF-V needs images, and
lm-human-preferences holds token ids.
The turn markers of helpsteer2's multi-turn prompts were only partly verified: a prompt without them stays one user
message."""
CHECKS_INTRO = """\
Codes are stable. An *error* puts the row in quarantine; a *warning* is counted, and the pair is kept. `--forbid CODE`
and `--allow CODE` of `convert` change the severity of the checks of one pair.

## Unreadable rows

Rows that cannot become a pair at all go to quarantine under one of these codes."""
READER_INTRO = """\
## Doubtful rows

Rows that can be read, but perhaps not as they are meant, are counted under one of these codes, and kept."""
EXPORTS_INTRO = """\
`dpo-data export FORMAT` writes these formats; [Exporting](../exporting.md) explains loss and balance. The first layout
of a format is the default of `--layout`. A rule is named by the code under which its pairs are counted."""
LOSSES_INTRO = """\
`dpo-train --loss NAME` selects a loss; the default is `sigmoid`, the loss of DPO. An option that the loss does not have
is refused."""
LOSSES_NOTATION = """\
In the equations below, s is the logistic function, c and r are the log-ratios of the chosen and rejected response
(log-probability under the policy less that under the reference), b is `--beta`, and |.| is a number of tokens."""
SCHEMAS_INTRO = """\
The fields of the files that `dpo-data` writes. `dpo-data schema` writes them as JSON Schema (draft 2020-12), with a
real example of each; the repository's `schemas/` folder holds the result. The two files of a token cache, at the end of
this page, are not among them."""
#: Longest summary of a command, in characters.
WIDTH = 200


def pages() -> dict[str, str]:
    """Return the text of each generated page by file name."""
    return {
        "sources.md": sources_page(),
        "checks.md": checks_page(),
        "exports.md": exports_page(),
        "losses.md": losses_page(),
        "dpo-data.md": command_page("dpo-data", typer.main.get_command(data_app)),
        "dpo-train.md": command_page("dpo-train", typer.main.get_command(train_app)),
        "schemas.md": schemas_page(),
    }


def write() -> None:
    """Write all pages."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


# Sources


def sources_page() -> str:
    """Return the page of all sources, in the order of the registry."""
    sources = [load_source(name) for name in SOURCES]
    table = _table(
        ("source", "preferred response", "license", "tested on"),
        ((f"[`{s.name}`](#{s.name})", s.direction, _license(s), s.tested_on) for s in sources),
    )
    return _page(
        "Sources",
        SOURCES_INTRO.format(count=len(sources)),
        table,
        *(_source(source) for source in sources),
        NOT_INCLUDED,
    )


def _source(source: Source) -> str:
    optional = [column for column in dict.fromkeys(source.optional) if column not in source.columns]
    facts = [
        f"Columns: {_codes(source.columns)}." if source.columns else "",
        f"Columns of one layout: {'; '.join(_codes(names) for names in source.layouts)}." if source.layouts else "",
        f"Optional columns: {_codes(optional)}." if optional else "",
        f"License: {_license(source)}.",
        f"Homepage: <{source.homepage}>." if source.homepage else "",
        f"`--map` accepts {_codes(source.mapped_fields)}." if source.mapped_fields else "",
        "`--label-map` says what a label means." if source.takes_labels else "",
        f"`--axis` must be one of {_codes(source.axes)}." if source.axes else "",
        "Evaluation only: its rows go to the test split unless you pass `--train-on-eval`." if source.eval_only else "",
    ]
    return "\n\n".join(
        [
            f"## {source.name}",
            _prose(inspect.getdoc(import_module(SOURCES[source.name])) or ""),
            _code(source.command, "bash"),
            "\n".join(f"- {fact}" for fact in facts if fact),
        ]
    )


def _license(source: Source) -> str:
    return f"{source.license}, evaluation only" if source.eval_only else source.license


# Checks


def checks_page() -> str:
    """Return the page of all codes of quarantine and checks."""
    runs = (
        ("Checks of one pair", "`convert` and `validate`", ROW_CHECKS),
        ("Checks of a dataset", "`convert` and `validate`", DATASET_CHECKS),
        ("Deep checks of one pair", "`validate --deep` and `report --deep`", DEEP_ROW_CHECKS),
        ("Deep checks of a dataset", "`validate --deep` and `report --deep`", DEEP_DATASET_CHECKS),
        ("Contamination", "`validate --against` and `report --against`", (CONTAMINATION,)),
    )
    sections = []
    for title, commands, checks in runs:
        sections += [f"## {title}", f"Run by {commands}.", *(_check(check) for check in checks)]
    return _page(
        "Checks",
        CHECKS_INTRO,
        _hints(ROW_ERRORS),
        READER_INTRO,
        _hints(READER_WARNINGS),
        *sections,
    )


def _hints(hints: Mapping[str, str]) -> str:
    return _table(("code", "what to do"), ((f"`{code}`", hint) for code, hint in hints.items()))


def _check(check: RowCheck | DatasetCheck) -> str:
    rows, finding = _example(check)
    return "\n\n".join(
        [
            f"### {check.code}",
            f"*{getattr(check, 'severity', 'warning').capitalize()}*: {_escape(check.summary)}.",
            _escape(check.hint),
            _code("\n".join(rows), "json"),
            _code(finding, "text"),
        ]
    )


def _example(check: RowCheck | DatasetCheck) -> tuple[list[str], str]:
    """Return the raw rows of a check's example, and the finding of `validate` in the last of them."""
    dataset = check.example if isinstance(check, DatasetCheck) else {"train": (check.example,)}
    lines = []
    first = next(pair for pairs in dataset.values() for pair in pairs)
    form: Form = "text" if isinstance(first, TextPair) else "conversational"
    with TemporaryDirectory() as scratch:
        raw, evaluation = Path(scratch) / "raw", Path(scratch) / "evaluation.txt"
        raw.mkdir()
        evaluation.write_text(CONTAMINATION.example.prompt, encoding="utf-8")
        for split, pairs in dataset.items():
            rows = [_json_line(pair.model_dump(exclude_none=True)) for pair in pairs]
            (raw / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
            lines += rows
        found = validate(
            raw, source="pairs", form=form, deep=True, against=[evaluation] if check is CONTAMINATION else []
        )
    return lines, found.findings[check.code].examples[-1].removeprefix("raw/")


def _json_line(row: dict[str, Any]) -> str:
    """Return a row as JSON; characters that look like others are escaped."""
    line = json.dumps(row, ensure_ascii=False)
    return line if line.isprintable() and is_normalized("NFC", line) and "\ufffd" not in line else json.dumps(row)


# Exports


def exports_page() -> str:
    """Return the page of all export formats, in the order of the registry."""
    formats = [load_export(name) for name in EXPORTS]
    table = _table(
        ("format", "reader", "layouts", "forms"),
        (
            (
                f"[`{each.name}`](#{each.name})",
                each.reader,
                _codes(each.layouts),
                ", ".join(dict.fromkeys(form for layout in each.layouts.values() for form in layout.forms)),
            )
            for each in formats
        ),
    )
    return _page("Export formats", EXPORTS_INTRO, table, *(_export(each) for each in formats))


def _export(format_: ExportFormat) -> str:
    facts = [
        f"Reader: {format_.reader}, <{format_.homepage}>.",
        format_.usage,
        f"Minimum lines in a file: {format_.min_lines}." if format_.min_lines > 1 else "",
        f"Maximum bytes of a file: {format_.max_bytes:,}." if format_.max_bytes else "",
        *format_.notes,
        *(f"Counted as `{caution.code}`: {caution.text}." for caution in format_.cautions),
    ]
    return "\n\n".join(
        [
            f"## {format_.name}",
            _prose(inspect.getdoc(import_module(EXPORTS[format_.name])) or ""),
            _code(f"dpo-data export {format_.name} prepared/ --output {format_.name}/", "bash"),
            "\n".join(f"- {_escape(fact)}" for fact in facts if fact),
            *(_layout(name, layout) for name, layout in format_.layouts.items()),
        ]
    )


def _layout(name: str, layout: Layout) -> str:
    lost = [text for kind, text in KINDS.items() if kind not in layout.carries]
    facts = [
        f"Columns: {', '.join(f'`{column}` ({type_})' for column, type_ in layout.columns.items())}.",
        f"Optional columns: {', '.join(f'`{column}` ({type_})' for column, type_ in layout.optional.items())}."
        if layout.optional
        else "",
        f"Forms: {', '.join(layout.forms)}. Files: {', '.join(layout.file_formats)}.",
        f"Cannot hold: {'; '.join(lost)}." if lost else "",
        f"Read back by `dpo-data convert {layout.read_back}`." if layout.read_back else "",
        *(f"Rule `{rule.code}`: {rule.text}." for rule in (*layout.rules, *layout.pair_rules)),
    ]
    return "\n\n".join([f"### Layout `{name}`", "\n".join(f"- {fact}" for fact in facts if fact)])


# Losses


def losses_page() -> str:
    """Return the page of all losses with their options."""
    table = _table(
        ("loss", "options", "reference model"),
        (
            (
                f"[`{name}`](#{name})",
                _codes(_flag(option) for option in losses.options_of(loss)) or "none",
                "yes" if losses.needs_reference(loss) else "no",
            )
            for name, loss in losses.LOSSES.items()
        ),
    )
    return _page(
        "Losses",
        LOSSES_INTRO,
        table,
        LOSSES_NOTATION,
        *(_loss(name, loss) for name, loss in losses.LOSSES.items()),
    )


def _loss(name: str, loss: Any) -> str:
    parameters = inspect.signature(loss).parameters
    options = ((f"`{_flag(option)}`", f"`{parameters[option].default}`") for option in losses.options_of(loss))
    return "\n\n".join(
        [
            f"## {name}",
            _prose(_without_sections(inspect.getdoc(loss) or "")),
            f"Inputs: {_codes(losses.inputs_of(loss))}.",
            *([_table(("option", "default"), options)] if losses.options_of(loss) else []),
        ]
    )


def _without_sections(text: str) -> str:
    """Return a docstring without its Args and Returns."""
    return "\n\n".join(part for part in text.split("\n\n") if not part.startswith(("Args:", "Returns:")))


# Command lines


def command_page(name: str, command: Any) -> str:
    """Return the page of a program: its --help, and that of each of its commands."""
    commands = {sub: each for sub, each in getattr(command, "commands", {}).items() if not each.hidden}
    parts = list(_help(name, command))
    if commands:
        links = ((f"[`{sub}`](#{name}-{sub})", each.get_short_help_str(WIDTH)) for sub, each in commands.items())
        parts += ["**Commands**", _table(("command", "effect"), links)]
    parts.append(_one_line(command.epilog))
    for sub, each in commands.items():
        parts += [f"## {name} {sub}", *_help(f"{name} {sub}", each)]
    return _page(name, *parts)


def _help(name: str, command: Any) -> Iterator[str]:
    """Yield usage, description, examples and options."""
    yield _code(_usage(name, command), "text")
    for paragraph in inspect.cleandoc(command.help).split("\n\n"):
        yield _code(inspect.cleandoc(paragraph), "bash") if is_example(paragraph) else _escape(_one_line(paragraph))
    context = command.make_context(name, [], resilient_parsing=True, **CONTEXT)
    for title, rows in option_sections(command, context).items():
        yield f"**{title}**"
        header = "argument" if title == "Arguments" else "option"
        yield _table((header, "effect"), ((_option_names(names), _escape(_one_line(text))) for names, text in rows))


def _usage(name: str, command: Any) -> str:
    """Return the usage line; older versions of typer have no brackets around optional arguments."""
    words = [name, "[OPTIONS]", *(["COMMAND [ARGS]..."] if hasattr(command, "commands") else [])]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            word = (parameter.metavar or parameter.name.upper()) + ("..." if parameter.nargs == -1 else "")
            words.append(word if parameter.required else f"[{word}]")
    return " ".join(words)


#: Characters that Markdown would read inside of <code>.
_ENTITIES = {ord(character): f"&#{ord(character)};" for character in "|[]"}


def _option_names(text: str) -> str:
    """Return names as code; GitHub and the site disagree about a vertical bar between backquotes in a table."""
    return ", ".join(
        f"<code>{name.translate(_ENTITIES)}</code>" if "|" in name else f"`{name}`" for name in text.split(", ")
    )


# Schemas


def schemas_page() -> str:
    """Return the page of all JSON Schemas with an example of the short ones."""
    sections: list[str] = []
    described: set[str] = set()
    schemas = {name: json_schema(name) for name in SCHEMAS} | {
        "token-cache-manifest": TokensManifest.model_json_schema(),
        "dropped-pair": DroppedRow.model_json_schema(),
    }
    for name, schema in schemas.items():
        sections += [f"## {name}", *_model(schema)]
        for part, definition in schema.get("$defs", {}).items():
            if part not in described and "properties" in definition:
                described.add(part)
                sections += [f"### {part}", *_model(definition)]
        if name in SCHEMAS and not name.endswith(("report", "comparison")):
            sections += ["Example:", _code(f'--8<-- "schemas/{name}.example.json"', "json")]
    return _page(
        "Schemas",
        SCHEMAS_INTRO,
        *sections,
    )


def _model(schema: dict[str, Any]) -> Iterator[str]:
    if description := schema.get("description"):
        yield _prose(description)
    required = set(schema.get("required", ()))
    yield _table(
        ("field", "type", "description"),
        (
            (
                f"`{name}`" + ("" if name in required else " (optional)"),
                _type(field),
                _escape(field.get("description", "")),
            )
            for name, field in schema["properties"].items()
        ),
    )


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a field in words."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return "any" if name == "JsonValue" else f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        items = schema.get("prefixItems")
        return f"[{', '.join(map(_type, items))}]" if items else f"list of {_type(schema.get('items', {}))}"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"object of {_type(values)}"
    return str(schema.get("type", "any"))


# Markdown


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([NOTE, f"# {title}", *parts]) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _prose(text: str) -> str:
    """Return the paragraphs of a docstring as Markdown; indented blocks stay as they are."""
    paragraphs = text.replace("``", "`").split("\n\n")
    return "\n\n".join(part if part.startswith("    ") else _escape(_one_line(part)) for part in paragraphs)


def _escape(text: str) -> str:
    """Return text whose special characters Markdown shows as they are; parts in backquotes stay code."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):
        for character in ("\\", "*", "<", "[", "|", "#"):
            parts[index] = parts[index].replace(character, f"\\{character}")
    return "`".join(parts)


if __name__ == "__main__":
    write()
