"""Prepared folders and data sets to rows of token ids. The only room that reads through dpo_data; knows no model."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import datasets
import numpy as np
import pyarrow as pa
import torch

from dpo_data.errors import PreparedError, UsageError
from dpo_data.prepared import TokenCache, open_prepared
from dpo_data.tokenization import find_tokens, list_tokens, tokenize, tokenizer_hash

TOKEN_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")


class PairTokens(TypedDict):
    """One pair: token ids as views of the Arrow file, and the number of its row."""

    prompt_ids: np.ndarray
    chosen_ids: np.ndarray
    rejected_ids: np.ndarray
    row: int


class TokenColumn:
    """A column of token lists, read in place: a row is a view, no Python object is made for a token."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._values = [chunk.values.to_numpy(zero_copy_only=False) for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])

    def __getitem__(self, row: int) -> np.ndarray:
        chunk = int(np.searchsorted(self._starts, row, side="right")) - 1
        offsets, index = self._offsets[chunk], row - self._starts[chunk]
        view: np.ndarray = self._values[chunk][offsets[index] : offsets[index + 1]]
        return view

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64, tokens in each row."""
        return np.concatenate([np.empty(0, np.int64), *(np.diff(offsets) for offsets in self._offsets)])

    @property
    def largest_id(self) -> int:
        """The largest token id of the column; -1 where there is none."""
        used = (values[offsets[0] : offsets[-1]] for values, offsets in zip(self._values, self._offsets, strict=True))
        return max((int(ids.max()) for ids in used if len(ids)), default=-1)


class PairRows(torch.utils.data.Dataset[PairTokens]):
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
            raise UsageError(f"{name}: it has no pairs, so there is nothing to train or evaluate on.")
        self._table: pa.Table = dataset.with_format("arrow")[:]
        self._columns = {column: TokenColumn(self._table.column(column)) for column in TOKEN_COLUMNS}
        self._name = name
        for column, tokens in self._columns.items():
            empty = np.flatnonzero(tokens.lengths == 0)
            if len(empty):
                raise UsageError(
                    f"{self.origin(int(empty[0]))}: {column} is empty, as in {len(empty)} of {len(self)} pairs.\n"
                    "  Prompt and responses need at least one token each; dpo-data tokenize sees to that."
                )

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, row: int) -> PairTokens:
        ids = self._columns
        return {
            "prompt_ids": ids["prompt_ids"][row],
            "chosen_ids": ids["chosen_ids"][row],
            "rejected_ids": ids["rejected_ids"][row],
            "row": row,
        }

    @property
    def lengths(self) -> dict[str, np.ndarray]:
        """Tokens in each row, (n,) int64, by column."""
        return {column: tokens.lengths for column, tokens in self._columns.items()}

    def origin(self, row: int) -> str:
        """Where a pair came from: "file:line", or the data set's name and row where it does not say."""
        if "origin" in self._table.column_names:
            return str(self._table.column("origin")[row].as_py())
        return f"{self._name}, row {row}"

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
                f"{self._name}: it holds token id {largest}, the model knows ids 0 to {vocab_size - 1}.\n"
                "  The tokens were made for another model: tokenize again with this model's tokenizer."
            )
        lengths = self.lengths
        longest = lengths["prompt_ids"] + np.maximum(lengths["chosen_ids"], lengths["rejected_ids"])
        row = int(longest.argmax())
        if max_positions is not None and longest[row] > max_positions:
            raise UsageError(
                f"{self.origin(row)}: prompt and response have {longest[row]} tokens, the model has {max_positions} "
                f"positions.\n  Tokenize with --max-length {max_positions} or less."
            )


def training_tokens(
    data: Path, *, model: str, tokenizer: Any, key: str | None, cache_dir: Path | None, options: Mapping[str, Any]
) -> TokenCache:
    """The token cache to train from: the one asked for, the only one that fits, or, where there is none, a new one.

    Args:
        data: a prepared folder.
        model: the model's name or path, as the user gave it; its tokenizer is meant wherever a message names it.
        tokenizer: that tokenizer, loaded.
        key: name of a cache under the folder of caches; None to choose by `options`.
        cache_dir: where caches are kept; None for the prepared folder itself.
        options: the truncation options the user gave, by the names `dpo_data.tokenization.tokenize` has for them; empty
            for the only cache of this tokenizer.

    Raises:
        PreparedError: the folder or the cache must not be used; made by another tokenizer.
        UsageError: several caches fit, or several ranks would have to make one.
    """
    command = f"dpo-data tokenize {data} --tokenizer {model}"
    command += "".join(f" --{name.replace('_', '-')} {value}" for name, value in options.items())
    command += f" --cache-dir {cache_dir}" if cache_dir else ""

    caches = {cache.manifest.key: cache for cache in list_tokens(open_prepared(data), cache_dir)}
    if key is not None:
        if key not in caches:
            raise UsageError(f"{data}: it has no token cache {key}, but {', '.join(caches) or 'none'}.\n  {command}")
        return _of_tokenizer(caches[key], model, tokenizer, command)
    if caches and not options:
        wanted = tokenizer_hash(tokenizer)
        fitting = [cache for cache in caches.values() if cache.manifest.tokenizer.hash == wanted]
        if len(fitting) > 1:
            listing = "\n".join(f"    --tokens {cache.manifest.key}    {_described(cache)}" for cache in fitting)
            raise UsageError(f"{data}: {len(fitting)} token caches fit {model}; say which to train on:\n{listing}")
        return _of_tokenizer([*fitting, *caches.values()][0], model, tokenizer, command)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        found = find_tokens(data, tokenizer=tokenizer, cache_dir=cache_dir, **options)
        if found is None:
            raise UsageError(
                f"{data}: there is no such token cache, and of several training processes none should make it.\n"
                f"  Make it once, before: {command}"
            )
        return found
    return tokenize(data, tokenizer=tokenizer, cache_dir=cache_dir, **options)


def _of_tokenizer(cache: TokenCache, model: str, tokenizer: Any, command: str) -> TokenCache:
    made_by, wanted_hash = cache.manifest.tokenizer, tokenizer_hash(tokenizer)
    if made_by.hash != wanted_hash:
        raise PreparedError(
            f'{cache.path}: tokens were made with tokenizer "{made_by.name}" (hash {made_by.hash[:8]}), the model uses '
            f'"{model}" (hash {wanted_hash[:8]}).\n  Tokenize again: {command}'
        )
    return cache


def _described(cache: TokenCache) -> str:
    options = cache.manifest.options
    prompt = f", max_prompt_length {options.max_prompt_length}" if options.max_prompt_length else ""
    return f"max_length {options.max_length}{prompt}, {options.truncation_mode}, {options.on_overlong}"
