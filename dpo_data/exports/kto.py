"""TRL's unpaired format for KTOTrainer: a prompt, one completion, and a label that says if it was good."""

from dpo_data.exports.format import EVERYTHING, ExportFormat, Layout, Line
from dpo_data.exports.notation import content, context
from dpo_data.exports.rules import ends_with
from dpo_data.exports.trl import CONTEXT, NO_ARGUMENTS, NULLS
from dpo_data.records import PreferencePair


def lines(pair: PreferencePair) -> list[Line]:
    """Return two lines: chosen is true, rejected false."""
    prompt = content(pair.prompt)
    return [
        {"prompt": prompt, "completion": content(side), "label": label, **context(pair)}
        for side, label in ((pair.chosen, True), (pair.rejected, False))
    ]


FORMAT = ExportFormat(
    name="kto",
    reader="TRL 1.16",
    homepage="https://huggingface.co/docs/trl/dataset_formats#unpaired-preference",
    layouts={
        "unpaired": Layout(
            columns={"prompt": "text or messages", "completion": "text or messages", "label": "bool"},
            optional=CONTEXT,
            fill=NO_ARGUMENTS,
            carries=EVERYTHING - {"scores"},
            lines=lines,
            forms=("text", "conversational"),
            file_formats=("jsonl", "parquet"),
            rules=(ends_with("completion", ("assistant",)),),
            lines_per_pair=2,
            read_back="kto",
        )
    },
    usage='`datasets.load_dataset("json", data_files={"train": "train.jsonl"})` for `KTOTrainer(train_dataset=...)`.',
    notes=("A line that repeats one of the pairs before it with the same prompt is written once.",),
    cautions=(NULLS,),
)
