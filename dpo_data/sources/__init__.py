"""The raw data sets that `dpo-data convert` reads: one adapter a file, one line here."""

from importlib import import_module
from typing import TYPE_CHECKING

from dpo_data.errors import UsageError

if TYPE_CHECKING:
    from dpo_data.sources.source import Source

#: Name on the command line -> module. Modules load on use: the command line lists the names without them.
SOURCES = {
    "hh-rlhf": "dpo_data.sources.hh_rlhf",
    "pairs": "dpo_data.sources.pairs",
}


def load_source(name: str) -> "Source":
    """The source of that name.

    Raises: UsageError: there is none.
    """
    if name not in SOURCES:
        raise UsageError(f"{name}: there is no such source.\n  Sources: {', '.join(SOURCES)}.")
    source: Source = import_module(SOURCES[name]).SOURCE
    return source
