"""Phrases about statistics and tokens that the terminal and the pages share."""

import json

from dpo_data.inspect.statistics.models import ENOUGH_REPEATS, GapScore, LabelNoise
from dpo_data.options import Severity
from dpo_data.tokens.coverage import REASONING_DROPPED, TOOLS_DROPPED
from dpo_data.tokens.manifest import TokenCounts, TokensManifest
from dpo_data.tokens.rendering import (
    ARGUMENTS_UNUSED,
    EOS_APPENDED,
    PROMPT_CONTINUED,
    PROMPT_END_LEFT_OUT,
    TEXT_AFTER_END_CUT,
    THINKING_CLOSED_AT_ONCE,
)

#: Code of a remark on tokenized pairs -> what it says, with the text that it quotes.
REMARKS = {
    PROMPT_END_LEFT_OUT: "the prompts are without {}, which the template writes for generation but not before a "
    "response",
    THINKING_CLOSED_AT_ONCE: "the prompts open a block of thoughts ({}), and the responses, which have no reasoning, "
    "close it at once, which the model learns; to train answers without thinking, use --chat-template-kwargs "
    "enable_thinking=false",
    REASONING_DROPPED: "the template leaves out the reasoning of a response: {}",
    TOOLS_DROPPED: "the template leaves out the tools: {}",
    PROMPT_CONTINUED: "the prompts end in the beginning of a response, which both responses continue",
    TEXT_AFTER_END_CUT: "what the template writes after the end of a response is cut off: {}",
    EOS_APPENDED: "the template ends a response with no special token, so {} is appended; make sure that generation "
    "stops there",
    ARGUMENTS_UNUSED: "the template does not use its arguments {}",
}


def gap_name(gap: GapScore) -> str:
    """Return by how many characters the longer response is longer, in words."""
    return f"by {gap.low} or more" if gap.high is None else f"by {gap.low} to {gap.high}"


def verdict(worst: Severity | None) -> str:
    """Return the result of a validation in one sentence."""
    return {"error": "Errors found.", "warning": "Warnings, but no errors.", None: "Nothing found."}[worst]


def noise_headline(noise: LabelNoise | None) -> str:
    """Return the estimate of the label noise in one line, or the reason that there is none."""
    if noise is None:
        return "Label noise: unknown, as no pair of responses was judged twice."
    if noise.repeated < ENOUGH_REPEATS:
        return f"Label noise: not enough repeated judgments to estimate ({noise.repeated})"
    interval = f"{noise.error:.1%} ({noise.error_low:.1%} – {noise.error_high:.1%})"
    advice = (
        "the labels are no better than coin flips"
        if noise.label_smoothing is None
        else f"--label-smoothing {noise.label_smoothing}"
    )
    return (
        f"Label noise: {interval}: {advice}. Pairs judged more than once: {noise.repeated:,}; "
        f"in both directions: {noise.disputed:,}."
    )


def token_remarks(manifest: TokensManifest) -> list[str]:
    """Return what a reader should know about a token cache beyond its table of counts, in sentences."""
    counts = TokenCounts.total(list(manifest.splits.values()))
    options = manifest.options
    lines = []
    if manifest.form == "text" and manifest.tokenizer.has_chat_template:
        lines.append(
            "The pairs are text, so the tokenizer's chat template is not used; for a chat model, convert with "
            "--form conversational."
        )
    if options.chat_template_kwargs:
        given = ", ".join(f"{name}={json.dumps(value)}" for name, value in options.chat_template_kwargs.items())
        lines.append(f"Arguments of the chat template: {given}.")
    if options.date:
        lines.append(f"The chat template takes {options.date} for today.")
    lines += [
        f"{remark.pairs:,} pairs: {REMARKS[code].format(remark.quote)}." for code, remark in counts.remarks.items()
    ]
    if counts.seams:
        lines.append(
            f"{counts.seams:,} responses begin at a seam: tokenized together, the end of the prompt and the beginning "
            "of the response would be one token. They are kept apart, as a model that continues the prompt sees them."
        )
    return lines
