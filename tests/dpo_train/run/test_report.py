"""report.html of a run: the page, style sheet and charts of dpo_data, with true values."""

import dataclasses
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_data.inspect.run_pairs import JudgedPair
from dpo_train.data.caches import DataCard
from dpo_train.run.curves import curves_figure
from dpo_train.run.outputs import RunResult
from dpo_train.run.report import SECTIONS, RunReport, Sample, page, used_options

EVIL = "<script>alert(1)</script>"


def record(step: int, prefix: str = "") -> dict[str, Any]:
    values = {"loss": 0.69 - step / 100, "rewards/accuracies": 0.5, "rewards/margins": step / 50}
    values |= {"rewards/chosen": step / 100, "rewards/rejected": -step / 100}
    values |= {"logps/chosen": -9.0, "logps/rejected": -8.0}
    return {"step": step, **{prefix + name: value for name, value in values.items()}}


TRAINING = [record(step) for step in (1, 2, 3, 4)]
EVALUATIONS = [record(0, "eval_"), record(4, "eval_")]
WORST = JudgedPair(
    -1.5, "train", 4, f"{EVIL}.jsonl:1", "0" * 32, f"Tea? {EVIL}", "Pour it while hot.", "Pour it while cold."
)


@pytest.fixture
def report() -> RunReport:
    return RunReport(
        title=f"model on {EVIL}",
        model=f"model {EVIL}",
        data=Path("prepared"),
        card=DataCard("pairs", "unknown", "", 40, 0),
        loss="sigmoid",
        steps=4,
        pairs=30,
        records=[EVALUATIONS[0], *TRAINING, EVALUATIONS[1]],
        before=EVALUATIONS[0],
        after=EVALUATIONS[1],
        options={"learning_rate": "1e-06", "note": EVIL},
        worst=[WORST],
        samples=[Sample(f"Hi {EVIL}", "I do not know it at all", f"I do not know it {EVIL}")],
        trained=True,
    )


def test_the_page_is_that_of_the_data_report(report: RunReport) -> None:
    html = page(report)
    assert re.findall(r'<section id="(.*?)">', html) == [section.name for section in SECTIONS]
    assert html.count('<svg class="chart"') == 4
    assert html.count(":root {") == 2  # light and dark
    assert "data:image" not in html
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", html)


def test_every_text_on_the_page_is_escaped(report: RunReport) -> None:
    html = page(report)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 7


def test_the_page_shows_headline_numbers_worst_pairs_and_what_changed_in_the_samples(report: RunReport) -> None:
    html = " ".join(page(report).split())
    assert "<b>4</b>optimizer steps" in html
    assert "<b>0.650</b>loss, test" in html
    assert "<td>0.6900</td><td>0.6500</td><td>−0.0400</td>" in html
    assert "margin −1.5 · train, step 4" in html
    assert "1 of these 1 has a negative margin" in html
    assert "Pour it while<mark> hot.</mark>" in html
    assert "I do not know it<mark> at all</mark>" in html


def test_a_run_without_a_test_split_reports_its_last_training_record(report: RunReport) -> None:
    html = page(dataclasses.replace(report, records=TRAINING, before={}, after={}, samples=[], worst=[]))
    assert {"evaluation", "worst", "samples"}.isdisjoint(re.findall(r'<section id="(.*?)">', html))
    assert "loss, last training record" in html


def test_an_evaluation_has_no_curves(report: RunReport) -> None:
    html = page(dataclasses.replace(report, trained=False, records=EVALUATIONS))
    assert "curves" not in re.findall(r'<section id="(.*?)">', html)
    assert "optimizer steps" not in html


@pytest.mark.parametrize("records", [TRAINING, EVALUATIONS, TRAINING[:1], []])
def test_curves_of_any_run_are_drawn_without_a_warning(records: list[dict[str, Any]], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curves_figure(records, "model on prepared").savefig(tmp_path / "curves.png")


def test_options_are_the_values_that_were_used() -> None:
    args = SimpleNamespace(learning_rate=1e-6, loss_type="sigmoid", seed=42, bf16=True, max_steps=6, beta=None)
    given = {
        "data": Path("prepared"),
        "lora_r": None,
        "eval_only": False,
        "merge_adapter": True,
        "truncation": {"max_length": 60},
        "training": {"learning_rate": 1e-6, "max_steps": 6},
    }
    assert used_options(given, args, beta=0.1) == {
        "data": "prepared",
        "merge_adapter": "yes",
        "max_length": "60",
        "learning_rate": "1e-06",
        "max_steps": "6",
        "loss_type": "sigmoid",
        "bf16": "yes",
        "seed": "42",
        "beta": "0.1",
    }


def test_the_result_of_a_run_has_a_notebook_view(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("")
    html = RunResult(tmp_path, tmp_path / "tokens", 4, 30, *EVALUATIONS)._repr_html_()
    assert "4 optimizer steps" in html
    assert "<td>0.6900</td><td>0.6500</td>" in html
    assert "report.html" in html
    assert "curves.png" not in html
