"""The command convert."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpo_data.cli.options import (
    CHECKS,
    INPUT,
    OUTPUT,
    PAIRING,
    PREPARED,
    TOKENS,
    AxisOption,
    CacheDirOption,
    ChatTemplateKwargsOption,
    ChatTemplateOption,
    DelimiterOption,
    EncodingOption,
    InputFormatOption,
    KeepSystemOption,
    LabelMapOption,
    MapOption,
    MaxLengthOption,
    MaxPromptLengthOption,
    OnOverlongOption,
    TemplateDateOption,
    TokenizerEngineOption,
    TruncationModeOption,
    TruncationUnitOption,
    WhereOption,
    WorkersOption,
    cores,
    parse_label_map,
    parse_mapping,
    read_template,
    tokens_json,
)
from dpo_data.cli.runner import JsonOption, QuietOption, VerboseOption, choices, print_json, progress
from dpo_data.errors import TooManyInvalid
from dpo_data.options import (
    DEFAULT_MAX_LENGTH,
    DEFAULT_MAX_ROW_BYTES,
    Form,
    FormChoice,
    OnError,
    Pairing,
    SplitName,
    Tie,
    parse_share,
    parse_template_arguments,
)
from dpo_data.sources import SOURCES

if TYPE_CHECKING:
    from dpo_data.prepared.manifest import Manifest
    from dpo_data.tokens.cache import TokenCache


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help=f"One of: {', '.join(SOURCES)}.",
            show_default=False,
            autocompletion=lambda: list(SOURCES),
        ),
    ],
    input: Annotated[
        list[str],
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="File, folder, archive, glob, URL, or - for standard input (repeatable).",
            show_default="the source's files on the Hugging Face Hub",
            rich_help_panel=INPUT,
        ),
    ] = [],  # noqa: B006
    sample: Annotated[
        bool,
        typer.Option("--sample", help="Read the small sample that ships with the package.", rich_help_panel=INPUT),
    ] = False,
    input_format: InputFormatOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    max_row_bytes: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Refuse text files with a row of more bytes, so that memory stays bounded.",
            rich_help_panel=INPUT,
        ),
    ] = DEFAULT_MAX_ROW_BYTES,
    map: MapOption = [],  # noqa: B006
    label_map: LabelMapOption = [],  # noqa: B006
    where: WhereOption = None,
    axis: AxisOption = None,
    revision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Branch, tag or commit of the files on the Hub.",
            show_default="the latest",
            rich_help_panel=INPUT,
        ),
    ] = None,
    split: Annotated[
        SplitName | None,
        typer.Option(
            metavar=choices(SplitName),
            help="Put all rows in this split; of the Hub files, read only this split.",
            show_default="read from each path",
            rich_help_panel=INPUT,
        ),
    ] = None,
    train_on_eval: Annotated[
        bool,
        typer.Option("--train-on-eval", help="Allow an evaluation set as training data.", rich_help_panel=INPUT),
    ] = False,
    test_fraction: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Share of the prompts to put in the test split, whatever the paths say.",
            rich_help_panel=INPUT,
        ),
    ] = 0.0,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Stop after this many rows.", rich_help_panel=INPUT)
    ] = None,
    pairing: Annotated[
        Pairing | None,
        typer.Option(
            metavar=choices(Pairing),
            help="Which pairs to form from K responses to one prompt.",
            show_default="best-worst",
            rich_help_panel=PAIRING,
        ),
    ] = None,
    min_margin: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Minimum difference of the two scores or ranks.",
            show_default="0",
            rich_help_panel=PAIRING,
        ),
    ] = None,
    tie: Annotated[
        Tie | None,
        typer.Option(
            metavar=choices(Tie),
            help="What to do with ties. `keep` keeps them in raw-row order.",
            show_default="drop",
            rich_help_panel=PAIRING,
        ),
    ] = None,
    max_pairs_per_prompt: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Maximum pairs per prompt, preferring the largest margins.",
            show_default="all",
            rich_help_panel=PAIRING,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Seed of --pairing random.", show_default="0", rich_help_panel=PAIRING),
    ] = None,
    on_error: Annotated[
        OnError,
        typer.Option(
            metavar=choices(OnError),
            help="Quarantine invalid rows, or stop at the first one.",
            rich_help_panel=CHECKS,
        ),
    ] = "quarantine",
    max_invalid: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            help="Reject the dataset (exit status 1) if more than this share of rows is invalid.",
            rich_help_panel=CHECKS,
        ),
    ] = "5%",
    forbid: Annotated[
        list[str],
        typer.Option(metavar="CODE", help="Quarantine rows with this finding (repeatable).", rich_help_panel=CHECKS),
    ] = [],  # noqa: B006
    allow: Annotated[
        list[str],
        typer.Option(metavar="CODE", help="Only warn about this finding (repeatable).", rich_help_panel=CHECKS),
    ] = [],  # noqa: B006
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write.", rich_help_panel=OUTPUT)
    ] = PREPARED,
    form: Annotated[
        FormChoice,
        typer.Option(
            "--form",
            "-f",
            metavar=choices(FormChoice),
            help="Write strings, or lists of {role, content} messages. `auto` is text, except for tables of your own "
            "whose strings are turns of a dialogue.",
            rich_help_panel=OUTPUT,
        ),
    ] = "auto",
    keep: Annotated[
        list[str],
        typer.Option(
            "--keep",
            metavar="NAME[=COLUMN][:text|number|bool]",
            help="Keep a metadata column with the pairs (repeatable).",
            rich_help_panel=OUTPUT,
        ),
    ] = [],  # noqa: B006
    redact: Annotated[
        bool,
        typer.Option(
            "--redact",
            help="Replace e-mail addresses, phone, card and account numbers and keys with [EMAIL], [PHONE], [CARD], "
            "[IBAN], [KEY]. Needs the extra `checks`.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Name of the dataset.", show_default="the source's", rich_help_panel=OUTPUT),
    ] = None,
    description: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Description for the dataset card.", rich_help_panel=OUTPUT)
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="License of the dataset, as the Hub names it: mit, cc-by-4.0, ...",
            show_default="the source's",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished folder.", rich_help_panel=OUTPUT)
    ] = False,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            "-t",
            metavar="NAME",
            help="Tokenize the result too, with this tokenizer: a folder, or a name on the Hub.",
            rich_help_panel=TOKENS,
        ),
    ] = None,
    max_length: MaxLengthOption = DEFAULT_MAX_LENGTH,
    max_prompt_length: MaxPromptLengthOption = None,
    truncation_mode: TruncationModeOption = None,
    truncation_unit: TruncationUnitOption = None,
    keep_system: KeepSystemOption = None,
    on_overlong: OnOverlongOption = "truncate",
    chat_template: ChatTemplateOption = None,
    chat_template_kwargs: ChatTemplateKwargsOption = [],  # noqa: B006
    template_date: TemplateDateOption = None,
    tokenizer_engine: TokenizerEngineOption = "auto",
    cache_dir: CacheDirOption = None,
    workers: WorkersOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    r"""Convert a raw dataset to validated pairs.

    Every row of the input either becomes prompt/chosen/rejected pairs in the output folder, or goes to its quarantine
    with the reason.

      dpo-data convert hh-rlhf --sample
      dpo-data convert hh-rlhf -i harmless-base/test.jsonl.gz -o prepared/
      dpo-data convert nectar -i data/ --pairing best-rest --max-pairs-per-prompt 3
      dpo-data convert pairs -i my.csv --map prompt=question \
          --map chosen=good --map rejected=bad
    """
    from dpo_data.conversion.convert import run
    from dpo_data.conversion.plan import make_plan
    from dpo_data.reports.terminal.convert import conversion
    from dpo_data.reports.terminal.tables import echo

    truncation: dict[str, Any] = {
        "max_length": max_length or None,
        "max_prompt_length": max_prompt_length,
        "truncation_mode": truncation_mode,
        "truncation_unit": truncation_unit,
        "keep_system": keep_system,
        "on_overlong": on_overlong,
        "chat_template": read_template(chat_template),
        "chat_template_kwargs": parse_template_arguments(chat_template_kwargs),
        "template_date": template_date,
        "max_invalid": parse_share("max_invalid", max_invalid),
        "tokenizer_engine": tokenizer_engine,
        "cache_dir": cache_dir,
    }
    if tokenizer is not None:
        from dpo_data.tokens.truncation import check_limits

        check_limits(max_length or None, max_prompt_length)
    plan = make_plan(
        source,
        input,
        sample=sample,
        form=form,
        mapping=parse_mapping(map),
        label_map=parse_label_map(label_map),
        where=where,
        axis=axis,
        revision=revision,
        split=split,
        train_on_eval=train_on_eval,
        input_format=input_format,
        encoding=encoding,
        delimiter=delimiter,
        max_row_bytes=max_row_bytes,
        test_fraction=test_fraction,
        limit=limit,
        pairing=pairing,
        min_margin=min_margin,
        tie=tie,
        max_pairs_per_prompt=max_pairs_per_prompt,
        seed=seed,
        on_error=on_error,
        max_invalid=parse_share("max_invalid", max_invalid),
        forbid=forbid,
        allow=allow,
        keep=keep,
        redact=redact,
        name=name,
        description=description,
        license=license,
    )
    loaded: Any = None

    def load_tokenizer(form: Form) -> None:
        nonlocal loaded
        if tokenizer is not None:
            from dpo_data.tokens.cache import load_encoder
            from dpo_data.tokens.options import token_options

            # What cannot be tokenized is refused before a long conversion, not after it.
            given = {
                name: truncation[name] for name in truncation.keys() - {"max_invalid", "tokenizer_engine", "cache_dir"}
            }
            encoder, _ = load_encoder(tokenizer, form, token_options(**given), truncation["chat_template"], data=output)
            loaded = encoder.tokenizer

    with progress("Converting", quiet=quiet) as show_progress:
        manifest = run(
            plan,
            output=output,
            overwrite=overwrite,
            workers=workers or cores(),
            progress=show_progress,
            on_form=load_tokenizer,
        )
    summarize = not (json or quiet)
    if summarize:
        echo(conversion(manifest, output))
    cache = None
    if loaded is not None and manifest.status == "complete":
        from dpo_data.tokens.cache import tokenize

        try:
            with progress("Tokenizing", quiet=quiet) as show_progress:
                cache = tokenize(output, tokenizer=loaded, progress=show_progress, **truncation)
        except TooManyInvalid:
            if json:
                _print_result(output, manifest, None)
            raise
        if summarize:
            from dpo_data.reports.terminal.tokenize import tokens

            echo(tokens(cache))
    if json:
        _print_result(output, manifest, cache)
    raise typer.Exit(0 if manifest.status == "complete" else 1)


def _print_result(output: Path, manifest: "Manifest", cache: "TokenCache | None") -> None:
    print_json({"path": str(output), "manifest": manifest.model_dump(mode="json"), "tokens": tokens_json(cache)})
