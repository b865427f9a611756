"""Registry of the raw datasets that `dpo-data convert` reads: one adapter per file, one line per adapter."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dpo_data.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from dpo_data.sources.source import Source, SourceSummary

#: Name on the command line -> module. Modules are imported on use, so that --help lists the names quickly.
SOURCES = {
    "hh-rlhf": "dpo_data.sources.hh_rlhf",
    "shp": "dpo_data.sources.shp",
    "ultrafeedback": "dpo_data.sources.ultrafeedback",
    "ultrafeedback-binarized": "dpo_data.sources.ultrafeedback_binarized",
    "orca-dpo-pairs": "dpo_data.sources.orca_dpo_pairs",
    "helpsteer2": "dpo_data.sources.helpsteer2",
    "helpsteer2-preference": "dpo_data.sources.helpsteer2_preference",
    "helpsteer3": "dpo_data.sources.helpsteer3",
    "pku-saferlhf": "dpo_data.sources.pku_saferlhf",
    "nectar": "dpo_data.sources.nectar",
    "oasst": "dpo_data.sources.oasst",
    "webgpt": "dpo_data.sources.webgpt",
    "summarize-from-feedback": "dpo_data.sources.summarize_from_feedback",
    "stack-exchange": "dpo_data.sources.stack_exchange",
    "capybara-dpo": "dpo_data.sources.capybara_dpo",
    "tulu3-preference": "dpo_data.sources.tulu3_preference",
    "mt-bench-judgments": "dpo_data.sources.mt_bench_judgments",
    "chatbot-arena": "dpo_data.sources.chatbot_arena",
    "ultra-interact": "dpo_data.sources.ultra_interact",
    "step-dpo": "dpo_data.sources.step_dpo",
    "reward-bench": "dpo_data.sources.reward_bench",
    "rm-bench": "dpo_data.sources.rm_bench",
    "llamafactory": "dpo_data.sources.llamafactory",
    "ms-swift": "dpo_data.sources.ms_swift",
    "axolotl": "dpo_data.sources.axolotl",
    "openai-preference": "dpo_data.sources.openai_preference",
    "nemo-rank": "dpo_data.sources.nemo_rank",
    "kto": "dpo_data.sources.kto",
    "preference-lists": "dpo_data.sources.preference_lists",
    "scored-rows": "dpo_data.sources.scored_rows",
    "two-answers": "dpo_data.sources.two_answers",
    "ranked": "dpo_data.sources.ranked",
    "pairs": "dpo_data.sources.pairs",
}


def load_source(name: str) -> "Source":
    """Return the source of that name.

    Raises: UsageError: the name is unknown.
    """
    if name not in SOURCES:
        suggestion = did_you_mean(name, SOURCES)
        raise UsageError(f"{name}: there is no such source.\n  Sources: {', '.join(SOURCES)}.{suggestion}")
    source: Source = import_module(SOURCES[name]).SOURCE
    return source


def list_sources() -> list["SourceSummary"]:
    """Return a summary of every source, in the order of the registry."""
    from dpo_data.sources.source import SourceSummary

    return [SourceSummary.model_validate(load_source(name), from_attributes=True) for name in SOURCES]


def matching_sources(row: Mapping[str, Any]) -> list[str]:
    """Return the names of the sources that a row may belong to, datasets before general layouts."""
    return [name for name in SOURCES if load_source(name).matches(row, {})]
