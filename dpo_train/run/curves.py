"""curves.png: loss, reward accuracy, margins and rewards of a run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Record = Mapping[str, Any]

_TRAIN, _TEST, _REJECTED = "#3b6ea8", "#d1495b", "#8a8d91"
_LEVEL = {"color": "#c9c9c9", "linewidth": 1, "linestyle": ":", "zorder": 0}


def is_tied(record: Record, prefix: str = "") -> bool:
    """Return True if policy and reference agree on all pairs, as before the first step: accuracy 0 means nothing."""
    return bool(record[f"{prefix}rewards/margins"] == 0 == record[f"{prefix}rewards/accuracies"])


def is_untrained(record: Record) -> bool:
    """Return True if a record of a run only has metrics of the policy before its first update."""
    return bool(record["step"] == (1 if "loss" in record else 0))


def training_points(records: Sequence[Record], name: str) -> list[tuple[int, float]]:
    """Return the steps and values of a metric on the training pairs, without the accuracy of tied pairs."""
    return _points([record for record in records if "loss" in record], name)


def evaluation_points(records: Sequence[Record], name: str) -> list[tuple[int, float]]:
    """Return the steps and values of a metric on the test split, without the accuracy of tied pairs."""
    return _points([record for record in records if "eval_loss" in record], name, "eval_")


def _points(records: Sequence[Record], name: str, prefix: str = "") -> list[tuple[int, float]]:
    accuracy = name == "rewards/accuracies"
    return [(record["step"], record[prefix + name]) for record in records if not (accuracy and is_tied(record, prefix))]


def curves_figure(records: Sequence[Record], title: str, *, ln2: bool = True) -> Figure:
    """Return a matplotlib figure of loss, reward accuracy, margins and rewards over the steps of a run.

    Args:
        records: the run's log, oldest first; training records have "loss", evaluations "eval_loss".
        title: heading of the figure.
        ln2: mark the loss of a policy without a preference, as the sigmoid loss has it.
    """
    figure = Figure(figsize=(10, 6.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    loss, accuracy, margin, rewards = figure.subplots(2, 2, sharex=True).flat

    for axes, name, heading in (
        (loss, "loss", "Loss"),
        (accuracy, "rewards/accuracies", "Reward accuracy"),
        (margin, "rewards/margins", "Reward margin, chosen minus rejected"),
    ):
        _line(axes, training_points(records, name), _TRAIN, "train")
        _dots(axes, evaluation_points(records, name), _TEST, "test")
        _dress(axes, heading)
    for name, color in (("chosen", _TRAIN), ("rejected", _REJECTED)):
        _line(rewards, training_points(records, f"rewards/{name}"), color, f"{name}, train")
        _dots(rewards, evaluation_points(records, f"rewards/{name}"), color, f"{name}, test")
    _dress(rewards, "Rewards")
    if ln2:
        loss.axhline(math.log(2), **_LEVEL)
        loss.annotate(
            "ln 2: no preference", (0.99, math.log(2)), xycoords=("axes fraction", "data"), ha="right", va="bottom",
            fontsize=8, color="#8a8d91",
        )  # fmt: skip
    if legend := accuracy.get_legend():
        legend.set_loc("lower right")
    accuracy.set_ylim(-0.02, 1.02)
    accuracy.axhline(0.5, **_LEVEL)
    for axes in (margin, rewards):
        axes.axhline(0, **_LEVEL)
        axes.set_xlabel("optimizer step")
    return figure


def draw_curves(records: Sequence[Record], path: Path, title: str, *, ln2: bool = True) -> None:
    """Write `curves_figure` as a PNG."""
    curves_figure(records, title, ln2=ln2).savefig(path, dpi=150)


def _line(axes: Axes, points: Sequence[tuple[int, float]], color: str, label: str) -> None:
    if points:  # an empty plot would have no size, and the layout would give up
        axes.plot(*zip(*points, strict=True), color=color, label=label, linewidth=1.6)


def _dots(axes: Axes, points: Sequence[tuple[int, float]], color: str, label: str) -> None:
    """Draw evaluations as dots; the dotted line between them is only a visual guide."""
    if points:
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=color, linewidth=0.8, linestyle=":", zorder=1.5)
        axes.plot(
            steps, values, color=color, label=label, marker="o", markersize=5, linestyle="", clip_on=False, zorder=3
        )


def _dress(axes: Axes, heading: str) -> None:
    axes.set_title(heading, loc="left", fontsize=10)
    axes.grid(axis="y", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
