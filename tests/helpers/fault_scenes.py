"""Planted faults by code, and the datasets of the fault corpus: one for each source or form that has its own codes."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fault_texts import EVALUATION_WORDS, FOREIGN, PEOPLE, PLACES, REFUSALS, Row, Writer

#: Rows in reading order, and the positions of those that must be found.
Planted = tuple[list[Row | str], list[int]]

# Faults of the source pairs.


def one(row: Row | str) -> Planted:
    return [row], [0]


def change(row: Row, **texts: Any) -> Row:
    """Return the row with other texts and without scores."""
    return {key: value for key, value in row.items() if not key.endswith("_score")} | texts


def insert(w: Writer, text: str, piece: str) -> str:
    """Return a text with a piece inserted between two words."""
    words = text.split(" ")
    words.insert(w.random.randint(1, len(words)), piece)
    return " ".join(words)


def side(w: Writer) -> str:
    return w.pick("chosen", "rejected")


def number(w: Writer, digits: int) -> str:
    return "".join(w.random.choices("0123456789", k=digits))


EOS_TEXTS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<|eos|>", "<\uff5cend\u2581of\u2581sentence\uff5c>")


def personal(w: Writer) -> str:
    name = f"{w.random.choice(PEOPLE)}.{w.random.choice(PLACES)}".lower()
    letters = "".join(w.random.choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=40))
    card = w.pick("4", "51", "37", "6011")
    card += number(w, (15 if card == "37" else 16) - 1 - len(card))
    card += next(digit for digit in "0123456789" if luhn(card + digit))
    groups = " ".join(card[at : at + 4] for at in range(0, len(card), 4))
    return w.pick(
        f"{name}@example.{w.pick('org', 'com', 'co.uk')}",
        f"+{w.pick('44', '49', '1', '351')} {number(w, 2)} {number(w, 4)} {number(w, 4)}",
        f"({w.random.randint(200, 999)}) {w.random.randint(200, 999)}-{number(w, 4)}",
        f"{w.random.randint(200, 999)}-{w.random.randint(200, 999)}-{number(w, 4)}",
        card,
        groups,
        f"AKIA{letters[:16].upper()}",
        f"ghp_{letters[:36]}",
        f"sk-{letters}",
    )


def luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(digits))]
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0


def repeated_role(w: Writer) -> Planted:
    first, second = w.question(), w.question()
    return one(change(w.english(), prompt=f"\n\nHuman: {first}\n\nHuman: {second}\n\nAssistant:"))


def role_marker(w: Writer) -> Planted:
    marker = w.pick("Human", "User", "Assistant", "System")
    return one(change(w.english(), **{side(w): f"{w.prose()}\n{marker}: {w.sentence()}"}))


def bad_characters(w: Writer) -> Planted:
    row = w.row()
    where = w.pick("prompt", "chosen", "rejected")
    return one(row | {where: insert(w, row[where], w.pick("\ufffd", "\x00", "\x08", "\x1b[0m", "\x85"))})


def repeats_prompt(w: Writer) -> Planted:
    question = w.question()
    return one(change(w.english(), prompt=question, **{side(w): f"{question} {w.prose()}"}))


def template_marker(w: Writer) -> Planted:
    row = w.row()
    where = w.pick("prompt", "chosen", "rejected")
    marker = w.pick("<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<<SYS>>", "<|eot_id|>", "<start_of_turn>")
    return one(row | {where: insert(w, row[where], marker)})


def null(w: Writer) -> Planted:
    return one(change(w.row(), **{side(w): w.pick("None", "nan", "NaN", "null", "<NA>", " None\n")}))


def eos(w: Writer) -> Planted:
    return one(change(w.english(), **{side(w): w.prose() + w.pick(*EOS_TEXTS)}))


def cut_off(w: Writer) -> Planted:
    """Cut a response after a word in its last sentence, as a length limit does."""
    whole = (
        f"{w.prose()} My {w.pick(*PEOPLE)} told me to hold on to it with both hands and then to let it go very slowly."
    )
    words = whole.split(" ")
    # After "very", "to", "then", "and" or "on": where a sentence may end, only its period may be missing.
    return one(change(w.english(), **{side(w): " ".join(words[: -w.pick(1, 5, 6, 7, 12, 13)])}))


def scores(w: Writer) -> Planted:
    low = w.random.randint(0, 9)
    return one(w.row() | {"chosen_score": low, "rejected_score": low + w.pick(0.5, 1, 4)})


def refusals(w: Writer) -> Planted:
    chosen, rejected = w.random.sample(REFUSALS, 2)
    return one(change(w.english(), chosen=f"{chosen} {w.sentence()}", rejected=rejected))


def near_identical(w: Writer) -> Planted:
    text = f"{w.prose(4)} Keep it dry."
    return one(
        change(w.english(), chosen=text, rejected=text.replace("Keep it dry", w.pick("Keep it clean", "Leave it dry")))
    )


def language(w: Writer) -> Planted:
    return one(change(w.english(), prompt=w.question(), **{side(w): w.foreign(w.pick(*FOREIGN))}))


def personal_data(w: Writer) -> Planted:
    row = w.row()
    where = w.pick("prompt", "chosen", "rejected")
    return one(row | {where: insert(w, row[where], personal(w))})


def duplicate(w: Writer) -> Planted:
    row = w.row()
    return [row, dict(row)], [1]


def contradiction(w: Writer) -> Planted:
    row = change(w.english())
    return [row, row | {"chosen": row["rejected"], "rejected": row["chosen"]}], [1]


def cycle(w: Writer) -> Planted:
    row = change(w.english())
    texts = [f"{w.prose()} {place}" for place in w.random.sample(PLACES, w.random.randint(3, 5))]
    rows = [
        row | {"chosen": better, "rejected": worse} for better, worse in zip(texts, texts[1:] + texts[:1], strict=True)
    ]
    w.random.shuffle(rows)
    return list(rows), [len(rows) - 1]


def swapped(w: Writer) -> Planted:
    row = change(w.english())
    swap = row | {"chosen": f" {row['rejected']}\n", "rejected": row["chosen"].replace(" ", "  ", 1)}
    return [row, swap], [1]


def near_prompt(w: Writer) -> Planted:
    words = [*w.question().split(" "), *w.question().split(" ")]
    near = [*words]
    near[w.pick(0, -1)] = w.pick("perhaps", "please")
    return [w.english() | {"prompt": " ".join(words)}, w.english() | {"prompt": " ".join(near)}], [1]


def shared_prompt(w: Writer) -> Planted:
    row = w.row()
    return [row, change(w.english(), prompt=row["prompt"])], [1]


def one_response(w: Writer) -> Planted:
    answer = f"{w.prose()} {w.random.randint(0, 10**9)}."
    return [change(w.english(), chosen=answer) for _ in range(8)], list(range(1, 8))


def contamination(w: Writer) -> Planted:
    row = w.row()
    where = w.pick("prompt", "chosen", "rejected")
    words = evaluation_text(w.random.randint(1, EVALUATION_TEXTS)).split(" ")
    start = w.random.randint(0, len(words) - 13)
    return one(
        row | {where: f"{row[where].upper() if w.pick(0, 1) else row[where]} {' '.join(words[start : start + 13])}"}
    )


EVALUATION_TEXTS = 300


def evaluation_text(number: int) -> str:
    source = random.Random(number)
    return " ".join(source.choices(EVALUATION_WORDS, k=20))


def unreadable(w: Writer) -> Planted:
    return one(w.pick(json.dumps(w.row())[:-9], "[1, 2]", "no JSON at all", '"a text"'))


def unicode(w: Writer) -> Planted:
    row = w.row()
    return one(json.dumps(change(row, chosen=row["chosen"] + "\ud800")))


def missing(w: Writer) -> Planted:
    row = w.row()
    gone = w.pick("prompt", "chosen", "rejected")
    return one({key: value for key, value in row.items() if key != gone} if w.pick(0, 1) else row | {gone: None})


def wrong_type(w: Writer) -> Planted:
    changed = w.pick(
        {"chosen": 7},
        {"prompt": ["Hi"]},
        {"rejected": {"role": "assistant", "text": 7}},
        {"chosen_score": "high"},
        {"margin": True},
    )
    return one(w.row() | changed)


def unknown_role(w: Writer) -> Planted:
    role = w.pick("usr", "narrator", "Assistent", "me")
    return one(change(w.english(), prompt=[{"role": role, "content": w.question()}]))


def media(w: Writer) -> Planted:
    part = w.pick(
        {"type": "image", "image": "a.png"}, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "audio"}
    )
    return one(
        change(w.english(), prompt=[{"role": "user", "content": [part, {"type": "text", "text": w.question()}]}])
    )


def no_prompt(w: Writer) -> Planted:
    return one(w.row() | {"prompt": w.pick("", " \n", "\n\nHuman: \n\nAssistant:")})


def no_text(w: Writer) -> Planted:
    return one(w.row() | {side(w): w.pick("", " ", "\n\u00a0")})


def same_text(w: Writer) -> Planted:
    row = w.row()
    return one(
        row | {"rejected": w.pick(row["chosen"], f" {row['chosen']}\n", row["chosen"].replace(" ", "\u00a0", 1))}
    )


# Faults of other sources and forms.


def text(w: Writer) -> Row:
    """Return a pair whose responses are separated from the prompt by white space or a special token."""
    prompt, start = w.pick(
        (w.question(), " "), (w.question() + "\n", ""), (w.question() + w.pick("<|bot|>", "</s>"), "")
    )
    return {"prompt": prompt, "chosen": start + w.prose(), "rejected": start + w.prose()}


def spaced(w: Writer) -> Planted:
    return one({"prompt": f"{w.question()}\n", "chosen": w.prose(), "rejected": f" {w.prose()}"})


def glued(w: Writer) -> Planted:
    row = {"prompt": w.question(), "chosen": f" {w.prose()}", "rejected": f" {w.prose()}"}
    where = w.pick("chosen", "rejected")
    return one(row | {where: w.pick(w.prose(), w.foreign("ja"))})


def transcript(w: Writer) -> Row:
    prompt = f"\n\nHuman: {w.question()}\n\nAssistant: {w.prose()}\n\nHuman: {w.question()}\n\nAssistant:"
    return {"chosen": f"{prompt} {w.prose()}", "rejected": f"{prompt} {w.prose()}"}


def no_dialogue(w: Writer) -> Planted:
    row = transcript(w)
    return one(row | {side(w): w.pick(w.prose(), f"Hello. {row['chosen']}")})


def no_reply(w: Writer) -> Planted:
    row = transcript(w)
    return one({key: f"{text}\n\nHuman: {w.question()}" for key, text in row.items()})


def other_prompt(w: Writer) -> Planted:
    return one({"chosen": transcript(w)["chosen"], "rejected": transcript(w)["rejected"]})


def no_space(w: Writer) -> Planted:
    return one({key: text.replace("\n\nHuman: ", "\n\nHuman:", 1) for key, text in transcript(w).items()})


def post(w: Writer) -> Row:
    low = w.random.randint(1, 50)
    votes = {"score_A": low + w.random.randint(1, 50), "score_B": low}
    return {
        "post_id": w.question(),
        "history": w.question(),
        "human_ref_A": w.prose(),
        "human_ref_B": w.prose(),
        **votes,
        "labels": 1,
    }


def other_label(w: Writer) -> Planted:
    return one(post(w) | {"labels": 0})


def judged(w: Writer) -> Row:
    return {"prompt": w.question(), "answer_a": w.prose(), "answer_b": w.prose(), "winner": w.pick("A", "B")}


def stray_label(w: Writer) -> Planted:
    return one(judged(w) | {"winner": w.pick("C", "a?", "1", "first")})


def call(w: Writer) -> Row:
    return {
        "input": {"messages": [{"role": "user", "content": w.question()}], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [{"role": "assistant", "content": w.prose()}],
        "non_preferred_output": [{"role": "assistant", "content": w.prose()}],
    }


def with_tools(w: Writer) -> Planted:
    row = call(w)
    row["input"]["tools"] = [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]
    return one(row)


def judgment(w: Writer) -> Row:
    context = [{"role": "user", "content": w.question()}]
    return {"context": context, "response1": w.prose(), "response2": w.prose(), "overall_preference": w.pick(-3, 2)}


def with_calls(w: Writer) -> Planted:
    row = judgment(w)
    calls = [{"type": "function", "function": {"name": "search", "arguments": "{}"}}]
    row["context"] += [
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": w.prose()},
    ]
    return one(row)


def tree(w: Writer) -> list[Row]:
    w.number += 1
    root = f"tree {w.number}"

    def message(name: str, parent: str | None, role: str, text: str, rank: int | None) -> Row:
        ids = {"message_id": f"{root} {name}", "parent_id": parent, "message_tree_id": root}
        return ids | {"text": text, "role": role, "rank": rank, "deleted": False, "review_result": True}

    replies = [message(str(rank), f"{root} ask", "assistant", w.prose(), rank) for rank in (1, 0)]
    return [message("ask", None, "prompter", w.question(), None), *replies]


def orphan(w: Writer) -> Planted:
    rows = tree(w)
    lost = rows[1] | {"message_id": f"{rows[1]['message_id']} lost", "parent_id": "nowhere", "text": w.prose()}
    return [*rows, lost], [3]


@dataclass(frozen=True)
class Scene:
    """One dataset of the corpus.

    Attributes:
        clean: generates the clean rows of a group.
        faults: code -> generator of rows with that fault.
        options: arguments of `validate`.
        adjacent: True if the rows of a group must be adjacent; otherwise other rows may come between them.
    """

    clean: Callable[[Writer], list[Row]]
    faults: dict[str, Callable[[Writer], Planted]]
    options: dict[str, Any]
    adjacent: bool = False


SCENES = {
    "pairs": Scene(
        lambda w: [w.row()],
        {
            "unreadable_row": unreadable,
            "invalid_unicode": unicode,
            "missing_field": missing,
            "wrong_type": wrong_type,
            "unknown_role": unknown_role,
            "media_content": media,
            "empty_prompt": no_prompt,
            "empty_response": no_text,
            "identical_responses": same_text,
            "null_response": null,
            "repeated_role": repeated_role,
            "role_marker_in_response": role_marker,
            "bad_characters": bad_characters,
            "response_repeats_prompt": repeats_prompt,
            "template_marker": template_marker,
            "eos_in_response": eos,
            "cut_off_response": cut_off,
            "scores_against_label": scores,
            "duplicate_pair": duplicate,
            "contradiction": contradiction,
            "preference_cycle": cycle,
            "prompt_in_two_splits": shared_prompt,
            "near_identical_responses": near_identical,
            "refusal_against_refusal": refusals,
            "language_mismatch": language,
            "personal_data": personal_data,
            "swapped_duplicate": swapped,
            "near_duplicate_prompt": near_prompt,
            "near_prompt_in_two_splits": near_prompt,
            "one_response_for_many_prompts": one_response,
            "contamination": contamination,
        },
        {"source": "pairs"},
    ),
    "texts": Scene(lambda w: [text(w)], {"glued_text": glued}, {"source": "pairs", "form": "text"}),
    "spaces": Scene(lambda w: [text(w)], {"one_sided_marker": spaced}, {"source": "pairs", "form": "text"}),
    "transcripts": Scene(
        lambda w: [transcript(w)],
        {"not_a_dialogue": no_dialogue, "no_response": no_reply, "prompts_diverge": other_prompt},
        {"source": "hh-rlhf"},
    ),
    "messages": Scene(
        lambda w: [transcript(w)], {"not_recoverable": no_space}, {"source": "hh-rlhf", "form": "conversational"}
    ),
    "posts": Scene(lambda w: [post(w)], {"contradicting_scores": other_label}, {"source": "shp"}),
    "judged": Scene(lambda w: [judged(w)], {"unknown_label": stray_label}, {"source": "two-answers"}),
    "calls": Scene(lambda w: [call(w)], {"no_text_form": with_tools}, {"source": "openai-preference"}),
    "judgments": Scene(
        lambda w: [judgment(w)], {"unsupported_field": with_calls}, {"source": "helpsteer3", "form": "conversational"}
    ),
    "trees": Scene(tree, {"no_parent": orphan}, {"source": "oasst"}, adjacent=True),
}
