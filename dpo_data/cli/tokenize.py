"""The command tokenize."""

from typing import Annotated

import typer

from dpo_data.cli.options import (
    CHECKS,
    PREPARED,
    TOKENS,
    CacheDirOption,
    ChatTemplateKwargsOption,
    ChatTemplateOption,
    KeepSystemOption,
    MaxLengthOption,
    MaxPromptLengthOption,
    OnOverlongOption,
    PreparedArgument,
    TemplateDateOption,
    TokenizerEngineOption,
    TruncationModeOption,
    TruncationUnitOption,
    read_template,
    tokens_json,
)
from dpo_data.cli.runner import JsonOption, QuietOption, VerboseOption, print_json, progress
from dpo_data.options import DEFAULT_MAX_INVALID, DEFAULT_MAX_LENGTH, parse_share, parse_template_arguments


def tokenize(
    tokenizer: Annotated[
        str,
        typer.Option(
            "--tokenizer",
            "-t",
            metavar="NAME",
            help="Folder of a tokenizer, or its name on the Hub.",
            show_default=False,
            rich_help_panel=TOKENS,
        ),
    ],
    path: PreparedArgument = PREPARED,
    max_length: MaxLengthOption = DEFAULT_MAX_LENGTH,
    max_prompt_length: MaxPromptLengthOption = None,
    truncation_mode: TruncationModeOption = None,
    truncation_unit: TruncationUnitOption = None,
    keep_system: KeepSystemOption = None,
    on_overlong: OnOverlongOption = "truncate",
    chat_template: ChatTemplateOption = None,
    chat_template_kwargs: ChatTemplateKwargsOption = [],  # noqa: B006
    template_date: TemplateDateOption = None,
    max_invalid: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            help="Make no cache if the chat template refuses more than this share of the pairs.",
            rich_help_panel=CHECKS,
        ),
    ] = f"{DEFAULT_MAX_INVALID:.0%}",
    tokenizer_engine: TokenizerEngineOption = "auto",
    cache_dir: CacheDirOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Tokenize and truncate a prepared folder.

    The token ids go to a cache, from which dpo-train reads them as they are.

      dpo-data tokenize -t MODEL
      dpo-data tokenize prepared/ -t MODEL --max-length 512 --max-prompt-length 128
    """
    from dpo_data.reports.terminal.tables import echo
    from dpo_data.reports.terminal.tokenize import tokens
    from dpo_data.tokens.cache import tokenize as tokenize_

    with progress("Tokenizing", quiet=quiet) as show_progress:
        cache = tokenize_(
            path,
            tokenizer=tokenizer,
            max_length=max_length or None,
            max_prompt_length=max_prompt_length,
            truncation_mode=truncation_mode,
            truncation_unit=truncation_unit,
            keep_system=keep_system,
            on_overlong=on_overlong,
            chat_template=read_template(chat_template),
            chat_template_kwargs=parse_template_arguments(chat_template_kwargs),
            template_date=template_date,
            max_invalid=parse_share("max_invalid", max_invalid),
            tokenizer_engine=tokenizer_engine,
            cache_dir=cache_dir,
            progress=show_progress,
        )
    if json:
        print_json(tokens_json(cache))
    elif not quiet:
        echo(tokens(cache))
