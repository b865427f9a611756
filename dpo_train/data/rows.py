"""Pairs of token ids, memory-mapped."""

import bisect
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NotRequired, TypedDict

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from dpo_data.errors import UsageError, first_line
from dpo_data.prepared.schema import TOKEN_COLUMNS
from dpo_train.batches.packed import response_keys

#: Optional columns of a pair: scores of both responses, and their log-probabilities under the reference, as ours and as
#: TRL's columns.
SCORES = ("chosen_score", "rejected_score")
GIVEN_LOGPS = ("reference_chosen_logps", "reference_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
_SPELLINGS = (GIVEN_LOGPS[:2], GIVEN_LOGPS[2:])

#: Rows hashed together: few enough to stay in a processor's cache.
KEY_BATCH_ROWS = 4096


class TokenPair(TypedDict):
    """One pair: token ids as views of the Arrow file, its row number, and its weight (0 if it fills up a batch)."""

    prompt_ids: np.ndarray
    chosen_ids: np.ndarray
    rejected_ids: np.ndarray
    row: int
    weight: float
    score_margin: NotRequired[float]
    reference_chosen_logps: NotRequired[float]
    reference_rejected_logps: NotRequired[float]


class TokenColumn:
    """A column of token lists whose rows are views of the Arrow buffers, without a Python object per token."""

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
        """Yield the ids of some rows as views of their bytes."""
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        bounds = np.empty((2, len(rows)), np.int64)
        for chunk, offsets in enumerate(self._offsets):
            inside = chunks == chunk
            index = rows[inside] - self._starts[chunk]
            bounds[:, inside] = offsets[index], offsets[index + 1]
        views = [memoryview(values).cast("B") for values in self._values]
        width = self._values[0].itemsize if self._values else 1
        ranges = zip(chunks.tolist(), *(bounds * width).tolist(), strict=True)
        return (views[chunk][start:end] for chunk, start, end in ranges)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens in each row, (n,) int64."""
        return np.concatenate([np.empty(0, np.int64), *(np.diff(offsets) for offsets in self._offsets)])

    @property
    def largest_id(self) -> int:
        """Largest token id of the column; -1 if it is empty."""
        used = (values[offsets[0] : offsets[-1]] for values, offsets in zip(self._values, self._offsets, strict=True))
        return max((int(ids.max()) for ids in used if len(ids)), default=-1)


class PairRows(torch.utils.data.Dataset[TokenPair]):
    """The pairs of a tokenized dataset, read from its memory-mapped Arrow columns.

    Args:
        dataset: has prompt_ids, chosen_ids and rejected_ids; may have origin ("file:line"), chosen_score and
            rejected_score.
        name: name of the dataset in error messages.
        weights: column with the weights of the pairs; None for 1.
        first_row: number of the first row in error messages.

    Raises:
        UsageError: a column is missing or has another type, there are no rows, a prompt or response is empty, a token
            id is null or negative, or a weight is not above 0.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        name: str = "the dataset",
        weights: str | None = None,
        *,
        first_row: int = 0,
    ) -> None:
        missing = [column for column in TOKEN_COLUMNS if column not in dataset.column_names]
        if missing:
            raise UsageError(
                f"{name}: no column {', '.join(missing)}; it has {', '.join(dataset.column_names) or 'no columns'}."
            )
        if len(dataset) == 0:
            raise no_pairs(name)
        self.name = name
        self._first_row = first_row
        self._dataset = dataset.with_format(None)
        self._table: pa.Table = dataset.with_format("arrow")[:]
        self._columns = {column: self._read_tokens(column) for column in TOKEN_COLUMNS}
        self._score_margins = self._read_score_margins()
        self._given_logps = self._read_given_logps()
        self._weights = None if weights is None else self._read_weights(weights)
        for column, tokens in self._columns.items():
            empty = np.flatnonzero(tokens.lengths == 0)
            if len(empty):
                raise UsageError(
                    f"{self.origin(int(empty[0]))}: {column} is empty, as in {len(empty)} of {len(self)} pairs.\n"
                    "  Prompt and responses need at least one token each; dpo-data tokenize drops other pairs."
                )

    def _read_tokens(self, column: str) -> TokenColumn:
        """Return a column of token ids, as int32, the type of prepared folders."""
        ids = self._table.column(column)
        try:
            ids = ids.cast(pa.list_(pa.int32()))
        except (pa.ArrowException, NotImplementedError) as error:
            raise UsageError(
                f"{self.name}: {column} must be lists of token ids, but is {ids.type}: {first_line(error)}."
            ) from error
        self._table = self._table.set_column(self._table.column_names.index(column), column, ids)
        if ids.null_count:
            raise UsageError(f"{self.origin(int(ids.is_null().to_numpy().argmax()))}: {column} is null.")
        for chunk, start in zip(ids.chunks, np.cumsum([0, *map(len, ids.chunks)]), strict=False):
            values = chunk.flatten()
            if values.null_count or (len(values) and pc.min(values).as_py() < 0):
                wrong = pc.or_kleene(values.is_null(), pc.less(values, 0)).fill_null(True)
                place = pc.index(wrong, True).as_py()
                offsets = chunk.offsets.to_numpy()
                row = int(start) + int(np.searchsorted(offsets - offsets[0], place, side="right")) - 1
                raise UsageError(
                    f"{self.origin(row)}: {column} has the token id {values[place].as_py()}; ids are numbers from 0.\n"
                    "  Leave out labels such as -100 and padding; pairs are padded when they are batched."
                )
        return TokenColumn(ids)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, key: Any) -> Any:
        """Return rows or columns as a datasets.Dataset does, with ids as lists; a single row with its pair's fields."""
        values = self._dataset[key]
        if not isinstance(key, int):
            return values
        pair = self._pair(key if key >= 0 else key + len(self))
        ids: dict[str, Any] = {column: self._columns[column][pair["row"]].tolist() for column in TOKEN_COLUMNS}
        return {**values, **pair, **ids}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(len(self)))

    @property
    def column_names(self) -> list[str]:
        """Columns of the dataset."""
        names: list[str] = self._dataset.column_names
        return names

    def select(self, rows: Sequence[int]) -> datasets.Dataset:
        """Return some rows as a datasets.Dataset."""
        return self._dataset.select(rows)

    def pairs(self, rows: Iterable[Any]) -> list[TokenPair]:
        """Return pairs of token ids; ~row is the same pair as row with weight 0, to fill up a batch."""
        return [self._pair(int(row)) for row in rows]

    def __getitems__(self, rows: Sequence[Any]) -> list[Any]:
        """Return the pairs of a batch, or those of each micro-batch of a step, for torch's DataLoader."""
        return [self._pair(row) if isinstance(row, int) else self.pairs(row) for row in rows]

    def _pair(self, row: int) -> TokenPair:
        if fills_up := row < 0:
            row = ~row
        weight = 1.0 if self._weights is None else float(self._weights[row])
        ids = self._columns
        pair: TokenPair = {
            "prompt_ids": ids["prompt_ids"][row],
            "chosen_ids": ids["chosen_ids"][row],
            "rejected_ids": ids["rejected_ids"][row],
            "row": row,
            "weight": 0.0 if fills_up else weight,
        }
        if self._given_logps is not None:
            pair["reference_chosen_logps"], pair["reference_rejected_logps"] = self._given_logps[row].tolist()
        if self._score_margins is not None:
            pair["score_margin"] = float(self._score_margins[row])
        return pair

    @property
    def lengths(self) -> dict[str, np.ndarray]:
        """Number of tokens in each row, (n,) int64, by column."""
        return {column: tokens.lengths for column, tokens in self._columns.items()}

    def response_keys(self, rows: np.ndarray) -> np.ndarray:
        """Return the 128-bit hashes of some rows' prompts with chosen and rejected response, (n, 2, 2) int64."""
        keys = np.empty((len(rows), 2, 2), np.int64)
        for start in range(0, len(rows), KEY_BATCH_ROWS):
            part = rows[start : start + KEY_BATCH_ROWS]
            digests = []
            for prompt, *responses in zip(*(self._columns[name].pieces(part) for name in TOKEN_COLUMNS), strict=True):
                digests += response_keys(prompt, responses)
            keys[start : start + len(part)] = np.frombuffer(b"".join(digests), np.int64).reshape(-1, 2, 2)
        return keys

    @functools.cached_property
    def prompts(self) -> np.ndarray:
        """A number for each row that is equal for rows with the same prompt, (n,) int64."""
        if "prompt_key" in self._table.column_names:
            encoded = self._table.column("prompt_key").combine_chunks().dictionary_encode()
            return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
        column, seen = self._columns["prompt_ids"], dict[bytes, int]()
        return np.array([seen.setdefault(column[row].tobytes(), row) for row in range(len(self))], np.int64)

    @property
    def pair_lengths(self) -> np.ndarray:
        """Number of tokens of each prompt plus its longer response, (n,) int64."""
        lengths = self.lengths
        total: np.ndarray = lengths["prompt_ids"] + np.maximum(lengths["chosen_ids"], lengths["rejected_ids"])
        return total

    @functools.cached_property
    def distinct_tokens(self) -> int:
        """Number of tokens, counting each prompt once and each distinct response to it once."""
        lengths = self.lengths
        responses = lengths["chosen_ids"] + lengths["rejected_ids"]
        _, number, counts = np.unique(self.prompts, return_inverse=True, return_counts=True)
        alone = counts[number] == 1
        total = int((lengths["prompt_ids"] + responses)[alone].sum())
        pieces: set[tuple[bytes, ...]] = set()
        for row in np.flatnonzero(~alone).tolist():
            prompt, chosen, rejected = (self._columns[name][row].tobytes() for name in TOKEN_COLUMNS)
            pieces |= {(prompt,), (prompt, chosen), (prompt, rejected)}
        return total + sum(len(piece[-1]) for piece in pieces) // np.dtype(np.int32).itemsize

    @property
    def two_sequence_tokens(self) -> int:
        """Number of tokens of prompt + chosen and prompt + rejected of every pair, without padding."""
        lengths = self.lengths
        return int((2 * lengths["prompt_ids"] + lengths["chosen_ids"] + lengths["rejected_ids"]).sum())

    @property
    def longest_pair(self) -> int:
        """Number of tokens of the longest pair: prompt plus longer response."""
        return int(self.pair_lengths.max())

    def column(self, name: str, rows: np.ndarray) -> list[str | None]:
        """Return the values of a column in some rows as text; None for each if there is no such column."""
        if name not in self._table.column_names:
            return [None] * len(rows)
        values = self._table.column(name).take(pa.array(rows)).to_pylist()
        return [None if value is None else str(value) for value in values]

    @property
    def has_scores(self) -> bool:
        """Return True if every pair has a score for both responses."""
        return self._score_margins is not None and bool(np.isfinite(self._score_margins).all())

    def _read_score_margins(self) -> np.ndarray | None:
        """Return chosen score minus rejected score, (n,), with NaN for missing scores; None without score columns."""
        if not set(SCORES) <= set(self._table.column_names):
            return None
        margins: np.ndarray = np.subtract(*(self._numbers(name) for name in SCORES))
        return margins

    @property
    def has_given_logps(self) -> bool:
        """True if the dataset has the log-probabilities of its responses under the reference."""
        return self._given_logps is not None

    def _read_given_logps(self) -> np.ndarray | None:
        """Return the reference log-probabilities in the dataset, (n, 2), chosen and rejected; None without columns."""
        names = next((names for names in _SPELLINGS if set(names) <= set(self._table.column_names)), None)
        if names is None:
            return None
        logps = np.stack([self._numbers(name) for name in names], axis=1)
        wrong = np.flatnonzero(~(logps <= 0).all(1))
        if len(wrong):
            raise UsageError(
                f"{self.origin(int(wrong[0]))}: {' and '.join(names)} are log-probabilities, summed over a response, "
                f"but here they are {' and '.join(map(str, logps[wrong[0]].tolist()))}."
            )
        return logps

    def _numbers(self, name: str) -> np.ndarray:
        """Return a column of numbers, (n,) float64, with NaN for null."""
        column = self._table.column(name)
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)):
            raise UsageError(f"{self.name}: {name} must be numbers, but is {column.type}.")
        numbers: np.ndarray = column.cast(pa.float64()).to_numpy()
        return numbers

    def _read_weights(self, column: str) -> np.ndarray:
        """Return the weights of the pairs, (n,)."""
        names = self._table.column_names
        if column not in names:
            raise UsageError(
                f"{self.name}: there is no such column; it has {', '.join(names)}.\n"
                "  dpo-data convert --keep COLUMN carries a column of the raw rows over.",
                "pair_weights",
                column,
            )
        try:
            weights: np.ndarray = self._table.column(column).cast(pa.float64()).to_numpy()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UsageError(f"{self.name}: is not a column of numbers.", "pair_weights", column) from error
        wrong = np.flatnonzero(~((weights > 0) & np.isfinite(weights)))
        if len(wrong):
            raise UsageError(
                f"{self.origin(int(wrong[0]))}: {weights[wrong[0]]} is not a weight above 0, as in {len(wrong)} of "
                f"{len(self)} pairs.\n  Remove pairs that should not count.",
                "pair_weights",
                column,
            )
        return weights

    def origin(self, row: int) -> str:
        """Return where a pair came from: "file:line", or the name of the dataset and the row number."""
        if "origin" in self._table.column_names:
            return str(self._table.column("origin")[row].as_py())
        return f"{self.name}, row {self._first_row + row}"

    def check_fits(self, vocab_size: int, max_positions: int | None, model: str = "the model") -> None:
        """Raise UsageError if the model cannot take the rows.

        Args:
            vocab_size: size of the model's vocabulary; ids must be smaller.
            max_positions: maximum tokens of a prompt plus its longer response; None for no limit.
            model: which model it is, in messages.
        """
        largest = max(tokens.largest_id for tokens in self._columns.values())
        if largest >= vocab_size:
            row = next(
                row for row in range(len(self)) if any(ids[row].max() == largest for ids in self._columns.values())
            )
            raise UsageError(
                f"{self.origin(row)}: it has token id {largest}, the vocabulary of {model} has ids 0 to "
                f"{vocab_size - 1}.\n"
                f"  The tokens were made for another model; tokenize again with the tokenizer of {model}."
            )
        longest = self.pair_lengths
        row = int(longest.argmax())
        if max_positions is not None and longest[row] > max_positions:
            raise UsageError(
                f"{self.origin(row)}: prompt and response have {longest[row]} tokens, {model} has {max_positions} "
                f"positions.\n  Tokenize with --max-length {max_positions} or less."
            )


def no_pairs(name: str) -> UsageError:
    """Return the error of a dataset without pairs."""
    return UsageError(f"{name}: it has no pairs to train or evaluate on.")
