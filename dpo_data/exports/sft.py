"""TRL's prompt-completion format for SFTTrainer: the chosen responses alone."""

from dpo_data.exports.format import EVERYTHING, ExportFormat, Layout, Line
from dpo_data.exports.notation import content, context
from dpo_data.exports.rules import ends_with
from dpo_data.exports.trl import CONTEXT, NO_ARGUMENTS, NULLS
from dpo_data.records import PreferencePair


def lines(pair: PreferencePair) -> list[Line]:
    """Return the prompt with the chosen response."""
    return [{"prompt": content(pair.prompt), "completion": content(pair.chosen), **context(pair)}]


FORMAT = ExportFormat(
    name="sft",
    reader="TRL 1.16",
    homepage="https://huggingface.co/docs/trl/dataset_formats#prompt-completion",
    layouts={
        "prompt-completion": Layout(
            columns={"prompt": "text or messages", "completion": "text or messages"},
            optional=CONTEXT,
            fill=NO_ARGUMENTS,
            # What compares chosen with rejected is no loss where rejected is left out on purpose.
            carries=EVERYTHING,
            lines=lines,
            forms=("text", "conversational"),
            file_formats=("jsonl", "parquet"),
            rules=(ends_with("completion", ("assistant",)),),
        )
    },
    usage='`datasets.load_dataset("json", data_files={"train": "train.jsonl"})` for `SFTTrainer(train_dataset=...)`.',
    notes=(
        "Rejected responses and scores are left out. A line that repeats one of the pairs before it is written once.",
    ),
    cautions=(NULLS,),
)
