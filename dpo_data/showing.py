"""Pairs of a prepared folder, one at a time: where they come from, as the trainer sees them, as a run judged them."""

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpo_data.encoding import Encoder, content_hash, tokenizer_hash
from dpo_data.errors import InputError, PreparedError, UsageError, reading
from dpo_data.options import DEFAULT_MAX_LENGTH, TruncationMode
from dpo_data.prepared import (
    Prepared,
    QuarantinedRow,
    TokenCache,
    TokenOptions,
    open_prepared,
    read_manifest,
    read_shard,
    token_schema,
)
from dpo_data.records import FIELDS, ConversationalRow, TextRow
from dpo_data.tokenization import encode_rows, list_tokens, pack, ready_tokenizer
from dpo_data.truncation import Ragged, check_limits, cut_prompts, kept_lengths

#: What `dpo-train` writes of every pair that it saw.
RUN_PAIRS = "pairs.parquet"
RUN_COLUMNS = ("split", "id", "origin", "step", "margin")

#: Matches that are listed; all are counted.
MAX_MATCHES = 20
_POSITION = re.compile(r"(?:(train|test):)?(\d+)")
HEX_DIGITS = re.compile(r"[0-9a-f]{1,32}")


@dataclass(frozen=True)
class PairAt:
    """A pair, and where it stands.

    Attributes:
        split: train or test.
        index: its position there, from 0, as in `dataset[split][index]`.
        row: the pair.
        stored: the same, as one row of Arrow.
    """

    split: str
    index: int
    row: TextRow | ConversationalRow
    stored: pa.RecordBatch


class Token(NamedTuple):
    """One token of a pair.

    Attributes:
        id: in the vocabulary.
        text: what it stands for; the vocabulary's own name for it where it is a part of a character.
        kept: whether the trainer sees it.
        special: begin, end, or a mark of the chat template.
    """

    id: int
    text: str
    kept: bool
    special: bool


@dataclass(frozen=True)
class PairTokens:
    """The tokens of a pair, those that are cut off among them.

    Attributes:
        prompt: its tokens.
        chosen: likewise.
        rejected: likewise.
        dropped: why the trainer does not see the pair at all; None where it does.
        cache: key of a token cache of these options that holds exactly the kept ids; None where there is none.
    """

    prompt: list[Token]
    chosen: list[Token]
    rejected: list[Token]
    dropped: str | None
    cache: str | None

    def kept_ids(self) -> tuple[list[int], ...]:
        """The ids that the trainer sees, of prompt, chosen and rejected."""
        return tuple([token.id for token in side if token.kept] for side in (self.prompt, self.chosen, self.rejected))


@dataclass(frozen=True)
class Found:
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
    tokens: PairTokens | None = None

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
) -> Found:
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
    check_limits(max_length, max_prompt_length)
    found = find(prepared, row=row, id_=id_, text=text)
    if tokenizer is None or found.pairs_found != 1:
        return found
    encoder = Encoder(ready_tokenizer(tokenizer, prepared.manifest.form, chat_template, data=path), chat_template)
    options = TokenOptions(
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        truncation_mode=truncation_mode,
        on_overlong="truncate",
        chat_template=None if chat_template is None else content_hash(chat_template),
    )
    return replace(found, tokens=tokens_of(prepared, found.pairs[0], encoder, options, cache_dir))


def find(prepared: Prepared, *, row: str | None = None, id_: str | None = None, text: str | None = None) -> Found:
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


def _at_position(prepared: Prepared, split: str | None, index: int) -> Found:
    filled = {name: entry.pairs for name, entry in prepared.manifest.splits.items() if entry.pairs}
    if not filled:
        raise UsageError(f"{prepared.path}: has no pair, only rows in quarantine.\n  Ask for one of those: file:line.")
    name = split or next(iter(filled))
    if name not in filled:
        raise UsageError(f"{prepared.path}: has no split {name}; it has {', '.join(filled)}.")
    pairs = filled[name]
    if index >= pairs:
        raise UsageError(f"{prepared.path}: {name} has {pairs:,} pairs; rows go from {name}:0 to {name}:{pairs - 1}.")
    return Found([pair_at(prepared, name, index)], 1, [], 0)


def _of_origin(prepared: Prepared, origin: str) -> Found:
    def matches(rows: pa.RecordBatch) -> pa.BooleanArray:
        origins = rows.column("origin")
        return pc.or_(pc.equal(origins, origin), pc.ends_with(origins, f"/{origin}"))

    def is_it(row: QuarantinedRow) -> bool:
        place = f"{row.file}:{row.line}"
        return place == origin or place.endswith(f"/{origin}")

    return _collect(_matching(prepared, matches), filter(is_it, quarantined_rows(prepared)))


def _with_text(prepared: Prepared, text: str) -> Found:
    def matches(rows: pa.RecordBatch) -> pa.BooleanArray:
        found = np.zeros(rows.num_rows, bool)
        for name in FIELDS:
            found |= _holds(rows.column(name), text)
        return pa.array(found)

    folded = text.casefold()

    def is_it(row: QuarantinedRow) -> bool:
        return folded in row.raw.casefold() or folded in _unescaped(row.raw).casefold()

    return _collect(_matching(prepared, matches), filter(is_it, quarantined_rows(prepared)))


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


