"""Rows of token ids that share prompts and prefixes, and comparisons of gradients."""

from typing import Any

import datasets
import numpy as np
import torch
from hypothesis import strategies as st

from dpo_train.batches.batch import PackedBatch
from dpo_train.batches.packed import collate_packed

Rows = list[dict[str, list[int]]]

#: Three pairs on one prompt with four distinct responses; a prompt and responses of one token; a pair with the sides of
#: another one swapped; mixed lengths; prompts and responses with common beginnings.
ROWS: Rows = [
    {"prompt_ids": [30, 31, 32, 33, 34], "chosen_ids": [10, 11, 12, 256], "rejected_ids": [20, 256]},
    {"prompt_ids": [40], "chosen_ids": [13], "rejected_ids": [21]},
    {"prompt_ids": [30, 31, 32, 33, 34], "chosen_ids": [10, 11, 12, 256], "rejected_ids": [22, 23, 24, 20, 21, 256]},
    {"prompt_ids": [50, 51], "chosen_ids": [14, 10, 11, 12, 13, 14, 10, 256], "rejected_ids": [24]},
    {"prompt_ids": [30, 31, 32, 33, 34], "chosen_ids": [20, 256], "rejected_ids": [13, 256]},
    {"prompt_ids": [50, 51], "chosen_ids": [24], "rejected_ids": [14, 10, 11, 12, 13, 14, 10, 256]},
    {"prompt_ids": list(range(30, 45)), "chosen_ids": [10], "rejected_ids": [20, 21, 22]},
    {"prompt_ids": [50], "chosen_ids": [51, 14, 12, 256], "rejected_ids": [51, 14, 15, 256]},
]


def dataset(rows: Rows) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows)


def packed(rows: Rows) -> PackedBatch:
    return collate_packed([{name: np.array(ids, np.int32) for name, ids in row.items()} for row in rows])


def _row(ids: tuple[list[int], list[int], list[int]]) -> dict[str, list[int]]:
    return dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), ids, strict=True))


_ids = st.lists(st.integers(0, 255), min_size=1, max_size=9)
_prompts = st.sampled_from([[1], [2, 3], [2, 3, 4], list(range(5, 17))]) | _ids
#: Rows whose two responses differ, some of them with common prompts.
row_strategy: st.SearchStrategy[dict[str, list[int]]] = (
    st.tuples(_prompts, _ids, _ids).filter(lambda drawn: drawn[1] != drawn[2]).map(_row)
)


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def assert_same_gradients(actual: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-5) -> None:
    """Compare relative to the gradient of each weight, or to the largest one where it is zero in theory."""
    assert actual.keys() == expected.keys()
    largest = max(float(gradient.norm()) for gradient in expected.values())
    for name, gradient in expected.items():
        limit = tolerance * max(float(gradient.norm()), 1e-2 * largest)
        assert float((actual[name] - gradient).norm()) <= limit, name
