"""What adapters that others ship get wrong on these data sets, each tried here with rows of that kind."""

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


def test_nectars_rank_1_is_chosen_and_not_the_last_of_the_list(tmp_path):
    # axolotl's zephyr.py sorts by rank and takes the last, which is the worst.
    answers = [{"answer": f"rank {rank}", "model": "m", "rank": float(rank)} for rank in (3, 7, 1, 2)]
    row = golden("nectar", 1) | {"answers": answers}
    _, (pair,) = converted("nectar", [row], tmp_path)
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("rank 1", "rank 7")


@pytest.mark.parametrize("seed", range(8))
def test_a_drawn_rejected_never_outranks_chosen(seed, tmp_path):
    # open-instruct's nectar.py draws both, and rejected may be the better one; a prompt of turns becomes one string.
    row = golden("nectar", 2)
    row["answers"] = [{"answer": f"rank {rank}", "model": "m", "rank": float(rank)} for rank in (4, 2, 6, 5, 3)]
    _, (pair,) = converted("nectar", [row], tmp_path, pairing="random", seed=seed)
    assert pair["chosen_score"] == -2 > pair["rejected_score"]
    assert [message["role"] for message in pair["prompt"]] == ["user", "assistant", "user"]


def test_webgpts_two_answers_share_one_prompt_without_quotes(tmp_path):
    # open-instruct's webgpt.py puts each answer's own quotes into its prompt.
    _, (pair,) = converted("webgpt", [golden("webgpt", 1)], tmp_path)
    assert pair["prompt"] == [user("Why is ice slippery?")]


@pytest.mark.parametrize("tie", ["drop", "keep"])
def test_a_preference_of_0_never_pairs_a_response_with_itself(tie, tmp_path):
    # NeMo-RL's helpsteer3.py keeps such a row with response1 on both sides.
    good, even = golden("helpsteer3", 1), golden("helpsteer3", 3)
    manifest, pairs = converted("helpsteer3", [good, even], tmp_path, tie=tie)
    assert [pair["chosen"] != pair["rejected"] for pair in pairs] == [True] * len(pairs)
    assert (len(pairs), manifest.left_out) == ((1, 1) if tie == "drop" else (2, 0))


def test_equal_ratings_never_give_the_same_generation_twice(tmp_path):
    # distilabel's FormatTextGenerationDPO takes the first best and the first worst: one and the same.
    row = {"prompt": "Q", "responses": ["a", "b", "c"], "scores": [5, 5, 5]}
    manifest, pairs = converted("ranked", [row, row | {"scores": [5, 4, 5]}], tmp_path)
    assert [(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in pairs] == [("a", "b")]
    assert manifest.left_out_by_reason == {"tie": 1}


def test_a_response_that_stands_in_its_prompt_too_is_taken_whole(tmp_path):
    # axolotl's chat_template.py looks the response up in a rendered dialogue; an empty one gives the whole of it.
    whole = {"input": {"messages": [user("Say yes. yes"), assistant("yes"), user("Again: yes")]}}
    row = whole | {"preferred_output": [assistant("yes")], "non_preferred_output": [assistant("no")]}
    empty = whole | {"preferred_output": [assistant("")], "non_preferred_output": [assistant("no")]}
    manifest, (pair,) = converted("openai-preference", [row, empty], tmp_path)
    assert pair["chosen"][0]["content"] == "yes"
    assert len(pair["prompt"]) == 3
    assert manifest.quarantined_by_code == {"empty_response": 1}


def test_dialogues_that_are_equal_or_each_others_beginning_lose_no_text(tmp_path):
    # TRL's extract_prompt takes the last turn, or the last character, of the longer side.
    start = [user("Hi"), assistant("Hello"), user("More")]
    common = {"id": "1", "source": "s", "prompt": "p"}
    rows = [
        common | {"chosen": [*start, assistant("Yes, of course")], "rejected": [*start, assistant("Yes")]},
        common | {"chosen": [*start, assistant("Yes")], "rejected": [*start, assistant("Yes")]},
        common | {"chosen": [*start, assistant("Yes")], "rejected": start[:2]},
        common | {"chosen": [], "rejected": []},
    ]
    manifest, pairs = converted("tulu3-preference", rows, tmp_path)
    # The third row: rejected's last message is a reply to another prompt than chosen's.
    assert [pair["prompt"] for pair in pairs] == [[{**m} for m in start]]
    assert manifest.quarantined_by_code == {"identical_responses": 1, "prompts_diverge": 2}


def test_a_tie_of_stack_exchange_is_never_broken_at_random(tmp_path):
    # direct-preference-optimization's get_se pairs ties both ways.
    manifest, pairs = converted(
        "stack-exchange", [golden("stack-exchange", n) for n in (1, 2)], tmp_path, pairing="all"
    )
    assert all(pair["margin"] > 0 for pair in pairs)
    assert manifest.left_out_by_reason == {"tie": 1}


def test_capybaras_last_replies_are_compared_and_not_its_first_messages(tmp_path):
    # Taking [0] as the prompt and [1] as the response, as some scripts do, compares two equal replies.
    _, (pair,) = converted("capybara-dpo", [golden("capybara-dpo", 2)], tmp_path)
    assert len(pair["prompt"]) == 3
    assert pair["chosen"][0]["content"] == "Best: bees dance to point the way."


def test_one_odd_row_does_not_end_the_run(tmp_path):
    # NeMo-RL's tulu3.py asserts that both contexts are equal.
    manifest, pairs = converted("tulu3-preference", [golden("tulu3-preference", n) for n in (1, 3, 2)], tmp_path)
    assert (len(pairs), manifest.quarantined_by_code) == (2, {"prompts_diverge": 1})


def test_a_score_of_10_that_was_a_1_does_not_decide(tmp_path):
    # UltraFeedback's overall_score has a 10 for many a 1; the mean of the aspects has not.
    _, (pair,) = converted("ultrafeedback", [golden("ultrafeedback", 1)], tmp_path)
    assert pair["rejected"][0]["content"] == "Worst: iron, and here is why."