def _matching(prepared: Prepared, matches: Callable[[pa.RecordBatch], pa.BooleanArray]) -> Iterator[PairAt]:
    for split in prepared.split_names:
        start = 0
        for batch in prepared.batches(split):
            for position in np.flatnonzero(matches(batch).to_numpy(zero_copy_only=False)).tolist():
                yield _pair_at(prepared, split, start + position, batch.slice(position, 1))
            start += batch.num_rows


def _pair_at(prepared: Prepared, split: str, index: int, stored: pa.RecordBatch) -> PairAt:
    model = TextRow if prepared.manifest.form == "text" else ConversationalRow
    return PairAt(split, index, model.model_validate(stored.to_pylist()[0]), stored)


def _collect(pairs: Iterator[PairAt], quarantined: Iterator[QuarantinedRow]) -> Found:
    first_pairs, pairs_found = _first(pairs)
    first_rows, rows_found = _first(quarantined)
    return Found(first_pairs, pairs_found, first_rows, rows_found)


def _first(items: Iterator[Any]) -> tuple[list[Any], int]:
    kept, count = [], 0
    for item in items:
        count += 1
        if count <= MAX_MATCHES:
            kept.append(item)
    return kept, count


def pair_at(prepared: Prepared, split: str, index: int) -> PairAt:
    """The pair at a position of a split, from 0.

    Raises: PreparedError: the split has fewer pairs.
    """
    start = 0
    for batch in prepared.batches(split):
        if index < start + batch.num_rows:
            return _pair_at(prepared, split, index, batch.slice(index - start, 1))
        start += batch.num_rows
    raise PreparedError(
        f"{prepared.path}: {split} ends before row {index}.\n  Find out more: dpo-data validate FOLDER."
    )


def pairs_with_id(prepared: Prepared, prefix: str) -> Iterator[PairAt]:
    """The pairs whose id begins so."""
    return _matching(prepared, lambda rows: pc.starts_with(rows.column("id"), prefix))


def pairs_by_id(prepared: Prepared, ids: Collection[str]) -> dict[str, PairAt]:
    """The pairs with these ids, those that are there; of equal pairs the first."""
    return _pairs_by(prepared, "id", ids)


def pairs_by_origin(prepared: Prepared, origins: Collection[str]) -> dict[str, PairAt]:
    """The first pair of each of these raw rows, where it gave any."""
    return _pairs_by(prepared, "origin", origins)


def _pairs_by(prepared: Prepared, column: str, values: Collection[str]) -> dict[str, PairAt]:
    wanted = pa.array(sorted(values), pa.string())
    found: dict[str, PairAt] = {}
    for pair in _matching(prepared, lambda rows: pc.is_in(rows.column(column), wanted)):
        found.setdefault(getattr(pair.row, column), pair)
    return found


def quarantined_rows(prepared: Prepared) -> Iterator[QuarantinedRow]:
    """The rows in quarantine, one at a time."""
    for name in prepared.manifest.files:
        if name.startswith("quarantine/"):
            with reading(prepared.path / name), (prepared.path / name).open(encoding="utf-8") as lines:
                for line in lines:
                    yield QuarantinedRow.model_validate_json(line)


# Tokens.


def tokens_of(
    prepared: Prepared, pair: PairAt, encoder: Encoder, options: TokenOptions, cache_dir: str | Path | None = None
) -> PairTokens:
    """A pair as `tokenize` with the same options hands it to the trainer.

    Args:
        prepared: the folder of the pair.
        pair: a pair of it.
        encoder: the tokenizer.
        options: of `tokenize`.
        cache_dir: where the folder's token caches are, if not in itself.
    """
    encoded, refused = encode_rows(encoder, prepared.manifest.form, pair.stored)
    packed = pack(pair.stored, encoded, refused, options, encoder.bos_token_id, token_schema(pair.stored.schema))
    prompt, chosen, rejected = encoded.prompts, encoded.chosen, encoded.rejected
    kept = kept_lengths(prompt.lengths, chosen.lengths, rejected.lengths, options.max_length, options.max_prompt_length)
    stayed = cut_prompts(prompt.positions, kept.prompt, options.truncation_mode, None).values.tolist()
    final = cut_prompts(prompt, kept.prompt, options.truncation_mode, encoder.bos_token_id).values.tolist()
    prompt_ids = prompt.values.tolist()
    whole = [(id_, position in set(stayed)) for position, id_ in enumerate(prompt_ids)]
    if stayed and final[0] != prompt_ids[stayed[0]]:
        # The begin token takes the place of the oldest token that would have stayed.
        whole[stayed[0]] = (prompt_ids[stayed[0]], False)
        whole.insert(stayed[0] + 1, (final[0], True))
    tokens = PairTokens(
        prompt=_tokens(encoder, whole),
        chosen=_tokens(encoder, _first_kept(chosen, int(kept.chosen[0]))),
        rejected=_tokens(encoder, _first_kept(rejected, int(kept.rejected[0]))),
        dropped=packed.dropped[0]["reason"] if packed.dropped else None,
        cache=None,
    )
    made_by = tokenizer_hash(encoder.tokenizer)
    caches = (
        cache
        for cache in list_tokens(prepared, cache_dir)
        if cache.manifest.options == options and cache.manifest.tokenizer.hash == made_by
    )
    cache = next((cache for cache in caches if _cached_ids(cache, pair) == tokens.kept_ids()), None)
    return tokens if cache is None else replace(tokens, cache=cache.manifest.key)


