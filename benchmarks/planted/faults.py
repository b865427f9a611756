"""Planted faults: for each code a function that returns rows, the last of which must be reported under that code."""

import unicodedata
from collections.abc import Callable, Sequence

from planted.secrets import KEYS
from planted.writer import Row, Writer, assistant, row, user

#: pool -> markers of chat templates.
MARKERS = {
    "development": [
        "<|im_start|>user\n", "[INST] ", " [/INST]", "<<SYS>>\n", "<|start_header_id|>user<|end_header_id|>\n\n", "<start_of_turn>user\n", "<|user|>\n",
        "<|assistant|>\n", "<|system|>\n", "### Instruction:\n", "### Response:\n", "<think>\n", "</think>\n\n", "<|reserved_special_token_7|>", "<｜User｜>",
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", "<|channel|>final<|message|>", "[SYSTEM_PROMPT]", "<tool_call>\n", "<unused12>", "<|fim_prefix|>", "[AVAILABLE_TOOLS]",
        "<|begin_of_text|>", "<extra_id_0>", "<pad>",
    ],
    "held_out": [
        "<|im_start|>assistant\n", "[INST]", "<</SYS>>\n\n", "<|start_header_id|>assistant<|end_header_id|>", "<start_of_turn>model\n", "<|Assistant|>",
        "<｜Assistant｜>", "### Input:\n", "### Response: ", "<think>", "</think>", "<|reserved_200017|>", "<|CHATBOT_TOKEN|>", "<|start|>assistant<|channel|>analysis<|message|>",
        "[/SYSTEM_PROMPT]", "[TOOL_CALLS]", "<tool_response>\n", "<unused0>", "<|fim_middle|>", "<bos>", "<|startoftext|>", "<|python_tag|>", "<mask>", "<|vision_start|>", "<|role_end|>",
    ],
}  # fmt: skip
#: pool -> texts of end-of-sequence tokens.
ENDS = {
    "development": ["</s>", "<|endoftext|>", "<eos>", "<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<｜end▁of▁sentence｜>", "[EOS]", "<|end|>", "<|END_OF_TURN_TOKEN|>", "<|eom_id|>", "<|end_of_text|>", "<EOS>", "&lt;/s&gt;", " </s> ", "<|return|>"],
    "held_out": ["</s>", "<|endoftext|>", "<|EOS|>", "<|eot_id|>", "<|im_end|> ", "<end_of_turn>\n", "<|end_of_sentence|>", "[eos]", "<|endofprompt|>", "<|eot|>", "<|EOT|>", "<EOT>", "</S>", "&lt;|endoftext|&gt;", "<|end_of_turn|>", "<eod>"],
}  # fmt: skip
BLANKS = {
    "development": ["", " ", "\n\n", "\t \n", "\u200b", "\u00a0", "\ufeff", "\u3000", "\u200b\u200d ", "\u00ad", "\u2060", "\u2800", "\u3164", "\u200e", " \u200b\n"],
    "held_out": ["", "   ", "\r\n", "\u200c", "\u202f", "\u2003", "\u180e", "\u115f", "\uffa0", "\ufe0f", "\u200f\u200f", "\u2028", "\u034f", "\u2063", "\u00a0\u00ad"],
}  # fmt: skip
CONTROLS = {
    "development": [
        "\ufffd",
        "\x00",
        "\x07",
        "\x1b[31m",
        "\u202e",
        "\ufffe",
        "\ue000",
        "\x85",
        "\U000e0041\U000e0042",
        "\x08",
        "\ufffd\ufffd",
    ],
    "held_out": [
        "\ufffd",
        "\x01",
        "\x0b",
        "\x1b[0m",
        "\u2066",
        "\uffff",
        "\uf8ff",
        "\x9d",
        "\U000e0061",
        "\x7f",
        "\u202d",
    ],
}
#: language -> encodings that its UTF-8 bytes are read with by mistake.
WRONG = {"en": ["cp1252"], "de": ["cp1252", "latin-1"], "es": ["cp1252", "latin-1"], "fr": ["cp1252", "latin-1"], "zh": ["latin-1", "cp1252"], "ru": ["cp1251", "latin-1"], "ja": ["latin-1", "cp1252"]}  # fmt: skip
TYPOGRAPHY = {"en": "“Don’t worry – it’s fine…”", "zh": "", "ja": ""}
NULLS = ["None", "null", "NaN", "nan", "N/A", "NULL", "none", "undefined", "<NA>", "n/a", "nil", " None "]


