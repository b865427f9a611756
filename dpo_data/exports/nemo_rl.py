"""NeMo-RL's preference formats: `binary` for BinaryPreferenceDataset, `ranks` for PreferenceDataset."""

from collections.abc import Mapping
from typing import Any

from dpo_data.exports.format import ExportFormat, Layout, Line, Rule
from dpo_data.exports.notation import content, messages_of
from dpo_data.exports.rules import differ, ends_with, not_empty
from dpo_data.records import PreferencePair


def binary(pair: PreferencePair) -> list[Line]:
    """Return the line of a conversation whose responses are one plain message each."""
    line: Line = {"prompt": content(pair.prompt)}
    return [line | {name: messages_of(getattr(pair, name))[-1].content for name in ("chosen", "rejected")}]


def ranks(pair: PreferencePair) -> list[Line]:
    """Return the line of a conversation; rank 0 is the best."""
    sides = (content(pair.chosen), content(pair.rejected))
    completions = [{"rank": rank, "completion": side} for rank, side in enumerate(sides)]
    return [{"context": content(pair.prompt), "completions": completions}]


def _two_ranks(line: Mapping[str, Any]) -> str | None:
    found = [item["rank"] for item in line["completions"]]
    return None if len(found) == 2 == len(set(found)) else f"completions has the ranks {found}, not two different ones."


_MESSAGES = frozenset(["system", "turns", "tool_calls", "tool_call_ids", "tool_call_text", "reasoning"])
FORMAT = ExportFormat(
    name="nemo-rl",
    reader="NeMo-RL, main of 2025-11",
    homepage="https://github.com/NVIDIA-NeMo/RL/blob/main/docs/guides/dpo.md",
    layouts={
        "binary": Layout(
            columns={"prompt": "messages", "chosen": "text", "rejected": "text"},
            carries=frozenset(["system", "turns"]),
            lines=binary,
            rules=(
                ends_with("prompt", ("user", "tool")),
                not_empty("chosen", "rejected"),
                differ("chosen", "rejected"),
            ),
            read_back="pairs",
        ),
        "ranks": Layout(
            columns={"context": "messages", "completions": "ranked completions"},
            carries=_MESSAGES | {"response_turns"},
            lines=ranks,
            rules=(
                ends_with("context", ("user", "tool")),
                Rule("two_completions", "there are exactly two completions, of different ranks", _two_ranks),
                *(ends_with(f"completions.{index}.completion", ("assistant",)) for index in range(2)),
                differ("completions.0.completion", "completions.1.completion"),
            ),
            read_back="nemo-rank",
        ),
    },
    usage="`data.dataset_name: BinaryPreferenceDataset` with `train_data_path` and the keys prompt, chosen and "
    "rejected; `PreferenceDataset` for ranks.",
)
