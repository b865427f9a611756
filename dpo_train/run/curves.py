"""curves.png: loss, rewards and accuracy over the run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Record = Mapping[str, Any]


_TRAIN, _EVAL, _REJECTED = "#3b6ea8", "#d1495b", "#8a8d91"


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
