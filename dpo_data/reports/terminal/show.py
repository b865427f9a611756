"""Terminal output of `dpo-data show`: a pair as texts with a word diff or as tokens, matches, pairs of a run."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dpo_data.excerpts import around, beginning, ending, one_line
from dpo_data.inspect.pair_tokens import DisplayedPair, DisplayToken
from dpo_data.inspect.pairs import PairAt
from dpo_data.inspect.run_pairs import JudgedPair
from dpo_data.inspect.search import SearchResult
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.records import ConversationalRow, Message
from dpo_data.reports.terminal.tables import named_values, plain_table, with_diff
from dpo_data.word_diff import word_diff

CHOSEN, REJECTED = "bold green", "bold red"
#: Characters of a text in a list of matches, and in a list of pairs of a run.
EXCERPT_CHARACTERS = 60
JUDGED_CHARACTERS = 600


def search_result(found: SearchResult, sought: str | None = None) -> RenderableType:
    """Return a single match in full, or a list of several.

    Args:
        found: at least one match.
        sought: text that was searched for, to show around its first occurrence.
    """
    if found.pairs_found + found.quarantined_found > 1:
        return _matches(found, sought)
    if found.pairs:
        return pair(found.pairs[0], found.tokens)
    return quarantined_row(found.quarantined[0])


def _matches(found: SearchResult, sought: str | None) -> RenderableType:
    parts: list[RenderableType] = []
    if found.pairs:
        table = plain_table("pair", "id", "origin", "text", text_columns={"id", "origin", "text"})
        table.columns[1].no_wrap = True
        for shown in found.pairs:
            excerpt = _excerpt(shown.row.texts, sought)
            table.add_row(f"{shown.split}:{shown.index}", shown.row.id, Text(shown.row.origin), Text(excerpt))
        parts += [table, *_more(found.pairs_found, len(found.pairs), "pairs")]
    if found.quarantined:
        table = plain_table("in quarantine", "because", "text", text_columns={"because", "text"})
        for row in found.quarantined:
            excerpt = _excerpt(("", row.raw), sought)
            table.add_row(Text(f"{row.file}:{row.line}"), Text(f"{row.message} [{row.code}]"), Text(excerpt))
        parts += [table, *_more(found.quarantined_found, len(found.quarantined), "rows in quarantine")]
    return Group(*parts)


def _excerpt(texts: Sequence[str], sought: str | None) -> str:
    """Return the words around what was searched for, or else the beginning of the chosen response, on one line."""
    for text in texts if sought else ():
        if excerpt := around(text, sought or "", EXCERPT_CHARACTERS):
            return excerpt
    return one_line(texts[1])[:EXCERPT_CHARACTERS]


def _more(found: int, shown: int, what: str) -> list[RenderableType]:
    return [Text(f"{found:,} {what}; the first {shown} are shown.", style="dim")] if found > shown else []


def pair(shown: PairAt, tokens: DisplayedPair | None = None) -> RenderableType:
    """Return a pair with its origin: as text, or as the tokens that the trainer uses."""
    row = shown.row
    values = [("pair", f"{shown.split}:{shown.index}"), ("id", row.id), ("origin", row.origin), ("source", row.source)]
    scores = ((name, getattr(row, name)) for name in ("chosen_score", "rejected_score", "margin"))
    values += [(name.replace("_", " "), f"{value:g}") for name, value in scores if value is not None]
    return Group(named_values(values), *(_as_text(shown) if tokens is None else _as_tokens(tokens)))


def quarantined_row(row: QuarantinedRow) -> RenderableType:
    """Return a raw row that was not kept, with the reason."""
    reason = f"{row.message} [{row.code}]"
    values = [("in quarantine", f"{row.file}:{row.line}"), ("because", reason), ("what to do", row.hint)]
    return Group(named_values(values), Text(row.raw, style="dim"))


def _as_text(shown: PairAt) -> Iterator[RenderableType]:
    row = shown.row
    yield Text("\nprompt", style="bold")
    if isinstance(row, ConversationalRow):
        yield from (_turn(message) for message in row.prompt)
    else:
        yield Text(row.prompt.strip("\n"), style="dim")
    chosen, rejected = word_diff(*row.texts[1:])
    yield Text("")
    yield _sides(with_diff(chosen, CHOSEN), with_diff(rejected, REJECTED))


def _turn(message: Message) -> RenderableType:
    return Text.assemble((f"{message.role}: ", "bold dim"), ("\n".join(message.texts), "dim"))


def _as_tokens(tokens: DisplayedPair) -> Iterator[RenderableType]:
    yield Text("")
    yield Text(_token_count("prompt", tokens.prompt), style="bold")
    yield _token_text(tokens.prompt, "dim")
    yield Text("")
    yield _sides(
        _token_text(tokens.chosen, ""),
        _token_text(tokens.rejected, ""),
        _token_count("chosen", tokens.chosen),
        _token_count("rejected", tokens.rejected),
    )
    if tokens.dropped:
        yield Text(f"Training does not use this pair: {tokens.dropped}.", style="bold yellow")
    if tokens.message:
        yield Text(f"The chat template: {tokens.message}")
    elif tokens.cache:
        yield Text(f"Token cache {tokens.cache} has exactly these ids.", style="green")
    yield Text("│ ends a token; ⟦…⟧ is truncated; ⟨…⟩ is a special token.", style="dim")


def _token_count(side: str, tokens: Sequence[DisplayToken]) -> str:
    truncated = sum(not token.kept for token in tokens)
    return f"{side}: {len(tokens) - truncated:,} tokens" + (f", {truncated:,} truncated" if truncated else "")


def _token_text(tokens: Sequence[DisplayToken], style: str) -> Text:
    """Return tokens with their boundaries; truncated ones are struck through, and in brackets for lack of color."""
    text = Text()
    for index, token in enumerate(tokens):
        before = tokens[index - 1].kept if index else True
        after = tokens[index + 1].kept if index + 1 < len(tokens) else True
        # The boundary is marked before the line break, next to its token.
        written = token.text.replace("\n", "↵\n").removesuffix("\n")
        if not token.kept:
            text.append("⟦" if before else "", style="red")
            text.append(written, style="strike red")
            text.append("⟧" if after else "│", style="dim red")
        elif token.special:
            text.append(f"⟨{token.text}⟩", style="bold magenta")
        else:
            text.append(written, style=style)
            text.append("│", style="dim cyan")
        text.append("\n" if token.text.endswith("\n") else "")
    return text


def judged_pairs(pairs: Sequence[JudgedPair]) -> RenderableType:
    """Return pairs, chosen next to rejected, each under its margin and origin."""
    parts: list[RenderableType] = []
    for rank, judged in enumerate(pairs, 1):
        head = (
            f"{rank}. margin {judged.margin:+.3f}   {judged.split}, step {judged.step}   {judged.origin}   {judged.id}"
        )
        parts += [Text(head, style="bold"), Text(ending(judged.prompt.strip(), JUDGED_CHARACTERS), style="dim")]
        chosen, rejected = (
            beginning(text.strip(), JUDGED_CHARACTERS) for text in (judged.chosen, judged.rejected)
        )  # fmt: skip
        parts += [_sides(Text(chosen), Text(rejected), expand=False), Text("")]
    disagree = sum(judged.margin < 0 for judged in pairs)
    parts.append(Text(f"{disagree} of these {len(pairs)} pairs have a negative margin: the model prefers rejected."))
    return Group(*parts)


def _sides(
    chosen: Text,
    rejected: Text,
    chosen_title: str = "chosen",
    rejected_title: str = "rejected",
    *,
    expand: bool = True,
) -> RenderableType:
    sides = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=expand)
    sides.add_column(Text(chosen_title, style=CHOSEN), ratio=1, overflow="fold")
    sides.add_column(Text(rejected_title, style=REJECTED), ratio=1, overflow="fold")
    for text in (chosen, rejected):
        text.rstrip()
    sides.add_row(chosen, rejected)
    return sides
