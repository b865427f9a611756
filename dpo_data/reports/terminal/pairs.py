"""One pair for a terminal: side by side with a word diff, or token by token. No markup in the texts is obeyed."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dpo_data.inspect.pair_tokens import DisplayedPair, DisplayToken
from dpo_data.inspect.pairs import PairAt
from dpo_data.inspect.search import SearchResult
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.records import ConversationalRow, Message
from dpo_data.word_diff import Piece, word_diff

CHOSEN, REJECTED = "bold green", "bold red"
EXCERPT_CHARACTERS = 60


def found(content: SearchResult, sought: str | None = None) -> RenderableType:
    """What a search found: a pair or a row in full where it is alone, a list of several."""
    if content.pairs_found + content.quarantined_found > 1:
        return _list(content, sought)
    if content.pairs:
        return pair(content.pairs[0], content.tokens)
    return quarantined_row(content.quarantined[0])


def _list(content: SearchResult, sought: str | None) -> RenderableType:
    parts: list[RenderableType] = []
    if content.pairs:
        table = _plain_table("pair", "id", "origin", "text")
        for shown in content.pairs:
            excerpt = _excerpt(shown.row.texts, sought)
            table.add_row(f"{shown.split}:{shown.index}", shown.row.id, Text(shown.row.origin), Text(excerpt))
        parts += [table, *_counts(content.pairs_found, len(content.pairs), "pairs")]
    if content.quarantined:
        table = _plain_table("in quarantine", "because", "text")
        for row in content.quarantined:
            excerpt = _excerpt(("", row.raw), sought)
            table.add_row(Text(f"{row.file}:{row.line}"), Text(f"{row.message} [{row.code}]"), Text(excerpt))
        parts += [table, *_counts(content.quarantined_found, len(content.quarantined), "rows in quarantine")]
    return Group(*parts)


def pair(shown: PairAt, tokens: DisplayedPair | None = None) -> RenderableType:
    """A pair with its lineage: as text, or as the tokens that the trainer sees."""
    return Group(lineage(shown), *(_as_text(shown) if tokens is None else _as_tokens(tokens)))


def lineage(shown: PairAt) -> RenderableType:
    """Where a pair stands and where it comes from."""
    row = shown.row
    lines = [
        ("pair", f"{shown.split}:{shown.index}"),
        ("id", row.id),
        ("origin", row.origin),
        ("source", row.source),
    ]
    scores = ((name, getattr(row, name)) for name in ("chosen_score", "rejected_score", "margin"))
    lines += [(name.replace("_", " "), f"{value:g}") for name, value in scores if value is not None]
    return _named(lines)


def quarantined_row(row: QuarantinedRow) -> RenderableType:
    """A raw row that was not kept, and why."""
    return Group(
        _named(
            [
                ("in quarantine", f"{row.file}:{row.line}"),
                ("because", f"{row.message} [{row.code}]"),
                ("what to do", row.hint),
            ]
        ),
        Text(row.raw, style="dim"),
    )


def _as_text(shown: PairAt) -> Iterator[RenderableType]:
    row = shown.row
    yield Text("\nprompt", style="bold")
    if isinstance(row, ConversationalRow):
        yield from (_turn(message) for message in row.prompt)
    else:
        yield Text(row.prompt.strip("\n"), style="dim")
    _, chosen, rejected = row.texts
    ours, theirs = word_diff(chosen, rejected)
    yield Text("")
    yield _sides(_with_diff(ours, CHOSEN), _with_diff(theirs, REJECTED))


def _turn(message: Message) -> RenderableType:
    calls = f"\n{message.tool_calls}" if message.tool_calls else ""
    return Text.assemble((f"{message.role}: ", "bold dim"), (message.content + calls, "dim"))


def _with_diff(pieces: Sequence[Piece], style: str) -> Text:
    return Text.assemble(*((piece.text, style if piece.differs else "") for piece in pieces))


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
        yield Text(f"The trainer does not see this pair: {tokens.dropped}.", style="bold yellow")
    elif tokens.cache:
        yield Text(f"Token cache {tokens.cache} holds exactly these ids.", style="green")
    yield Text("│ ends a token; ⟦…⟧ is cut off; ⟨…⟩ is a special token.", style="dim")


def _token_count(side: str, tokens: Sequence[DisplayToken]) -> str:
    cut = sum(not token.kept for token in tokens)
    return f"{side}: {len(tokens) - cut:,} tokens" + (f", {cut:,} cut off" if cut else "")


def _token_text(tokens: Sequence[DisplayToken], style: str) -> Text:
    """Tokens with their boundaries; what is cut is struck through, and in brackets for where there is no colour."""
    text = Text()
    for place, token in enumerate(tokens):
        before = tokens[place - 1].kept if place else True
        after = tokens[place + 1].kept if place + 1 < len(tokens) else True
        # The mark of the boundary stands before the line break, beside its token.
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


def _sides(
    chosen: Text, rejected: Text, chosen_title: str = "chosen", rejected_title: str = "rejected"
) -> RenderableType:
    sides = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    sides.add_column(Text(chosen_title, style=CHOSEN), ratio=1, overflow="fold")
    sides.add_column(Text(rejected_title, style=REJECTED), ratio=1, overflow="fold")
    sides.add_row(_stripped(chosen), _stripped(rejected))
    return sides


def _stripped(text: Text) -> Text:
    text.rstrip()
    return text


def _named(lines: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(name, Text(value))
    return table


def _plain_table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name == "id")
    return table


def _counts(found: int, shown: int, what: str) -> list[RenderableType]:
    return [Text(f"{found:,} {what}; the first {shown} are shown.", style="dim")] if found > shown else []


def _excerpt(texts: Sequence[str], sought: str | None) -> str:
    """The words around what was sought, on one line; without it the beginning of the chosen response."""
    folded = (sought or "").lower()
    for text in texts if folded else ():
        place = text.lower().find(folded)
        if place >= 0:
            start, end = max(0, place - EXCERPT_CHARACTERS // 2), place + len(folded) + EXCERPT_CHARACTERS // 2
            cut = " ".join(text[start:end].split())
            return f"{'…' if start else ''}{cut}{'…' if end < len(text) else ''}"
    return " ".join(texts[1].split())[:EXCERPT_CHARACTERS]
