"""Callbacks of a run: its progress line and its metrics file."""

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dpo_train.run.curves import is_untrained


class MetricsFile(TrainerCallback):  # type: ignore[misc]
    """Metrics file: one JSON object per log record; a resumed run begins with the records before it.

    Records of the policy before its first update have `"untrained": true`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the file with the records of the run that is resumed."""
        if state.is_world_process_zero:
            self._path.write_text("".join(map(_line, state.log_history)), encoding="utf-8")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log the last step whatever the interval, so that the curves reach the end."""
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Append the newest record."""
        if state.is_world_process_zero:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(state.log_history[-1]))


def _line(record: dict[str, Any]) -> str:
    marked = record | {"untrained": True} if is_untrained(record) else record
    return json.dumps(marked) + "\n"


class ProgressLine(TrainerCallback):  # type: ignore[misc]
    """Live line on standard error: steps, loss, accuracy, margin, time left; plain lines where it is not a terminal."""

    #: Seconds without a line after which a step is reported too, where standard error is not a terminal.
    SILENCE_S = 60.0

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._began = self._step_began = self._said = time.monotonic()
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
        """Start the clock of the steps, which leaves out evaluations."""
        self._step_began = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Advance the line."""
        now = time.monotonic()
        self._training_s += now - self._step_began
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=state.global_step)
        elif state.is_world_process_zero and now - self._said >= self.SILENCE_S:
            self._say(f"train  step {state.global_step}/{state.max_steps}")

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
        if is_untrained(record) and state.max_steps:
            figures += "  (untrained policy)"
        if not prefix:
            figures += f"  {(state.num_input_tokens_seen - self._tokens_before) / self._training_s:,.0f} tok/s"
        if self._progress is not None and self._task is not None and not prefix:
            self._progress.update(self._task, figures=figures)
        else:
            self._say(f"{'test ' if prefix else 'train'}  step {state.global_step}/{state.max_steps}  {figures}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the line as it is."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        self._console.print(f"{line}  {self._said - self._began:.0f} s", highlight=False, soft_wrap=True)
