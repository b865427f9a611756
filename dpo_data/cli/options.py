"""Options that several commands of dpo-data have, and the conversion of their values."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpo_data.cli.runner import choices
from dpo_data.errors import UsageError, reading
from dpo_data.options import SIDES, Axis, InputFormat, OnOverlong, TokenizerEngine, TruncationMode, TruncationUnit

if TYPE_CHECKING:
    from dpo_data.tokens.cache import TokenCache

#: The output of convert where --output is left out, and the input of the commands that read it.
PREPARED = Path("prepared")

#: Sections of --help.
INPUT, PAIRING, CHECKS = "Input", "Pairing of scored or ranked responses", "Checks"
OUTPUT, TOKENS = "Output", "Tokens"

PreparedArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="A prepared folder.")]

MapOption = Annotated[
    list[str],
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN",
        help="Column of a field, dotted for nested columns (repeatable). For the sources pairs and ranked.",
        rich_help_panel=INPUT,
    ),
]
LabelMapOption = Annotated[
    list[str],
    typer.Option(
        metavar="VALUE=SIDE",
        help="What a label means: the answer a or b is better, tie, or skip to leave the row out (repeatable). For the "
        "source two-answers.",
        rich_help_panel=INPUT,
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        metavar="EXPRESSION",
        help="Keep only rows whose raw columns meet this condition, such as 'score >= 2 and lang == \"en\"'. "
        "The others are left out and counted.",
        rich_help_panel=INPUT,
    ),
]
InputFormatOption = Annotated[
    InputFormat | None,
    typer.Option(
        metavar=choices(InputFormat),
        help="Format of the input.",
        show_default="inferred from name and content",
        rich_help_panel=INPUT,
    ),
]
EncodingOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Encoding of text files, such as cp1252 or utf-16.",
        show_default="UTF-8, or what a byte order mark says",
        rich_help_panel=INPUT,
    ),
]
DelimiterOption = Annotated[
    str | None,
    typer.Option(
        metavar="CHARACTER",
        help="Delimiter of CSV and TSV files; `tab` for a tab.",
        show_default="comma, semicolon, tab or |, whichever the header has",
        rich_help_panel=INPUT,
    ),
]
AxisOption = Annotated[
    Axis | None,
    typer.Option(metavar=choices(Axis), help="Judgment to use, for sources with more than one.", rich_help_panel=INPUT),
]
TokenizerOption = typer.Option("--tokenizer", "-t", metavar="NAME", rich_help_panel=TOKENS)
MaxLengthOption = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Maximum tokens in the prompt plus its longer response; 0 disables truncation.",
        rich_help_panel=TOKENS,
    ),
]
MaxPromptLengthOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Maximum prompt tokens when a pair exceeds --max-length.",
        show_default="whatever the responses leave",
        rich_help_panel=TOKENS,
    ),
]
TruncationModeOption = Annotated[
    TruncationMode | None,
    typer.Option(
        metavar=choices(TruncationMode),
        help="Which end of a truncated prompt to keep.",
        show_default="keep_end",
        rich_help_panel=TOKENS,
    ),
]
TruncationUnitOption = Annotated[
    TruncationUnit | None,
    typer.Option(
        metavar=choices(TruncationUnit),
        help="Drop whole turns from the beginning of a prompt that is too long, or cut tokens only.",
        show_default="turn for conversations, token with --max-prompt-length or --truncation-mode",
        rich_help_panel=TOKENS,
    ),
]
TokenizerEngineOption = Annotated[
    TokenizerEngine,
    typer.Option(
        metavar=choices(TokenizerEngine),
        help="Library that encodes; auto: the faster fastokens for much text, where it gives the ids of tokenizers.",
        rich_help_panel=TOKENS,
    ),
]
KeepSystemOption = Annotated[
    bool | None,
    typer.Option(
        "--keep-system/--no-keep-system",
        help="Keep the system message when whole turns are dropped.",
        show_default="keep",
        rich_help_panel=TOKENS,
    ),
]
OnOverlongOption = Annotated[
    OnOverlong,
    typer.Option(
        metavar=choices(OnOverlong), help="What to do with pairs that exceed --max-length.", rich_help_panel=TOKENS
    ),
]
ChatTemplateOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Jinja chat template for conversational data.",
        show_default="the tokenizer's",
        rich_help_panel=TOKENS,
    ),
]
ChatTemplateKwargsOption = Annotated[
    list[str],
    typer.Option(
        "--chat-template-kwargs",
        metavar="NAME=VALUE",
        help="Variable that the chat template gets, as in enable_thinking=false (repeatable).",
        rich_help_panel=TOKENS,
    ),
]
TemplateDateOption = Annotated[
    str | None,
    typer.Option(
        metavar="YYYY-MM-DD",
        help="Day that the chat template takes for today.",
        show_default="that of the folder's first token cache, or today",
        rich_help_panel=TOKENS,
    ),
]
CacheDirOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Folder of the token caches.", show_default="the prepared folder", rich_help_panel=TOKENS
    ),
]
DeepOption = Annotated[
    bool,
    typer.Option(
        "--deep",
        help="Also check for near-duplicates, mixed languages and personal data. Needs the extra `checks`.",
        rich_help_panel=CHECKS,
    ),
]
AgainstOption = Annotated[
    list[str],
    typer.Option(
        metavar="FILE",
        help="Evaluation set whose texts must not appear in the data (repeatable).",
        rich_help_panel=CHECKS,
    ),
]
ByOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="Also give the numbers by the value of a metadata column that convert --keep kept."
    ),
]
WorkersOption = Annotated[
    int, typer.Option(min=0, metavar="N", help="Number of processes.", show_default="one per core")
]


def parse_mapping(words: list[str]) -> dict[str, str]:
    """Return the columns of the fields from words like prompt=question."""
    mapping = {}
    for word in words:
        field, equals, column = word.partition("=")
        if not (field and equals):
            raise UsageError("must be FIELD=COLUMN, as in --map prompt=question.", "mapping", word)
        mapping[field] = column
    return mapping


def parse_label_map(words: list[str]) -> dict[str, str]:
    """Return the side of each label from words like 1=a or a=1; a label may contain equals signs."""
    labels = {}
    for word in words:
        label, equals, side = word.rpartition("=") if word.rpartition("=")[2] in SIDES else word.partition("=")
        if not (label and equals and side):
            raise UsageError(f"must be VALUE={'|'.join(SIDES)}, as in --label-map 1=a.", "label_map", word)
        if side not in SIDES:
            label, side = side, label
        if label in labels:
            raise UsageError("is given twice.", "label_map", word)
        labels[label] = side
    return labels


def read_template(path: Path | None) -> str | None:
    """Return the text of a chat template."""
    if path is None:
        return None
    with reading(path):
        return path.read_text(encoding="utf-8")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tokens_json(cache: "TokenCache | None") -> dict[str, Any] | None:
    """Return a token cache for --json."""
    if cache is None:
        return None
    aside = None if cache.set_aside is None else str(cache.set_aside)
    return {
        "path": str(cache.path),
        "hit": cache.hit,
        "set_aside": aside,
        "manifest": cache.manifest.model_dump(mode="json"),
    }
