"""Suspects of the row checks: no finding is outside them, whatever the texts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_data.checks import ROW_CHECKS, RowCheck
from dpo_data.checks.columns import TextColumn, TextColumns
from dpo_data.checks.null_response import NULLS
from dpo_data.checks.one_sided_marker import marks
from dpo_data.checks.one_sided_marker import suspects as marked
from dpo_data.checks.role_marker_in_response import MARKERS
from dpo_data.records import TextPair

PIECES = st.one_of(
    st.sampled_from(["\n\nHuman:", "\n\nAssistant:", "\n\n", "\n", " ", "  ", "\t", "\r\n", ":", "Answer:", "### "]),
    st.sampled_from([" a long question, is it not?", "a long question, is it not?", " Yes", "No", "a", "A", "1"]),
    st.sampled_from(["\u0301", "\u00e9", "e\u0301", "\u00a0", "\u200b", "\u2028", "\ufeff", "\ufffd", "\u00c2\u0085"]),
    st.sampled_from(["\x00", "\x1c", "\x1f", "\x7f", "\x85", "\u212a", "\u0130", "\uff5c", "<", "[", "#", ">", "]"]),
    st.sampled_from(
        ["</s>", "<EOS>", "[eos]", "&lt;/s&gt;", "<|endoftext|>", "<\uff5cend\u2581of\u2581sentence\uff5c>"]
    ),
    st.sampled_from(["### Instruction:", "</think>", "<tool_call>", "<pad>", "[/TOOL_CALLS]", "<|python_tag|>"]),
    st.sampled_from([*NULLS, *(word.upper() for word in NULLS), *MARKERS]),
    st.sampled_from(["<|im_start|>", "[INST]", "</s> [INST]", "<<SYS>>", "<start_of_turn>", "<think>"]),
    st.text(max_size=3),
)
TEXTS = st.lists(PIECES, max_size=6).map("".join).filter(lambda text: text.isascii() or _can_be_stored(text))


def _can_be_stored(text: str) -> bool:
    return text == text.encode("utf-8", "replace").decode()


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str, str]:
    """Return the texts of a pair whose responses often share their start, with each other and with the prompt."""
    prompt, chosen = draw(TEXTS), draw(TEXTS)
    rejected = draw(st.one_of(TEXTS, TEXTS.map(lambda text: chosen + text)))
    turn = prompt.rpartition("\n\nHuman:")[2].removesuffix("\n\nAssistant:")
    rejected = draw(st.sampled_from([rejected, turn + rejected, f" {turn.strip()}{rejected}"]))
    return prompt, chosen, rejected


@pytest.mark.parametrize("check", ROW_CHECKS, ids=lambda check: check.code)
@settings(deadline=None, max_examples=60)
@given(rows=st.lists(pairs(), min_size=1, max_size=8))
def test_every_finding_of_a_check_is_about_a_suspect(check: RowCheck, rows: list[tuple[str, str, str]]) -> None:
    assert check.suspects is not None
    suspects = check.suspects(TextColumns(*map(list, zip(*rows, strict=True))))
    assert suspects.shape == (len(rows),)
    for (prompt, chosen, rejected), suspect in zip(rows, suspects, strict=True):
        pair = TextPair(prompt=prompt, chosen=chosen, rejected=rejected)
        assert suspect or check.find(pair, pair.texts) is None


@pytest.mark.parametrize("check", [check for check in ROW_CHECKS if check.code != "scores_against_label"])
def test_the_example_of_a_check_is_a_suspect_among_other_rows(check: RowCheck) -> None:
    ordinary = ("\n\nHuman: Tea or coffee?\n\nAssistant:", " Tea.", " Coffee.")
    rows = [ordinary, check.example.texts, ordinary]
    assert check.suspects is not None
    assert check.suspects(TextColumns(*map(list, zip(*rows, strict=True)))).tolist() == [False, True, False]


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(pairs(), min_size=1, max_size=8))
def test_every_row_with_a_one_sided_mark_is_a_suspect(rows: list[tuple[str, str, str]]) -> None:
    suspects = marked(TextColumns(*map(list, zip(*rows, strict=True))))
    assert not [texts for texts, suspect in zip(rows, suspects, strict=True) if not suspect and list(marks(texts))]


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(st.text("ab:\u00e9", max_size=6), min_size=1), needle=st.sampled_from(["a", "ab", "a:b", ":"]))
def test_a_string_is_found_where_it_is_in_one_text(texts: list[str], needle: str) -> None:
    column = TextColumn([text.encode() for text in texts])
    assert column.contains(needle).tolist() == [needle in text for text in texts]
    starts = np.cumsum([0, *map(len, column.texts)])
    expected = [
        start + offset
        for start, text in zip(starts, column.texts, strict=False)
        for offset in range(len(text))
        if text.startswith(needle.encode(), offset)
    ]
    assert column.find(needle).tolist() == expected
