"""Mistakes in the adapters of other projects, each tested with rows that trigger it."""

import json
from pathlib import Path
from typing import Any

import pytest
from golden import raw_rows

from dpo_data import convert, open_prepared
from dpo_data.prepared.manifest import Manifest


def golden(source: str, line: int) -> dict[str, Any]:
    return raw_rows(source)[line - 1]


def converted(source: str, rows: list[dict[str, Any]], folder: Path, **options: Any) -> tuple[Manifest, list[Any]]:
    raw = folder / "data" / "raw.jsonl"
    raw.parent.mkdir()
    raw.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    manifest = convert(source, [raw], output=folder / "out", form="conversational", max_invalid=1, **options)
    pairs = [row for batch in open_prepared(folder / "out").batches("train") for row in batch.to_pylist()]
    return manifest, pairs


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_the_answer_of_rank_1_is_chosen_and_not_the_last_one(tmp_path):
    # axolotl's zephyr.py sorts by rank and takes the last answer, which is the worst.
    answers = [{"answer": f"rank {rank}", "model": "m", "rank": float(rank)} for rank in (3, 7, 1, 2)]
    row = golden("nectar", 1) | {"answers": answers}
    _, (pair,) = converted("nectar", [row], tmp_path)
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("rank 1", "rank 7")


@pytest.mark.parametrize("seed", range(8))
def test_a_random_rejected_answer_never_outranks_chosen(seed, tmp_path):
    # open-instruct's nectar.py draws both, so rejected may be better; its prompts of several turns are one string.
    row = golden("nectar", 2)
    row["answers"] = [{"answer": f"rank {rank}", "model": "m", "rank": float(rank)} for rank in (4, 2, 6, 5, 3)]
    _, (pair,) = converted("nectar", [row], tmp_path, pairing="random", seed=seed)
    assert pair["chosen_score"] == -2 > pair["rejected_score"]
    assert [message["role"] for message in pair["prompt"]] == ["user", "assistant", "user"]


def test_the_two_answers_of_webgpt_share_one_prompt_without_quotes(tmp_path):
    # open-instruct's webgpt.py gives each answer a prompt with its own quotes.
    _, (pair,) = converted("webgpt", [golden("webgpt", 1)], tmp_path)
    assert pair["prompt"] == [user("Why is ice slippery?")]


@pytest.mark.parametrize("tie", ["drop", "keep"])
def test_a_preference_of_0_never_pairs_a_response_with_itself(tie, tmp_path):
    # NeMo-RL's helpsteer3.py makes a pair with response1 on both sides.
    good, even = golden("helpsteer3", 1), golden("helpsteer3", 3)
    manifest, pairs = converted("helpsteer3", [good, even], tmp_path, tie=tie)
    assert [pair["chosen"] != pair["rejected"] for pair in pairs] == [True] * len(pairs)
    assert (len(pairs), manifest.left_out) == ((1, 1) if tie == "drop" else (2, 0))


def test_equal_ratings_never_pair_a_response_with_itself(tmp_path):
    # distilabel's FormatTextGenerationDPO takes the first best and the first worst response, which are the same one.
    row = {"prompt": "Q", "responses": ["a", "b", "c"], "scores": [5, 5, 5]}
    manifest, pairs = converted("ranked", [row, row | {"scores": [5, 4, 5]}], tmp_path)
    assert [(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in pairs] == [("a", "b")]
    assert manifest.left_out_by_reason == {"tie": 1}


def test_a_response_that_also_occurs_in_its_prompt_is_kept_whole(tmp_path):
    # axolotl's chat_template.py searches the rendered dialogue for the response; an empty one matches all of it.
    whole = {"input": {"messages": [user("Say yes. yes"), assistant("yes"), user("Again: yes")]}}
    row = whole | {"preferred_output": [assistant("yes")], "non_preferred_output": [assistant("no")]}
    empty = whole | {"preferred_output": [assistant("")], "non_preferred_output": [assistant("no")]}
    manifest, (pair,) = converted("openai-preference", [row, empty], tmp_path)
    assert pair["chosen"][0]["content"] == "yes"
    assert len(pair["prompt"]) == 3
    assert manifest.quarantined_by_code == {"empty_response": 1}


def test_dialogues_that_are_equal_or_a_prefix_of_each_other_lose_no_text(tmp_path):
    # TRL's extract_prompt moves the last turn, or the last character, of the longer side.
    start = [user("Hi"), assistant("Hello"), user("More")]
    common = {"id": "1", "source": "s", "prompt": "p"}
    rows = [
        common | {"chosen": [*start, assistant("Yes, of course")], "rejected": [*start, assistant("Yes")]},
        common | {"chosen": [*start, assistant("Yes")], "rejected": [*start, assistant("Yes")]},
        common | {"chosen": [*start, assistant("Yes")], "rejected": start[:2]},
        common | {"chosen": [], "rejected": []},
    ]
    manifest, pairs = converted("tulu3-preference", rows, tmp_path)
    # In the third row, the last message of rejected replies to another prompt than that of chosen.
    assert [pair["prompt"] for pair in pairs] == [[{**m} for m in start]]
    assert manifest.quarantined_by_code == {"identical_responses": 1, "prompts_diverge": 2}


def test_ties_of_stack_exchange_are_never_broken_at_random(tmp_path):
    # get_se of direct-preference-optimization makes pairs of ties in both orders.
    manifest, pairs = converted(
        "stack-exchange", [golden("stack-exchange", n) for n in (1, 2)], tmp_path, pairing="all"
    )
    assert all(pair["margin"] > 0 for pair in pairs)
    assert manifest.left_out_by_reason == {"tie": 1}


def test_the_last_replies_of_capybara_are_compared_and_not_the_first_ones(tmp_path):
    # Some scripts take message 0 as the prompt and 1 as the response, and so compare two equal replies.
    _, (pair,) = converted("capybara-dpo", [golden("capybara-dpo", 2)], tmp_path)
    assert len(pair["prompt"]) == 3
    assert pair["chosen"][0]["content"] == "Best: bees dance to point the way."


def test_one_inconsistent_row_does_not_stop_the_conversion(tmp_path):
    # NeMo-RL's tulu3.py asserts that both contexts are equal.
    manifest, pairs = converted("tulu3-preference", [golden("tulu3-preference", n) for n in (1, 3, 2)], tmp_path)
    assert (len(pairs), manifest.quarantined_by_code) == (2, {"prompts_diverge": 1})


def test_the_wrong_overall_score_of_ultrafeedback_is_not_used(tmp_path):
    # overall_score is 10 for many completions that should have a 1; the mean of the aspects is correct.
    _, (pair,) = converted("ultrafeedback", [golden("ultrafeedback", 1)], tmp_path)
    assert pair["rejected"][0]["content"] == "Worst: iron, and here is why."
