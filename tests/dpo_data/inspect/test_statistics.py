"""Statistics of pairs, with numbers calculated by hand."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_data.inspect.batches import row_margins
from dpo_data.inspect.statistics.collector import compute_statistics
from dpo_data.inspect.statistics.distribution import Largest, ValueCounts
from dpo_data.inspect.statistics.label_noise import error_rate
from dpo_data.inspect.statistics.rules import list_items, wilson_interval
from dpo_data.prepared.reader import open_prepared


def pair(prompt, chosen, rejected, **scores):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **scores}


@pytest.fixture
def statistics_of(make_prepared):
    def of(rows, **options):
        return compute_statistics(open_prepared(make_prepared(rows, overwrite=True, **options)))

    return of


FOUR = [
    pair("ab", "four", "six666"),  # 4 against 6
    pair("abc", "seven77", "one"),  # 7 against 3
    pair("abcd", "same", "eman"),  # 4 against 4
    pair("abcde", "- a\n- b", "two words"),  # 7 against 9
]


def test_lengths_are_those_of_the_texts(statistics_of):
    lengths = statistics_of(FOUR).characters
    assert (lengths.prompt.min, lengths.prompt.median, lengths.prompt.max, lengths.prompt.mean) == (2, 3, 5, 3.5)
    assert (lengths.chosen.mean, lengths.rejected.mean) == ((4 + 7 + 4 + 7) / 4, (6 + 3 + 4 + 9) / 4)
    assert sum(bin_.count for bin_ in lengths.chosen.bins) == 4
    assert [bin_.low for bin_ in lengths.chosen.bins] == [bin_.low for bin_ in lengths.rejected.bins]


def test_chosen_is_longer_equal_and_shorter_are_counted_with_the_extremes(statistics_of):
    statistics = statistics_of(FOUR)
    lengths = statistics.lengths
    assert (lengths.chosen_longer, lengths.equal, lengths.rejected_longer) == (1, 1, 2)
    assert lengths.difference.mean == (-2 + 4 + 0 - 2) / 4
    assert len(lengths.chosen_longest) == 1
    assert len(lengths.rejected_longest) == 2
    assert not {*lengths.chosen_longest} & {*lengths.rejected_longest}


def test_longer_wins_is_scored_by_how_much_longer(statistics_of):
    """Gaps of 2, 4 and 2 characters, then one of 40 and one of 2,000 where rejected is longer."""
    rows = [*FOUR, pair("p", "yes", "n" * 43), pair("q", "yes", "n" * 2003)]
    gaps = statistics_of(rows).lengths.by_gap
    assert [(gap.low, gap.high, gap.score.decided, gap.score.right) for gap in gaps] == [
        (1, 9, 3, 1),
        (30, 99, 1, 0),
        (1000, None, 1, 0),
    ]


def test_a_rule_is_scored_on_the_pairs_that_it_decides(statistics_of):
    """Longer: pairs 1, 2 and 4 differ in length, and chosen is longer in pair 2. Lists: only pair 4 has any."""
    longer, lists, refusals = (rule.overall for rule in statistics_of(FOUR).rules)
    assert (longer.pairs, longer.decided, longer.right, longer.coverage) == (4, 3, 1, 0.75)
    assert longer.accuracy == pytest.approx(1 / 3)
    assert (lists.decided, lists.right, lists.accuracy) == (1, 1, 1.0)
    assert (refusals.decided, refusals.accuracy, refusals.low) == (0, None, None)


def test_a_rule_names_pairs_where_it_is_right_and_where_it_is_wrong(make_prepared):
    folder = open_prepared(make_prepared(FOUR))
    ids = folder.dataset()["train"]["id"]
    longer = compute_statistics(folder).rules[0]
    assert longer.right_examples == [ids[1]]
    assert longer.wrong_examples == [ids[0], ids[3]]


def test_rules_are_scored_by_the_raw_file(tmp_path, write_rows):
    from dpo_data import convert

    write_rows(tmp_path / "raw" / "one.jsonl", FOUR[:1])
    write_rows(tmp_path / "raw" / "two.jsonl", FOUR[1:])
    convert("pairs", [tmp_path / "raw"], output=tmp_path / "prepared")
    statistics = compute_statistics(open_prepared(tmp_path / "prepared"))
    files = sorted(statistics.pairs_by_file)
    assert [statistics.pairs_by_file[file] for file in files] == [1, 3]
    longer = statistics.rules[0].by_file
    assert [(longer[file].decided, longer[file].right) for file in files] == [(1, 0), (2, 1)]


def test_rules_are_scored_on_the_quarters_of_the_margins(statistics_of):
    """Eight pairs with margins 1 to 8; "longer wins" is right only on the four widest."""
    rows = [
        pair(
            f"p{m}",
            "longer" if m > 4 else "no",
            "short" if m > 4 else "longer",
            chosen_score=float(m),
            rejected_score=0.0,
        )
        for m in range(1, 9)
    ]
    statistics = statistics_of(rows)
    bins = statistics.rules[0].by_margin
    assert [(bin_.low, bin_.high) for bin_ in bins] == [(1, 2), (2, 4), (4, 6), (6, 8)]
    assert [(bin_.score.decided, bin_.score.right) for bin_ in bins] == [(1, 0), (2, 0), (2, 1), (3, 3)]
    assert statistics.scores.margin.mean == 4.5
    assert (statistics.scores.chosen.max, statistics.scores.rejected.max) == (8, 0)


def test_a_source_without_scores_has_no_score_statistics(statistics_of):
    statistics = statistics_of(FOUR)
    assert statistics.scores is None
    assert statistics.rules[0].by_margin == []


def test_label_noise_comes_from_pairs_judged_twice(statistics_of):
    """Five pairs twice, one of them in both directions: d = 1/5 = 2 e (1 - e), so e = (1 - sqrt(0.6)) / 2 = 0.1127."""
    again = [pair(f"q{n}", "yes it is", "no", annotator="Ann") for n in range(5)]
    by_bob = [row | {"annotator": "Bob"} for row in (*again[:4], pair("q4", "no", "yes it is"))]
    rows = [*again, *by_bob, pair("alone", "a", "b", annotator="Ann")]
    noise = statistics_of(rows).label_noise
    assert (noise.repeated, noise.judgements, noise.disputed) == (5, 10, 1)
    assert noise.disagreement == pytest.approx(0.2)
    assert noise.error == pytest.approx(0.112702, abs=1e-6)
    assert noise.label_smoothing == 0.113
    assert noise.error_low < noise.error < noise.error_high <= 0.5
    assert len(noise.examples) == 1


def test_three_judgments_of_one_pair_are_compared_in_three_ways(statistics_of):
    """Two in one direction, one in the other: 2 of 3 comparisons disagree, more than coin flips would."""
    rows = [pair("q", "a", "b", worker=1), pair("q", "a", "b", worker=2), pair("q", "b", "a", worker=3)]
    noise = statistics_of(rows).label_noise
    assert noise.disagreement == pytest.approx(2 / 3)
    assert (noise.error, noise.label_smoothing) == (0.5, None)


def test_every_side_of_a_pair_has_its_lengths(statistics_of):
    """Prompts of 2, 3, 4 and 5 characters, longer responses of 6, 7, 4 and 9."""
    pair_lengths = statistics_of(FOUR).characters.pair
    assert (pair_lengths.min, pair_lengths.median, pair_lengths.max) == (8, 8, 14)


def test_label_noise_is_unknown_where_nothing_was_judged_twice(statistics_of):
    assert statistics_of(FOUR).label_noise is None


def test_copies_are_no_second_judgments(statistics_of):
    copies = [pair(f"q{n}", "a", "b") for n in range(40)] * 2
    assert statistics_of(copies).label_noise is None
    # A contradiction without judges says nothing about pairs whose judgments agree, as those may be copies.
    assert statistics_of([*copies, pair("q1", "b", "a")]).label_noise is None
    by_one = [row | {"annotator": "Ann"} for row in copies]
    assert statistics_of(by_one).label_noise is None
    by_two = [*by_one, *(row | {"annotator": "Bob"} for row in copies[:5])]
    noise = statistics_of(by_two).label_noise
    assert (noise.repeated, noise.judgements, noise.disputed, noise.error) == (5, 10, 0, 0)


def test_planted_label_noise_is_found_again(statistics_of):
    """4,000 pairs judged twice, each label wrong with probability 0.15."""
    coin = random.Random(0)
    rows = []
    for number in range(4000):
        for judge in ("Ann", "Bob"):
            sides = ("good", "bad") if coin.random() > 0.15 else ("bad", "good")
            rows.append(pair(f"q{number}", *sides, judge=judge))
    noise = statistics_of(rows).label_noise
    assert noise.repeated == 4000
    assert noise.error == pytest.approx(0.15, abs=0.015)
    assert noise.error_low < 0.15 < noise.error_high


def test_error_rate_inverts_the_disagreement():
    for error in (0.0, 0.05, 0.3, 0.5):
        assert error_rate(2 * error * (1 - error)) == pytest.approx(error, abs=1e-7)
    assert error_rate(0.9) == 0.5


def test_wilson_interval_matches_published_values():
    """Newcombe 1998, table I, case (a): 81 of 263 gives 0.2553 to 0.3662."""
    assert [round(end, 4) for end in wilson_interval(81, 263)] == [0.2553, 0.3662]
    assert wilson_interval(0, 5)[0] == 0
    assert wilson_interval(5, 5)[1] == 1


def test_list_items_are_lines():
    assert list_items("1. one\n 2) two\n* three\n• four\n-5 degrees\n3.14 is pi") == 4


@given(st.lists(st.integers(-900, 900), min_size=1, max_size=200))
def test_quantiles_of_small_integers_are_those_of_numpy(values):
    counts = ValueCounts()
    counts.add(values[: len(values) // 2])
    counts.add(values[len(values) // 2 :])
    shares = [0.0, 0.05, 0.25, 0.5, 0.75, 0.99, 1.0]
    assert counts.quantiles(shares) == np.quantile(values, shares, method="inverted_cdf").tolist()


@given(st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=1, max_size=50))
def test_other_quantiles_are_within_half_a_percent(values):
    counts = ValueCounts()
    counts.add(values)
    shares = [0.0, 0.3, 0.5, 1.0]
    exact = np.quantile(values, shares, method="inverted_cdf")
    assert counts.quantiles(shares) == pytest.approx(exact.tolist(), rel=0.0051, abs=1e-12)


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=200))
def test_quantiles_of_lengths_are_exact(values):
    counts = ValueCounts(exact=True)
    counts.add(values[: len(values) // 2])
    counts.add(values[len(values) // 2 :])
    shares = [0.0, 0.05, 0.25, 0.5, 0.75, 0.99, 1.0]
    assert counts.quantiles(shares) == np.quantile(values, shares, method="inverted_cdf").tolist()


def test_too_many_different_lengths_are_rounded_whatever_their_order():
    values = np.arange(1, 200_000, 7)
    forward, backward = ValueCounts(exact=True), ValueCounts(exact=True)
    for start in range(0, len(values), 1000):
        forward.add(values[start : start + 1000])
        backward.add(values[::-1][start : start + 1000])
    shares = [0.0, 0.1, 0.5, 0.9, 1.0]
    exact = np.quantile(values, shares, method="inverted_cdf")
    assert forward.quantiles(shares) == backward.quantiles(shares) == pytest.approx(exact.tolist(), rel=0.0051)
    assert len(forward._counts) == len(backward._counts) < 4000


def test_memory_does_not_grow_with_the_values():
    counts = ValueCounts()
    for start in range(0, 1_000_000, 100_000):
        counts.add(np.arange(start, start + 100_000))
    assert counts.count == 1_000_000
    assert len(counts._counts) < 4000


def test_the_first_of_equal_pairs_are_named():
    largest = Largest(3)
    largest.add([1, 5, 5, 5, 5, float("nan")], list("abcdef"))
    assert largest.ids() == ["b", "c", "d"]


def test_a_folder_without_pairs_has_no_statistics(make_prepared):
    from dpo_data.prepared.reader import Prepared, read_manifest

    folder = make_prepared([{"prompt": "a", "chosen": "", "rejected": "b"}], max_invalid=1.0)
    statistics = compute_statistics(Prepared(folder, read_manifest(folder)))
    assert (statistics.pairs, statistics.characters, statistics.lengths, statistics.rules) == (0, None, None, [])


def test_conversations_are_measured_by_their_contents(make_prepared):
    row = {
        "prompt": [{"role": "user", "content": "hello"}],
        "chosen": [{"role": "assistant", "content": "four"}],
        "rejected": [{"role": "assistant", "content": "fives"}],
    }
    statistics = compute_statistics(open_prepared(make_prepared([row], form="conversational")))
    assert (statistics.characters.prompt.max, statistics.characters.chosen.max, statistics.characters.rejected.max) == (
        5,
        4,
        5,
    )


def test_a_margin_from_the_source_takes_precedence_over_the_difference_of_scores(tmp_path):
    import pyarrow as pa

    batch = pa.record_batch({"margin": [2.0, None], "chosen_score": [5.0, 5.0], "rejected_score": [1.0, 1.0]})
    assert row_margins(batch).tolist() == [2.0, 4.0]
