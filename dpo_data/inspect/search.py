"""Find pairs and quarantined rows by position, id, origin or text."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpo_data.errors import UsageError
from dpo_data.inspect.pair_tokens import DisplayedPair, tokens_of
from dpo_data.inspect.pairs import PairAt, matching_pairs, pair_at, pairs_with_id
from dpo_data.options import DEFAULT_MAX_LENGTH, TruncationMode
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.prepared.reader import Prepared, read_manifest
from dpo_data.records import FIELDS
from dpo_data.tokens.cache import load_checked_tokenizer
from dpo_data.tokens.encoder import Encoder
from dpo_data.tokens.options import token_options

#: Matches that are listed; all are counted.
MAX_MATCHES = 20


_POSITION = re.compile(r"(?:(train|test):)?(\d+)")


HEX_DIGITS = re.compile(r"[0-9a-f]{1,32}")


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        pairs: the first `MAX_MATCHES`.
        pairs_found: how many there are.
        quarantined: the first `MAX_MATCHES` rows in quarantine.
        quarantined_found: how many there are.
        tokens: of the pair, where it is the only one and a tokenizer was given.
    """

    pairs: list[PairAt]
    pairs_found: int
    quarantined: list[QuarantinedRow]
    quarantined_found: int
    tokens: DisplayedPair | None = None

    def as_json(self) -> dict[str, Any]:
        """The same for machines; tokens as lists of objects."""
        pairs = [
            {"split": pair.split, "index": pair.index, **pair.row.model_dump(mode="json", exclude_none=True)}
            for pair in self.pairs
        ]
        tokens = None
        if self.tokens is not None:
            sides = {side: [token._asdict() for token in getattr(self.tokens, side)] for side in FIELDS}
            tokens = {**sides, "dropped": self.tokens.dropped, "cache": self.tokens.cache}
        return {
            "pairs": pairs,
            "pairs_found": self.pairs_found,
            "quarantined": [row.model_dump(mode="json") for row in self.quarantined],
            "quarantined_found": self.quarantined_found,
            "tokens": tokens,
        }


def find_to_show(
    path: str | Path,
    *,
    row: str | None = None,
    id_: str | None = None,
    text: str | None = None,
    tokenizer: Any = None,
    max_length: int | None = DEFAULT_MAX_LENGTH,
    max_prompt_length: int | None = None,
    truncation_mode: TruncationMode = "keep_end",
    chat_template: str | None = None,
    cache_dir: str | Path | None = None,
) -> SearchResult:
    """What `find` finds in a prepared folder, rejected ones too, with the tokens of a pair that is found alone.

    Args:
        path: the folder.
        row: see `find`.
        id_: see `find`.
        text: see `find`.
        tokenizer: name, folder or loaded tokenizer; no tokens without it.
        max_length: this and the others: see `tokenize`.
        max_prompt_length: see `tokenize`.
        truncation_mode: see `tokenize`.
        chat_template: see `tokenize`.
        cache_dir: see `tokenize`.

    Raises:
        PreparedError: the folder is unfinished or damaged.
        InputError, UsageError: as `find` and `tokenize`.
    """
    prepared = Prepared(Path(path), read_manifest(Path(path)))
    options = token_options(
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        truncation_mode=truncation_mode,
        chat_template=chat_template,
    )
    found = find(prepared, row=row, id_=id_, text=text)
    if tokenizer is None or found.pairs_found != 1:
        return found
    encoder = Encoder(
        load_checked_tokenizer(tokenizer, prepared.manifest.form, chat_template, data=path), chat_template
    )
    return replace(found, tokens=tokens_of(prepared, found.pairs[0], encoder, options, cache_dir))


