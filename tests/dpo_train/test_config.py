import pytest

from dpo_data.errors import UsageError
from dpo_train.config import DPOConfig, as_words, parse_training_options


def test_values_get_the_type_of_their_field() -> None:
    words = ["--learning-rate", "1e-6", "--warmup_steps=3", "--bf16", "--report-to", "tensorboard"]
    assert parse_training_options(words) == {
        "learning_rate": 1e-6,
        "warmup_steps": 3.0,
        "bf16": True,
        "report_to": "tensorboard",
    }


def test_the_last_value_given_counts() -> None:
    assert parse_training_options(["--save-steps", "5", "--save-steps", "7"]) == {"save_steps": 7.0}


def test_an_unknown_option_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError) as caught:
        parse_training_options(["--lerning-rate", "1"])
    assert str(caught.value) == "command line: there is no option lerning_rate.\n  Did you mean learning_rate?"


def test_an_option_of_the_command_itself_is_suggested_too() -> None:
    with pytest.raises(UsageError, match=r"Did you mean batch_size\?"):
        parse_training_options(["--batchsize", "1"], known=["batch_size"])


def test_a_value_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(UsageError, match="invalid int value: 'many'"):
        parse_training_options(["--max-steps", "many"])


def test_a_word_without_option_is_refused() -> None:
    with pytest.raises(UsageError, match="command line: stray belongs to no option"):
        parse_training_options(["--max-steps", "3", "stray"])


def test_a_file_and_the_command_line_give_the_same_values() -> None:
    options = {
        "learning_rate": "1e-6",
        "bf16": False,
        "max_steps": 3,
        "optim_args": None,
        "lr_scheduler_kwargs": {"a": 1},
    }
    parsed = parse_training_options(as_words(options))
    assert parsed == {"learning_rate": 1e-6, "bf16": False, "max_steps": 3, "lr_scheduler_kwargs": '{"a": 1}'}


def test_the_defaults_are_those_of_the_sources() -> None:
    config = DPOConfig(output_dir="unused", use_cpu=True)
    assert (config.learning_rate, config.num_train_epochs, config.warmup_steps) == (1e-6, 1.0, 0.1)
