"""The texts of errors, for Python callers and for the command line."""

import pickle

import pytest

from dpo_data.errors import DataError, RowError, UsageError, argument, as_flag, first_line, require_choice
from dpo_data.options import Form


def test_a_usage_error_begins_with_its_argument_in_the_spelling_of_its_reader():
    error = UsageError("must be at least 1.", "max_pairs_per_prompt", 0)
    assert str(error) == "max_pairs_per_prompt=0: must be at least 1."
    assert error.spelled(as_flag) == "--max-pairs-per-prompt 0: must be at least 1."


def test_further_arguments_of_a_message_are_spelled_alike():
    error = UsageError(f"{argument('split')} and {argument('test_fraction')} exclude each other; pass only one.")
    assert str(error) == "split= and test_fraction= exclude each other; pass only one."
    assert error.spelled(as_flag) == "--split and --test-fraction exclude each other; pass only one."


def test_braces_in_the_users_value_are_left_alone():
    error = UsageError("choose from text, conversational.", "form", "{argument:form}")
    assert error.spelled(as_flag) == "--form {argument:form}: choose from text, conversational."


def test_a_usage_error_is_a_value_error():
    with pytest.raises(ValueError, match=r"form=chat: choose from text, conversational\."):
        require_choice("form", "chat", Form)


def test_a_misspelt_choice_is_met_with_the_nearest_one():
    with pytest.raises(UsageError) as caught:
        require_choice("form", "conversation", Form)
    assert str(caught.value) == ("form=conversation: choose from text, conversational.\n  Did you mean conversational?")


@pytest.mark.parametrize(
    "error",
    [UsageError("wrong.", "form", "chat"), UsageError("wrong."), RowError("wrong_type", "chosen", "chosen is 1.")],
)
def test_errors_survive_the_way_from_a_worker_process(error: DataError):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(again), str(again)) == (type(error), str(error))


def test_the_first_line_of_an_error_without_text_is_the_name_of_its_type():
    assert first_line(EOFError()) == "EOFError"
    assert first_line(OSError("disk full.\nmore")) == "disk full"
