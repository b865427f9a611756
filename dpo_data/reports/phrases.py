"""Phrases about statistics and tokens that the terminal and the pages share."""

import json

from dpo_data.inspect.statistics.models import ENOUGH_REPEATS, GapScore, LabelNoise
from dpo_data.tokens.manifest import TokenCounts, TokensManifest
from dpo_data.tokens.remarks import cut_counts, remark_lines


def gap_name(gap: GapScore) -> str:
    """Return by how many characters the longer response is longer, in words."""
    return f"by {gap.low} or more" if gap.high is None else f"by {gap.low} to {gap.high}"


def noise_headline(noise: LabelNoise | None) -> str:
    """Return the estimate of the label noise in one line, or the reason that there is none."""
    if noise is None:
        return "Label noise: unknown, as no pair has two judges, named by a column such as annotator or worker."
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


#: What the numbers of an audit of truncation mean for conversations.
CUT_BY_TOKENS = (
    "Counted as with --truncation-unit token. By turns, the default for conversations, the same pairs are truncated, "
    "but prompts lose whole turns, and so more tokens; responses lose at most as many."
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
    if counts.turns_dropped:
        lines.append(f"Truncated: {cut_counts(counts)}.")
    return [*lines, *remark_lines(counts)]
