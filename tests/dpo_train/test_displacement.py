"""The displacement guard, on planted records."""

import json

import pytest

from dpo_train.displacement import DisplacementGuard


def warnings_of(records: list[tuple[float, float]], guard: DisplacementGuard | None = None) -> list[int]:
    """Return the steps at which the guard warns, of records of chosen log-ratio per token and margin."""
    guard = guard or DisplacementGuard()
    logs = [{"logratios/chosen_per_token": chosen, "rewards/margins": margin} for chosen, margin in records]
    return [step for step, record in enumerate(logs, 1) if guard.add(record, step)]


def test_a_collapse_of_chosen_under_a_growing_margin_is_found_once() -> None:
    assert warnings_of([(0.0, 0.0), (-0.2, 0.5), (-0.4, 1.0), (-0.6, 1.5), (-0.9, 2.0)]) == [4]


@pytest.mark.parametrize(
    "records",
    [
        [(0.0, 0.0), (0.1, 0.5), (0.3, 1.0), (0.4, 2.0)],  # chosen rises
        [(0.0, 0.0), (-0.05, 0.5), (-0.1, 1.0), (-0.2, 2.0)],  # chosen falls a little, as in the usual recipes
        [(0.0, 0.0), (-0.4, 0.5), (-0.8, 0.4), (-1.2, 0.3)],  # the margin does not grow: another problem
        [(0.0, 0.0), (-0.7, 0.5), (-0.3, 1.0), (-0.6, 1.5), (-0.5, 2.0)],  # noise between batches
    ],
)
def test_healthy_runs_are_silent(records: list[tuple[float, float]]) -> None:
    assert warnings_of(records) == []


def test_the_fall_is_measured_from_the_first_record() -> None:
    """Without a reference, log-ratios are log-probabilities, and with another model they do not begin at 0."""
    assert warnings_of([(-2.5, 0.0), (-2.6, 0.5), (-2.7, 1.0), (-2.8, 1.5)]) == []
    assert warnings_of([(-2.5, 0.0), (-2.8, 0.5), (-2.9, 1.0), (-3.1, 1.5)]) == [4]


def test_a_resumed_guard_continues_where_it_was() -> None:
    records = [(0.0, 0.0), (-0.2, 0.5), (-0.4, 1.0), (-0.6, 1.5)]
    guard, resumed = DisplacementGuard(), DisplacementGuard()
    assert warnings_of(records[:3], guard) == []
    resumed.load_state(json.loads(json.dumps(guard.state())))
    assert warnings_of(records[3:], resumed) == [1]
    resumed.load_state({})
    assert (resumed.first, resumed.recent, resumed.found) == (None, [], False)
