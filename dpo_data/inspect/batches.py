"""One pass over the pairs of a prepared folder, shared by everything that looks at all of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpo_data.checks.check import RowKeys
from dpo_data.checks.row_keys import RowKeyStore, row_keys
from dpo_data.inspect.pairs import PairRow, parse_rows
from dpo_data.options import SPLITS, Progress, silent
from dpo_data.prepared.reader import Prepared, read_shard
from dpo_data.records import PairTexts, pair_keys
from dpo_data.tokens.build import encode_rows
from dpo_data.tokens.encoder import EncodedPairs, Encoder, Refusal


@dataclass(frozen=True)
class TokenizedPairs:
    """Pairs of a batch as token ids, without those that the chat template refuses.

    Attributes:
        ids: pair ids.
        encoded: their token ids, not truncated.
        refused: number of a pair in the batch to why the chat template refuses it.
    """

    ids: list[str]
    encoded: EncodedPairs
    refused: dict[int, Refusal]


@dataclass(frozen=True)
class PairBatch:
    """N consecutive pairs of one split.

    Attributes:
        split: train or test.
        start: index of the first pair in the split.
        rows: the pairs.
        stored: the same pairs as rows of Arrow.
        tokens: the same pairs as token ids; None without a tokenizer.
    """

    split: str
    start: int
    rows: list[PairRow]
    stored: pa.RecordBatch
    tokens: TokenizedPairs | None = None

    @cached_property
    def ids(self) -> list[str]:
        """(N,) pair ids."""
        return [row.id for row in self.rows]

    @cached_property
    def files(self) -> list[str]:
        """(N,) raw files that the pairs come from."""
        return [row.origin.rpartition(":")[0] for row in self.rows]

    @cached_property
    def keys(self) -> RowKeys:
        """(N,) content hashes and positions."""
        table = row_keys([pair_keys(row) for row in self.rows], SPLITS.index(self.split))
        table["index"] += self.start
        return table

    @cached_property
    def texts(self) -> list[PairTexts]:
        """(N,) prompts, chosen and rejected responses as text."""
        return [row.texts for row in self.rows]

    @cached_property
    def characters(self) -> NDArray[np.int64]:
        """(3, N) characters of prompt, chosen and rejected."""
        return np.array([[len(text) for text in texts] for texts in self.texts], np.int64).reshape(-1, 3).T

    @cached_property
    def margins(self) -> NDArray[np.float64]:
        """(N,) by how much chosen is better; NaN where unknown."""
        return row_margins(self.stored)

    def values(self, column: str) -> list[str]:
        """Return a metadata column as text, (N,)."""
        return ["(none)" if value is None else _as_text(value) for value in self.stored.column(column).to_pylist()]

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Return a column of numbers, (N,); NaN where a row has none."""
        return _numbers(self.stored, column)


class Observer(Protocol):
    """Something that looks at every pair."""

    def add(self, batch: PairBatch) -> None:
        """Look at more pairs, in the order of the folder."""


def read_pairs(
    prepared: Prepared,
    observers: Sequence[Observer],
    *,
    keys: RowKeyStore | None = None,
    encoder: Encoder | None = None,
    skip: Collection[str] = (),
    progress: Progress = silent,
) -> None:
    """Show all pairs to all observers in one pass, in memory that does not grow with the pairs.

    Args:
        prepared: the folder; may be a rejected one.
        observers: each sees every batch.
        keys: store that receives the keys of all pairs.
        encoder: adds the token ids of the pairs to the batches.
        skip: shards to leave out.
        progress: called with the share of pairs that were read, and their number.

    Raises: PreparedError: an Arrow file is missing or damaged.
    """
    done = 0
    for split, entry in prepared.manifest.splits.items():
        start = 0
        for shard in entry.shards:
            if shard in skip:
                continue
            for stored in read_shard(prepared.path / shard):
                batch = PairBatch(
                    split,
                    start,
                    parse_rows(prepared.manifest.form, stored),
                    stored,
                    _tokenized(stored, prepared, encoder),
                )
                if keys is not None:
                    keys.add(batch.keys)
                for observer in observers:
                    observer.add(batch)
                start += stored.num_rows
                done += stored.num_rows
                progress(min(1.0, done / max(1, prepared.manifest.pairs)), done)


def row_margins(stored: pa.RecordBatch) -> NDArray[np.float64]:
    """Return by how much each chosen response is better, (N,): the margin that the source gives, or the difference of
    its scores; NaN where unknown.
    """
    margin, chosen, rejected = (_numbers(stored, name) for name in ("margin", "chosen_score", "rejected_score"))
    return np.where(np.isnan(margin), chosen - rejected, margin)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(stored: pa.RecordBatch, column: str) -> NDArray[np.float64]:
    if column not in stored.schema.names:
        return np.full(stored.num_rows, np.nan)
    values: NDArray[np.float64] = stored.column(column).to_numpy(zero_copy_only=False)
    return values


def _tokenized(stored: pa.RecordBatch, prepared: Prepared, encoder: Encoder | None) -> TokenizedPairs | None:
    if encoder is None:
        return None
    encoded = encode_rows(encoder, prepared.manifest.form, stored)
    ids: list[str] = stored.column("id").to_pylist()
    if not encoded.refused:
        return TokenizedPairs(ids, encoded, {})
    keep = np.ones(len(ids), bool)
    keep[list(encoded.refused)] = False
    prompts, chosen, rejected = (side.select(keep) for side in (encoded.prompts, encoded.chosen, encoded.rejected))
    accepted = [id_ for id_, kept in zip(ids, keep, strict=True) if kept]
    return TokenizedPairs(accepted, EncodedPairs(prompts, chosen, rejected, encoded.seams), encoded.refused)
