"""Models that are not causal language models, and those that a constructor lacks."""

from collections.abc import Callable
from typing import Any

import datasets
import pytest
import torch
from toys import VOCAB_SIZE, make_tiny_model
from transformers import LlamaForSequenceClassification, LlamaModel, T5Config, T5ForConditionalGeneration

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer

Config = Callable[..., DPOConfig]


class Wrapped(torch.nn.Module):
    """A model of the user's around one of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = make_tiny_model()

    def forward(self, **inputs: Any) -> Any:
        return self.inner(**inputs)


def t5() -> T5ForConditionalGeneration:
    return T5ForConditionalGeneration(
        T5Config(vocab_size=VOCAB_SIZE, d_model=8, d_ff=8, num_layers=1, num_heads=1, d_kv=8, decoder_start_token_id=0)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Wrapped, "Wrapped is not a model of transformers"),
        (t5, "T5ForConditionalGeneration is an encoder-decoder"),
        (lambda: LlamaForSequenceClassification(make_tiny_model().config), "has no head that predicts tokens"),
        (lambda: LlamaModel(make_tiny_model().config), "has no head that predicts tokens"),
    ],
)
def test_a_model_of_another_kind_is_refused_by_name(
    config: Config, pairs: datasets.Dataset, make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(UsageError, match=f"^model: .*{message}"):
        DPOTrainer(make(), args=config(), train_dataset=pairs)
    with pytest.raises(UsageError, match=f"^ref_model: .*{message}"):
        DPOTrainer(make_tiny_model(), make(), args=config(), train_dataset=pairs)
    with pytest.raises(UsageError, match=message):
        DPOTrainer(model_init=make, args=config(), train_dataset=pairs)


def test_without_a_model_or_a_training_set_the_argument_is_named(config: Config, pairs: datasets.Dataset) -> None:
    with pytest.raises(UsageError, match="model"):
        DPOTrainer(args=config(), train_dataset=pairs)
    with pytest.raises(UsageError, match="not both"):
        DPOTrainer(make_tiny_model(), model_init=make_tiny_model, args=config(), train_dataset=pairs)
    with pytest.raises(ValueError, match="train_dataset"):
        DPOTrainer(make_tiny_model(), args=config(), eval_dataset=pairs).train()
    with pytest.raises(UsageError, match="max_steps"):
        DPOTrainer(make_tiny_model(), args=config(max_steps=-1), train_dataset=pairs.to_iterable_dataset())
