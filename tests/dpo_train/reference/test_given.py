"""Reference log-probabilities as columns of the dataset."""

from collections.abc import Callable

import datasets
import pytest
from naive import naive_logps
from toys import make_pairs, make_text_pairs, make_tiny_model, make_tiny_tokenizer

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer

Config = Callable[..., DPOConfig]
OURS = ("reference_chosen_logps", "reference_rejected_logps")
TRL = ("ref_chosen_logps", "ref_rejected_logps")


def with_logps(pairs: datasets.Dataset, names: tuple[str, str]) -> datasets.Dataset:
    """Return pairs with the log-probabilities of another model."""
    model = make_tiny_model(1)
    logps = [naive_logps(model, pairs, side) for side in ("chosen", "rejected")]
    for name, values in zip(names, logps, strict=True):
        pairs = pairs.add_column(name, values)
    return pairs


@pytest.mark.parametrize("attention_path", ["auto", "padded"])
@pytest.mark.parametrize("names", [OURS, TRL])
def test_columns_replace_the_reference_model_that_they_come_from(
    config: Config, pairs: datasets.Dataset, names: tuple[str, str], attention_path: str
) -> None:
    args = config(attention_path=attention_path)
    data = with_logps(pairs, names)
    given = DPOTrainer(make_tiny_model(), args=args, train_dataset=data, eval_dataset=data)
    live = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=pairs, eval_dataset=pairs)
    for trainer in (given, live):
        trainer.train()
    records = [[r["rewards/margins"] for r in t.state.log_history if "loss" in r] for t in (given, live)]
    assert records[0] == pytest.approx(records[1], rel=1e-4)
    assert given.evaluate()["eval_loss"] == pytest.approx(live.evaluate()["eval_loss"], rel=1e-5)
    assert given.reference.description == "log-probabilities in the dataset"


def test_columns_and_a_reference_model_exclude_each_other(config: Config, pairs: datasets.Dataset) -> None:
    with pytest.raises(UsageError, match="a ref_model is given too"):
        DPOTrainer(make_tiny_model(), make_tiny_model(1), args=config(), train_dataset=with_logps(pairs, TRL))


def test_all_datasets_of_a_run_need_the_columns(config: Config, pairs: datasets.Dataset) -> None:
    data, other = with_logps(pairs, OURS), make_pairs(3, seed=1)
    with pytest.raises(UsageError, match="the evaluation set: it has no reference log-probabilities"):
        DPOTrainer(make_tiny_model(), args=config(), train_dataset=data, eval_dataset=other)
    trainer = DPOTrainer(make_tiny_model(), args=config(), train_dataset=data)
    with pytest.raises(UsageError, match="this dataset has none"):
        trainer.evaluate(other)


def test_a_null_or_positive_value_is_refused_with_its_row(config: Config, pairs: datasets.Dataset) -> None:
    for wrong in (None, 0.5):
        data = pairs.add_column(OURS[0], [-1.0] * 11 + [wrong]).add_column(OURS[1], [-1.0] * 12)
        with pytest.raises(UsageError, match=r"toy.jsonl:12: .* are log-probabilities"):
            DPOTrainer(make_tiny_model(), args=config(), train_dataset=data)


def test_columns_of_a_stream_and_of_truncated_text_are_refused(config: Config, pairs: datasets.Dataset) -> None:
    stream = with_logps(pairs, TRL).to_iterable_dataset()
    with pytest.raises(UsageError, match="of an iterable dataset are not used"):
        DPOTrainer(make_tiny_model(), args=config(), train_dataset=stream)
    texts = make_text_pairs(3).add_column(TRL[0], [-1.0] * 3).add_column(TRL[1], [-1.0] * 3)
    with pytest.raises(UsageError, match="belong to whole responses"):
        DPOTrainer(
            make_tiny_model(), args=config(), train_dataset=texts, tokenizer=make_tiny_tokenizer(), max_length=12
        )
