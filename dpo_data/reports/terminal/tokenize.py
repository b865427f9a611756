"""Terminal output of `dpo-data tokenize`."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from dpo_data.reports.phrases import token_remarks
from dpo_data.reports.terminal.tables import plain_table
from dpo_data.tokens.cache import TokenCache
from dpo_data.tokens.engines import DIFFERENCE
from dpo_data.tokens.manifest import TokensManifest


def tokens(cache: TokenCache) -> RenderableType:
    """Return what `tokenize` made or found, and what it truncated."""
    manifest = cache.manifest
    options = manifest.options
    state = "already there (hit)" if cache.hit else "made"
    limit = "nothing is cut" if options.max_length is None else f"max length {options.max_length}"
    prompt_limit = "" if options.max_prompt_length is None else f", max prompt length {options.max_prompt_length}"
    unit = ", by turns" if options.truncation_unit == "turn" else ""
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
    aside = [Text(f"A damaged cache was moved to {cache.set_aside}.", style="yellow")] if cache.set_aside else []
    return Group(
        *aside,
        Text(f"Tokens {state}: {manifest.tokenizer.name}, {limit}{prompt_limit}, {options.truncation_mode}{unit}"),
        table,
        *_dropped(manifest),
        *(Text(line) for line in token_remarks(manifest)),
        *_engine(cache),
        Text(f"Token cache: {cache.path}", style="bold"),
    )


def _engine(cache: TokenCache) -> Iterable[RenderableType]:
    """Yield that the faster library was left because its ids differed."""
    if DIFFERENCE in cache.tokenizer_engine:
        yield Text(f"Encoded by {cache.tokenizer_engine}.", style="yellow")


def _with_tokens(texts: int, lost: int) -> str:
    return f"{texts:,} (−{lost:,} tokens)" if texts else "0"


def _dropped(manifest: TokensManifest) -> Iterable[RenderableType]:
    lines = [
        f"{rows:,} pairs of {name} dropped: {reason}"
        + (f": {counts.refusals[reason]}" if reason in counts.refusals else "")
        for name, counts in manifest.splits.items()
        for reason, rows in counts.dropped.items()
    ]
    return [Text("\n".join(lines), style="yellow")] if lines else []
