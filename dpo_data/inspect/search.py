"""Find pairs and rows in quarantine by position, id, origin or text."""

import datetime
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dpo_data.errors import UsageError, argument
from dpo_data.inspect.pair_tokens import DisplayedPair, tokens_of
from dpo_data.inspect.pairs import PairAt, matching_pairs, pair_at, pairs_with_id
from dpo_data.inspect.validation import open_encoder
from dpo_data.options import DEFAULT_MAX_LENGTH, TruncationMode, TruncationUnit
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.prepared.reader import Prepared, read_manifest
from dpo_data.records import FIELDS
from dpo_data.tokens.options import token_options

#: Matches to list; all are counted.
MAX_MATCHES = 20

_POSITION = re.compile(r"(?:(train|test):)?(\d+)")
_ID_PREFIX = re.compile(r"[0-9a-f]{1,32}")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class SearchResult:
    """Result of a search.

    Attributes:
        pairs: the first `MAX_MATCHES` pairs.
        pairs_found: number of matching pairs.
        quarantined: the first `MAX_MATCHES` rows in quarantine.
        quarantined_found: number of matching rows in quarantine.
        tokens: tokens of the pair, if it is the only match and a tokenizer was given.
    """

    pairs: list[PairAt]
    pairs_found: int
    quarantined: list[QuarantinedRow]
    quarantined_found: int
    tokens: DisplayedPair | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the result for `--json`; tokens as lists of objects."""
        pairs = [
            {"split": pair.split, "index": pair.index, **pair.row.model_dump(mode="json", exclude_none=True)}
            for pair in self.pairs
        ]
        tokens = None
        if self.tokens is not None:
            sides = {side: [token._asdict() for token in getattr(self.tokens, side)] for side in FIELDS}
            tokens = {
                **sides,
                "dropped": self.tokens.dropped,
                "message": self.tokens.message,
                "cache": self.tokens.cache,
            }
        return {
            "pairs": pairs,
            "pairs_found": self.pairs_found,
            "quarantined": [row.model_dump(mode="json") for row in self.quarantined],
            "quarantined_found": self.quarantined_found,
            "tokens": tokens,
        }

    def _repr_html_(self) -> str:
        from dpo_data.reports.html.fragments import search_result

        return search_result(self)


def show(
    path: str | Path,
    *,
    row: str | None = None,
    id_: str | None = None,
    text: str | None = None,
    tokenizer: Any = None,
    max_length: int | None = DEFAULT_MAX_LENGTH,
    max_prompt_length: int | None = None,
    truncation_mode: TruncationMode | None = None,
    truncation_unit: TruncationUnit | None = None,
    keep_system: bool | None = None,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    template_date: datetime.date | str | None = None,
    cache_dir: str | Path | None = None,
) -> SearchResult:
    """Return what `find` finds in a prepared folder, also in a rejected one, with the tokens of a single match.

    Args:
        path: the folder.
        row: see `find`.
        id_: see `find`.
        text: see `find`.
        tokenizer: name, folder or loaded tokenizer; no tokens without it.
        max_length: this and the following options: see `tokenize`.
        max_prompt_length: see `tokenize`.
        truncation_mode: see `tokenize`.
        truncation_unit: see `tokenize`.
        keep_system: see `tokenize`.
        chat_template: see `tokenize`.
        chat_template_kwargs: see `tokenize`.
        template_date: see `tokenize`.
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
        truncation_unit=truncation_unit,
        keep_system=keep_system,
        chat_template=chat_template,
        chat_template_kwargs=chat_template_kwargs,
        template_date=template_date,
    )
    found = find(prepared, row=row, id_=id_, text=text)
    if found.pairs_found != 1:
        return found
    encoder, options = open_encoder(tokenizer, prepared, options, chat_template, data=path, cache_dir=cache_dir)
    if encoder is None:
        return found
    return replace(found, tokens=tokens_of(prepared, found.pairs[0], encoder, options, cache_dir))


