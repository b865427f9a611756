"""What is said about tokenized pairs in words: what the chat template does with them, and seams."""

from dpo_data.tokens.coverage import REASONING_DROPPED, TOOLS_DROPPED
from dpo_data.tokens.manifest import TokenCounts
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


def remark_lines(counts: TokenCounts) -> list[str]:
    """Return the remarks on pairs in sentences, with the number of pairs and the text that each is about."""
    lines = []
    for code, remark in counts.remarks.items():
        pairs = "1 pair" if remark.pairs == 1 else f"{remark.pairs:,} pairs"
        lines.append(f"{pairs}: {REMARKS[code].format(remark.quote)}.")
    if counts.seams:
        responses = "1 response begins" if counts.seams == 1 else f"{counts.seams:,} responses begin"
        lines.append(
            f"{responses} at a seam: tokenized together, the end of the prompt and the beginning of the response would "
            "be one token. They are kept apart, as a model that continues the prompt sees them."
        )
    return lines
