r"""The boundary of prompt and response: with white space, with a marker of a prompt template, or with neither.

Two texts that meet with neither are glued: "How do I keep bread fresh?Wrap it in a cloth.". They are turns of a
dialogue rather than two parts of one text.
"""

import re

#: Words before a colon, or in a heading, that announce a response.
_LABELS = (
    "a", "ai", "answer", "assistant", "bot", "chatbot", "chatgpt", "completion", "explanation", "gpt", "model",
    "output", "reply", "response", "solution", "summary", "tl;dr", "tldr",
    "助手", "回复", "回答", "摘要", "答", "答案", "总结", "解答", "输出",
)  # fmt: skip
#: Words before a colon, or in a heading, with which a response names its speaker.
_SPEAKERS = ("ai", "assistant", "bot", "chatbot", "gpt", "human", "model", "response", "user", "助手", "用户")
#: Special tokens of chat templates, such as <|assistant|>, [/INST] or <start_of_turn>model.
_SPECIAL = r"(?:<[|｜][^<>|｜\s]{1,40}[|｜]>|\[/?INST\]|<</?SYS>>|</?(?:s|bos|eos)>|<(?:start|end)_of_turn>)"
_ROLE = r"(?:assistant|model|user|system)?"


def _labels(words: tuple[str, ...]) -> str:
    return "|".join(map(re.escape, words))


_PROMPT_END = re.compile(
    rf"(?:{_SPECIAL}{_ROLE}"
    rf"|^[ \t]*[#*>\[(]*[ \t]*(?:{_labels(_LABELS)})[ \t]*[*\])]*[ \t]*[:：][*]*"
    rf"|^[ \t]*#+[ \t]*(?:{_labels(_LABELS)})"
    r"|(?<=\s)(?:assistant|ai|bot|gpt|tl;dr)[ \t]*[:：])\Z",
    re.IGNORECASE | re.MULTILINE,
)
_RESPONSE_START = re.compile(
    rf"{_SPECIAL}|[#*>\[(]*[ \t]*(?:{_labels(_SPEAKERS)})[ \t]*[*\])]*[ \t]*[:：]|#+[ \t]*(?:{_labels(_LABELS)})\b",
    re.IGNORECASE,
)
_ENDS_WITH_SPECIAL = re.compile(rf"{_SPECIAL}{_ROLE}\Z")
_STARTS_WITH_SPECIAL = re.compile(_SPECIAL)
#: Characters at the end of a prompt that may hold a marker: a search of the whole text would cost a pass over it.
_MARKER_CHARACTERS = 64


def meet_in_white_space(prompt: str, response: str) -> bool:
    r"""Return True if there is white space, or a special token of a chat template, between prompt and response.

    Also if one of them is empty.

    >>> meet_in_white_space("\n\nHuman: Hi\n\nAssistant:", " Hello"), meet_in_white_space("Hi?", "Hello")
    (True, False)
    """
    if not prompt or not response or prompt[-1].isspace() or response[0].isspace():
        return True
    return bool(_ENDS_WITH_SPECIAL.search(prompt[-_MARKER_CHARACTERS:]) or _STARTS_WITH_SPECIAL.match(response))


def are_parts_of_one_text(prompt: str, response: str) -> bool:
    r"""Return True if prompt and response meet in white space, or in a marker such as "TL;DR:" or "### Response".

    >>> are_parts_of_one_text("A long post.\n\nTL;DR:", "Short."), are_parts_of_one_text("Hi?", "Hello")
    (True, False)
    """
    if meet_in_white_space(prompt, response):
        return True
    # The end of a long prompt may begin inside a line, where "^" must not match.
    start = prompt.rfind("\n", 0, max(0, len(prompt) - _MARKER_CHARACTERS)) + 1
    return bool(_PROMPT_END.search(prompt, start) or _RESPONSE_START.match(response))
