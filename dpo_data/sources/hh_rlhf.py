r"""Anthropic/hh-rlhf: two transcripts per row, `chosen` and `rejected`, that agree up to their last Assistant turn.

The prompt is the longest shared run of turns that an Assistant turn follows; the responses are the rest. In text form
the prompt ends with "\n\nAssistant:" and the response starts with the space after it: prompt + response is the raw
transcript byte for byte, and a BPE tokenizer sees " word" as it would inside a text.
"""

from collections.abc import Sequence

from dpo_data.dialogue import ASSISTANT_START, HUMAN_START, ROLES, Turn, parse_turns, text_start
from dpo_data.errors import RowError
from dpo_data.records import ConversationalPair, Message, PreferencePair, TextPair
from dpo_data.sources.fields import Row, required_text
from dpo_data.sources.source import AdaptedColumns, Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> PreferencePair:
    """Return the pair of a raw row.

    Raises: RowError: missing_field, wrong_type, not_a_dialogue, no_response, prompts_diverge; in conversational form
        also not_recoverable, if the raw string could not be rebuilt from the messages.
    """
    chosen, rejected = required_text(row, "chosen"), required_text(row, "rejected")
    if options.form == "text" and (prompt := _simple_prompt(chosen, rejected)):
        return TextPair(prompt=prompt, chosen=chosen[len(prompt) :], rejected=rejected[len(prompt) :])
    chosen_turns, rejected_turns = dialogue("chosen", chosen), dialogue("rejected", rejected)
    reply = _first_reply(chosen_turns, rejected_turns)
    if options.form == "text":
        start = text_start(chosen_turns, reply)
        return TextPair(prompt=chosen[:start], chosen=chosen[start:], rejected=rejected[start:])
    return ConversationalPair(
        prompt=_messages("chosen", chosen_turns[:reply]),
        chosen=_messages("chosen", chosen_turns[reply:]),
        rejected=_messages("rejected", rejected_turns[reply:]),
    )


def adapt_columns(rows: Sequence[Row], options: SourceOptions) -> AdaptedColumns:
    """Return the pairs of the regular rows."""
    adapted = AdaptedColumns([], [], [], [])
    for number, row in enumerate(rows):
        chosen, rejected = row["chosen"], row["rejected"]
        if type(chosen) is type(rejected) is str and (prompt := _simple_prompt(chosen, rejected)):
            start = len(prompt)
            adapted.rows.append(number)
            adapted.prompts.append(prompt)
            adapted.chosen.append(chosen[start:])
            adapted.rejected.append(rejected[start:])
    return adapted


def _simple_prompt(chosen: str, rejected: str) -> str:
    """Return the prompt of a regular row, or "" for any other row, at a quarter of the cost of parsing.

    In a regular row, the last Assistant turn follows the same text in both transcripts, and no Human turn follows it.
    """
    last = chosen.rfind(ASSISTANT_START)
    if last <= 0 or last != rejected.rfind(ASSISTANT_START):
        return ""
    start = last + len(ASSISTANT_START)
    prompt = chosen[:start]
    is_regular = (
        rejected.startswith(prompt)
        and prompt.startswith(HUMAN_START)
        and chosen.find(HUMAN_START, start) < 0
        and rejected.find(HUMAN_START, start) < 0
    )
    return prompt if is_regular else ""


def dialogue(field: str, transcript: str) -> list[Turn]:
    """Return the turns of a transcript, which must consist of turns only and end with an Assistant turn.

    Raises: RowError: not_a_dialogue or no_response.
    """
    before, turns = parse_turns(transcript)
    if before or not turns:
        raise RowError("not_a_dialogue", field, f'{field} does not start with a "Human:" turn after a blank line.')
    if turns[-1][0] != "Assistant":
        raise RowError("no_response", field, f"{field} ends with a Human turn.")
    return turns


def _first_reply(chosen: list[Turn], rejected: list[Turn]) -> int:
    """Return the index of the turn that both responses start with."""
    shorter = min(len(chosen), len(rejected))
    # If one side is a prefix of the other, or both are equal, the last shared turn can still be a response.
    reply = next((i for i in range(shorter) if chosen[i] != rejected[i]), shorter - 1)
    while reply > 0 and not chosen[reply][0] == rejected[reply][0] == "Assistant":
        reply -= 1
    if reply == 0:
        raise RowError("prompts_diverge", "", "chosen and rejected share no Human turn at the start.")
    for field, turns in (("chosen", chosen), ("rejected", rejected)):
        if any(speaker == "Human" for speaker, _ in turns[reply:]):
            message = f"chosen and rejected differ from turn {reply + 1} on, and {field} has later Human turns."
            raise RowError("prompts_diverge", field, message)
    return reply


def _messages(field: str, turns: list[Turn]) -> list[Message]:
    for speaker, text in turns:
        if not text.startswith(" "):
            raise RowError("not_recoverable", field, f'{field} has no space after a "{speaker}:".')
    return [Message(role=ROLES[speaker], content=text[1:]) for speaker, text in turns]


def check_file(row: Row, options: SourceOptions) -> str | None:
    """Return the reason to refuse the files of red-team-attempts, which have single transcripts with harm ratings."""
    if "transcript" in row and "chosen" not in row:
        return (
            "red-team-attempts has single transcripts with harm ratings, not preference pairs.\n"
            "  Leave this file out, and convert the other folders of hh-rlhf."
        )
    return None


def looks_like(row: Row) -> bool:
    """Return True if one of the sides starts as a transcript and there is no prompt column."""
    sides = [row["chosen"], row["rejected"]]
    return "prompt" not in row and any(isinstance(side, str) and side.startswith(HUMAN_START) for side in sides)


FOLDERS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")

SOURCE = Source(
    name="hh-rlhf",
    license="mit",
    homepage="https://huggingface.co/datasets/Anthropic/hh-rlhf",
    direction="chosen is the transcript whose last reply a crowd worker preferred",
    columns=("chosen", "rejected"),
    adapt=adapt,
    adapt_columns=adapt_columns,
    looks_like=looks_like,
    comes_in_pairs=True,
    hub="Anthropic/hh-rlhf",
    hub_files=tuple(f"{folder}/{split}.jsonl.gz" for folder in FOLDERS for split in ("train", "test")),
    sample=("sample/train.jsonl", "sample/test.jsonl"),
    check_file=check_file,
    tested_on="1,500 real rows (harmless-base-test-part1.jsonl.gz) and golden rows",
)
