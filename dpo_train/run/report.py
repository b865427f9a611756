"""report.html and the model card of a run, and the table that the terminal shows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from dpo_data.inspect.run_pairs import JudgedPair
from dpo_data.prepared.files import replace_texts
from dpo_data.reports.html.charts import Curve
from dpo_data.reports.html.fragments import render_fragment
from dpo_data.reports.html.rendering import Content, Section, render_page
from dpo_train.data.caches import DataCard
from dpo_train.run.curves import Record, draw_curves, evaluation_points, is_tied, is_untrained, training_points

TEMPLATES = Path(__file__).parent / "templates"

#: Metrics to look at first, and their titles.
_HEADLINES = {
    "loss": "loss",
    "rewards/accuracies": "reward accuracy",
    "rewards/margins": "reward margin",
    "rewards/chosen": "reward of chosen",
    "rewards/rejected": "reward of rejected",
    "logps/chosen": "log-probability of chosen",
    "logps/rejected": "log-probability of rejected",
}
#: Training arguments to report whether or not the user gave them.
_ALWAYS_REPORTED = (
    "loss_type",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "optim",
    "weight_decay",
    "max_grad_norm",
    "bf16",
    "fp16",
    "seed",
)


class Sample(NamedTuple):
    """Text generated for a prompt by the reference, which is the model before training, and by the trained model."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class RunReport:
    """Everything that the reports of a run show.

    Args:
        title: heading of the reports.
        model: the model that was trained, as the user named it.
        data: the prepared folder.
        card: where the data comes from.
        loss: name of the loss.
        steps: optimizer steps.
        pairs: training pairs, or those of the test split if the run was only an evaluation.
        records: the run's log, oldest first.
        before: the evaluation before the first step; empty without a test split.
        after: the evaluation of the saved model.
        options: options of the run, with the values that were used; see `used_options`.
        worst: the pairs that the trained model ranks worst, lowest margin first.
        samples: texts generated for some prompts of the test split.
        trained: False if the run was only an evaluation.
        saved_step: the step of the saved model; None for the last one.
    """

    title: str
    model: str
    data: Path
    card: DataCard
    loss: str
    steps: int
    pairs: int
    records: Sequence[Record]
    before: Record
    after: Record
    options: Mapping[str, str]
    worst: Sequence[JudgedPair]
    samples: Sequence[Sample]
    trained: bool
    saved_step: int | None = None

    @property
    def saved_model(self) -> str:
        """Which of the run's models is saved, if not the last one, as the end of a phrase."""
        return saved_model(self.steps, self.steps if self.saved_step is None else self.saved_step)


def write_report(folder: Path, report: RunReport) -> None:
    """Write report.html and, for a trained model, curves.png and README.md, its model card."""
    texts = {folder / "report.html": page(report)}
    if report.trained:
        draw_curves(report.records, folder / "curves.png", report.title, ln2=report.loss == "sigmoid")
        texts[folder / "README.md"] = _model_card(report)
    replace_texts(texts)


def page(report: RunReport) -> str:
    """Return the report as one HTML page."""
    return render_page("run_report.html", report, SECTIONS, templates=TEMPLATES, tiles=_tiles(report))


def run_result(output: Path, steps: int, before: Record, after: Record) -> str:
    """Return the result of a run as a piece of HTML, for notebooks."""
    files = [
        name for name in ("report.html", "curves.png", "metrics.jsonl", "pairs.parquet") if (output / name).exists()
    ]
    rows = compared(before, after)
    return render_fragment("run_result.html", templates=TEMPLATES, output=output, steps=steps, rows=rows, files=files)


def _tiles(report: RunReport) -> list[tuple[str, str]]:
    """Return headline numbers and their titles: of the test split, or else of the last training record."""
    tiles = (
        [(f"{report.steps:,}", "optimizer steps"), (f"{report.pairs:,}", "training pairs")] if report.trained else []
    )
    training = [record for record in report.records if "loss" in record]
    prefix, record = ("eval_", report.after) if report.after else ("", training[-1] if training else {})
    where = "test" if prefix else "last training record"
    if record and not prefix and is_untrained(record):
        where += ", of the untrained policy"
    for name, decimals in (("loss", 3), ("rewards/accuracies", 3), ("rewards/margins", 3)):
        if prefix + name in record:
            tiles.append((f"{record[prefix + name]:.{decimals}f}".replace("-", "−"), f"{_HEADLINES[name]}, {where}"))
    return tiles


def evaluation(report: RunReport) -> Content:
    """Return the metrics of the test split before and after training."""
    rows = compared(report.before, report.after)
    return {"rows": rows, "after": f"after training{report.saved_model}"} if rows else None


