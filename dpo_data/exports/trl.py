"""TRL's preference format, for DPOTrainer and its relatives.

`explicit` has the columns prompt, chosen and rejected; `implicit` has whole texts or conversations in chosen and
rejected, of which TRL takes what they share at their beginning for the prompt. Scores and margin are further columns.
"""

from collections.abc import Mapping
from typing import Any

from dpo_data.exports.format import EVERYTHING, Caution, ExportFormat, Layout, Line, PairRule, Rule, margin_of
from dpo_data.exports.notation import content, context
from dpo_data.exports.rules import differ, ends_with
from dpo_data.records import PreferencePair

SCORES = {"chosen_score": "number", "rejected_score": "number", "margin": "number"}
#: TRL fails where one line has variables of the chat template and another one none.
NO_ARGUMENTS: Mapping[str, Any] = {"chat_template_kwargs": {}}
CONTEXT = {"tools": "objects", "chat_template_kwargs": "object"}


def scores(pair: PreferencePair) -> Line:
    """Return the scores and the margin that a pair has."""
    values = {"chosen_score": pair.chosen_score, "rejected_score": pair.rejected_score, "margin": margin_of(pair)}
    return {name: value for name, value in values.items() if value is not None}


def explicit(pair: PreferencePair) -> list[Line]:
    """Return the line of a pair."""
    texts = {name: content(getattr(pair, name)) for name in ("prompt", "chosen", "rejected")}
    return [{**texts, **context(pair), **scores(pair)}]


def implicit(pair: PreferencePair) -> list[Line]:
    """Return the line of a pair, whose responses begin with the prompt."""
    prompt = content(pair.prompt)
    texts = {name: prompt + content(getattr(pair, name)) for name in ("chosen", "rejected")}
    return [{**texts, **context(pair), **scores(pair)}]


def shared_beginning(chosen: Any, rejected: Any) -> int | None:
    """Return the length of the prompt that TRL finds in two texts or lists, or None if it finds a wrong one."""
    shorter = min(len(chosen), len(rejected))
    found = next((place for place in range(shorter) if chosen[place] != rejected[place]), None)
    if found is None:
        return None
    return found - 1 if found and chosen[found - 1] == " " else found


def _diverge(line: Mapping[str, Any]) -> str | None:
    if shared_beginning(line["chosen"], line["rejected"]):
        return None
    return "the sides do not begin with a prompt and then differ."


def _boundary(pair: PreferencePair) -> str | None:
    if isinstance(pair.prompt, str) and pair.prompt.endswith(" "):
        return "the prompt ends with a space, which TRL moves to the responses."
    found = shared_beginning(pair.chosen, pair.rejected)
    return None if found == 0 else "the responses begin alike, so that TRL adds their beginning to the prompt."


def has_object_arguments(line: Mapping[str, Any]) -> bool:
    """Return True if a tool call of a line has arguments as an object rather than as text."""
    messages = [m for name in ("prompt", "chosen", "rejected") if isinstance(line.get(name), list) for m in line[name]]
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    return any(isinstance(call.get("function", {}).get("arguments"), Mapping) for call in calls)


NULLS = Caution(
    "null_arguments",
    "datasets gives the arguments of every tool call the keys of all others of its file, as nulls",
    has_object_arguments,
)
ASSISTANT = tuple(ends_with(side, ("assistant",)) for side in ("chosen", "rejected"))

FORMAT = ExportFormat(
    name="trl",
    reader="TRL 1.16",
    homepage="https://huggingface.co/docs/trl/dataset_formats",
    layouts={
        "explicit": Layout(
            columns=dict.fromkeys(("prompt", "chosen", "rejected"), "text or messages"),
            optional=CONTEXT | SCORES,
            fill=NO_ARGUMENTS,
            carries=EVERYTHING,
            lines=explicit,
            forms=("text", "conversational"),
            file_formats=("jsonl", "parquet"),
            rules=(*ASSISTANT, differ("chosen", "rejected")),
            read_back="pairs",
        ),
        "implicit": Layout(
            columns=dict.fromkeys(("chosen", "rejected"), "text or messages"),
            optional=CONTEXT | SCORES,
            fill=NO_ARGUMENTS,
            carries=EVERYTHING,
            lines=implicit,
            forms=("text", "conversational"),
            file_formats=("jsonl", "parquet"),
            rules=(
                *ASSISTANT,
                Rule("no_prompt", "the sides begin with a prompt and then differ", _diverge),
            ),
            pair_rules=(PairRule("prompt_boundary", "the responses do not begin alike, one space apart", _boundary),),
            read_back="pairs",
        ),
    },
    usage='`datasets.load_dataset("json", data_files={"train": "train.jsonl"})` for `DPOTrainer(train_dataset=...)`.',
    notes=("TRL appends EOS to the responses of text pairs, and puts them after the prompt as they are.",),
    cautions=(NULLS,),
)
