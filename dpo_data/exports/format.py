"""Format of another trainer: what its lines carry, how a pair becomes lines, and the rules of its reader."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dpo_data.options import Form
from dpo_data.records import ConversationalPair, Message, PreferencePair

Line = dict[str, Any]

#: What a model would read or a loss would use, and a format may be unable to hold -> what it is, in words.
KINDS = {
    "system": "the system message",
    "turns": "the turns before the last one of the prompt",
    "response_turns": "responses of several messages",
    "tools": "the tools of the conversation",
    "tool_calls": "tool calls and their results",
    "tool_call_ids": "the ids of tool calls, and the names of the tools that answered",
    "tool_call_text": "the text beside a tool call",
    "reasoning": "the reasoning before a message",
    "template_arguments": "the variables of the chat template",
    "scores": "the scores or the margin",
}
#: Kinds without which a pair would be another conversation: such a pair is left out.
STRUCTURAL = frozenset(["turns", "response_turns", "tool_calls"])
CONVERSATION = frozenset(["system", "turns", "response_turns"])
TOOLS = frozenset(["tools", "tool_calls", "tool_call_ids", "tool_call_text"])
EVERYTHING = frozenset(KINDS)


class Rule(NamedTuple):
    """A rule of a reader about a line.

    Attributes:
        code: stable name of the rule in counts.
        text: the rule in words.
        check: returns what is wrong with a line whose columns have the right types, or None.
    """

    code: str
    text: str
    check: Callable[[Mapping[str, Any]], str | None]


class PairRule(NamedTuple):
    """A rule of a reader that shows in a pair, but no longer in its line; see `Rule`."""

    code: str
    text: str
    check: Callable[[PreferencePair], str | None]


class Caution(NamedTuple):
    """Something that the reader does silently to some lines, which are counted.

    Attributes:
        code: stable name in counts.
        text: what the reader does, in words.
        applies: returns True for a line that it does it to.
    """

    code: str
    text: str
    applies: Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Layout:
    """One layout of the lines of a format.

    Attributes:
        columns: column that every line has -> its type, a key of `dpo_data.exports.rules.TYPES`.
        carries: the keys of `KINDS` that a line holds.
        lines: returns the lines of a pair, without what the layout does not carry.
        optional: columns that a line may have -> their types.
        fill: column -> value in lines without one, where the folder has the column.
        forms: forms of the pairs that it can hold.
        file_formats: jsonl, and parquet where every column has one type.
        rules: of the reader, about lines.
        pair_rules: of the reader, about pairs.
        lines_per_pair: lines of a pair of which none is left out.
        read_back: options of `dpo-data convert` that read the lines back; empty if there are no pairs in them.
    """

    columns: Mapping[str, str]
    carries: frozenset[str]
    lines: Callable[[PreferencePair], list[Line]]
    optional: Mapping[str, str] = field(default_factory=dict)
    fill: Mapping[str, Any] = field(default_factory=dict)
    forms: tuple[Form, ...] = ("conversational",)
    file_formats: tuple[str, ...] = ("jsonl",)
    rules: tuple[Rule, ...] = ()
    pair_rules: tuple[PairRule, ...] = ()
    lines_per_pair: int = 1
    read_back: str = ""


class Exported(NamedTuple):
    """A finished export, from which side files are made.

    Attributes:
        name: of the dataset.
        layout: name of the layout.
        files: split -> name of its file.
        columns: columns that at least one line has, in the order of their first lines.
    """

    name: str
    layout: str
    files: Mapping[str, str]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class ExportFormat:
    """Format of another trainer or service.

    Attributes:
        name: name on the command line.
        reader: the program that reads it, with the version whose rules these are.
        homepage: where the format is documented.
        layouts: name -> layout; the first is the default.
        usage: how the reader is pointed to the files, in one or two sentences.
        notes: what the reader does to all lines without saying so.
        cautions: what the reader does to some lines without saying so.
        min_lines: minimum number of lines in a file.
        max_bytes: maximum size of a file, or None.
        side_files: returns name -> content of further files.
    """

    name: str
    reader: str
    homepage: str
    layouts: Mapping[str, Layout]
    usage: str
    notes: tuple[str, ...] = ()
    cautions: tuple[Caution, ...] = ()
    min_lines: int = 1
    max_bytes: int | None = None
    side_files: Callable[[Exported], Mapping[str, str]] = lambda exported: {}


def kinds_of(pair: PreferencePair) -> set[str]:
    """Return the keys of `KINDS` that a pair has."""
    kinds = {"scores"} if (pair.chosen_score, pair.rejected_score, pair.margin) != (None, None, None) else set()
    if not isinstance(pair, ConversationalPair):
        return kinds
    kinds |= {"tools"} if pair.tools else set()
    kinds |= {"template_arguments"} if pair.chat_template_kwargs else set()
    roles = [message.role for message in pair.prompt]
    kinds |= {"system"} if "system" in roles else set()
    kinds |= {"turns"} if len(roles) - roles.count("system") > 1 else set()
    kinds |= {"response_turns"} if max(len(pair.chosen), len(pair.rejected)) > 1 else set()
    for message in (*pair.prompt, *pair.chosen, *pair.rejected):
        kinds |= _kinds_of_message(message)
    return kinds


def _kinds_of_message(message: Message) -> set[str]:
    kinds = {"reasoning"} if message.reasoning_content or message.thinking else set()
    if message.role == "tool" or message.tool_calls:
        kinds.add("tool_calls")
    if message.tool_call_id or message.name or '"id":' in (message.tool_calls or ""):
        kinds.add("tool_call_ids")
    if message.tool_calls and message.content:
        kinds.add("tool_call_text")
    return kinds


def margin_of(pair: PreferencePair) -> float | None:
    """Return by how much chosen is better: the margin, or else the difference of the scores."""
    if pair.margin is None and pair.chosen_score is not None and pair.rejected_score is not None:
        return pair.chosen_score - pair.rejected_score
    return pair.margin
