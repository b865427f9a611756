"""Where a response begins in a rendered conversation, for templates that render thinking in different ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_data.tokens.alignment import align
from dpo_data.tokens.thoughts import MARKERS

#: A rendered prompt without its generation prompt.
USER = "<user>Hi</user><bot>"


def sides(prompt: str, chosen: str, rejected: str, thoughts: tuple[str, str] = ("", "")) -> tuple[str, str, str]:
    aligned = align(prompt, chosen, rejected, thoughts)
    assert aligned is not None
    return aligned.prompt, aligned.chosen, aligned.rejected


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_conversations_that_begin_with_the_prompt_are_split_there(prompt, chosen, rejected):
    assert sides(prompt, prompt + chosen, prompt + rejected) == (prompt, chosen, rejected)


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_conversation_that_changes_the_prompt_is_refused(chosen, rejected):
    assert align(USER, "<user>Ho</user><bot>" + chosen, USER + rejected) is None
    assert align(USER, USER + chosen, "<user>Ho</user><bot>" + rejected) is None


def test_an_answer_that_begins_like_the_block_of_thoughts_stays_in_the_response():
    # The longest common prefix would take the "<" of "<b>" for a part of the prompt.
    assert sides(f"{USER}<think>", f"{USER}<b>4</b>", f"{USER}5") == (USER, "<b>4</b>", "5")


@pytest.mark.parametrize("markers", MARKERS)
def test_an_opened_block_that_the_conversation_closes_at_once_is_closed_by_the_response(markers):
    opened = f"{USER}{markers.open}\n"
    aligned = align(opened, f"{USER}{markers.open}{markers.close}4", f"{USER}{markers.open}{markers.close}5")
    assert (aligned.prompt, aligned.chosen, aligned.rejected) == (
        opened,
        f"{markers.close}4",
        f"{markers.close}5",
    )
    assert aligned.methods == ("graft", "graft")
    assert aligned.closes_at_once


@pytest.mark.parametrize("markers", MARKERS)
def test_a_closed_block_that_the_conversation_leaves_out_stays_in_the_prompt(markers):
    closed = f"{USER}{markers.open}\n\n{markers.close}\n\n"
    assert sides(closed, f"{USER}4", f"{USER}5") == (closed, "4", "5")


@pytest.mark.parametrize("markers", MARKERS)
def test_a_closed_block_that_the_conversation_writes_otherwise_is_not_repeated(markers):
    closed = f"{USER}{markers.open}{markers.close}\n"
    written = f"{USER}{markers.open}\n{markers.close}\n"
    aligned = align(closed, f"{written}4", f"{written}\n5")
    # Of the white space behind the block, what the prompt has already is not repeated.
    assert (aligned.prompt, aligned.chosen, aligned.rejected) == (closed, "4", "\n5")
    assert not aligned.closes_at_once


def test_a_lone_closing_marker_belongs_to_the_prompt():
    closed = f"{USER}\n</think>"
    assert sides(closed, f"{USER}\n4", f"{USER}\n5") == (closed, "4", "5")


def test_reasoning_that_the_template_leaves_out_is_put_back_behind_the_opening_marker():
    opened = f"{USER}<think>\n"
    aligned = align(opened, f"{USER}4</s>", f"{USER}\n5</s>", ("\nTwo and two.\n", "No idea."))
    assert (aligned.prompt, aligned.chosen, aligned.rejected) == (
        opened,
        "Two and two.\n</think>\n\n4</s>",
        "No idea.\n</think>\n\n5</s>",
    )
    assert aligned.methods == ("splice", "splice")


def test_reasoning_that_the_template_writes_stays_where_it_is():
    opened = f"{USER}<think>\n"
    assert sides(opened, f"{opened}Two.</think>4", f"{opened}No.</think>5", ("Two.", "No.")) == (
        opened,
        "Two.</think>4",
        "No.</think>5",
    )


def test_reasoning_behind_other_white_space_than_the_prompts_follows_the_prompt():
    opened = f"{USER}<think>\n\n"
    assert sides(opened, f"{USER}<think>\nTwo.</think>4", f"{USER}<think> No.</think>5", ("Two.", "No.")) == (
        opened,
        "Two.</think>4",
        " No.</think>5",
    )


def test_without_reasoning_the_prompt_ends_before_the_block_it_opens_and_that_end_is_named():
    aligned = align(f"{USER}<think>\n", f"{USER}4", f"{USER}5")
    assert (aligned.prompt, aligned.chosen, aligned.rejected) == (USER, "4", "5")
    assert aligned.left_out == "<think>\n"
    assert aligned.methods == ("head", "head")


def test_reasoning_after_a_closed_block_makes_the_prompt_end_before_the_block():
    closed = f"{USER}<think>\n\n</think>\n\n"
    assert sides(closed, f"{USER}<think>\nTwo.\n</think>4", f"{USER}<think>\nNo.\n</think>5") == (
        USER,
        "<think>\nTwo.\n</think>4",
        "<think>\nNo.\n</think>5",
    )


def test_one_prompt_for_both_what_the_other_side_has_after_it_goes_to_its_response():
    # Chosen has reasoning, which the template leaves out, and rejected has none.
    aligned = align(f"{USER}<think>\n", f"{USER}4", f"{USER}5", ("Two and two.", ""))
    assert (aligned.prompt, aligned.chosen, aligned.rejected) == (
        USER,
        "<think>\nTwo and two.\n</think>\n\n4",
        "5",
    )
    assert aligned.methods == ("splice", "head")


def test_one_prompt_for_both_when_one_side_begins_with_the_whole_prompt():
    opened = f"{USER}<think>\n"
    aligned = align(opened, f"{opened}Two.</think>4", f"{USER}5", ("Two.", ""))
    assert (aligned.prompt, aligned.chosen, aligned.rejected) == (USER, "<think>\nTwo.</think>4", "5")


@given(
    st.sampled_from(MARKERS),
    st.sampled_from(["", "\n", "\n\n"]),
    st.booleans(),
    st.text("ab <", max_size=8),
    st.text("ab <", max_size=8),
)
def test_nothing_of_a_response_is_lost_or_doubled(markers, space, is_closed, chosen, rejected):
    block = markers.open + space + (markers.close + space if is_closed else "")
    aligned = align(USER + block, f"{USER}{chosen}", f"{USER}{rejected}")
    assert aligned is not None
    assert aligned.prompt in (USER, USER + block)
    assert [aligned.chosen, aligned.rejected] == [chosen, rejected]
