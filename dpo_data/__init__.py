"""Preference data made right: raw sources to validated pairs and cached tokens.

Importing this package loads nothing heavy; each name below loads its module on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpo_data.conversion import convert
    from dpo_data.errors import DataError
    from dpo_data.prepared import open_prepared, open_tokens
    from dpo_data.sources import SOURCES
    from dpo_data.tokenization import tokenize
    from dpo_data.validation import validate

_MODULES = {
    "SOURCES": "dpo_data.sources",
    "DataError": "dpo_data.errors",
    "convert": "dpo_data.conversion",
    "open_prepared": "dpo_data.prepared",
    "open_tokens": "dpo_data.prepared",
    "tokenize": "dpo_data.tokenization",
    "validate": "dpo_data.validation",
}

__all__ = ["SOURCES", "DataError", "convert", "open_prepared", "open_tokens", "tokenize", "validate"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
