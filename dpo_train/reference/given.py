"""Reference log-probabilities that the dataset brings along."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from torch import Tensor

from dpo_data.errors import UsageError
from dpo_train.batches.batch import Batch
from dpo_train.data.rows import GIVEN_LOGPS, PairRows

_COLUMNS = f"{' and '.join(GIVEN_LOGPS[:2])} (or {' and '.join(GIVEN_LOGPS[2:])})"


@dataclass(frozen=True)
class GivenLogps:
    """A reference whose log-probabilities are columns of the dataset."""

    description: str = "log-probabilities in the dataset"

    def logps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of chosen and rejected responses, (B,) each.

        Raises:
            UsageError: the dataset of the batch does not have them.
        """
        chosen, rejected = batch.reference_chosen_logps, batch.reference_rejected_logps
        if chosen is None or rejected is None:
            raise UsageError(
                f"the reference of this trainer is the columns {_COLUMNS} of its training set, and this dataset has "
                "none.\n  Add them, or pass a ref_model and train without the columns."
            )
        return chosen, rejected

    def generate(self, **inputs: Any) -> NoReturn:
        """Raise UsageError: there is no model."""
        raise UsageError(f"the reference is the columns {_COLUMNS}, which generate no text; pass a ref_model instead.")


def uses_given_logps(data: Iterable[Any], *, ref_model: Any) -> bool:
    """Return True if the reference of a run is columns of its datasets.

    Args:
        data: training and evaluation sets.
        ref_model: the reference of the constructor.

    Raises:
        UsageError: only some datasets have these columns, or there is a reference model too.
    """
    data = list(data)
    having = [rows for rows in data if isinstance(rows, PairRows) and rows.has_given_logps]
    if not having:
        return False
    if ref_model is not None:
        raise UsageError(
            f"{having[0].name}: it has columns with reference log-probabilities, and a ref_model is given too.\n"
            f"  Leave out ref_model, or remove the columns {_COLUMNS}."
        )
    if len(having) < len(data):
        other = next(rows for rows in data if rows not in having)
        name = other.name if isinstance(other, PairRows) else "an iterable dataset"
        raise UsageError(
            f"{name}: it has no reference log-probabilities, unlike {having[0].name}.\n"
            f"  All datasets of a run need the columns {_COLUMNS}, or none."
        )
    return True
