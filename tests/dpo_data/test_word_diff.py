"""The word diff of two texts."""

from hypothesis import given
from hypothesis import strategies as st

from dpo_data.word_diff import word_diff

TEXTS = st.text(st.sampled_from("ab ,.\n\t日本かé'’_-1"), max_size=60)


def parts(pieces):
    return [(piece.text, piece.differs) for piece in pieces]


@given(TEXTS, TEXTS)
def test_the_pieces_give_both_texts_back(one, other):
    ours, theirs = word_diff(one, other)
    assert "".join(piece.text for piece in ours) == one
    assert "".join(piece.text for piece in theirs) == other


@given(TEXTS, TEXTS)
def test_what_is_not_marked_is_the_same_on_both_sides(one, other):
    ours, theirs = word_diff(one, other)
    assert [piece.text for piece in ours if not piece.differs] == [piece.text for piece in theirs if not piece.differs]


@given(TEXTS)
def test_a_text_does_not_differ_from_itself(text):
    assert not any(piece.differs for side in word_diff(text, text) for piece in side)


def test_one_equal_word_between_others_is_chance():
    assert parts(word_diff("I like the red one", "You hate the blue two")[0]) == [("I like the red one", True)]


def test_characters_of_scripts_without_spaces_are_words():
    assert parts(word_diff("今日は寒い", "今日は暑い")[0]) == [("今日は", False), ("寒い", True)]
