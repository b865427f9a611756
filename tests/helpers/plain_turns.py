"""Truncation by turns in a few plain lines, one pair at a time, with apply_chat_template alone."""

from typing import Any


class Seam(Exception):
    """A prompt whose last token would be another one with the response behind it."""


def plain_cut(
    tokenizer: Any,
    row: dict[str, Any],
    max_length: int,
    *,
    max_prompt_length: int | None = None,
    keep_system: bool = True,
    joint: bool = False,
) -> tuple[list[int], list[int], list[int], int]:
    """Return the ids of prompt, chosen and rejected, and the number of turns dropped.

    For templates whose conversations begin with the prompt, and end each message with a special token or with nothing.
    A response is tokenized alone, or as what follows the prompt in both if `joint`.

    Raises: Seam: with `joint`, tokens of the prompt depend on the response.
    """
    eos = tokenizer.eos_token_id
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def rendered(prompt: list[dict[str, Any]]) -> tuple[list[int], list[int], list[int]]:
        begin = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        sides = []
        for side in (row["chosen"], row["rejected"]):
            whole = tokenizer.apply_chat_template(prompt + side, tokenize=False)
            assert whole.startswith(begin)
            response = whole[len(begin) :]
            ended = any(response.rstrip().endswith(token) for token in special)
            sides.append(follow(begin, response.rstrip()) if ended else [*follow(begin, response), eos])
        return ids(begin), *sides

    def follow(begin: str, response: str) -> list[int]:
        if not joint:
            return ids(response)
        before, both = ids(begin), ids(begin + response)
        if both[: len(before)] != before:
            raise Seam
        return both[len(before) :]

    def shortened(turns: int) -> list[dict[str, Any]]:
        return [*system, *(message for turn in units[turns:] for message in turn)]

    prompt = list(row["prompt"])
    system, units = [], []
    while prompt and prompt[0]["role"] in ("system", "developer"):
        system.append(prompt.pop(0))
    if system and not keep_system:
        units, system = [system], []
    for place, message in enumerate(prompt):
        if place == 0 or (message["role"] == "user" and prompt[place - 1]["role"] != "user"):
            units.append([])
        units[-1].append(message)

    begin, chosen, rejected = rendered(row["prompt"])
    longer = max(len(chosen), len(rejected))
    limit = max_prompt_length or max(max_length - longer, max_length // 4, 1)
    turns = 0
    if len(begin) + longer > max_length:
        while len(begin) > limit and turns < len(units) - 1:
            turns += 1
            begin, chosen, rejected = rendered(shortened(turns))
        if len(begin) > limit:
            marked = [*system, {"role": "user", "content": "\ue000"}]
            other = ids(tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True))
            same = 0
            while same < min(len(begin), len(other)) and begin[same] == other[same]:
                same += 1
            if same < limit:
                begin = begin[:same] + begin[len(begin) - (limit - same) :]
            else:
                first = begin[:1] if begin[0] == tokenizer.bos_token_id else []
                begin = first + begin[len(begin) - limit + len(first) :]
    room = max_length - len(begin)
    return begin, chosen[:room], rejected[:room], turns
