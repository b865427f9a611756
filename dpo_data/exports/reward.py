"""TRL's format for RewardTrainer: two whole texts or conversations, and the margin that its loss may use."""

from dataclasses import replace

from dpo_data.exports import trl
from dpo_data.exports.format import ExportFormat, Line, margin_of
from dpo_data.exports.notation import content, context
from dpo_data.exports.rules import differ
from dpo_data.records import PreferencePair


def lines(pair: PreferencePair) -> list[Line]:
    """Return the line of a pair, whose responses begin with the prompt."""
    prompt, margin = content(pair.prompt), margin_of(pair)
    line: Line = {name: prompt + content(getattr(pair, name)) for name in ("chosen", "rejected")}
    return [{**line, **context(pair), **({} if margin is None else {"margin": margin})}]


FORMAT = ExportFormat(
    name="reward",
    reader="TRL 1.16",
    homepage="https://huggingface.co/docs/trl/reward_trainer",
    layouts={
        "conversations": replace(
            trl.FORMAT.layouts["implicit"],
            optional={**trl.CONTEXT, "margin": "number"},
            lines=lines,
            rules=(*trl.ASSISTANT, differ("chosen", "rejected")),
            pair_rules=(),
        )
    },
    usage='`datasets.load_dataset("json", data_files={"train": "train.jsonl"})` for `RewardTrainer`.',
    notes=("RewardTrainer subtracts the column margin from the difference of the rewards if the file has one.",),
    cautions=(trl.NULLS,),
)
