"""What a run shows of itself: a progress line, a log of metrics, curves, and a table of before and after."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

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
        self._began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the line."""
        self._began = time.monotonic()
        if not state.is_world_process_zero or not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(), console=self._console,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=state.max_steps, completed=state.global_step, figures="")
        self._progress.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the line on."""
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


def before_and_after(before: Record, after: Record) -> Table:
    """The evaluation metrics before the first and after the last step, side by side."""
    table = Table(title="Evaluation on the test split", title_justify="left")
    table.add_column("")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for name, title in _HEADLINES.items():
        if f"eval_{name}" in before and f"eval_{name}" in after:
            start, end = before[f"eval_{name}"], after[f"eval_{name}"]
            if name == "rewards/accuracies" and _is_tied(before, "eval_"):
                table.add_row(title, "all tied", f"{end:.4f}", "")
            else:
                table.add_row(title, f"{start:.4f}", f"{end:.4f}", f"{end - start:+.4f}")
    return table


def _is_tied(record: Record, prefix: str = "") -> bool:
    """Whether policy and reference agree on all pairs, as before the first step: an accuracy of 0 says nothing."""
    return bool(record[f"{prefix}rewards/margins"] == 0 == record[f"{prefix}rewards/accuracies"])


def draw_curves(records: Sequence[Record], path: Path, title: str) -> None:
    """Draw loss, reward accuracy, margins and rewards of a run over its steps, as a PNG.

    Args:
        records: the run's log, oldest first; training records have "loss", evaluations "eval_loss".
        path: where to write the picture.
        title: the line above it.
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
    loss.axhline(0.6931, color="#c9c9c9", linewidth=1, linestyle=":", zorder=0)
    loss.annotate("ln 2: no preference", (0.99, 0.6931), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                  fontsize=8, color="#8a8d91")  # fmt: skip
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
