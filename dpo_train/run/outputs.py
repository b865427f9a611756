"""Files that a run writes beside the model."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from dpo_train.data.caches import data_card
from dpo_train.run.options import RunOptions
from dpo_train.run.report import RunReport, Sample
from dpo_train.trainer.metrics import COLUMNS
from dpo_train.trainer.trainer import DPOTrainer


@dataclass(frozen=True)
class RunResult:
    """What came of it: evaluation metrics before and after (empty without a test split), and where things lie."""

    output: Path
    tokens: Path
    steps: int
    pairs: int
    before: Mapping[str, float]
    after: Mapping[str, float]


def _write_pairs(trainer: DPOTrainer, trained: tuple[np.ndarray, np.ndarray, np.ndarray], path: Path) -> None:
    """Write what was measured of every pair: when it was trained on, and in the last evaluation.

    Columns: split, id, origin, step, policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps,
    margin (of the rewards).
    """
    parts = []
    steps, rows, table = trained
    if len(rows):
        parts.append(("train", trainer.train_dataset, steps, rows, table))
    if trainer.evaluated is not None:
        count = len(trainer.evaluated)
        steps = np.full(count, trainer.state.global_step)
        parts.append(("test", trainer.eval_dataset, steps, np.arange(count), trainer.evaluated))
    kept = {
        "policy_chosen_logps": "logps/chosen",
        "policy_rejected_logps": "logps/rejected",
        "ref_chosen_logps": "reference_logps/chosen",
        "ref_rejected_logps": "reference_logps/rejected",
        "margin": "rewards/margins",
    }
    tables = [
        pa.table(
            {
                "split": [split] * len(rows),
                "id": dataset.column("id", rows),
                "origin": dataset.column("origin", rows),
                "step": steps,
                **{name: values[:, COLUMNS.index(column)] for name, column in kept.items()},
            }
        )
        for split, dataset, steps, rows, values in parts
    ]
    if tables:
        pyarrow.parquet.write_table(pa.concat_tables(tables), path)


def _report(options: RunOptions, result: RunResult, trainer: DPOTrainer, samples: list[Sample]) -> RunReport:
    return RunReport(
        title=f"{Path(options.model).name} on {options.data}",
        model=options.model,
        data=options.data,
        card=data_card(options.data),
        loss=trainer.loss_type,
        records=trainer.state.log_history,
        before=result.before,
        after=result.after,
        options={name: value for name, value in dataclasses.asdict(options).items() if value not in (None, {}, False)},
        samples=samples,
        trained=not options.eval_only,
    )
