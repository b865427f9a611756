"""OpenRLHF's preference format: prompt, chosen and rejected, and the margin that its reward model's loss may use."""

from dpo_data.exports.format import EVERYTHING, Caution, ExportFormat, Layout, Line, margin_of
from dpo_data.exports.notation import content
from dpo_data.exports.rules import differ, ends_with
from dpo_data.exports.trl import ASSISTANT, NULLS
from dpo_data.records import PreferencePair


def lines(pair: PreferencePair) -> list[Line]:
    """Return the line of a pair."""
    line: Line = {name: content(getattr(pair, name)) for name in ("prompt", "chosen", "rejected")}
    margin = margin_of(pair)
    return [line if margin is None else {**line, "margin": margin}]


def _ends_in_line_break(value: object) -> bool:
    text = value if isinstance(value, str) else value[-1].get("content") if isinstance(value, list) and value else ""
    return str(text or "").endswith("\n")


FORMAT = ExportFormat(
    name="openrlhf",
    reader="OpenRLHF 0.8",
    homepage="https://openrlhf.readthedocs.io/en/latest/dataset.html",
    layouts={
        "preference": Layout(
            columns=dict.fromkeys(("prompt", "chosen", "rejected"), "text or messages"),
            optional={"margin": "number"},
            carries=EVERYTHING - {"tools", "template_arguments"},
            lines=lines,
            forms=("text", "conversational"),
            rules=(ends_with("prompt", ("user", "tool")), *ASSISTANT, differ("chosen", "rejected")),
            read_back="pairs",
        )
    },
    usage="`--dataset json@DIR --prompt_key prompt --chosen_key chosen --rejected_key rejected`, and for conversations "
    "`--apply_chat_template`.",
    notes=(
        "OpenRLHF drops pairs whose prompt has at least max_len - 2 tokens, without counting them.",
        "OpenRLHF writes EOS over the last token of a response that it cuts.",
    ),
    cautions=(
        NULLS,
        Caution(
            "line_breaks",
            "line breaks at the end of a response are lost",
            lambda line: any(_ends_in_line_break(line[side]) for side in ("chosen", "rejected")),
        ),
    ),
)
