"""Rows of text or messages given in memory, tokenized and truncated."""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from dpo_data.errors import UsageError
from dpo_data.options import Form
from dpo_data.prepared.schema import TOKEN_COLUMNS, PairColumns, pair_schema, token_schema
from dpo_data.records import FIELDS
from dpo_data.tokens.build import encode_rows, truncate_and_build
from dpo_data.tokens.encoder import Encoder, tokenizer_entry
from dpo_data.tokens.options import token_options
from dpo_train.data.caches import training_tokens
from dpo_train.data.rows import PairRows, _no_pairs


@dataclass(frozen=True)
class Truncation:
    """Truncation of text that is tokenized in memory; lengths in tokens, None for defaults of `dpo_data.tokenize`."""

    max_length: int | None = None
    max_prompt_length: int | None = None
    mode: str = "keep_end"

    @property
    def options(self) -> dict[str, Any]:
        """The options that differ from the defaults, by their names in `dpo_data.tokenize`."""
        options: dict[str, Any] = {"max_length": self.max_length, "max_prompt_length": self.max_prompt_length}
        if self.mode != "keep_end":
            options["truncation_mode"] = self.mode
        return {name: value for name, value in options.items() if value is not None}


def as_rows(data: Any, *, name: str, split: str, tokenizer: Any, truncation: Truncation) -> Any:
    """Return a dataset as rows of token ids; text is tokenized.

    Args:
        data: a datasets.Dataset or IterableDataset of prompt, chosen and rejected (text, or lists of messages) or of
            prompt_ids, chosen_ids and rejected_ids; the path of a prepared folder; or several of these by name.
        name: name of the dataset in error messages.
        split: split of a prepared folder.
        tokenizer: for text.
        truncation: for text.

    Returns: `PairRows`; a datasets.IterableDataset of the same rows for an iterable one; a dict of these for a dict.

    Raises:
        UsageError: columns are missing, text has no tokenizer, or truncation is requested for token ids.
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
            f"{name}: expected a datasets.Dataset or IterableDataset, or the path of a prepared folder; "
            f"this is a {type(data).__name__}.\n  datasets.Dataset.from_list(rows) makes a dataset from a list."
        )
    columns = data.column_names or list(next(iter(data), {}))
    if set(TOKEN_COLUMNS) <= set(columns):
        if truncation.options:
            raise UsageError(
                f"{name}: it is tokenized already, so {', '.join(truncation.options)} has no effect; leave it out."
            )
        return PairRows(data, name) if isinstance(data, datasets.Dataset) else data
    missing = [column for column in FIELDS if column not in columns]
    if missing:
        raise UsageError(
            f"{name}: no column {', '.join(missing)}; it has {', '.join(columns) or 'no columns'}.\n"
            f"  A pair has {', '.join(FIELDS)} (text or messages), or {', '.join(TOKEN_COLUMNS)}."
        )
    if tokenizer is None:
        raise UsageError(f"{name}: text needs DPOTrainer(tokenizer=...).")
    pairs = _PairTokenizer(tokenizer, truncation, name)
    if isinstance(data, datasets.Dataset) and len(data) == 0:
        raise _no_pairs(name)
    if isinstance(data, datasets.IterableDataset):
        return data.map(pairs.encode_columns, batched=True, batch_size=_ENCODED_ROWS, remove_columns=columns)
    return PairRows(pairs.encode(data), name)


def _rows_of_folder(folder: Path, split: str, tokenizer: Any, truncation: Truncation) -> PairRows:
    if tokenizer is None:
        raise UsageError(f"{folder}: to choose its token cache, DPOTrainer(tokenizer=...) is needed.")
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
    """Tokenizes text pairs in memory, by the same rules as a token cache."""

    def __init__(self, tokenizer: Any, truncation: Truncation, name: str) -> None:
        entry = tokenizer_entry(tokenizer)
        self._options = token_options(**truncation.options)
        self._encoder = Encoder(tokenizer)
        self._bos = self._encoder.prefix_ids[0] if self._encoder.prefix_ids else entry.bos_token_id
        self.name = name

    def encode(self, dataset: datasets.Dataset) -> datasets.Dataset:
        """Encode all pairs of a dataset; those without a training signal are dropped, and counted in a warning."""
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
                f"{self.name}: {dropped.total()} of {len(dataset)} pairs are dropped: {reasons}.", stacklevel=2
            )
        return datasets.Dataset(pa.Table.from_batches(batches))

    def encode_columns(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Encode a batch of columns, as datasets.IterableDataset.map passes it."""
        batch, _ = self._encode(columns)
        encoded: dict[str, list[Any]] = batch.select(list(TOKEN_COLUMNS)).to_pydict()
        return encoded

    def _encode(self, columns: dict[str, list[Any]]) -> tuple[pa.RecordBatch, Counter[str]]:
        count = len(columns["prompt"])
        form: Form = "text" if isinstance(columns["prompt"][0], str) else "conversational"
        scores = {"chosen_score", "rejected_score"} <= set(columns)
        schema = pair_schema(form, PairColumns(scores=scores))
        known = {name: columns.get(name, [""] * count) for name in schema.names}
        try:
            rows = pa.RecordBatch.from_pydict(known, schema=schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UsageError(
                f"{self.name}: prompt, chosen and rejected are text or lists of messages: {error}"
            ) from error
        encoded, refused = encode_rows(self._encoder, form, rows)
        built = truncate_and_build(rows, encoded, refused, self._options, self._bos, token_schema(schema))
        return built.rows, Counter(built.counts.dropped)
