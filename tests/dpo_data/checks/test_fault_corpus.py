"""Every fault that the corpus plants is found under its code and origin, and clean rows are not reported."""

from collections import Counter
from dataclasses import replace

import pytest
from fault_corpus import Result, groups, run, write_dataset
from fault_scenes import SCENES
from fault_texts import Writer

from dpo_data.checks import CHECKS
from dpo_data.errors import ROW_ERRORS

#: Codes with faults of their own.
CODES = [code for scene in SCENES.values() for code in scene.faults]


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Result:
    return run(tmp_path_factory.mktemp("faults"), faults=270, clean_share=1.5, seed=11)


def test_every_code_is_planted(result):
    assert sorted(result.planted) == sorted([*ROW_ERRORS, *CHECKS])
    assert set(ROW_ERRORS) <= set(CODES)


def test_every_planted_fault_is_found_under_its_code_and_origin(result):
    assert result.lost == []
    assert result.found == result.planted
    assert min(result.planted[code] for code in CODES) >= 6


def test_clean_rows_are_not_reported(result):
    assert result.clean > 300
    assert {code: origins for code, origins in result.false.items() if origins} == {}


def test_a_check_without_a_fault_of_its_own_is_planted_by_its_example(tmp_path):
    # The examples are text pairs.
    no_faults = {"pairs": replace(SCENES["pairs"], faults={}, options={"source": "pairs", "form": "text"})}
    result = run(tmp_path, faults=0, scenes=no_faults)
    assert result.planted == dict.fromkeys(CHECKS, 1)
    assert {code for code, _ in result.lost} == {"contamination"}  # its example is not in the evaluation set
    assert sum(map(len, result.false.values())) == 0


def test_a_seed_always_gives_the_same_corpus(tmp_path):
    for name in ("one", "two"):
        for scene in SCENES:
            w = Writer(6)
            waiting = list(groups(SCENES[scene], w, faults=2, clean=5))
            write_dataset(tmp_path / name / scene, waiting, w, adjacent=SCENES[scene].adjacent)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")]
    assert len(files) > len(SCENES)
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_faults_are_spread_evenly(result):
    counts = Counter(result.planted[code] for code in CODES)
    assert max(counts) - min(counts) <= 7
