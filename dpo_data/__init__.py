"""Preference data made right: raw sources to validated pairs and cached tokens.

Importing this package loads nothing heavy; each name below loads its module on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpo_data.conversion.convert import convert
    from dpo_data.errors import DataError
    from dpo_data.inspect.validation import validate
    from dpo_data.prepared.reader import open_prepared
    from dpo_data.sources import SOURCES
    from dpo_data.tokens.cache import open_tokens, tokenize

__version__ = "0.1.0"

__version__ = "0.1.0"

_MODULES = {
    "SOURCES": "dpo_data.sources",
    "DataError": "dpo_data.errors",
    "convert": "dpo_data.conversion.convert",
    "open_prepared": "dpo_data.prepared.reader",
    "open_tokens": "dpo_data.tokens.cache",
    "tokenize": "dpo_data.tokens.cache",
    "validate": "dpo_data.inspect.validation",
}

__all__ = ["SOURCES", "DataError", "convert", "open_prepared", "open_tokens", "tokenize", "validate"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
