"""Truncation by turns under public chat templates, next to apply_chat_template over the turns that are left.

    PYTHONPATH=.:benchmarks python benchmarks/turns.py FOLDER [FOLDER ...]

Each folder holds .jinja files. Every template renders six shapes of dialogues, which are cut to every number of turns,
and once within the last turn.
"""

import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

from chat_templates import NO, RESULT, SKY, SUM, SYSTEM, TOOLS, YES, answer, call, make_tokenizer, user

from dpo_data.tokens.build import ConversationColumns, encode_conversations, truncate_pairs
from dpo_data.tokens.encoder import Encoder
from dpo_data.tokens.options import token_options
from dpo_data.tokens.turns import split_into_turns

HELLO = [user("Hello you."), answer("Hello to you too.")]
WEATHER = [SKY, call(), RESULT, answer("It is 21 degrees.")]
COLOR = [user("Name a color of the sky."), answer("It is blue at noon.")]
THOUGHT = [user("What is 3+3?"), answer("It is six.", reasoning_content="Three and three.")]

#: Name -> prompt, tools.
SHAPES = {
    "dialogue": ([*HELLO, *COLOR, *HELLO, SUM], None),
    "system": ([SYSTEM, *HELLO, *COLOR, SUM], None),
    "tools": ([*WEATHER, *COLOR, *WEATHER, SUM], TOOLS),
    "system, tools": ([SYSTEM, *HELLO, *WEATHER, SUM], TOOLS),
    "reasoning": ([*THOUGHT, *COLOR, SUM], None),
    "begun answer": ([*HELLO, *COLOR, SUM, answer("The answer is")], None),
}


def cut(encoder: Encoder, columns: ConversationColumns, max_length: int | None):
    options = token_options(max_length=max_length, truncation_unit="turn").for_form("conversational")
    encoded = encode_conversations(encoder, columns, options)
    return truncate_pairs(encoded, options, encoder.bos_token_id)


def rendered_ids(tokenizer: Any, prompt: list[dict[str, Any]], tools: Any) -> list[int]:
    """Return the ids of apply_chat_template, or none where it takes no messages in their usual spelling."""
    begun = prompt[-1]["role"] == "assistant"
    try:
        text = tokenizer.apply_chat_template(
            prompt, tools, tokenize=False, add_generation_prompt=not begun, continue_final_message=begun
        )
    except Exception:  # whatever the template raises
        return []
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def cut_to_every_number_of_turns(template: str, shape: str, outcome: Counter[str]) -> list[str]:
    """Count what becomes of one shape under a template, and return what is wrong."""
    prompt, tools = SHAPES[shape]
    tokenizer = make_tokenizer(template)
    encoder = Encoder(tokenizer)
    columns = ConversationColumns([prompt], [[YES]], [[NO]], tools and [tools])
    whole = cut(encoder, columns, None)
    if whole.encoded.refused:
        outcome["refused uncut"] += 1
        return []
    responses = [whole.chosen.values.tolist(), whole.rejected.values.tolist()]
    longer = max(map(len, responses))
    system, turns = split_into_turns(prompt)
    wrong = []
    for dropped in range(1, len(turns)):
        left = columns._replace(prompts=[[*system, *chain(*turns[dropped:])]])
        expected = cut(encoder, left, None)
        if expected.encoded.refused:
            outcome["refused without turns"] += 1
            continue
        got = cut(encoder, columns, expected.prompts.lengths[0] + longer)
        outcome["drops"] += 1
        if got.encoded.turn_cuts[0].turns != dropped or got.prompts.values.tolist() != expected.prompts.values.tolist():
            wrong.append(f"{shape}, without {dropped}: {tokenizer.decode(got.prompts.values)!r}")
        same = [got.chosen.values.tolist(), got.rejected.values.tolist()] == responses
        outcome["responses as uncut" if same else "responses rendered again"] += 1
        last = expected.prompts.values.tolist()
        rendered = rendered_ids(tokenizer, left.prompts[0], tools)
        if last == rendered:
            outcome["as apply_chat_template"] += 1
        elif last == rendered[: len(last)]:
            outcome["as apply_chat_template, without its opened block"] += 1
        else:
            outcome["in another spelling"] += 1
        whole_ids = whole.prompts.values.tolist()
        begin = next((i for i, (a, b) in enumerate(zip(whole_ids, last, strict=False)) if a != b), len(last))
        if whole_ids[len(whole_ids) - (len(last) - begin) :] != last[begin:]:
            outcome["changed elsewhere than in the turns dropped"] += 1
    size = len(cut(encoder, columns._replace(prompts=[[*system, *turns[-1]]]), None).prompts.values)
    if not whole.encoded.refused and len(turns) > 1 and size > 4 * longer:
        limit = size - 4
        got = cut(encoder, columns, limit + longer)
        within = got.encoded.turn_cuts.get(0)
        if within is not None:
            outcome["cut within the last turn"] += 1
            text = tokenizer.decode(got.prompts.values)
            if system and SYSTEM["content"] not in text:
                outcome["of which the system message is cut"] += 1
            if len(got.prompts.values) != limit:
                wrong.append(f"{shape}, within: {len(got.prompts.values)} tokens, not {limit}")
    return wrong


def main() -> None:
    outcome: Counter[str] = Counter()
    files = sorted(file for folder in sys.argv[1:] for file in Path(folder).glob("*.jinja"))
    for file in files:
        of_file: Counter[str] = Counter()
        for shape in SHAPES:
            for line in cut_to_every_number_of_turns(file.read_text(encoding="utf-8"), shape, of_file):
                print(f"WRONG {file.name}: {line}")
        outcome += of_file
        if odd := {name: n for name, n in of_file.items() if name in ODD}:
            print(f"{file.stem}: " + ", ".join(f"{n} {name}" for name, n in odd.items()))
    print(f"{len(files)} templates")
    for name, count in outcome.items():
        print(f"{count:6} {name}")


ODD = (
    "refused without turns",
    "responses rendered again",
    "changed elsewhere than in the turns dropped",
    "of which the system message is cut",
    "in another spelling",
)

if __name__ == "__main__":
    main()
