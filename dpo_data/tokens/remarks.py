"""Remarks on tokenized pairs in words: the effects of the chat template, and seams."""

from dpo_data.tokens.coverage import REASONING_DROPPED, TOOLS_DROPPED
from dpo_data.tokens.manifest import TokenCounts
from dpo_data.tokens.rendering import (
    ARGUMENTS_UNUSED,
    EOS_APPENDED,
    PROMPT_CONTINUED,
    PROMPT_END_LEFT_OUT,
    SYSTEM_CUT,
    TEXT_AFTER_END_CUT,
    THINKING_CLOSED_AT_ONCE,
    TURN_CUT_REFUSED,
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
    TURN_CUT_REFUSED: "the template refuses the prompt without its oldest turns, so the prompt loses its oldest tokens "
    "instead, the system message included: {}",
    SYSTEM_CUT: "the system message leaves no room for the last turn, and is cut too",
}


def cut_counts(counts: TokenCounts) -> str:
    """Return how many prompts and responses truncation has cut, in words; "" if none.

    >>> counts = dict.fromkeys(TokenCounts.model_fields, 0) | {"dropped": {}, "refusals": {}, "remarks": {}}
    >>> cut_counts(TokenCounts(**counts | {"prompts_cut": 3, "prompts_cut_between_turns": 2, "turns_dropped": 5}))
    '3 prompts (5 turns dropped, 1 prompt cut within a turn)'
    """
    cut = [_number(counts.prompts_cut, "prompt")] if counts.prompts_cut else []
    if counts.turns_dropped:
        within = counts.prompts_cut - counts.prompts_cut_between_turns
        also = f", {_number(within, 'prompt')} cut within a turn" if within else ""
        cut[0] += f" ({_number(counts.turns_dropped, 'turn')} dropped{also})"
    if counts.responses_cut:
        cut.append(_number(counts.responses_cut, "response"))
    return ", ".join(cut)


def _number(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"


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
