"""Any table with the columns prompt, chosen and rejected, named so or mapped with --map; text or messages.

Further fields, where a row has them: a system text; a history of [question, answer] pairs or of turns; an input that is
appended to the column `instruction`, as LLaMA-Factory does; tools; arguments of the chat template; scores. Messages may
be in any notation of `dpo_data.sources.messages`, one message instead of a list, or strings beside messages.

Without a prompt column, the prompt is the longest shared run of turns of the two message lists or transcripts. Other
texts need a prompt column: where two texts start to differ is not where a prompt ends, and is often inside a word.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from dpo_data.dialogue import TURN_START, as_messages, is_transcript, shared_prompt
from dpo_data.errors import RowError
from dpo_data.records import FIELDS, ConversationalPair, Message, PreferencePair, TextPair, without_nulls
from dpo_data.sources import hh_rlhf
from dpo_data.sources.fields import FieldMap, Row, as_object, json_objects, lookup, missing, number, optional_text
from dpo_data.sources.messages import ROLE_KEYS, from_text, message, messages, tools_in, written_messages
from dpo_data.sources.responses import assistant, require_response, split_dialogues, user
from dpo_data.sources.source import RowContents, Source, SourceOptions

SIDES = ("chosen", "rejected")
SCORES = ("chosen_score", "rejected_score", "margin")
CONTEXT = ("system", "history", "input", "tools", "chat_template_kwargs")
#: Names of the column of a field, if it is not named otherwise.
NAMES = {
    "system": ("system", "system_prompt", "system_message"),
    "history": ("history", "chat_history", "conversation_history"),
}
#: Columns of instructions, to which an input belongs.
INSTRUCTIONS = ("instruction", "instructions")
#: Keys of the question and the answer in a history of objects.
TURN_KEYS = (("user", "assistant"), ("human", "assistant"), ("question", "answer"), ("prompt", "response"))

Value = TypeVar("Value")


class Context(NamedTuple):
    """Parts of a row that precede or accompany its prompt."""

    system: str
    history: list[Message]
    input: str
    tools: str | None
    chat_template_kwargs: str | None

    @property
    def is_conversation(self) -> bool:
        """True if there is something that only a chat template can render."""
        return bool(self.history or self.tools or self.chat_template_kwargs)


def adapt(row: Row, options: SourceOptions) -> PreferencePair:
    """Return the pair of a raw row.

    Raises: RowError: missing_field, wrong_type, unknown_role, media_content, prompts_diverge, no_response,
        no_text_form; for transcripts without a prompt also the errors of hh-rlhf.
    """
    columns = _columns(row, options.mapping)
    for field, names in NAMES.items():
        if field not in options.mapping:
            _require_one(row, field, names)
    values = {field: lookup(row, column) for field, column in columns.items()}
    for side in SIDES:
        if values[side] is None:
            raise missing(row, columns[side])
    prompt, chosen, rejected = (written_messages(values[field], columns[field]) for field in FIELDS)
    are_texts = isinstance(chosen, str) and isinstance(rejected, str)
    are_lists = isinstance(chosen, list) and isinstance(rejected, list)
    are_transcripts = are_texts and is_transcript(chosen) and is_transcript(rejected)
    if prompt == "" and (are_lists or are_transcripts):
        prompt = None
    if prompt is None and not (are_lists or are_transcripts) and ("prompt" in options.mapping or "prompt" in row):
        raise missing(row, columns["prompt"])
    scores = _scores(values)
    context = _context(values, columns)
    if context.input and isinstance(prompt, str):
        prompt = f"{prompt}\n{context.input}"
    if are_texts and prompt is None:
        prompt, chosen, rejected = _split_transcripts(chosen, rejected)
    elif are_transcripts and isinstance(prompt, str):
        prompt, chosen, rejected = _without_repeated_prompt(prompt, chosen, rejected)
    if options.form == "text":
        if not are_texts:
            raise RowError("wrong_type", "chosen", "chosen or rejected is not a string, but the form is text.")
        if not isinstance(prompt, str):
            kind = type(prompt).__name__
            raise RowError("wrong_type", "prompt", f"prompt is {kind}, but the responses are strings.")
        return TextPair(prompt=_text_prompt(prompt, context), chosen=chosen, rejected=rejected, **scores)
    tools = context.tools or json_objects(tools_in(prompt), f"{columns['prompt']}.tools")
    if prompt is not None and not isinstance(prompt, str):
        prompt = messages(prompt, columns["prompt"])
    sides = [
        side if isinstance(side, str) else messages(side, columns[name])
        for name, side in zip(SIDES, (chosen, rejected), strict=True)
    ]
    turns, (first, second) = as_messages([] if prompt is None else prompt, sides)
    turns, first, second = _without_prompt(turns, first, second)
    return ConversationalPair(
        prompt=_with_context(turns, context),
        chosen=first,
        rejected=second,
        tools=tools,
        chat_template_kwargs=context.chat_template_kwargs,
        **scores,
    )


def _columns(row: Row, mapping: FieldMap) -> dict[str, str]:
    """Return the column of each field that a row may have: the mapped one, or the one of that name.

    A column that is mapped to one field is not used for another one that has its name.
    """
    columns = {field: mapping.get(field, field) for field in (*FIELDS, *SCORES)}
    taken = set(columns.values())
    for field in CONTEXT:
        names = [name for name in NAMES.get(field, (field,)) if name in row and name not in taken]
        if field == "input" and columns["prompt"].lower() not in INSTRUCTIONS:
            names = []
        if mapping.get(field):
            columns[field] = mapping[field]
        elif names and field not in mapping:
            columns[field] = next((name for name in names if row[name]), names[0])
    return columns


def _require_one(row: Row, field: str, names: Sequence[str]) -> None:
    """Raise RowError if a row has different values under several names of a field."""
    filled = [name for name in names if row.get(name)]
    if any(row[name] != row[filled[0]] for name in filled):
        hint = f"Name the right one: --map {field}=COLUMN."
        raise RowError("wrong_type", filled[1], f"the row has {' and '.join(filled)}, which differ.", hint)


def _scores(values: Mapping[str, Any]) -> dict[str, float | None]:
    scores = {score: number(values.get(score), score) for score in SCORES}
    chosen_score, rejected_score = scores["chosen_score"], scores["rejected_score"]
    if scores["margin"] is None and chosen_score is not None and rejected_score is not None:
        scores["margin"] = chosen_score - rejected_score
    return scores


def _context(values: Mapping[str, Any], columns: FieldMap) -> Context:
    """Return the context in the values of the fields of a row.

    Raises: RowError: wrong_type, unknown_role, media_content or missing_field, with the way to leave the column out.
    """

    def read(field: str, parse: Callable[[Any, str], Value], nothing: Value) -> Value:
        value = values.get(field)
        if value is None or value == "" or (isinstance(value, str) and value.isspace()):
            return nothing
        try:
            return parse(value, columns[field])
        except RowError as error:
            hint = f"If {columns[field]} is not part of the conversation, leave it out: --map {field}="
            raise RowError(error.code, error.field, error.message, hint) from error

    return Context(
        system=read("system", _text, ""),
        history=read("history", _history, []),
        input=read("input", _text, ""),
        tools=read("tools", lambda value, path: json_objects(from_text(value), path), None),
        chat_template_kwargs=read("chat_template_kwargs", _arguments, None),
    )


def _text(value: Any, path: str) -> str:
    return optional_text({path: value}, path)


def _arguments(value: Any, path: str) -> str | None:
    """Return an object as JSON without null keys, which a table adds; None if it is empty."""
    arguments = without_nulls(as_object(from_text(value), path))
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":")) if arguments else None


def _history(value: Any, path: str) -> list[Message]:
    """Return the turns before the prompt: messages, [question, answer] pairs or objects, or texts that take turns."""
    turns = from_text(written_messages(value, path))
    if not isinstance(turns, list):
        raise RowError("wrong_type", path, f"{path} is {type(turns).__name__}, not a list of turns.")
    if turns and len(turns) % 2 == 0 and all(isinstance(turn, str) for turn in turns):
        turns = [list(turn) for turn in zip(turns[::2], turns[1::2], strict=True)]
    found: list[Message] = []
    for index, turn in enumerate(turns):
        if isinstance(turn, Mapping) and any(key in turn for key in ROLE_KEYS):
            found.append(message(turn, f"{path}.{index}"))
            continue
        if isinstance(turn, Mapping):
            keys = next((keys for keys in TURN_KEYS if set(keys) <= set(turn)), ())
            turn = [turn[key] for key in keys]
        if not (isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
            raise RowError("wrong_type", f"{path}.{index}", f"{path}.{index} is not [question, answer].")
        found += [user(turn[0]), assistant(turn[1])]
    return found


def _split_transcripts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Return the prompt and the responses of two transcripts.

    Raises: RowError: missing_field, if they are not transcripts, and the errors of hh-rlhf.
    """
    if all(TURN_START.match(side) for side in (chosen, rejected)):
        return hh_rlhf.adapt({"chosen": chosen, "rejected": rejected}, SourceOptions("text")).texts
    if not (is_transcript(chosen) and is_transcript(rejected)):
        message = "there is no prompt, and chosen and rejected are not transcripts that contain one."
        raise RowError("missing_field", "prompt", message)
    start = shared_prompt(chosen, rejected)
    if not start:
        raise RowError("prompts_diverge", "", "chosen and rejected differ before their last Assistant turns.")
    return chosen[:start], chosen[start:], rejected[start:]


