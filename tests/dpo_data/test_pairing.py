"""Pairing policies: the pairs they make, and what they leave out, which only texts and seed decide."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dpo_data.pairing import PairingPolicy, make_pairs
from dpo_data.records import Response, ScoredResponses


def scored(**scores: float | None) -> ScoredResponses:
    """Return one prompt with responses that are named by their texts."""
    responses = [Response(content=name, score=score) for name, score in scores.items()]
    return ScoredResponses(prompt="Q", responses=responses)


def pairs(group: ScoredResponses, **policy: object) -> list[tuple[object, object]]:
    matches = make_pairs([group], PairingPolicy(**policy))  # type: ignore[arg-type]
    return [(match.chosen.content, match.rejected.content) for match in matches.kept]


def left_out(group: ScoredResponses, **policy: object) -> dict[str, int]:
    return dict(make_pairs([group], PairingPolicy(**policy)).left_out)  # type: ignore[arg-type]


FOUR = scored(b=3, d=1, a=4, c=2)


@pytest.mark.parametrize(
    ("pairing", "expected"),
    [
        ("best-worst", [("a", "d")]),
        ("best-rest", [("a", "b"), ("a", "c"), ("a", "d")]),
        ("all", [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]),
        ("adjacent", [("a", "b"), ("b", "c"), ("c", "d")]),
    ],
)
def test_each_policy_makes_its_pairs(pairing, expected):
    assert pairs(FOUR, pairing=pairing) == expected


def test_a_lower_rank_is_better():
    group = ScoredResponses(prompt="Q", responses=[Response(content="worst", rank=7), Response(content="best", rank=1)])
    (match,) = make_pairs([group], PairingPolicy()).kept
    assert (match.chosen.content, match.rejected.content, match.margin) == ("best", "worst", 6)


def test_random_pairs_the_best_with_another_that_seed_and_texts_decide():
    drawn = {seed: pairs(FOUR, pairing="random", seed=seed) for seed in range(30)}
    assert {pair for (pair,) in drawn.values()} == {("a", "b"), ("a", "c"), ("a", "d")}
    assert drawn == {seed: pairs(FOUR, pairing="random", seed=seed) for seed in range(30)}
    assert left_out(FOUR, pairing="random") == {"not_drawn": 2}


def test_ties_are_dropped_and_counted():
    tied = scored(a=2, b=2, c=1)
    assert pairs(tied, pairing="all") == [("a", "c"), ("b", "c")]
    assert left_out(tied, pairing="all") == {"tie": 1}
    assert pairs(scored(a=1, b=1)) == []


def test_kept_ties_are_in_raw_row_order():
    assert pairs(scored(z=1, a=1), tie="keep") == [("z", "a")]
    assert pairs(scored(z=1, a=1), tie="keep", min_margin=0.5) == []


def test_random_draws_no_tie_if_another_pair_is_possible():
    for seed in range(20):
        assert pairs(scored(a=2, b=2, c=1), pairing="random", seed=seed) == [("a", "c")]


def test_margins_are_compared_as_decimals():
    assert pairs(scored(a=0.3, b=0.2), min_margin=0.1) == [("a", "b")]
    assert left_out(scored(a=0.3, b=0.2), min_margin=0.11) == {"margin": 1}


def test_the_maximum_per_prompt_keeps_the_largest_margins_in_order():
    assert pairs(FOUR, pairing="all", max_pairs_per_prompt=2) == [("a", "c"), ("a", "d")]
    assert left_out(FOUR, pairing="all", max_pairs_per_prompt=2) == {"cap": 4}


def test_the_maximum_per_prompt_counts_over_all_groups_of_a_prompt():
    other = ScoredResponses(prompt="P", responses=FOUR.responses)
    matches = make_pairs([scored(a=2, b=1), scored(c=9, d=1), other], PairingPolicy(max_pairs_per_prompt=1))
    assert [(match.group.prompt, match.chosen.content) for match in matches.kept] == [("Q", "c"), ("P", "a")]


def test_a_single_response_makes_no_pair():
    assert left_out(scored(a=1)) == {"single_response": 1}
    assert left_out(scored(a=1, b=None)) == {"unscored": 1, "single_response": 1}


def test_a_repeated_text_counts_once_with_its_best_score():
    group = ScoredResponses(
        prompt="Q",
        responses=[
            Response(content="a", score=1),
            Response(content="b", score=2),
            Response(content="a", score=3),
        ],
    )
    assert pairs(group, pairing="all") == [("a", "b")]
    assert left_out(group, pairing="all") == {"identical_responses": 1}


def test_two_identical_responses_are_left_to_the_row_checks():
    group = ScoredResponses(prompt="Q", responses=[Response(content="a", score=1), Response(content="a", score=3)])
    assert pairs(group) == [("a", "a")]


def test_an_empty_response_is_skipped_if_two_others_remain():
    assert pairs(scored(**{"a": 3, "b": 2, " ": 1})) == [("a", "b")]
    assert pairs(scored(**{"a": 3, " ": 1})) == [("a", " ")]


SCORES = st.lists(st.integers(0, 3), min_size=0, max_size=6)


@given(
    SCORES,
    st.sampled_from(["best-worst", "best-rest", "all", "adjacent", "random"]),
    st.integers(0, 2),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_every_pair_has_its_better_response_first_and_is_within_the_limits(scores, pairing, min_margin, cap, seed):
    responses = [Response(content=str(place), score=score) for place, score in enumerate(scores)]
    group = ScoredResponses(prompt="Q", responses=responses)
    policy = PairingPolicy(pairing=pairing, min_margin=min_margin, max_pairs_per_prompt=cap, seed=seed)
    kept = make_pairs([group], policy).kept
    assert all(match.margin > 0 and match.margin >= min_margin for match in kept)
    assert len(kept) <= cap
    assert len({(match.chosen.content, match.rejected.content) for match in kept}) == len(kept)
    if min_margin <= 1 and len(set(scores)) > 1 and pairing != "adjacent":
        assert kept


def test_a_policy_has_no_other_fields_and_does_not_change() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        PairingPolicy(best=1)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="frozen"):
        PairingPolicy().tie = "keep"  # type: ignore[misc]
