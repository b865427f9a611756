"""report.html and the model card of a run."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from dpo_train.data.caches import DataCard
from dpo_train.run.curves import Record, _is_tied, draw_curves

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
License of the data: {report.card.license}.{source} The base model's license applies too.

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