def find(
    prepared: Prepared, *, row: str | None = None, id_: str | None = None, text: str | None = None
) -> SearchResult:
    """The pairs, and the rows in quarantine, that are asked for.

    Args:
        prepared: the folder.
        row: "train:12" or "12", the position in a split, or in the first one, from 0; or an origin, "file:line", the
            file by its whole name or the end of its path.
        id_: an id, or how it begins.
        text: what prompt, a response or the raw row in quarantine holds, in whatever case.

    Raises: UsageError: not exactly one of the three was given; or nothing is found.
    """
    if sum(asked is not None for asked in (row, id_, text)) != 1 or text == "":
        raise UsageError('Say which pair: a row (train:12, or file:line), --id ID, or --find "TEXT".')
    if row is not None:
        position = _POSITION.fullmatch(row)
        found = _at_position(prepared, position[1], int(position[2])) if position else _of_origin(prepared, row)
    elif id_ is not None:
        if not HEX_DIGITS.fullmatch(id_):
            raise UsageError(f"--id {id_}: is no id, which has up to 32 digits 0-9 and a-f.")
        found = _collect(pairs_with_id(prepared, id_), iter(()))
    else:
        found = _with_text(prepared, str(text))
    if not (found.pairs or found.quarantined):
        raise UsageError(
            f"{prepared.path}: no pair and no row in quarantine {_asked(row, id_, text)}.\n"
            f"  Search in the texts: dpo-data show {prepared.path} --find TEXT."
        )
    return found


def _asked(row: str | None, id_: str | None, text: str | None) -> str:
    return f"is at {row}" if row is not None else f"has id {id_}" if id_ is not None else f'holds "{text}"'


def _at_position(prepared: Prepared, split: str | None, index: int) -> SearchResult:
    filled = {name: entry.pairs for name, entry in prepared.manifest.splits.items() if entry.pairs}
    if not filled:
        raise UsageError(f"{prepared.path}: has no pair, only rows in quarantine.\n  Ask for one of those: file:line.")
    name = split or next(iter(filled))
    if name not in filled:
        raise UsageError(f"{prepared.path}: has no split {name}; it has {', '.join(filled)}.")
    pairs = filled[name]
    if index >= pairs:
        raise UsageError(f"{prepared.path}: {name} has {pairs:,} pairs; rows go from {name}:0 to {name}:{pairs - 1}.")
    return SearchResult([pair_at(prepared, name, index)], 1, [], 0)


def _of_origin(prepared: Prepared, origin: str) -> SearchResult:
    def matches(rows: pa.RecordBatch) -> pa.BooleanArray:
        origins = rows.column("origin")
        return pc.or_(pc.equal(origins, origin), pc.ends_with(origins, f"/{origin}"))

    def is_it(row: QuarantinedRow) -> bool:
        place = f"{row.file}:{row.line}"
        return place == origin or place.endswith(f"/{origin}")

    return _collect(matching_pairs(prepared, matches), filter(is_it, prepared.quarantined()))


def _with_text(prepared: Prepared, text: str) -> SearchResult:
    def matches(rows: pa.RecordBatch) -> pa.BooleanArray:
        found = np.zeros(rows.num_rows, bool)
        for name in FIELDS:
            found |= _holds(rows.column(name), text)
        return pa.array(found)

    folded = text.casefold()

    def is_it(row: QuarantinedRow) -> bool:
        return folded in row.raw.casefold() or folded in _unescaped(row.raw).casefold()

    return _collect(matching_pairs(prepared, matches), filter(is_it, prepared.quarantined()))


def _holds(column: pa.Array, text: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(N,) whether a string, or a message of a list, holds the text."""
    if pa.types.is_string(column.type):
        hits: np.ndarray[Any, np.dtype[np.bool_]] = pc.match_substring(column, text, ignore_case=True).to_numpy(
            zero_copy_only=False
        )
        return hits
    contents = column.flatten().field("content")
    hits = pc.fill_null(pc.match_substring(contents, text, ignore_case=True), False).to_numpy(zero_copy_only=False)
    found = np.zeros(len(column), bool)
    found[pc.list_parent_indices(column).to_numpy()[hits]] = True
    return found


def _unescaped(raw: str) -> str:
    try:
        return json.dumps(json.loads(raw), ensure_ascii=False)
    except ValueError:
        return raw


def _collect(pairs: Iterator[PairAt], quarantined: Iterator[QuarantinedRow]) -> SearchResult:
    first_pairs, pairs_found = _first(pairs)
    first_rows, rows_found = _first(quarantined)
    return SearchResult(first_pairs, pairs_found, first_rows, rows_found)


def _first(items: Iterator[Any]) -> tuple[list[Any], int]:
    kept, count = [], 0
    for item in items:
        count += 1
        if count <= MAX_MATCHES:
            kept.append(item)
    return kept, count
