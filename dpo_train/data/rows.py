"""Pairs of token ids, memory-mapped."""

import bisect
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NotRequired, TypedDict

import datasets
import numpy as np
import pyarrow as pa
import torch

from dpo_data.errors import UsageError
from dpo_data.prepared.schema import TOKEN_COLUMNS
from dpo_train.batches.packed import response_keys

_KEYED_TOGETHER = 4096


class TokenPair(TypedDict):
    """One pair: token ids as views of the Arrow file, the number of its row, and how often it counts (0 or 1)."""

    prompt_ids: np.ndarray
    chosen_ids: np.ndarray
    rejected_ids: np.ndarray
    row: int
    weight: float
    score_margin: NotRequired[float]


class TokenColumn:
    """A column of token lists, read in place: a row is a view, no Python object is made for a token."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._values = [chunk.values.to_numpy(zero_copy_only=False) for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)]).tolist()

    def __getitem__(self, row: int) -> np.ndarray:
        chunk = bisect.bisect_right(self._starts, row) - 1
        offsets, index = self._offsets[chunk], row - self._starts[chunk]
        view: np.ndarray = self._values[chunk][offsets[index] : offsets[index + 1]]
        return view

    def pieces(self, rows: np.ndarray) -> Iterator[memoryview]:
        """The bytes of some rows' ids, in place."""
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        bounds = np.empty((2, len(rows)), np.int64)
        for chunk, offsets in enumerate(self._offsets):
            inside = chunks == chunk
            index = rows[inside] - self._starts[chunk]
            bounds[:, inside] = offsets[index], offsets[index + 1]
        views = [memoryview(values).cast("B") for values in self._values]
        width = self._values[0].itemsize if self._values else 1
        places = zip(chunks.tolist(), *(bounds * width).tolist(), strict=True)
        return (views[chunk][start:end] for chunk, start, end in places)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64, tokens in each row."""
        return np.concatenate([np.empty(0, np.int64), *(np.diff(offsets) for offsets in self._offsets)])

    @property
    def largest_id(self) -> int:
        """The largest token id of the column; -1 where there is none."""
        used = (values[offsets[0] : offsets[-1]] for values, offsets in zip(self._values, self._offsets, strict=True))
        return max((int(ids.max()) for ids in used if len(ids)), default=-1)


class PairRows(torch.utils.data.Dataset[TokenPair]):
    """The pairs of a tokenized data set, straight from its memory-mapped Arrow columns.

    Args:
        dataset: has prompt_ids, chosen_ids and rejected_ids; may have origin ("file:line").
        name: what error messages call the data set.

    Raises:
        UsageError: a column is missing, there is no row, or a prompt or response has no token.
    """

    def __init__(self, dataset: datasets.Dataset, name: str = "the data set") -> None:
        missing = [column for column in TOKEN_COLUMNS if column not in dataset.column_names]
        if missing:
            raise UsageError(
                f"{name}: no column {', '.join(missing)}; it has {', '.join(dataset.column_names) or 'no columns'}."
            )
        if len(dataset) == 0:
            raise _no_pairs(name)
        self._table: pa.Table = _with_int32(dataset.with_format("arrow")[:])
        self._columns = {column: TokenColumn(self._table.column(column)) for column in TOKEN_COLUMNS}
        self.name = name
        self._score_margins = self._read_score_margins()
        for column, tokens in self._columns.items():
            empty = np.flatnonzero(tokens.lengths == 0)
            if len(empty):
                raise UsageError(
                    f"{self.origin(int(empty[0]))}: {column} is empty, as in {len(empty)} of {len(self)} pairs.\n"
                    "  Prompt and responses need at least one token each; dpo-data tokenize sees to that."
                )

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, row: int | Sequence[int]) -> Any:
        """The `TokenPair` of a row, or of several; ~row gives the same pair counting nothing, to fill up a batch."""
        return self._pair(row) if isinstance(row, int) else [self._pair(one) for one in row]

    def _pair(self, row: int) -> TokenPair:
        weight = 1.0
        if row < 0:
            row, weight = ~row, 0.0
        ids = self._columns
        pair: TokenPair = {
            "prompt_ids": ids["prompt_ids"][row],
            "chosen_ids": ids["chosen_ids"][row],
            "rejected_ids": ids["rejected_ids"][row],
            "row": row,
            "weight": weight,
        }
        if self._score_margins is not None:
            pair["score_margin"] = float(self._score_margins[row])
        return pair

    @property
    def lengths(self) -> dict[str, np.ndarray]:
        """Tokens in each row, (n,) int64, by column."""
        return {column: tokens.lengths for column, tokens in self._columns.items()}

    def response_keys(self, rows: np.ndarray) -> np.ndarray:
        """Of some rows, what tells chosen and rejected from any other response to any other prompt: (n, 2, 2) int64."""
        keys = np.empty((len(rows), 2, 2), np.int64)
        for start in range(0, len(rows), _KEYED_TOGETHER):  # so few that what is made of them stays in the cache
            part = rows[start : start + _KEYED_TOGETHER]
            digests = []
            for prompt, *responses in zip(*(self._columns[name].pieces(part) for name in TOKEN_COLUMNS), strict=True):
                digests += response_keys(prompt, responses)
            keys[start : start + len(part)] = np.frombuffer(b"".join(digests), np.int64).reshape(-1, 2, 2)
        return keys

    @functools.cached_property
    def prompts(self) -> np.ndarray:
        """(n,) int64, a number for each row that rows with the same prompt share."""
        if "prompt_key" in self._table.column_names:
            encoded = self._table.column("prompt_key").combine_chunks().dictionary_encode()
            return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
        column, seen = self._columns["prompt_ids"], dict[bytes, int]()
        return np.array([seen.setdefault(column[row].tobytes(), row) for row in range(len(self))], np.int64)

    @property
    def pair_lengths(self) -> np.ndarray:
        """(n,) int64, tokens of each prompt with its longer response."""
        lengths = self.lengths
        total: np.ndarray = lengths["prompt_ids"] + np.maximum(lengths["chosen_ids"], lengths["rejected_ids"])
        return total

    @functools.cached_property
    def distinct_tokens(self) -> int:
        """Tokens, each prompt counted once and each response to it once."""
        lengths = self.lengths
        of_pair = lengths["chosen_ids"] + lengths["rejected_ids"]
        _, number, counts = np.unique(self.prompts, return_inverse=True, return_counts=True)
        alone = counts[number] == 1
        total = int((lengths["prompt_ids"] + of_pair)[alone].sum())
        pieces: set[tuple[bytes, ...]] = set()
        for row in np.flatnonzero(~alone).tolist():
            prompt, chosen, rejected = (self._columns[name][row].tobytes() for name in TOKEN_COLUMNS)
            pieces |= {(prompt,), (prompt, chosen), (prompt, rejected)}
        return total + sum(len(piece[-1]) for piece in pieces) // np.dtype(np.int32).itemsize

    @property
    def two_sequence_tokens(self) -> int:
        """Tokens of prompt + chosen and prompt + rejected of every pair, padding not counted."""
        lengths = self.lengths
        return int((2 * lengths["prompt_ids"] + lengths["chosen_ids"] + lengths["rejected_ids"]).sum())

    @property
    def longest_pair(self) -> int:
        """Tokens of the longest prompt with its longer response."""
        return int(self.pair_lengths.max())

    def column(self, name: str, rows: np.ndarray) -> list[Any]:
        """The values of a column of text at some rows; None for each where there is no such column."""
        if name not in self._table.column_names:
            return [None] * len(rows)
        values: list[Any] = self._table.column(name).take(pa.array(rows)).to_pylist()
        return values

    @property
    def has_scores(self) -> bool:
        """Whether every pair has a score for both responses."""
        return self._score_margins is not None and bool(np.isfinite(self._score_margins).all())

    def _read_score_margins(self) -> np.ndarray | None:
        """(n,), score of the chosen response less that of the rejected one; NaN where one is missing."""
        if not {"chosen_score", "rejected_score"} <= set(self._table.column_names):
            return None
        chosen, rejected = (
            self._table.column(name).cast(pa.float64()).to_numpy() for name in ("chosen_score", "rejected_score")
        )
        margins: np.ndarray = chosen - rejected
        return margins

    def origin(self, row: int) -> str:
        """Where a pair came from: "file:line", or the data set's name and row where it does not say."""
        if "origin" in self._table.column_names:
            return str(self._table.column("origin")[row].as_py())
        return f"{self.name}, row {row}"

    def check_fits(self, vocab_size: int, max_positions: int | None) -> None:
        """Refuse rows that the model cannot take.

        Args:
            vocab_size: rows of the model's embedding.
            max_positions: the longest sequence the model knows positions for, in tokens; None where there is no limit.

        Raises:
            UsageError: an id beyond the vocabulary, or a pair longer than the model's positions.
        """
        largest = max(tokens.largest_id for tokens in self._columns.values())
        if largest >= vocab_size:
            raise UsageError(
                f"{self.name}: it holds token id {largest}, the model knows ids 0 to {vocab_size - 1}.\n"
                "  The tokens were made for another model: tokenize again with this model's tokenizer."
            )
        longest = self.pair_lengths
        row = int(longest.argmax())
        if max_positions is not None and longest[row] > max_positions:
            raise UsageError(
                f"{self.origin(row)}: prompt and response have {longest[row]} tokens, the model has {max_positions} "
                f"positions.\n  Tokenize with --max-length {max_positions} or less."
            )


def _with_int32(table: pa.Table) -> pa.Table:
    """Token ids as prepared folders have them, which costs nothing there."""
    for column in TOKEN_COLUMNS:
        wanted = pa.list_(pa.int32())
        if table.column(column).type != wanted:
            table = table.set_column(table.column_names.index(column), column, table.column(column).cast(wanted))
    return table


def _no_pairs(name: str) -> UsageError:
    return UsageError(f"{name}: it has no pairs, so there is nothing to train or evaluate on.")
