"""Every defect that the fault corpus plants is found where it stands, and clean rows are left alone."""

from collections import Counter

import pytest
from faults import SCENES, Result, Writer, run, write_scene

from dpo_data.checks import CHECK_HINTS
from dpo_data.errors import ROW_ERRORS


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Result:
    return run(tmp_path_factory.mktemp("faults"), faults=210, clean_share=1.5, seed=11)


def test_every_code_there_is_has_a_fault():
    planted = [code for scene in SCENES.values() for code in scene.faults]
    assert sorted(planted) == sorted([*ROW_ERRORS, *CHECK_HINTS])


def test_every_planted_fault_is_found_under_its_code_at_its_place(result):
    assert result.lost == []
    assert result.found == result.planted
    assert min(result.planted.values()) >= 6


def test_clean_rows_are_left_alone(result):
    assert result.clean > 300
    assert {code: origins for code, origins in result.false.items() if origins} == {}


def test_a_seed_gives_the_same_corpus(tmp_path):
    for name in ("one", "two"):
        for scene in SCENES:
            write_scene(tmp_path / name / scene, SCENES[scene], Writer(6), faults=2, clean=5)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")]
    assert len(files) > len(SCENES)
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_faults_are_spread_evenly(result):
    counts = Counter(result.planted.values())
    assert max(counts) - min(counts) <= 7
