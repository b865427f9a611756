"""What a run shows of itself: a progress line, a log of metrics, curves, and a table of before and after."""

import base64
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dpo_train.data import DataCard

Record = Mapping[str, Any]

#: What a person looks at first, and how it is written.
_HEADLINES = {
    "loss": "loss",
    "rewards/accuracies": "reward accuracy",
    "rewards/margins": "reward margin",
    "rewards/chosen": "reward of chosen",
    "rewards/rejected": "reward of rejected",
    "logps/chosen": "log-probability of chosen",
    "logps/rejected": "log-probability of rejected",
}

_TRAIN, _EVAL, _REJECTED = "#3b6ea8", "#d1495b", "#8a8d91"


class MetricsFile(TrainerCallback):  # type: ignore[misc]
    """Writes every log record of a run to a file, one JSON object a line; after a resume, those before it first."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the file with what a resumed run has logged already."""
        if state.is_world_process_zero:
            self._path.write_text("".join(json.dumps(record) + "\n" for record in state.log_history), encoding="utf-8")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log the last step whatever the interval, so that the curves reach the end."""
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Append the newest record."""
        if state.is_world_process_zero:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(state.log_history[-1]) + "\n")


class ProgressLine(TrainerCallback):  # type: ignore[misc]
    """One live line on standard error: steps, loss, accuracy, margin, time left; plain lines without a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._began = self._step_began = time.monotonic()
        self._tokens_before = 0
        self._training_s = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the line."""
        self._began, self._tokens_before = time.monotonic(), state.num_input_tokens_seen
        if not state.is_world_process_zero or not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("train"), BarColumn(bar_width=12), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(), console=self._console,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=state.max_steps, completed=state.global_step, figures="")
        self._progress.start()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock of the steps, which evaluations do not count for."""
        self._step_began = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the line on."""
        self._training_s += time.monotonic() - self._step_began
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Show the newest figures."""
        record = state.log_history[-1]
        prefix = "eval_" if "eval_loss" in record else ""
        if not state.is_world_process_zero or f"{prefix}loss" not in record:
            return
        figures = "  ".join(
            f"{short} {record[prefix + name]:.3f}"
            for name, short in (("loss", "loss"), ("rewards/accuracies", "accuracy"), ("rewards/margins", "margin"))
            if prefix + name in record
        )
        if not prefix:
            figures += f"  {(state.num_input_tokens_seen - self._tokens_before) / self._training_s:,.0f} tok/s"
        if self._progress is not None and self._task is not None and not prefix:
            self._progress.update(self._task, figures=figures)
        else:
            what = "test " if prefix else "train"
            step, seconds = f"{state.global_step}/{state.max_steps}", time.monotonic() - self._began
            self._console.print(f"{what}  step {step}  {figures}  {seconds:.0f} s", highlight=False, soft_wrap=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the line as it is."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class Sample(NamedTuple):
    """What was written to a prompt by the reference, which is the model before training, and by the model after it."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class RunReport:
    """All that the reports of a run show.

    Args:
        title: the line above.
        model: the model that was trained, as the user named it.
        data: the prepared folder.
        card: where the data comes from.
        loss: name of the loss.
        records: the run's log, oldest first.
        before: the evaluation before the first step; empty without a test split.
        after: the evaluation after the last step.
        options: what the user asked for.
        samples: what was written to some prompts of the test split.
        trained: whether there was training, and not only an evaluation.
    """

    title: str
    model: str
    data: Path
    card: DataCard
    loss: str
    records: Sequence[Record]
    before: Record
    after: Record
    options: Mapping[str, Any]
    samples: Sequence[Sample]
    trained: bool


def write_report(folder: Path, report: RunReport) -> None:
    """Write curves.png, report.html and, for a trained model, README.md as its card."""
    if report.trained:
        draw_curves(report.records, folder / "curves.png", report.title, ln2=report.loss == "sigmoid")
        (folder / "README.md").write_text(_model_card(report), encoding="utf-8")
    (folder / "report.html").write_text(_html(folder, report), encoding="utf-8")


def compared(before: Record, after: Record) -> list[tuple[str, str, str, str]]:
    """Rows of the table of before and after: title, before, after, change."""
    rows = []
    for name, title in _HEADLINES.items():
        if f"eval_{name}" in before and f"eval_{name}" in after:
            start, end = before[f"eval_{name}"], after[f"eval_{name}"]
            if name == "rewards/accuracies" and _is_tied(before, "eval_"):
                rows.append((title, "all tied", f"{end:.4f}", ""))
            else:
                rows.append((title, f"{start:.4f}", f"{end:.4f}", f"{end - start:+.4f}"))
    return rows


def before_and_after(before: Record, after: Record) -> Table:
    """The evaluation metrics before the first and after the last step, side by side, for a terminal."""
    table = Table(title="Evaluation on the test split", title_justify="left")
    table.add_column("")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for row in compared(before, after):
        table.add_row(*row)
    return table