def find(
    prepared: Prepared, *, row: str | None = None, id_: str | None = None, text: str | None = None
) -> SearchResult:
    """Return the pairs, and the rows in quarantine, that match one of three criteria.

    Args:
        prepared: the folder.
        row: "train:12" or "12", an index in a split, or in the first one, from 0; or an origin, "file:line", with the
            whole name of the file or the end of its path.
        id_: a pair id or a prefix of one.
        text: text in the prompt, a response or the raw row in quarantine, in any case.

    Raises: UsageError: not exactly one of the three is given, or nothing matches.
    """
    if sum(criterion is not None for criterion in (row, id_, text)) != 1 or text == "":
        raise UsageError(
            f"Say which pair: a row (train:12, or file:line), {argument('id_', 'ID')} or {argument('text', 'TEXT')}."
        )
    if row is not None:
        position = _POSITION.fullmatch(row)
        found = _at_position(prepared, position[1], int(position[2])) if position else _of_origin(prepared, row)
        criterion = f"is at {row}"
    elif id_ is not None:
        check_id(id_, "id_")
        found = _collect(pairs_with_id(prepared, id_), iter(()))
        criterion = f"has id {id_}"
    else:
        found = _with_text(prepared, str(text))
        criterion = f'contains "{text}"'
    if not (found.pairs or found.quarantined):
        raise UsageError(
            f"{prepared.path}: no pair and no row in quarantine {criterion}.\n"
            f"  Search in the texts: dpo-data show {prepared.path} --find TEXT."
        )
    return found


def check_id(prefix: str, option: str | None = None) -> None:
    """Raise UsageError if a string cannot be the beginning of a pair id."""
    if not _ID_PREFIX.fullmatch(prefix):
        message = "not a pair id (up to 32 hexadecimal digits)."
        raise UsageError(message if option else f"{prefix}: {message}", option, prefix)


def _at_position(prepared: Prepared, split: str | None, index: int) -> SearchResult:
    filled = {name: entry.pairs for name, entry in prepared.manifest.splits.items() if entry.pairs}
    if not filled:
        raise UsageError(
            f"{prepared.path}: has no pairs, only rows in quarantine.\n  Show one of those by its origin: file:line."
        )
    name = split or next(iter(filled))
    if name not in filled:
        raise UsageError(f"{prepared.path}: has no split {name}; it has {', '.join(filled)}.")
    pairs = filled[name]
    if index >= pairs:
        raise UsageError(f"{prepared.path}: {name} has {pairs:,} pairs, from {name}:0 to {name}:{pairs - 1}.")
    return SearchResult([pair_at(prepared, name, index)], 1, [], 0)


def _of_origin(prepared: Prepared, origin: str) -> SearchResult:
    def matches(rows: pa.RecordBatch) -> pa.BooleanArray:
        origins = rows.column("origin")
        return pc.or_(pc.equal(origins, origin), pc.ends_with(origins, f"/{origin}"))

    def in_quarantine(row: QuarantinedRow) -> bool:
        row_origin = f"{row.file}:{row.line}"
        return row_origin == origin or row_origin.endswith(f"/{origin}")

    return _collect(matching_pairs(prepared, matches), filter(in_quarantine, prepared.quarantined()))


def _with_text(prepared: Prepared, text: str) -> SearchResult:
    def matches(rows: pa.RecordBatch) -> pa.BooleanArray:
        found = np.zeros(rows.num_rows, bool)
        for name in FIELDS:
            found |= _contains(rows.column(name), text)
        return pa.array(found)

    folded = text.casefold()

    def in_quarantine(row: QuarantinedRow) -> bool:
        return folded in row.raw.casefold() or folded in _unescaped(row.raw).casefold()

    return _collect(matching_pairs(prepared, matches), filter(in_quarantine, prepared.quarantined()))


def _contains(column: pa.Array, text: str) -> NDArray[np.bool_]:
    """Return whether each string, or any message of each list, contains a text; (N,)."""
    if pa.types.is_string(column.type):
        hits: NDArray[np.bool_] = pc.match_substring(column, text, ignore_case=True).to_numpy(zero_copy_only=False)
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
    return SearchResult(*_first(pairs), *_first(quarantined))


def _first(items: Iterator[_Item]) -> tuple[list[_Item], int]:
    """Return the first items to list, and the number of all."""
    kept: list[_Item] = []
    count = 0
    for item in items:
        count += 1
        if count <= MAX_MATCHES:
            kept.append(item)
    return kept, count