def empty_prompt(w: Writer) -> Sequence[Row]:
    _, chosen, rejected = w.pair()
    return [row(w.random.choice(BLANKS[w.pool]), chosen, rejected)]


def empty_response(w: Writer) -> Sequence[Row]:
    return [w.one_side(lambda text, prompt: w.random.choice(BLANKS[w.pool]))]


def null_response(w: Writer) -> Sequence[Row]:
    prompt, chosen, rejected = w.pair()
    return [row(prompt, *w.random.sample([w.random.choice(NULLS), w.random.choice([chosen, rejected])], 2))]


def identical_responses(w: Writer) -> Sequence[Row]:
    prompt, chosen, _ = w.pair()
    form = "NFD" if w.random.random() < 0.2 else "NFC"
    return [row(prompt, chosen, unicodedata.normalize(form, chosen) + w.random.choice(["", " ", "\n"]))]


def near_identical_responses(w: Writer) -> Sequence[Row]:
    """Return two long responses that differ in a letter, the case of one, a comma, or a doubled space."""
    prompt, _, _ = w.pair()
    chosen = w.sentences(6)
    place = w.random.randrange(20, len(chosen) - 20)
    edits = [
        chosen[:place] + chosen[place + 1 :],
        chosen[:place] + w.random.choice("aeo,的") + chosen[place:],
        chosen[:-1] + "!",
        chosen.replace(",", "", 1).replace("，", "", 1),
    ]
    return [row(prompt, chosen, w.random.choice([edit for edit in edits if edit != chosen]))]


def repeated_role(w: Writer) -> Sequence[Row]:
    prompt, chosen, rejected = w.pair()
    turns = w.random.choice(
        [
            [user(w.prompt()), user(prompt)],
            [user(prompt), assistant(w.response()), assistant(w.response()), user(w.prompt())],
        ]
    )
    return [{"prompt": turns, "chosen": [assistant(chosen)], "rejected": [assistant(rejected)]}]


def role_marker_in_response(w: Writer) -> Sequence[Row]:
    def change(text: str, prompt: str) -> str:
        role = w.of("roles")
        role = w.random.choice([role, role, role.lower(), role.upper()])
        colon = "：" if not w.is_spaced else " :" if w.language == "fr" else ":"
        marker = w.random.choice(
            [
                "{r}{c}",
                "{r}{c}",
                "**{r}{c}**",
                "**{r}**{c}",
                "[{r}]{c}",
                "[{r}]",
                "### {r}{c}",
                "## {r}",
                "<{r}>{c}",
                "({r}){c}",
                "- {r}{c}",
            ]
        ).format(r=role, c=colon)
        kind = w.random.random()
        if kind < 0.15:
            return marker + " " + text
        if kind < 0.3:
            return text + "\n\n" + marker
        return (
            text
            + w.random.choice(["\n\n", "\n"])
            + marker
            + " "
            + w.prompt()
            + ("\n\n" + w.response() if kind > 0.7 else "")
        )

    return [w.one_side(change)]


def bad_characters(w: Writer) -> Sequence[Row]:
    def change(text: str, prompt: str) -> str:
        if w.random.random() < 0.5:
            text += w.space + TYPOGRAPHY.get(w.language, "")
            mojibake = _mojibake(w, text)
            if mojibake != text:
                return mojibake
        place = w.random.randrange(len(text))
        return text[:place] + w.random.choice(CONTROLS[w.pool]) + text[place:]

    return [w.one_side(change)]