def _model_card(report: RunReport) -> str:
    rows = "\n".join(f"| {' | '.join(row)} |" for row in compared(report.before, report.after))
    evaluation = (
        f"| test split | before | after | change |\n|---|---|---|---|\n{rows}\n" if rows else "No test split.\n"
    )
    options = "\n".join(f"- {name}: `{value}`" for name, value in report.options.items())
    source = f" Source: {report.card.homepage}." if report.card.homepage else ""
    return f"""---
library_name: transformers
base_model: {report.model}
license: other
tags: [dpo, preference-data]
---

# {report.title}

`{report.model}`, trained with the {report.loss} loss by dpo-train on pairs of preferred and rejected responses.

## Data

{report.card.source}, {report.card.pairs:,} pairs ({report.card.quarantined:,} raw rows were left out with a reason).
Licence of the data: {report.card.licence}.{source} The base model's licence applies too.

## Evaluation

{evaluation}
![Curves](curves.png)

## Options

{options}
"""


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
h1 {{ font-size: 1.4rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }} img {{ max-width: 100% }}
table {{ border-collapse: collapse }} th, td {{ padding: .25rem .9rem .25rem 0; text-align: right }}
th:first-child, td:first-child {{ text-align: left }} tr {{ border-bottom: 1px solid #eee }}
.sample {{ display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; border-top: 1px solid #ddd; padding: .8rem 0 }}
.sample > p {{ grid-column: 1 / 3; margin: 0; color: #555 }}
pre {{ white-space: pre-wrap; font: inherit; margin: 0; background: #f7f7f7; padding: .6rem }} small {{ color: #777 }}
</style><h1>{title}</h1>{body}</html>
"""


def _html(folder: Path, report: RunReport) -> str:
    parts = []
    if report.before:
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in compared(
            report.before, report.after
        ))  # fmt: skip
        parts.append(
            "<h2>Evaluation on the test split</h2><table><tr><th></th><th>before</th><th>after</th><th>change</th></tr>"
            f"{rows}</table>"
        )
    if report.trained:
        image = base64.b64encode((folder / "curves.png").read_bytes()).decode()
        parts.append(f'<h2>Curves</h2><img alt="Curves of the run" src="data:image/png;base64,{image}">')
    if report.samples:
        parts.append("<h2>Samples</h2>")
        parts += [
            f'<div class="sample"><p>{escape(sample.prompt)}</p><div><small>before</small><pre>{escape(sample.before)}'
            f"</pre></div><div><small>after</small><pre>{escape(sample.after)}</pre></div></div>"
            for sample in report.samples
        ]
    options = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in report.options.items()
    )
    parts.append(f"<h2>Options</h2><table>{options}</table>")
    return _PAGE.format(title=escape(report.title), body="".join(parts))


def _is_tied(record: Record, prefix: str = "") -> bool:
    """Whether policy and reference agree on all pairs, as before the first step: an accuracy of 0 says nothing."""
    return bool(record[f"{prefix}rewards/margins"] == 0 == record[f"{prefix}rewards/accuracies"])


def draw_curves(records: Sequence[Record], path: Path, title: str, *, ln2: bool = True) -> None:
    """Draw loss, reward accuracy, margins and rewards of a run over its steps, as a PNG.

    Args:
        records: the run's log, oldest first; training records have "loss", evaluations "eval_loss".
        path: where to write the picture.
        title: the line above it.
        ln2: mark the loss of a policy that prefers neither response, which is that of the sigmoid loss.
    """
    training = [record for record in records if "loss" in record]
    evaluation = [record for record in records if "eval_loss" in record]
    figure = Figure(figsize=(10, 6.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    loss, accuracy, margin, rewards = figure.subplots(2, 2, sharex=True).flat

    for axes, name, heading in (
        (loss, "loss", "Loss"),
        (accuracy, "rewards/accuracies", "Reward accuracy"),
        (margin, "rewards/margins", "Reward margin, chosen less rejected"),
    ):
        tied = name == "rewards/accuracies"
        _line(axes, [r for r in training if not (tied and _is_tied(r))], name, _TRAIN, "train")
        _dots(axes, [r for r in evaluation if not (tied and _is_tied(r, "eval_"))], f"eval_{name}", _EVAL, "test")
        _dress(axes, heading)
    for name, color in (("chosen", _TRAIN), ("rejected", _REJECTED)):
        _line(rewards, training, f"rewards/{name}", color, f"{name}, train")
        _dots(rewards, evaluation, f"eval_rewards/{name}", color, f"{name}, test")
    _dress(rewards, "Rewards")
    if ln2:
        loss.axhline(math.log(2), color="#c9c9c9", linewidth=1, linestyle=":", zorder=0)
        loss.annotate(
            "ln 2: no preference", (0.99, math.log(2)), xycoords=("axes fraction", "data"), ha="right", va="bottom",
            fontsize=8, color="#8a8d91",
        )  # fmt: skip
    accuracy.legend(frameon=False, fontsize=8, loc="lower right")
    accuracy.set_ylim(-0.02, 1.02)
    accuracy.axhline(0.5, color="#c9c9c9", linewidth=1, linestyle=":", zorder=0)
    for axes in (margin, rewards):
        axes.axhline(0, color="#c9c9c9", linewidth=1, linestyle=":", zorder=0)
        axes.set_xlabel("optimizer step")
    figure.savefig(path, dpi=150)


def _line(axes: Axes, records: Sequence[Record], name: str, color: str, label: str) -> None:
    steps = [record["step"] for record in records]
    axes.plot(steps, [record[name] for record in records], color=color, label=label, linewidth=1.6)


def _dots(axes: Axes, records: Sequence[Record], name: str, color: str, label: str) -> None:
    """Evaluations are few: the thin line between them leads the eye and claims no course."""
    steps, values = [record["step"] for record in records], [record[name] for record in records]
    axes.plot(steps, values, color=color, linewidth=0.8, linestyle=":", zorder=1.5)
    axes.plot(steps, values, color=color, label=label, marker="o", markersize=5, linestyle="", clip_on=False, zorder=3)


def _dress(axes: Axes, heading: str) -> None:
    axes.set_title(heading, loc="left", fontsize=10)
    axes.grid(axis="y", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
