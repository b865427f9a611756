"""Unpaired feedback in the layouts of KTO: a prompt, one completion, and a label that says if it was good.

A pair needs a prompt with both labels: a good completion scores 1, a bad one 0. Rows of one prompt may be anywhere in a
file, which is therefore held in memory; rows of different files are not combined. Prompt and completion may be one
dialogue: messages, conversations of {from, value}, or a completion that begins with the prompt; what follows its last
user message is the completion. The label is true or false, 1 or 0, or "desirable" or "undesirable".
Layouts as read by TRL (prompt, completion, label), by LLaMA-Factory (messages and label, conversations or instruction,
input and output with kto_tag; data/README.md and kto_en_demo.json), by ms-swift (messages and label) and by axolotl
(question or instruction, and system; prompt_strategies/kto).
"""

import json
from collections.abc import Hashable
from functools import partial

from dpo_data.errors import RowError
from dpo_data.records import Content, Message, Response, ScoredResponses
from dpo_data.sources.fields import FieldMap, Row, json_objects, lookup, missing, optional_text
from dpo_data.sources.labels import label_text
from dpo_data.sources.messages import messages
from dpo_data.sources.responses import assistant, merge_rows, require_response, user
from dpo_data.sources.source import Grouping, RowContents, Source, SourceOptions

FIELDS = ("prompt", "completion", "label")
LABELS = ("label", "kto_tag", "desirable")
DIALOGUES = ("messages", "conversations")
PROMPTS = ("prompt", "question", "instruction")
COMPLETIONS = ("completion", "output")
#: Columns of prompt and completion; a completion may hold both.
CONTENTS = (
    *((prompt, "output") for prompt in PROMPTS),
    *((name,) for name in ("completion", *DIALOGUES)),
)
SCORES = {"true": 1.0, "1": 1.0, "desirable": 1.0, "false": 0.0, "0": 0.0, "undesirable": 0.0}


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the prompt with its completion.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    column = _column(row, options.mapping, "label", LABELS)
    label = label_text(lookup(row, column), column)
    if label is None:
        raise missing(row, column)
    score = SCORES.get(label.lower())
    if score is None:
        raise RowError("wrong_type", column, f"{column} is {label!r}, not one of {', '.join(SCORES)}.")
    prompt, completion = _contents(row, options.mapping)
    tools = json_objects(row.get("tools"), "tools")
    return ScoredResponses(prompt=prompt, responses=[Response(content=completion, score=score)], tools=tools)


def _column(row: Row, mapping: FieldMap, field: str, names: tuple[str, ...]) -> str:
    """Return the column of a field: the mapped one, or the first name that the row has."""
    return mapping.get(field) or next((name for name in names if name in row), field)


def _contents(row: Row, mapping: FieldMap) -> tuple[Content, Content]:
    """Return the prompt and the completion: both texts or both messages.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    dialogue = next((name for name in DIALOGUES if name in row), None)
    if dialogue is not None and not mapping:
        return _split(messages(row[dialogue], dialogue), dialogue)
    names = {
        name: _column(row, mapping, name, names) for name, names in (("prompt", PROMPTS), ("completion", COMPLETIONS))
    }
    prompt, completion = lookup(row, names["prompt"]), lookup(row, names["completion"])
    if completion is None:
        raise missing(row, names["completion"])
    content = completion if isinstance(completion, str) else messages(completion, names["completion"])
    if not isinstance(content, str) and content and content[0].role != "assistant":
        return _split(content, names["completion"])  # it begins with the prompt
    if prompt is None:
        raise missing(row, names["prompt"])
    start: Content = _text(prompt, row) if isinstance(prompt, str) else messages(prompt, names["prompt"])
    if system := optional_text(row, "system"):
        turns = [user(start)] if isinstance(start, str) else start
        start = [Message(role="system", content=system), *turns]
    if isinstance(start, str) and isinstance(content, str):
        return start, content
    content = [assistant(content)] if isinstance(content, str) else content
    require_response(names["completion"], content)
    return ([user(start)] if isinstance(start, str) else start), content


def _text(prompt: str, row: Row) -> str:
    """Return a prompt with the input of an instruction."""
    return "\n".join(filter(None, (prompt, optional_text(row, "input")))) if "instruction" in row else prompt


def _split(dialogue: list[Message], path: str) -> tuple[Content, Content]:
    """Return a dialogue as its prompt and the completion, which follows the last user or tool message."""
    start = len(dialogue)
    while start > 0 and dialogue[start - 1].role == "assistant":
        start -= 1
    require_response(path, dialogue[start:])
    if start == 0:
        raise RowError("missing_field", path, f"{path} has no message before the completion.")
    return dialogue[:start], dialogue[start:]


def group_key(row: Row, options: SourceOptions) -> Hashable:
    """Return the prompt in a hashable form, or None if it cannot be read."""
    try:
        prompt, _ = _contents(row, options.mapping)
    except RowError:
        return None
    return prompt if isinstance(prompt, str) else json.dumps([message.model_dump() for message in prompt])


def contents(row: Row, mapping: FieldMap) -> RowContents | None:
    """Return the prompt and the completion of a row, or None if it lacks either."""
    try:
        prompt, completion = _contents(row, mapping)
    except RowError:
        return None
    return RowContents(prompt, [completion])


def looks_like(row: Row) -> bool:
    """Return True if the row has a label that can be read, and a prompt and a completion."""
    try:
        adapt(row, SourceOptions())
    except RowError as error:
        return error.field == "label" and {"prompt", "completion"} <= set(row)
    return True


def reads(row: Row, mapping: FieldMap) -> tuple[str, ...]:
    """Return the columns of a row that its pair depends on."""
    names = (("prompt", PROMPTS), ("completion", COMPLETIONS), ("label", LABELS))
    return (
        *DIALOGUES,
        "system",
        "input",
        "tools",
        *(_column(row, mapping, field, columns) for field, columns in names),
    )


SOURCE = Source(
    name="kto",
    license="unknown",
    homepage="https://huggingface.co/docs/trl/dataset_formats#unpaired-preference",
    direction="label (or kto_tag, desirable) true over false of the same prompt",
    columns=(),
    layouts=tuple((*columns, label) for label in LABELS for columns in CONTENTS),
    adapt=adapt,
    looks_like=looks_like,
    reads=reads,
    contents=contents,
    has_scores=True,
    has_tools=True,
    mapped_fields=FIELDS,
    grouping=Grouping(group_key, partial(merge_rows, adapt=adapt), buffer_whole_file=True),
    tested_on="300 real rows (LLaMA-Factory kto_en_demo.json) and golden rows",
)
