"""Padded, packed and step batches."""

import datasets
import numpy as np
import torch
from prefix_rows import ROWS, packed

from dpo_train import DPODataCollatorWithPadding
from dpo_train.batches.batch import PackedBatch, PaddedBatch, StepBatch
from dpo_train.batches.packed import collate_packed
from dpo_train.data.rows import PairRows


def padded(rows: object, label_pad_token_id: int = -100) -> PaddedBatch:
    return PaddedBatch.from_dict(DPODataCollatorWithPadding(label_pad_token_id)(rows), label_pad_token_id)  # type: ignore[arg-type]


def test_a_padded_batch_returns_the_rows_it_was_made_from(pairs: datasets.Dataset) -> None:
    rows = PairRows(pairs).pairs([3, ~1, 0])
    for original, row in zip(rows, padded(rows, label_pad_token_id=-1).rows(), strict=True):
        assert row.keys() == original.keys()
        for name, value in original.items():
            np.testing.assert_array_equal(row[name], value)


def test_padded_and_packed_batches_of_the_same_rows_have_the_same_pairs(pairs: datasets.Dataset) -> None:
    """Of three pairs, one only fills up the batch."""
    rows = PairRows(pairs.add_column("chosen_score", np.arange(12.0)).add_column("rejected_score", np.zeros(12)))
    batches = [padded(rows.pairs([3, ~1, 0])), collate_packed(rows.pairs([3, ~1, 0]))]
    lengths = [[len(rows[row][f"{side}_ids"]) for row in (3, 1, 0)] for side in ("chosen", "rejected")]
    for batch in batches:
        assert (batch.size, batch.pairs) == (3, 2.0)
        assert [batch.response_lengths("chosen").tolist(), batch.response_lengths("rejected").tolist()] == lengths
        terms = batch.terms({"chosen_tokens", "score_margins", "chosen_logps"})
        assert {name: values.tolist() for name, values in terms.items()} == {
            "chosen_tokens": lengths[0],
            "score_margins": [3.0, 1.0, 0.0],
        }
        assert batch.row is not None
        assert batch.row.tolist() == [3, 1, 0]


def test_rows_without_weight_or_score_all_count() -> None:
    batch = packed(ROWS)
    assert (batch.size, batch.pairs) == (len(ROWS), float(len(ROWS)))
    assert batch.terms({"score_margins"}) == {}


def test_tokens_are_what_the_model_computes() -> None:
    row = {"prompt_ids": [5, 6], "chosen_ids": [7, 2], "rejected_ids": [2]}
    longer = {"prompt_ids": [8], "chosen_ids": [9, 9, 9, 2], "rejected_ids": [2]}
    assert padded([row, longer]).tokens == 2 * 5 + 2 * 3
    assert packed([row]).tokens == 3  # the last token of a response predicts nothing


def test_a_step_sums_over_its_micro_batches_and_moves_them_to_a_device() -> None:
    batch = packed(ROWS)
    step = StepBatch([batch, packed(ROWS[:2])])
    assert step.tokens == batch.tokens + packed(ROWS[:2]).tokens
    assert step.pairs == len(ROWS) + 2
    moved = step.to("meta")
    assert isinstance(moved.micro_batches[0], PackedBatch)
    assert moved.micro_batches[0].input_ids.device == torch.device("meta")
    assert moved.micro_batches[0].segments is batch.segments
    assert moved.micro_batches[0].weight is None