def _mojibake(w: Writer, text: str) -> str:
    """Return the UTF-8 bytes of a text, or of a part of it, read with another encoding."""
    encoding = w.random.choice(WRONG[w.language])

    def misread(part: str) -> str:
        # Browsers and ftfy alike keep the five bytes that cp1252 leaves undefined as control characters.
        return "".join(bytes([byte]).decode(encoding, "ignore") or chr(byte) for byte in part.encode())

    kind = w.random.random()
    if kind < 0.2:
        return misread(misread(text))
    if kind < 0.6 or "\n" not in text:
        return misread(text)
    first, rest = text.split("\n", 1)
    return misread(first) + "\n" + rest


def response_repeats_prompt(w: Writer) -> Sequence[Row]:
    def change(text: str, prompt: str) -> str:
        altered = w.random.choice([
            prompt, prompt, prompt.upper(), prompt.lower(), "\"" + prompt + "\"", "“" + prompt + "”", "  " + prompt.replace(" ", "  "), prompt.rstrip("?.？。 "),
            "> " + prompt, "**" + prompt + "**", prompt.replace(",", "").replace("，", ""), prompt.replace(" ", "\n", 3),
        ])  # fmt: skip
        kind = w.random.random()
        if kind < 0.5:
            return altered + "\n\n" + text
        if kind < 0.7:
            return w.of("repeat_intro") + " " + altered + "\n\n" + text
        if kind < 0.9:
            return text + "\n\n" + altered
        return altered

    return [w.one_side(change)]


def template_marker(w: Writer) -> Sequence[Row]:
    marker = w.random.choice(MARKERS[w.pool])
    if w.random.random() < 0.25:
        prompt, chosen, rejected = w.pair()
        return [row(marker + prompt, chosen, rejected)]
    start = w.random.random() < 0.5
    return [w.one_side(lambda text, prompt: marker + text if start else text + "\n" + marker + w.response())]


def eos_in_response(w: Writer) -> Sequence[Row]:
    end = w.random.choice(ENDS[w.pool])
    more = w.random.random() < 0.3
    return [w.one_side(lambda text, prompt: text + end + (w.response() if more else ""))]


def scores_against_label(w: Writer) -> Sequence[Row]:
    chosen, rejected = sorted([w.random.uniform(1, 5), w.random.uniform(5.1, 9)])
    return [row(*w.pair(), chosen_score=round(chosen, 2), rejected_score=round(rejected, 2))]


def duplicate_pair(w: Writer) -> Sequence[Row]:
    texts = w.pair()
    return [row(*texts), row(*texts)]


def contradiction(w: Writer) -> Sequence[Row]:
    prompt, chosen, rejected = w.pair()
    return [row(prompt, chosen, rejected), row(prompt, rejected, chosen)]


def preference_cycle(w: Writer) -> Sequence[Row]:
    prompt, a, b = w.pair()
    c = w.response()
    return [row(prompt, a, b), row(prompt, b, c), row(prompt, c, a)]


def prompt_in_two_splits(w: Writer) -> Sequence[Row]:
    texts = w.pair()
    return [row(*texts), row(texts[0], w.response(), w.response())]


