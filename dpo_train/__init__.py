"""Train language models with DPO on prepared pairs: a trainer, its losses and a command line.

Importing this package loads nothing heavy: each name loads its module on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dpo_data import __version__ as __version__

if TYPE_CHECKING:
    from dpo_train.batches.padded import DPODataCollatorWithPadding
    from dpo_train.config import DPOConfig
    from dpo_train.losses import LOSSES
    from dpo_train.trainer.trainer import DPOTrainer

_MODULES = {
    "LOSSES": "losses",
    "DPOConfig": "config",
    "DPODataCollatorWithPadding": "batches.padded",
    "DPOTrainer": "trainer.trainer",
}

__all__ = ["LOSSES", "DPOConfig", "DPODataCollatorWithPadding", "DPOTrainer"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
