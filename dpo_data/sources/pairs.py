"""Any table with the columns prompt, chosen and rejected, named so or mapped with --map; text or lists of messages.

Without a prompt column, the prompt is the longest shared run of turns of the two message lists or transcripts. Other
texts need a prompt column: where two texts start to differ is not where a prompt ends, and is often inside a word.
"""

from typing import Any

from pydantic import ValidationError

from dpo_data.dialogue import TURN_START, as_messages
from dpo_data.errors import RowError
from dpo_data.records import FIELDS, ConversationalPair, PreferencePair, TextPair
from dpo_data.sources import hh_rlhf
from dpo_data.sources.fields import FieldMap, Row, as_row_error, lookup, missing, number
from dpo_data.sources.responses import require_response, split_dialogues
from dpo_data.sources.source import RowContents, Source, SourceOptions

SCORES = ("chosen_score", "rejected_score", "margin")


def adapt(row: Row, options: SourceOptions) -> PreferencePair:
    """Return the pair of a raw row.

    Raises: RowError: missing_field, wrong_type, prompts_diverge, no_response; for transcripts without a prompt also
        the errors of hh-rlhf.
    """
    mapping = options.mapping
    fields = {field: lookup(row, mapping.get(field, field)) for field in (*FIELDS, *SCORES)}
    for field in ("chosen", "rejected"):
        if fields[field] is None:
            raise missing(row, mapping.get(field, field))
    if fields["prompt"] is None and ("prompt" in mapping or "prompt" in row):
        raise missing(row, mapping.get("prompt", "prompt"))
    scores: dict[str, Any] = {score: number(fields[score], score) for score in SCORES}
    chosen_score, rejected_score = scores["chosen_score"], scores["rejected_score"]
    if scores["margin"] is None and chosen_score is not None and rejected_score is not None:
        scores["margin"] = chosen_score - rejected_score
    if all(isinstance(fields[field], str) for field in ("chosen", "rejected")):
        return _text_pair(fields, options, scores)
    if options.form == "text":
        raise RowError("wrong_type", "chosen", "chosen or rejected is not a string, but the form is text.")
    return _conversational_pair(fields, scores)


def _text_pair(fields: dict[str, Any], options: SourceOptions, scores: dict[str, Any]) -> PreferencePair:
    prompt, chosen, rejected = (fields[field] for field in FIELDS)
    if prompt is None:
        if not (TURN_START.match(chosen) and TURN_START.match(rejected)):
            message = "there is no prompt, and chosen and rejected are not transcripts that contain one."
            raise RowError("missing_field", "prompt", message)
        pair = hh_rlhf.adapt(fields, options)
        return pair.model_copy(update=scores)
    if not isinstance(prompt, str):
        raise RowError("wrong_type", "prompt", f"prompt is {type(prompt).__name__}, but the responses are strings.")
    if options.form == "text":
        return TextPair(prompt=prompt, chosen=chosen, rejected=rejected, **scores)
    messages, (chosen_messages, rejected_messages) = as_messages(prompt, [chosen, rejected])
    return ConversationalPair(prompt=messages, chosen=chosen_messages, rejected=rejected_messages, **scores)


def _conversational_pair(fields: dict[str, Any], scores: dict[str, Any]) -> ConversationalPair:
    prompt = fields["prompt"]
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    try:
        pair = ConversationalPair(
            # A missing prompt is filled in below, but the model requires at least one message.
            prompt=_without_nulls("prompt", prompt if prompt is not None else _first(fields["chosen"])),
            chosen=_without_nulls("chosen", fields["chosen"]),
            rejected=_without_nulls("rejected", fields["rejected"]),
            **scores,
        )
    except ValidationError as error:
        raise as_row_error(error) from error
    chosen, rejected = pair.chosen, pair.rejected
    if prompt is not None:
        length = len(pair.prompt)
        repeated = [side[:length] == pair.prompt for side in (chosen, rejected)]
        if all(repeated):
            # Both sides repeat the prompt.
            return _split(pair, length)
        if any(repeated):
            raise RowError("prompts_diverge", "prompt", "only one of chosen and rejected starts with the prompt.")
        return _split(pair, 0)
    start = len(split_dialogues(chosen, rejected)[0])
    return _split(pair.model_copy(update={"prompt": chosen[:start]}), start)


def _first(messages: Any) -> Any:
    return messages[:1] if isinstance(messages, list) else messages


def _without_nulls(field: str, messages: Any) -> Any:
    """Return messages without their null fields, which a table adds to every message if one message has them.

    Raises: RowError: wrong_type, if a message has fields besides role and content, such as tool calls, which only
        sources with `has_tools` keep.
    """
    if not isinstance(messages, list):
        return messages
    plain = [{k: v for k, v in m.items() if v is not None} if isinstance(m, dict) else m for m in messages]
    for index, message in enumerate(plain):
        for name in message if isinstance(message, dict) else ():
            if name not in ("role", "content"):
                path = f"{field}.{index}.{name}"
                raise RowError("wrong_type", path, f"{path}: extra inputs are not permitted.")
    return plain


def _split(pair: ConversationalPair, start: int) -> ConversationalPair:
    """Return the pair with the first `start` messages removed from both responses."""
    chosen, rejected = pair.chosen[start:], pair.rejected[start:]
    for field, response in (("chosen", chosen), ("rejected", rejected)):
        require_response(field, response)
    return pair.model_copy(update={"chosen": chosen, "rejected": rejected})


def check_file(row: Row, options: SourceOptions) -> str | None:
    """Return the reason to refuse lists of messages in text form."""
    if options.form == "text" and isinstance(lookup(row, options.mapping.get("chosen", "chosen")), list):
        return "the responses are lists of messages, not text.\n  Convert them with --form conversational."
    return None


def contents(row: Row, mapping: FieldMap) -> RowContents | None:
    """Return the prompt and the responses of a row, or None if it lacks one."""
    prompt, *sides = (lookup(row, mapping.get(field, field)) for field in FIELDS)
    if any(side is None for side in sides):
        return None
    if prompt is None and all(isinstance(side, str) for side in sides):
        return RowContents("\n\n", sides) if all(TURN_START.match(side) for side in sides) else None
    return RowContents(prompt, sides)


def looks_like(row: Row) -> bool:
    """Return True if the sides are strings with a prompt, transcripts, or lists of messages."""
    sides = [row["chosen"], row["rejected"]]
    if all(isinstance(side, str) for side in sides):
        return "prompt" in row or all(TURN_START.match(side) for side in sides)
    return all(isinstance(side, list) for side in sides)


SOURCE = Source(
    name="pairs",
    license="unknown",
    homepage="",
    direction="as the columns say",
    columns=("chosen", "rejected"),
    adapt=adapt,
    optional=("prompt", *SCORES),
    looks_like=looks_like,
    check_file=check_file,
    contents=contents,
    comes_in_pairs=True,
    has_scores=True,
    mapped_fields=(*FIELDS, *SCORES),
)
