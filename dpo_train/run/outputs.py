"""Files that a run writes next to the model."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpo_data.errors import UsageError
from dpo_data.inspect.run_pairs import JudgedPair, worst_pairs
from dpo_data.run_pairs import RUN_PAIRS
from dpo_train.data.caches import data_card
from dpo_train.data.rows import PairRows
from dpo_train.data.run_pairs import MeasuredRows, write_measured_rows
from dpo_train.run.options import RunOptions
from dpo_train.run.report import RunReport, Sample, run_result, used_options
from dpo_train.trainer.metrics import COLUMNS
from dpo_train.trainer.trainer import DPOTrainer

#: Worst pairs to show in the report.
WORST_PAIRS = 8


@dataclass(frozen=True)
class RunResult:
    """Result of a run: evaluation metrics before and after (empty without a test split), and where its files are.

    Attributes:
        output: folder of the run.
        tokens: the token cache.
        steps: optimizer steps.
        pairs: training pairs.
        before: the evaluation before the first step.
        after: the evaluation of the saved model.
        saved_step: the step of the saved model: the best one, if the run looked for it, or else the last.
    """

    output: Path
    tokens: Path
    steps: int
    pairs: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    saved_step: int = 0

    def _repr_html_(self) -> str:
        return run_result(self.output, self.steps, self.before, self.after)


#: Measurement of a pair in the run's file -> the trainer's column.
_MEASURES = {
    "policy_chosen_logps": "logps/chosen",
    "policy_rejected_logps": "logps/rejected",
    "ref_chosen_logps": "reference_logps/chosen",
    "ref_rejected_logps": "reference_logps/rejected",
    "margin": "rewards/margins",
}


def write_pairs(
    trainer: DPOTrainer, trained: tuple[np.ndarray, np.ndarray, np.ndarray], run: Path, *, saved_step: int
) -> None:
    """Write the metrics of every pair: when it was trained on, and in the evaluation of the saved model.

    Args:
        trainer: has evaluated the saved model, if there is a test split.
        trained: `PairMetrics.history`.
        run: folder of the run.
        saved_step: the optimizer step of the saved model.
    """

    def measured(split: str, dataset: PairRows, steps: np.ndarray, rows: np.ndarray, table: np.ndarray) -> MeasuredRows:
        values = {name: table[:, COLUMNS.index(column)] for name, column in _MEASURES.items()}
        return MeasuredRows(split, dataset, rows, steps, values)

    parts = []
    steps, rows, table = trained
    if len(rows):
        parts.append(measured("train", trainer.train_dataset, steps, rows, table))
    if trainer.evaluated is not None:
        count = len(trainer.evaluated)
        steps = np.full(count, saved_step)
        parts.append(measured("test", trainer.eval_dataset, steps, np.arange(count), trainer.evaluated))
    write_measured_rows(run, parts)


def _worst_pairs(options: RunOptions) -> list[JudgedPair]:
    found = []
    for folder in options.folders:
        try:
            found += worst_pairs(folder, options.output, count=WORST_PAIRS)
        except UsageError:  # a short run may have measured no pair of one folder
            if len(options.folders) == 1:
                raise
    return sorted(found, key=lambda pair: pair.margin)[:WORST_PAIRS]


def run_report(options: RunOptions, result: RunResult, trainer: DPOTrainer, samples: list[Sample]) -> RunReport:
    """Return the content of the reports of a run."""
    measured = (options.output / RUN_PAIRS).is_file()
    return RunReport(
        title=f"{Path(str(options.model)).name} on {', '.join(map(str, options.folders))}",
        model=str(options.model),
        data=options.folders[0],
        card=data_card(*options.folders),
        loss=trainer.loss_type,
        steps=result.steps,
        saved_step=result.saved_step,
        pairs=len(trainer.eval_dataset) if options.eval_only else result.pairs,
        records=trainer.state.log_history,
        before=result.before,
        after=result.after,
        options=used_options(dataclasses.asdict(options), trainer.args, beta=trainer.beta),
        worst=_worst_pairs(options) if measured else [],
        samples=samples,
        trained=not options.eval_only,
    )