def curves(report: RunReport) -> Content:
    """Return charts of loss, reward accuracy, margins and rewards."""
    if not report.trained:
        return None

    def both(name: str) -> list[Curve]:
        return _drawn(
            Curve("train", "chosen", training_points(report.records, name)),
            Curve("test", "bad", evaluation_points(report.records, name), dots=True),
        )

    rewards = _drawn(
        Curve("chosen, train", "chosen", training_points(report.records, "rewards/chosen")),
        Curve("chosen, test", "chosen", evaluation_points(report.records, "rewards/chosen"), dots=True),
        Curve("rejected, train", "rejected", training_points(report.records, "rewards/rejected")),
        Curve("rejected, test", "rejected", evaluation_points(report.records, "rewards/rejected"), dots=True),
    )
    panels = [
        ("Loss", both("loss"), math.log(2) if report.loss == "sigmoid" else None),
        ("Reward accuracy", both("rewards/accuracies"), 0.5),
        ("Reward margin, chosen minus rejected", both("rewards/margins"), 0.0),
        ("Rewards", rewards, 0.0),
    ]
    return {"panels": [panel for panel in panels if panel[1]]}


def _drawn(*lines: Curve) -> list[Curve]:
    return [line for line in lines if any(math.isfinite(value) for _, value in line.points)]


def worst(report: RunReport) -> Content:
    """Return the pairs that the model ranks worst."""
    disagree = sum(pair.margin < 0 for pair in report.worst)
    return {"pairs": report.worst, "disagree": disagree} if report.worst else None


def samples(report: RunReport) -> Content:
    """Return texts generated before and after training."""
    return {"samples": report.samples} if report.samples else None


def options(report: RunReport) -> Content:
    """Return the options of the run."""
    return {"options": report.options}


SECTIONS: tuple[Section, ...] = (
    Section("evaluation", "Before and after", evaluation),
    Section("curves", "Curves", curves),
    Section("worst", "Worst pairs", worst),
    Section("samples", "Samples", samples),
    Section("options", "Options", options),
)


def used_options(given: Mapping[str, Any], args: Any, **resolved: Any) -> dict[str, str]:
    """Return the options of a run by name, with the values that were used; those that are off are left out.

    Args:
        given: options of the run; an option that is a mapping holds further options.
        args: the training arguments.
        resolved: values that are in neither of them.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        values |= value if isinstance(value, Mapping) else {name: value}
    names = dict.fromkeys([*values, *_ALWAYS_REPORTED, *resolved])
    used = {name: resolved.get(name, getattr(args, name, values.get(name))) for name in names}
    return {name: _as_text(value) for name, value in used.items() if value is not None and value is not False}


def _as_text(value: Any) -> str:
    """Return an option's value as one would write it on the command line.

    >>> [_as_text(value) for value in (True, 1e-6, 8.0, ["q_proj", "v_proj"], Path("run"))]
    ['yes', '1e-06', '8', 'q_proj, v_proj', 'run']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return _as_text(value.value)
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_as_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple | set):
        return ", ".join(map(_as_text, value))
    return str(value)


def compared(before: Record, after: Record) -> list[tuple[str, str, str, str]]:
    """Return the rows of the table of before and after: title, before, after, change."""
    rows = []
    for name, title in _HEADLINES.items():
        if f"eval_{name}" in before and f"eval_{name}" in after:
            start, end = before[f"eval_{name}"], after[f"eval_{name}"]
            if name == "rewards/accuracies" and is_tied(before, "eval_"):
                rows.append((title, "all tied", f"{end:.4f}", ""))
            else:
                rows.append((title, f"{start:.4f}", f"{end:.4f}", f"{end - start:+.4f}"))
    return rows


def saved_model(steps: int, saved_step: int) -> str:
    """Return which of a run's models is saved, if not the last one, as the end of a phrase.

    >>> saved_model(30, 22), saved_model(30, 30)
    (' (model of step 22 of 30, the best)', '')
    """
    return "" if saved_step == steps else f" (model of step {saved_step} of {steps}, the best)"


def before_and_after(before: Record, after: Record, which: str = "") -> Table:
    """Return the evaluation metrics before training and of the saved model, side by side, for a terminal.

    Args:
        before: the evaluation before the first step.
        after: that of the saved model.
        which: `saved_model`.
    """
    table = Table(title=f"Evaluation on the test split{which}", title_justify="left")
    table.add_column("")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for row in compared(before, after):
        table.add_row(*row)
    return table


def _model_card(report: RunReport) -> str:
    import yaml

    rows = "\n".join(f"| {' | '.join(row)} |" for row in compared(report.before, report.after))
    evaluation = (
        f"| test split | before | after | change |\n|---|---|---|---|\n{rows}\n" if rows else "No test split.\n"
    )
    options = "\n".join(f"- {name}: `{value}`" for name, value in report.options.items())
    source = f" Source: {report.card.homepage}." if report.card.homepage else ""
    facts = {
        "library_name": "transformers",
        "base_model": report.model,
        "license": "other",
        "tags": ["dpo", "preference-data"],
    }
    front_matter = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return f"""---
{front_matter}---

# {report.title}

`{report.model}`, trained with the {report.loss} loss by dpo-train on pairs of preferred and rejected responses.

## Data

{report.card.source}, {report.pairs:,} pairs for training, of {report.card.pairs:,} in the data set
({report.card.quarantined:,} raw rows were left out with a reason).
License of the data: {report.card.license}.{source} The base model's license applies too.

## Evaluation{report.saved_model}

{evaluation}
![Curves](curves.png)

## Options

{options}
"""