def _without_repeated_prompt(prompt: str, chosen: str, rejected: str) -> tuple[str, str, str]:
    """Return the prompt and the responses of two transcripts that contain the prompt; other texts unchanged."""
    try:
        start, first, second = _split_transcripts(chosen, rejected)
    except RowError:  # responses that only begin like transcripts, or that a check warns about
        return prompt, chosen, rejected
    contains_prompt = bool(prompt.strip()) and prompt.strip() in start
    return (start, first, second) if contains_prompt else (prompt, chosen, rejected)


def _text_prompt(prompt: str, context: Context) -> str:
    """Return a text prompt after its system text.

    Raises: RowError: no_text_form.
    """
    for part in ("history", "tools", "chat_template_kwargs"):
        if getattr(context, part):
            raise RowError("no_text_form", part, f"the row has {part}.")
    separator = "" if prompt.startswith("\n") else "\n\n"
    return f"{context.system}{separator}{prompt}" if context.system else prompt


def _without_prompt(
    prompt: list[Message], chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Return the prompt and the responses of a row whose responses may begin with the prompt.

    Raises: RowError: missing_field, prompts_diverge or no_response.
    """
    if not prompt:
        if not any(message.role == "user" for message in (*chosen, *rejected)):
            raise RowError("missing_field", "prompt", "there is no message before the responses.")
        return split_dialogues(chosen, rejected)
    length = len(prompt)
    repeated = [side[:length] == prompt for side in (chosen, rejected)]
    if all(repeated):
        chosen, rejected = chosen[length:], rejected[length:]
    elif any(repeated):
        raise RowError("prompts_diverge", "prompt", "only one of chosen and rejected starts with the prompt.")
    elif all(any(message.role == "user" for message in side) for side in (chosen, rejected)):
        # Whole dialogues, of which the prompt is only the end: a system message may come before it.
        whole, *sides = split_dialogues(chosen, rejected)
        if whole[-length:] == prompt:
            prompt, (chosen, rejected) = whole, sides
    for side, response in zip(SIDES, (chosen, rejected), strict=True):
        require_response(side, response)
    return prompt, chosen, rejected


def _with_context(prompt: list[Message], context: Context) -> list[Message]:
    """Return a prompt after its system text and its history.

    Raises: RowError: wrong_type, if the row has two system texts.
    """
    system = prompt[:1] if prompt[0].role == "system" else []
    if context.system and system and system[0].content.strip() != context.system.strip():
        raise RowError("wrong_type", "system", "the row has a system text, and another system message in its prompt.")
    if context.system and not system:
        return [Message(role="system", content=context.system), *context.history, *prompt]
    return [*system, *context.history, *prompt[len(system) :]]


def check_file(row: Row, options: SourceOptions) -> str | None:
    """Return the reason to refuse messages in text form."""
    chosen = written_messages(lookup(row, options.mapping.get("chosen", "chosen")), "chosen")
    if options.form == "text" and isinstance(chosen, list | Mapping):
        return "the responses are lists of messages, not text.\n  Convert them with --form conversational."
    return None


def contents(row: Row, mapping: FieldMap) -> RowContents | None:
    """Return the prompt and the responses of a row, or None if it lacks one."""
    columns = _columns(row, mapping)
    try:
        values = {field: lookup(row, column) for field, column in columns.items()}
        prompt, *sides = (written_messages(values[field], columns[field]) for field in FIELDS)
    except RowError:
        return None
    try:
        is_conversation = _context(values, columns).is_conversation
    except RowError:  # the row is invalid in either form
        is_conversation = False
    if any(side is None for side in sides):
        return None
    if prompt is None and all(isinstance(side, str) for side in sides):
        return RowContents("\n\n", sides) if all(map(is_transcript, sides)) else None
    return RowContents([prompt] if is_conversation else prompt, sides)


def looks_like(row: Row) -> bool:
    """Return True if the sides are strings or messages with a prompt, transcripts, or lists of messages."""
    sides = [row["chosen"], row["rejected"]]
    if all(isinstance(side, str) for side in sides):
        return "prompt" in row or all(map(is_transcript, sides))
    return all(
        isinstance(side, list)
        or (isinstance(side, Mapping) and "messages" in side)
        or ("prompt" in row and isinstance(side, str | Mapping))
        for side in sides
    )


def reads(row: Row, mapping: FieldMap) -> tuple[str, ...]:
    """Return the columns of a row that its pair depends on."""
    others = [name for field, names in NAMES.items() if field not in mapping for name in names if name in row]
    return (*_columns(row, mapping).values(), *others)


SOURCE = Source(
    name="pairs",
    license="unknown",
    homepage="",
    direction="as the columns say",
    columns=SIDES,
    adapt=adapt,
    looks_like=looks_like,
    check_file=check_file,
    contents=contents,
    reads=reads,
    comes_in_pairs=True,
    has_scores=True,
    has_tools=True,
    mapped_fields=(*FIELDS, *SCORES, *CONTEXT, "id"),
    omittable_fields=CONTEXT,
)
