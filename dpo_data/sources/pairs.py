"""Any table with prompt, chosen and rejected, by those names or by a mapping; strings or lists of messages.

The prompt may be left out (no column of that name, none mapped): it is then the longest common run of turns of the two
message lists, or of two transcripts. Strings that are no transcripts are refused instead: a common beginning of two
texts is not a prompt, and would be cut in the middle of a word.
"""

from typing import Any

from pydantic import ValidationError

from dpo_data.dialogue import TURN_START
from dpo_data.errors import RowError
from dpo_data.records import FIELDS, ConversationalPair, Message, PreferencePair, TextPair
from dpo_data.sources import hh_rlhf
from dpo_data.sources.fields import Row, as_row_error, lookup, missing, number
from dpo_data.sources.responses import require_response, split_dialogues
from dpo_data.sources.source import Source, SourceOptions

SCORES = ("chosen_score", "rejected_score", "margin")


def adapt(row: Row, options: SourceOptions) -> PreferencePair:
    """The pair of a raw row.

    Raises: RowError: missing_field, wrong_type, prompts_diverge, no_response, and for transcripts without a prompt
        those of hh-rlhf.
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
        raise RowError("wrong_type", "chosen", "chosen or rejected is no string, and the form is text.")
    return _conversational_pair(fields, scores)


def _text_pair(fields: dict[str, Any], options: SourceOptions, scores: dict[str, Any]) -> PreferencePair:
    prompt, chosen, rejected = (fields[field] for field in FIELDS)
    if prompt is None:
        if not (TURN_START.match(chosen) and TURN_START.match(rejected)):
            message = "there is no prompt, and chosen and rejected are no transcripts to take it from."
            raise RowError("missing_field", "prompt", message)
        pair = hh_rlhf.adapt(fields, options)
        return pair.model_copy(update=scores)
    if not isinstance(prompt, str):
        raise RowError("wrong_type", "prompt", f"prompt is {type(prompt).__name__} beside responses of type str.")
    if options.form == "text":
        return TextPair(prompt=prompt, chosen=chosen, rejected=rejected, **scores)
    return ConversationalPair(
        prompt=[Message(role="user", content=prompt)],
        chosen=[Message(role="assistant", content=chosen)],
        rejected=[Message(role="assistant", content=rejected)],
        **scores,
    )


def _conversational_pair(fields: dict[str, Any], scores: dict[str, Any]) -> ConversationalPair:
    prompt = fields["prompt"]
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    try:
        pair = ConversationalPair(
            # A prompt that is left out is found below; pydantic wants one message here.
            prompt=_eager_attention("prompt", prompt if prompt is not None else _first(fields["chosen"])),
            chosen=_eager_attention("chosen", fields["chosen"]),
            rejected=_eager_attention("rejected", fields["rejected"]),
            **scores,
        )
    except ValidationError as error:
        raise as_row_error(error) from error
    chosen, rejected = pair.chosen, pair.rejected
    if prompt is not None:
        length = len(pair.prompt)
        repeated = [side[:length] == pair.prompt for side in (chosen, rejected)]
        if all(repeated):
            # Both sides hold the whole dialogue, prompt included.
            return _split(pair, length)
        if any(repeated):
            raise RowError("prompts_diverge", "prompt", "only one of chosen and rejected starts with the prompt.")
        return _split(pair, 0)
    start = len(split_dialogues(chosen, rejected)[0])
    return _split(pair.model_copy(update={"prompt": chosen[:start]}), start)


def _first(messages: Any) -> Any:
    return messages[:1] if isinstance(messages, list) else messages


def _eager_attention(field: str, messages: Any) -> Any:
    """Messages without empty fields, which a table gives every message that any has; others than these are refused.

    Raises: RowError: wrong_type, where a message calls a tool: openai-preference keeps those.
    """
    if not isinstance(messages, list):
        return messages
    plain = [{k: v for k, v in m.items() if v is not None} if isinstance(m, dict) else m for m in messages]
    for place, message in enumerate(plain):
        for name in message if isinstance(message, dict) else ():
            if name not in ("role", "content"):
                path = f"{field}.{place}.{name}"
                raise RowError("wrong_type", path, f"{path}: extra inputs are not permitted.")
    return plain


def _split(pair: ConversationalPair, start: int) -> ConversationalPair:
    """The pair with its responses from message `start` on."""
    chosen, rejected = pair.chosen[start:], pair.rejected[start:]
    for field, response in (("chosen", chosen), ("rejected", rejected)):
        require_response(field, response)
    return pair.model_copy(update={"chosen": chosen, "rejected": rejected})


def refuse(row: Row, options: SourceOptions) -> str | None:
    """Why a file of such rows does not fit the form: message lists are not text."""
    if options.form == "text" and isinstance(lookup(row, options.mapping.get("chosen", "chosen")), list):
        return "the responses are lists of messages, not text.\n  Keep them so: --form conversational."
    return None


def looks_like(row: Row) -> bool:
    """Whether the sides are strings beside a prompt, or transcripts, or lists of messages."""
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
    refuse=refuse,
    comes_in_pairs=True,
    has_scores=True,
    mapped_fields=(*FIELDS, *SCORES),
)