def _first_kept(ids: Ragged, length: int) -> list[tuple[int, bool]]:
    return [(id_, position < length) for position, id_ in enumerate(ids.values.tolist())]


def _tokens(encoder: Encoder, ids: list[tuple[int, bool]]) -> list[Token]:
    tokenizer = encoder.tokenizer
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    names = tokenizer.convert_ids_to_tokens([id_ for id_, _ in ids])
    texts = [tokenizer.decode([id_], clean_up_tokenization_spaces=False) for id_, _ in ids]
    return [
        Token(id_, _readable(name, text), kept, id_ in special)
        for (id_, kept), name, text in zip(ids, names, texts, strict=True)
    ]


def _readable(name: str, text: str) -> str:
    if not text or "\ufffd" in text:
        return name.replace("▁", " ")
    # Decoded alone, a word of sentencepiece loses the space that it stands for.
    return f" {text}" if name.startswith("▁") and not text.startswith(" ") else text


def _cached_ids(cache: TokenCache, pair: PairAt) -> tuple[list[int], ...] | None:
    for shard in cache.manifest.shards.get(pair.split, []):
        for batch in read_shard(cache.path / shard.file):
            rows = np.flatnonzero(pc.equal(batch.column("id"), pair.row.id).to_numpy(zero_copy_only=False))
            if len(rows):
                names = ("prompt_ids", "chosen_ids", "rejected_ids")
                return tuple(batch.column(name)[int(rows[0])].as_py() for name in names)
    return None


# Runs.


class JudgedPair(NamedTuple):
    """A pair, and how the model of a run judged it.

    Attributes:
        margin: reward of chosen less reward of rejected; below 0 the model disagrees with the label.
        split: train or test.
        step: the optimizer step at which the margin was measured.
        origin: "file:line" of the raw row.
        id: of the pair.
        prompt, chosen, rejected: the texts; of a conversation, the contents of its messages.
    """

    margin: float
    split: str
    step: int
    origin: str
    id: str
    prompt: str
    chosen: str
    rejected: str


def worst_pairs(prepared: str | Path, run: str | Path, *, count: int = 20) -> list[JudgedPair]:
    """The pairs that the model of a run disagrees with most, the worst first: where wrong labels are found.

    Args:
        prepared: the prepared folder that the run was trained on.
        run: the run's folder.
        count: how many at most. A pair that was measured several times counts with its last step.

    Raises:
        PreparedError: the prepared folder is unfinished or rejected.
        InputError: the run has no file of pairs, or one that cannot be read.
        UsageError: the run is about other data.
    """
    if count < 1:
        raise UsageError(f"--worst {count}: must be at least 1.")
    folder = open_prepared(prepared)
    if not (Path(run) / RUN_PAIRS).is_file():
        raise InputError(
            f"{Path(run) / RUN_PAIRS}: there is no such file.\n"
            f"  Train first: dpo-train --data {prepared} --output {run}."
        )
    judged = read_run_pairs(run)
    known = judged.filter(pc.is_in(judged.column("id"), _present_ids(folder)))
    if judged.num_rows and not known.num_rows:
        raise UsageError(f"{run}: was trained on other data than {prepared}: no pair of it is there.")
    # The last step of each pair; then the texts of the few that are shown, and of no others.
    latest = (
        known.sort_by("step")
        .group_by("id", use_threads=False)
        .aggregate([(name, "last") for name in RUN_COLUMNS if name != "id"])
    )
    worst = latest.sort_by("margin_last").slice(0, count).to_pylist()
    texts = pairs_by_id(folder, {row["id"] for row in worst})
    return [
        JudgedPair(
            row["margin_last"], row["split_last"], row["step_last"], row["origin_last"], row["id"],
            *texts[row["id"]].row.texts,
        )
        for row in worst
    ]  # fmt: skip


def read_run_pairs(run: str | Path) -> pa.Table:
    """What a run wrote of its pairs: the columns `RUN_COLUMNS`.

    Raises: InputError: the file is missing, damaged or lacks a column.
    """
    path = Path(run) / RUN_PAIRS
    with reading(path):
        table = pq.read_table(path)
    if missing := [name for name in RUN_COLUMNS if name not in table.column_names]:
        raise InputError(f"{path}: has no column {', '.join(missing)}; it has {', '.join(table.column_names)}.")
    return table.select(RUN_COLUMNS)


def _present_ids(folder: Prepared) -> pa.ChunkedArray:
    chunks = [batch.column("id") for split in folder.split_names for batch in folder.batches(split)]
    return pa.chunked_array(chunks, pa.string())
