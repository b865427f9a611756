"""Registry of the formats that `dpo-data export` writes: one format per file, one line per format."""

from importlib import import_module
from typing import TYPE_CHECKING

from dpo_data.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from dpo_data.exports.format import ExportFormat

#: Name on the command line -> module. Modules are imported on use, so that --help lists the names quickly.
EXPORTS = {
    "trl": "dpo_data.exports.trl",
    "llamafactory": "dpo_data.exports.llamafactory",
    "openai": "dpo_data.exports.openai",
    "azure": "dpo_data.exports.azure",
    "together": "dpo_data.exports.together",
    "kto": "dpo_data.exports.kto",
    "axolotl": "dpo_data.exports.axolotl",
    "openrlhf": "dpo_data.exports.openrlhf",
    "ms-swift": "dpo_data.exports.ms_swift",
    "nemo-rl": "dpo_data.exports.nemo_rl",
    "sft": "dpo_data.exports.sft",
    "reward": "dpo_data.exports.reward",
}


def load_export(name: str) -> "ExportFormat":
    """Return the format of that name.

    Raises: UsageError: the name is unknown.
    """
    if name not in EXPORTS:
        suggestion = did_you_mean(name, EXPORTS)
        raise UsageError(f"{name}: there is no such format.\n  Formats: {', '.join(EXPORTS)}.{suggestion}")
    format_: ExportFormat = import_module(EXPORTS[name]).FORMAT
    return format_
