"""Rows of token ids from datasets that are read one after another (datasets.IterableDataset)."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import datasets
import torch

from dpo_data.errors import UsageError
from dpo_data.prepared.schema import TOKEN_COLUMNS
from dpo_train.data.rows import GIVEN_LOGPS, SCORES, PairRows, TokenPair

#: Rows that are checked together.
CHECKED_ROWS = 256


def token_stream(
    data: datasets.IterableDataset,
    name: str,
    columns: list[str],
    weights: str | None,
    check: Callable[[PairRows], None] | None,
) -> datasets.IterableDataset:
    """Return the pairs of a tokenized iterable dataset, which are checked when they are read.

    Args:
        data: has prompt_ids, chosen_ids and rejected_ids.
        name: name of the dataset in error messages.
        columns: of the dataset; those that pairs do not have are left out.
        weights: column with the weights of the pairs; None for 1.
        check: raises UsageError if pairs cannot be used.
    """
    if given := [column for column in columns if column in GIVEN_LOGPS]:
        raise UsageError(
            f"{name}: {' and '.join(given)} of an iterable dataset are not used; remove these columns, or make it a "
            "datasets.Dataset."
        )
    known = {*TOKEN_COLUMNS, *SCORES, "origin", weights}
    used = [column for column in columns if column in known]

    def read(batch: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        rows = PairRows(
            datasets.Dataset.from_dict({column: batch[column] for column in used}), name, weights, first_row=numbers[0]
        )
        if check is not None:
            check(rows)
        pairs: list[TokenPair] = rows.pairs(range(len(rows)))
        fields = [field for field in pairs[0] if field != "row"]
        columns: dict[str, list[Any]] = {field: [pair[field] for pair in pairs] for field in fields}  # type: ignore[literal-required]
        return columns | {field: [ids.tolist() for ids in columns[field]] for field in TOKEN_COLUMNS}

    return data.map(read, with_indices=True, batched=True, batch_size=CHECKED_ROWS, remove_columns=columns)


class RankBatches(torch.utils.data.IterableDataset[list[dict[str, Any]]]):
    """The batches of one rank, all of which read the same stream of pairs.

    Every rank has the same number of batches of the same sizes; those of the last pairs are filled up with pairs of
    weight 0.

    Args:
        pairs: the stream.
        size: pairs per batch and rank.
        rank: of this process, from 0.
        ranks: number of processes.
        drop_last: leave out the last pairs if they do not fill a batch on every rank.
    """

    def __init__(self, pairs: Any, size: int, *, rank: int, ranks: int, drop_last: bool = False) -> None:
        self._pairs = pairs
        self._size = size
        self._rank = rank
        self._ranks = ranks
        self._drop_last = drop_last

    def set_epoch(self, epoch: int) -> None:
        """Switch to the order of an epoch, if the stream is shuffled."""
        if hasattr(self._pairs, "set_epoch"):
            self._pairs.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        together = self._size * self._ranks
        pairs = iter(self._pairs)
        while group := list(itertools.islice(pairs, together)):
            if len(group) < together and self._drop_last:
                return
            size = -(-len(group) // self._ranks)
            own = group[self._rank * size : (self._rank + 1) * size]
            yield own + [{**group[0], "weight": 0.0}] * (size - len(own))