def cut_off_response(w: Writer) -> Sequence[Row]:
    def change(text: str, prompt: str) -> str:
        last = w.of("sentences")
        kind = w.random.random()
        if kind < 0.45:
            return text + w.space + last[: w.random.randint(len(last) // 3, len(last) - 3)].rstrip()
        if kind < 0.65:
            return (
                text
                + w.space
                + w.of("sentences").rstrip(".。")
                + ("，" if not w.is_spaced else ", ")
                + w.of("connectives")
            )
        if kind < 0.75:
            return text + "\n\n```python\ndef area(radius):\n    result = 3.14 * rad"
        if kind < 0.85:
            return text + "\n\n1. " + w.of("sentences") + "\n2. " + last[: len(last) // 2].rstrip()
        return text + w.space + last[: len(last) // 2].rstrip() + w.random.choice([" (", "“", ",", ":", " –"])

    return [w.one_side(change)]


def refusal_against_refusal(w: Writer) -> Sequence[Row]:
    prompt, _, _ = w.pair()
    first, second = w.random.sample(w.texts[w.language]["refusals"], 2)
    ends = [w.space + w.of("reasons") if w.random.random() < 0.7 else "" for _ in range(2)]
    return [row(prompt, first + ends[0], second + ends[1])]


def language_mismatch(w: Writer) -> Sequence[Row]:
    return [w.one_side(lambda text, prompt: w.response(w.other_language()))]


def personal_data(w: Writer) -> Sequence[Row]:
    prompt, chosen, rejected = w.pair()
    kind = w.random.random()
    if kind < 0.25:
        value = w.random.choice(
            [
                "{a}.{b}{n}@posteo.net",
                "{a}_{b}@mail.uni-{c}.edu",
                "{a}+{b}@gmail.com",
                "{a}{n}@qq.com",
                "{a}@{c}-shop.co.uk",
            ]
        ).format(
            a=w.random.choice(["jan", "mara", "li.wei", "olga"]),
            b=w.random.choice(["kern", "ruiz", "p"]),
            c="hafen",
            n=w.random.randint(10, 99),
        )
    elif kind < 0.6:
        value = w.of("phones")
    else:
        value = w.random.choice(list(KEYS.values()))(w.random)
    return [row(prompt, chosen, rejected + w.space + w.of("contact").replace("{x}", value))]


def swapped_duplicate(w: Writer) -> Sequence[Row]:
    prompt, chosen, rejected = w.pair()
    vary = w.random.choice(
        [lambda text: text + " ", str.upper, lambda text: text.replace(" ", "  "), lambda text: "\n" + text]
    )
    return [row(prompt, chosen, rejected), row(prompt, vary(rejected), vary(chosen) + "\n")]


def near_duplicate_prompt(w: Writer) -> Sequence[Row]:
    texts = w.pair()
    return [row(*texts), row(_nearly(w, w.space.join([texts[0]])), w.response(), w.response())]


near_prompt_in_two_splits = near_duplicate_prompt


def _nearly(w: Writer, prompt: str) -> str:
    """Return a prompt with another ending, case, or one word less."""
    edits: list[Callable[[str], str]] = [
        lambda text: text.rstrip("?.？。") + "!",
        str.upper,
        lambda text: text + w.space + "OK",
        lambda text: text[1:],
        lambda text: text.replace(" ", "  "),
    ]
    result = w.random.choice(edits)(prompt)
    return result if result != prompt else prompt + "!!"


def one_response_for_many_prompts(w: Writer) -> Sequence[Row]:
    w.next_language()
    answer = w.response()
    return [row(w.prompt(), answer, w.response()) for _ in range(8)]


def contamination(w: Writer) -> Sequence[Row]:
    w.next_language()
    item = w.random.choice(w.texts[w.language]["evaluation"])
    vary: Callable[[str], str] = w.random.choice(
        [
            str,
            str,
            str.upper,
            str.lower,
            lambda text: text.replace(",", "").replace("，", ""),
            lambda text: text.replace(" ", "\n"),
        ]
    )
    item = vary(item)
    if w.random.random() < 0.6:
        return [row(w.of("situations") + "\n" + item, w.response(), w.response())]
    return [row(w.prompt(), w.response() + "\n\n" + item, w.response())]


Plant = Callable[[Writer], Sequence[Row]]
#: code -> function; the rows before the last are clean by themselves.
FAULTS: dict[str, Plant] = {
    plant_code: globals()[plant_code]
    for plant_code in (
        "empty_prompt", "empty_response", "null_response", "identical_responses", "near_identical_responses", "repeated_role", "role_marker_in_response", "bad_characters",
        "response_repeats_prompt", "template_marker", "eos_in_response", "scores_against_label", "duplicate_pair", "contradiction", "preference_cycle", "prompt_in_two_splits",
        "cut_off_response", "refusal_against_refusal", "language_mismatch", "personal_data", "swapped_duplicate", "near_duplicate_prompt", "near_prompt_in_two_splits",
        "one_response_for_many_prompts", "contamination",
    )
}  # fmt: skip
#: Codes whose last row is in the test split; all other rows are in train.
IN_TEST = {"prompt_in_two_splits", "near_prompt_in_two_splits"}
