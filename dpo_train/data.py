"""Prepared folders and data sets to rows of token ids. The only room that reads through dpo_data; knows no model."""

import bisect
import functools
import inspect
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import datasets
import numpy as np
import pyarrow as pa
import torch

from dpo_data.encoding import Encoder, tokenizer_entry
from dpo_data.errors import PreparedError, UsageError
from dpo_data.options import Form
from dpo_data.prepared import TokenCache, TokenOptions, open_prepared, pair_schema, token_schema
from dpo_data.records import FIELDS
from dpo_data.tokenization import encode_rows, find_tokens, list_tokens, pack, tokenize, tokenizer_hash
from dpo_data.truncation import check_limits
from dpo_train.batching import response_keys

TOKEN_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
_KEYED_TOGETHER = 4096


class PairTokens(TypedDict):
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
        """The `PairTokens` of a row, or of several; ~row gives the same pair counting nothing, to fill up a batch."""
        return self._pair(row) if isinstance(row, int) else [self._pair(one) for one in row]

    def _pair(self, row: int) -> PairTokens:
        weight = 1.0
        if row < 0:
            row, weight = ~row, 0.0
        ids = self._columns
        pair: PairTokens = {
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
    shown = {name: "FILE" if name == "chat_template" else value for name, value in options.items()}
    command += "".join(f" --{name.replace('_', '-')} {value}" for name, value in shown.items())
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


@dataclass(frozen=True)
class DataCard:
    """Where the training data comes from, for a model card."""

    source: str
    licence: str
    homepage: str
    pairs: int
    quarantined: int


def data_card(folder: Path) -> DataCard:
    """What the manifest of a prepared folder says about its source."""
    manifest = open_prepared(folder).manifest
    source = manifest.source
    return DataCard(source.name, source.licence, source.homepage, manifest.pairs, manifest.quarantined)


@dataclass(frozen=True)
class Truncation:
    """How text is cut when it is tokenized here; lengths in tokens, None for what `dpo_data.tokenization` does."""

    max_length: int | None = None
    max_prompt_length: int | None = None
    mode: str = "keep_end"

    @property
    def options(self) -> dict[str, Any]:
        """What differs from the defaults, by the names of `dpo_data.tokenization.tokenize`."""
        options: dict[str, Any] = {"max_length": self.max_length, "max_prompt_length": self.max_prompt_length}
        if self.mode != "keep_end":
            options["truncation_mode"] = self.mode
        return {name: value for name, value in options.items() if value is not None}


def as_rows(data: Any, *, name: str, split: str, tokenizer: Any, truncation: Truncation) -> Any:
    """Whatever a user gives as a data set, as rows of token ids; text is tokenized.

    Args:
        data: a datasets.Dataset or IterableDataset of prompt, chosen and rejected (text, or lists of messages) or of
            prompt_ids, chosen_ids and rejected_ids; the path of a prepared folder; or several of these by name.
        name: what error messages call it.
        split: the split to take of a prepared folder.
        tokenizer: for text.
        truncation: for text.

    Returns: `PairRows`; a datasets.IterableDataset of the same rows for an iterable one; a dict of these for a dict.

    Raises:
        UsageError: columns are missing; text without a tokenizer; truncation asked for where it would change nothing.
    """
    if data is None:
        return None
    if isinstance(data, Mapping):
        return {
            key: as_rows(value, name=f"{name} {key!r}", split=split, tokenizer=tokenizer, truncation=truncation)
            for key, value in data.items()
        }
    if isinstance(data, str | Path):
        return _rows_of_folder(Path(data), split, tokenizer, truncation)
    if not isinstance(data, datasets.Dataset | datasets.IterableDataset):
        raise UsageError(
            f"{name}: a datasets.Dataset or IterableDataset, or the path of a prepared folder, is wanted; "
            f"this is a {type(data).__name__}.\n  datasets.Dataset.from_list(rows) makes one of a list."
        )
    columns = data.column_names or list(next(iter(data), {}))
    if set(TOKEN_COLUMNS) <= set(columns):
        if truncation.options:
            raise UsageError(
                f"{name}: it is tokenized already: {', '.join(truncation.options)} would change nothing, leave it out."
            )
        return PairRows(data, name) if isinstance(data, datasets.Dataset) else data
    missing = [column for column in FIELDS if column not in columns]
    if missing:
        raise UsageError(
            f"{name}: no column {', '.join(missing)}; it has {', '.join(columns) or 'no columns'}.\n"
            f"  A pair has {', '.join(FIELDS)} (text or messages), or {', '.join(TOKEN_COLUMNS)}."
        )
    if tokenizer is None:
        raise UsageError(f"{name}: it is text, which needs DPOTrainer(tokenizer=...).")
    pairs = _PairTokenizer(tokenizer, truncation, name)
    if isinstance(data, datasets.Dataset) and len(data) == 0:
        raise _no_pairs(name)
    if isinstance(data, datasets.IterableDataset):
        return data.map(pairs.encode_columns, batched=True, batch_size=_ENCODED_ROWS, remove_columns=columns)
    return PairRows(pairs.encode(data), name)


def _rows_of_folder(folder: Path, split: str, tokenizer: Any, truncation: Truncation) -> PairRows:
    if tokenizer is None:
        raise UsageError(f"{folder}: to know its token cache, DPOTrainer(tokenizer=...) is needed.")
    cache = training_tokens(
        folder, model=str(tokenizer.name_or_path), tokenizer=tokenizer, key=None, cache_dir=None,
        options=truncation.options,
    )  # fmt: skip
    splits = cache.dataset()
    if split not in splits:
        raise UsageError(f"{folder}: it has no {split} split, only {', '.join(splits)}.")
    return PairRows(splits[split], f"{folder} {split}")


#: Rows tokenized in one call.
_ENCODED_ROWS = 512


class _PairTokenizer:
    """Text pairs held in memory to token ids, by the same rules as a token cache."""

    def __init__(self, tokenizer: Any, truncation: Truncation, name: str) -> None:
        entry = tokenizer_entry(tokenizer)
        defaults = inspect.signature(tokenize).parameters
        options = {key: defaults[key].default for key in ("max_length", "max_prompt_length", "truncation_mode")}
        self._options = TokenOptions(**options | truncation.options, on_overlong="truncate")
        check_limits(self._options.max_length, self._options.max_prompt_length)
        self._encoder = Encoder(tokenizer)
        self._bos = self._encoder.prefix_ids[0] if self._encoder.prefix_ids else entry.bos_token_id
        self.name = name

    def encode(self, dataset: datasets.Dataset) -> datasets.Dataset:
        """All pairs of a data set; those that carry no signal are left out, and counted in a warning."""
        dropped: Counter[str] = Counter()
        batches = []
        for start in range(0, len(dataset), _ENCODED_ROWS):
            columns = dataset[start : start + _ENCODED_ROWS]
            columns.setdefault(
                "origin", [f"{self.name}, row {start + index}" for index in range(len(columns["prompt"]))]
            )
            batch, lost = self._encode(columns)
            batches.append(batch)
            dropped += lost
        if dropped:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items()))
            warnings.warn(
                f"{self.name}: {dropped.total()} of {len(dataset)} pairs are left out: {reasons}.", stacklevel=2
            )
        return datasets.Dataset(pa.Table.from_batches(batches))

    def encode_columns(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """A batch of columns, as datasets.IterableDataset.map hands it over."""
        batch, _ = self._encode(columns)
        encoded: dict[str, list[Any]] = batch.select(list(TOKEN_COLUMNS)).to_pydict()
        return encoded

    def _encode(self, columns: dict[str, list[Any]]) -> tuple[pa.RecordBatch, Counter[str]]:
        count = len(columns["prompt"])
        form: Form = "text" if isinstance(columns["prompt"][0], str) else "conversational"
        scores = {"chosen_score", "rejected_score"} <= set(columns)
        schema = pair_schema(form, scores=scores)
        known = {name: columns.get(name, [""] * count) for name in schema.names}
        try:
            rows = pa.RecordBatch.from_pydict(known, schema=schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UsageError(
                f"{self.name}: prompt, chosen and rejected are text or lists of messages: {error}"
            ) from error
        encoded, refused = encode_rows(self._encoder, form, rows)
        packed = pack(rows, encoded, refused, self._options, self._bos, token_schema(schema))
        return packed.packed, Counter(packed.counts.dropped)
