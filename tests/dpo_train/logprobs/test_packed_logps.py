"""Packed scores equal those of single sequences and of padded pairs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from architectures import MODELS, make
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import naive_logps
from prefix_rows import ROWS, Rows, assert_same_gradients, dataset, gradients, packed, row_strategy
from torch.nn.functional import logsigmoid

from dpo_train import DPOConfig, DPOTrainer
from dpo_train.attention.register import shared_prefixes
from dpo_train.logprobs.packed import packed_logps

Config = Callable[..., DPOConfig]

SUPPORTED = [name for name in MODELS if name != "mamba"]


def plain_logps(model: Any, rows: Rows, side: str) -> torch.Tensor:
    """Compute one sequence at a time, with all logits and with a graph."""
    logps = []
    for row in rows:
        ids = torch.tensor([row["prompt_ids"] + row[f"{side}_ids"]])
        token_logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        start = len(row["prompt_ids"])
        logps.append(token_logps[range(start - 1, ids.shape[1] - 1), ids[0, start:]].sum())
    return torch.stack(logps)


def loss_of(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    return -logsigmoid(0.1 * (chosen - rejected)).mean()


@pytest.mark.parametrize("name", SUPPORTED)
def test_packed_scores_and_gradients_equal_those_of_single_and_padded_sequences(name: str, config: Config) -> None:
    model = make(name)
    trainer = DPOTrainer(model, args=config(attention_path="padded"), train_dataset=dataset(ROWS))
    model = trainer.model
    model.eval()
    plain = [plain_logps(model, ROWS, side) for side in ("chosen", "rejected")]
    expected = gradients(model, loss_of(*plain))

    batch = packed(ROWS)
    with shared_prefixes(model):
        sums, _ = packed_logps(model, model, batch)
        shared = [sums[batch.chosen], sums[batch.rejected]]
        assert_same_gradients(gradients(model, loss_of(*shared)), expected)
    padded = trainer.concatenated_forward(model, trainer.data_collator(ROWS))[:2]
    assert_same_gradients(gradients(model, loss_of(*padded)), expected)
    for plain_side, shared_side, padded_side in zip(plain, shared, padded, strict=True):
        torch.testing.assert_close(shared_side, plain_side, rtol=1e-5, atol=0)
        torch.testing.assert_close(shared_side, padded_side, rtol=1e-5, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(row_strategy, min_size=1, max_size=8),
    name=st.sampled_from(["llama", "mistral_window", "gemma2_softcap"]),
)
def test_any_rows_have_the_log_probabilities_of_single_sequences(rows: Rows, name: str) -> None:
    model = make(name).eval()
    batch = packed(rows)
    with torch.no_grad(), shared_prefixes(model):
        sums, _ = packed_logps(model, model, batch)
    np.testing.assert_allclose(sums[batch.chosen], naive_logps(model, dataset(rows), "chosen"), rtol=2e-5)
    np.testing.assert_allclose(sums[batch.rejected], naive_logps(model, dataset(rows), "rejected"), rtol=2e-5)
