"""A response that starts by repeating the prompt."""

from unicodedata import normalize

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import SPACE, VISIBLE, Suspects, TextColumns
from dpo_data.checks.text import last_user_turn, responses, words
from dpo_data.dialogue import HUMAN_START
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Characters; good answers also repeat shorter prompts, such as "hello".
MIN_PROMPT = 16
#: Words of a prompt that may be repeated after an introduction or at the end; answers quote shorter questions.
MIN_WORDS = 8
#: Words before the repeated prompt, such as "Your question was".
MAX_INTRODUCTION = 6


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response starts with the last user turn of the prompt.

    >>> find(CHECK.example, CHECK.example.texts)
    Finding(field='rejected', message='rejected starts with the prompt.')
    """
    turn = last_user_turn(pair)
    if len(turn) < MIN_PROMPT:
        return None
    for field, response in responses(texts):
        if response.lstrip().startswith(turn):
            return Finding(field, f"{field} starts with the prompt.")
    return None


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows with a response whose first bytes are those of the last user turn, spaces aside."""
    prompt = columns.prompt
    turn = prompt.starts.copy()
    turns = prompt.find(HUMAN_START)
    turn[prompt.rows_of(turns)] = turns + len(HUMAN_START)  # of several in a row, the last one
    start = prompt.bytes_at(turn + (prompt.codes[turn] == SPACE), MIN_PROMPT)
    found = ~VISIBLE[start[:, 0]]
    for response in columns.responses:
        given = response.bytes_at(response.starts + (response.codes[response.starts] == SPACE), MIN_PROMPT)
        found |= ~VISIBLE[given[:, 0]] | (start == given).all(1)
    return found


def find_altered(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding also if case, punctuation or spaces differ, after a short introduction, or at the end.

    >>> pair = TextPair(prompt="Capital of Peru, please?", chosen="Lima.", rejected='"CAPITAL OF PERU PLEASE" Lima.')
    >>> find_altered(pair, pair.texts).message
    'rejected starts with the prompt.'
    """
    turn = last_user_turn(pair)
    if len(turn) < MIN_PROMPT:
        return None
    turn_words = words(normalize("NFKC", turn))
    sought = f" {' '.join(turn_words)} "
    for field, response in responses(texts):
        if 2 * len(response) < len(turn):
            continue
        text = f" {' '.join(words(normalize('NFKC', response)))} "
        start = text.find(sought) if turn_words else -1
        if start == 0:
            return Finding(field, f"{field} starts with the prompt.")
        if start > 0 and len(turn_words) >= MIN_WORDS:
            if text[:start].count(" ") <= MAX_INTRODUCTION:
                return Finding(field, f"{field} starts with the prompt.")
            if text.endswith(sought):
                return Finding(field, f"{field} ends with the prompt.")
    return None


CHECK = RowCheck(
    code="response_repeats_prompt",
    severity="warning",
    summary="a response repeats the prompt",
    hint="The response was probably stored together with its prompt: the model would learn to repeat prompts.",
    find=find,
    suspects=suspects,
    example=TextPair(prompt="Capital of Peru, please?", chosen="Lima.", rejected="Capital of Peru, please? Lima."),
    find_deep=find_altered,
)
