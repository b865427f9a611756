"""From a prepared folder to its token cache: the ids that a trainer sees, final.

Each prompt is tokenized once and each response once, apart from each other as at inference. One batch of rows goes
through the tokenizer library while the batch before it is cut and packed into Arrow.
"""

import json
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dpo_data.errors import PreparedError, RowError, UsageError, reading, require_choice
from dpo_data.options import DEFAULT_MAX_LENGTH, Form, OnOverlong, Progress, TruncationMode, silent
from dpo_data.prepared.files import hash_file
from dpo_data.prepared.manifest import (
    MANIFEST,
    TOKENS_VERSION,
    TokenCounts,
    TokenizerEntry,
    TokenOptions,
    TokenShard,
    TokensManifest,
)
from dpo_data.prepared.reader import Prepared, TokenCache, open_prepared, open_tokens, read_shard
from dpo_data.prepared.schema import CARRIED_COLUMNS, ids_column, numbers_column, pair_schema, token_schema
from dpo_data.prepared.writer import SplitWriter, building, finish_folder, write_manifest
from dpo_data.ragged import equal_rows
from dpo_data.records import FIELDS
from dpo_data.tokens.encoder import (
    EncodedPairs,
    Encoder,
    Texts,
    content_hash,
    load_tokenizer,
    require_eos,
    tokenizer_entry,
    tokenizer_hash,
)
from dpo_data.tokens.truncation import check_limits, cut_prompts, kept_lengths

#: Rows whose texts go to the tokenizer library in one call: enough for all cores, little memory.
BATCH_ROWS = 1000
#: Batches on their way at a time: while Python takes over the ids of one, the library works on another.
IN_FLIGHT = 2
DROPPED = "dropped.jsonl"
CONTENTS = ("train", "test", "dataset_dict.json", "provenance.json", DROPPED)

__all__ = ["find_tokens", "list_tokens", "tokenize", "tokenizer_hash"]


def tokenize(
    prepared: str | Path,
    *,
    tokenizer: Any,
    max_length: int | None = DEFAULT_MAX_LENGTH,
    max_prompt_length: int | None = None,
    truncation_mode: TruncationMode = "keep_end",
    on_overlong: OnOverlong = "truncate",
    chat_template: str | None = None,
    cache_dir: str | Path | None = None,
    progress: Progress = silent,
) -> TokenCache:
    """The token cache of a prepared folder, made if it is not there.

    Args:
        prepared: a finished prepared folder.
        tokenizer: a name on the hub, a folder, or a loaded tokenizer of transformers.
        max_length: most tokens of a prompt with its longer response; None cuts nothing.
        max_prompt_length: most tokens of the prompt of a pair that is too long; None protects the responses.
        truncation_mode: "keep_end" keeps the last tokens of a prompt that is cut, "keep_start" the first.
        on_overlong: "truncate" pairs that are too long, "drop" them (counted), or "fail" at the first.
        chat_template: a Jinja template that replaces the tokenizer's; for conversational data.
        cache_dir: where token caches go instead of `prepared`.
        progress: told the share of rows that are done, and how many.

    Returns: the cache; its `hit` is False when it was made now.

    Raises:
        PreparedError: the folder is unfinished, rejected or damaged.
        UsageError: options that contradict each other or the data; a tokenizer without an end-of-sequence token.
        InputError: the tokenizer cannot be loaded.
        RowError: with on_overlong="fail", the first pair that is too long.
    """
    job = _job(
        prepared, tokenizer, max_length, max_prompt_length, truncation_mode, on_overlong, chat_template, cache_dir
    )
    if found := job.find():
        return found
    job.make(progress)
    return replace(open_tokens(job.folder), hit=False)


def find_tokens(
    prepared: str | Path,
    *,
    tokenizer: Any,
    max_length: int | None = DEFAULT_MAX_LENGTH,
    max_prompt_length: int | None = None,
    truncation_mode: TruncationMode = "keep_end",
    on_overlong: OnOverlong = "truncate",
    chat_template: str | None = None,
    cache_dir: str | Path | None = None,
) -> TokenCache | None:
    """The token cache that `tokenize` with the same arguments would find, or None where it would make one."""
    return _job(
        prepared, tokenizer, max_length, max_prompt_length, truncation_mode, on_overlong, chat_template, cache_dir
    ).find()


def list_tokens(prepared: Prepared, cache_dir: str | Path | None = None) -> list[TokenCache]:
    """The finished token caches of the text that a prepared folder holds now, in the order of their keys."""
    text_hash = _text_hash(prepared)
    return [cache for cache in _caches(_parent(prepared, cache_dir)) if cache.manifest.text_hash == text_hash]


def _job(
    prepared: str | Path,
    tokenizer: Any,
    max_length: int | None,
    max_prompt_length: int | None,
    truncation_mode: TruncationMode,
    on_overlong: OnOverlong,
    chat_template: str | None,
    cache_dir: str | Path | None,
) -> "_Job":
    check_limits(max_length, max_prompt_length)
    require_choice("truncation_mode", truncation_mode, TruncationMode)
    require_choice("on_overlong", on_overlong, OnOverlong)
    folder = open_prepared(prepared)
    loaded = load_checked_tokenizer(tokenizer, folder.manifest.form, chat_template, data=prepared)
    options = TokenOptions(
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        truncation_mode=truncation_mode,
        on_overlong=on_overlong,
        chat_template=None if chat_template is None else content_hash(chat_template),
    )
    return _Job(folder, loaded, chat_template, options, _parent(folder, cache_dir))


def load_checked_tokenizer(tokenizer: Any, form: Form, chat_template: str | None, *, data: str | Path) -> Any:
    """A loaded tokenizer, once it is known to suit data of that form; also to ask before a long conversion.

    Args:
        tokenizer: a name on the hub, a folder, or a loaded tokenizer.
        form: of the data.
        chat_template: given by the user.
        data: what messages call the data.

    Raises:
        UsageError: no end-of-sequence token; a chat template for text, or conversations without one.
        InputError: the tokenizer cannot be loaded.
    """
    tokenizer = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    require_eos(tokenizer)
    if form == "text" and chat_template is not None:
        raise UsageError("--chat-template is for conversational data, and this is text.\n  Leave it out.")
    if form == "conversational" and not (chat_template or tokenizer.chat_template):
        raise UsageError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template, and {data} holds conversations.\n"
            "  Give one: --chat-template FILE; or convert with --form text."
        )
    return tokenizer


def _parent(prepared: Prepared, cache_dir: str | Path | None) -> Path:
    return Path(cache_dir or prepared.path) / "tokens"


def _caches(parent: Path) -> Iterator[TokenCache]:
    for manifest in sorted(parent.glob(f"*/{MANIFEST}")):
        try:
            yield open_tokens(manifest.parent)
        except PreparedError:
            continue  # of another version of the format: neither reused nor touched


def _shard_hashes(prepared: Prepared) -> dict[str, str]:
    shards = chain.from_iterable(split.shards for split in prepared.manifest.splits.values())
    return {shard: prepared.manifest.files[shard].sha256 for shard in shards}


def _text_hash(prepared: Prepared) -> str:
    return content_hash(_shard_hashes(prepared))


@dataclass(frozen=True)
class _Batch:
    """Pairs that are cut and packed, those that were dropped, and the counts of both."""

    packed: pa.RecordBatch
    dropped: list[dict[str, Any]]
    counts: TokenCounts


@dataclass
class _Job:
    """One token cache: what it is made of, and where it goes."""

    prepared: Prepared
    tokenizer: Any
    chat_template: str | None
    options: TokenOptions
    parent: Path
    whole: set[str] = field(default_factory=set)

    @cached_property
    def entry(self) -> TokenizerEntry:
        return tokenizer_entry(self.tokenizer)

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder(self.tokenizer, self.chat_template)

    @cached_property
    def shard_keys(self) -> dict[str, str]:
        """Text shard -> key of its token shard: contents, tokenizer, options, version of the format."""
        common = [self.entry.hash, self.options.model_dump(), TOKENS_VERSION]
        return {shard: content_hash([sha256, *common]) for shard, sha256 in _shard_hashes(self.prepared).items()}

    @property
    def folder(self) -> Path:
        return self.parent / content_hash(self.shard_keys)[:16]

    def find(self) -> TokenCache | None:
        try:
            return open_tokens(self.folder)
        except PreparedError:  # not there, unfinished, or with a damaged manifest: `make` replaces it
            return None

    def make(self, progress: Progress) -> None:
        """Tokenize the shards that no other cache holds already, and publish the folder."""
        made = {shard.key: (cache, shard) for cache in _caches(self.parent) for shard in _all_shards(cache)}
        counts: dict[str, TokenCounts] = {}
        shards: dict[str, list[TokenShard]] = {}
        hashes: dict[str, dict[str, str]] = {}
        rows = 0
        with building(self.folder, overwrite=True, contents=CONTENTS) as scratch:
            with (scratch / DROPPED).open("w", encoding="utf-8") as dropped:
                for split, entry in self.prepared.manifest.splits.items():
                    if not entry.shards:
                        continue
                    schema = token_schema(
                        pair_schema(self.prepared.manifest.form, scores=self._has_scores(entry.shards[0]))
                    )
                    writer = SplitWriter(scratch, split, schema)
                    shard_counts = []
                    for text_shard in entry.shards:
                        key = self.shard_keys[text_shard]
                        if key in made and _is_whole(*made[key]):
                            cache, shard = made[key]
                            writer.adopt_shard(cache.path / shard.file, shard.counts.pairs)
                            dropped.writelines(_dropped_lines(cache.path, key))
                            shard_counts.append(shard.counts)
                            rows += shard.counts.pairs_read
                            continue
                        batch_counts = []
                        for batch in self._batches(text_shard, schema):
                            writer.write(batch.packed)
                            for row in batch.dropped:
                                dropped.write(json.dumps({"split": split, "shard": key, **row}) + "\n")
                            batch_counts.append(batch.counts)
                            rows += batch.counts.pairs_read
                            progress(rows / self.prepared.manifest.pairs, rows)
                        writer.end_shard()
                        shard_counts.append(_sum(batch_counts))
                    hashes[split] = writer.close()
                    counts[split] = _sum(shard_counts)
                    shards[split] = [
                        TokenShard(key=self.shard_keys[text_shard], file=file, counts=of_shard)
                        for text_shard, file, of_shard in zip(entry.shards, hashes[split], shard_counts, strict=True)
                    ]
            manifest = TokensManifest(
                key=self.folder.name,
                text_hash=_text_hash(self.prepared),
                tokenizer=self.entry,
                options=self.options,
                splits=counts,
                shards=shards,
                files=finish_folder(scratch, hashes),
            )
            write_manifest(scratch, manifest)

    def _has_scores(self, shard: str) -> bool:
        self._require_whole(shard)
        return "chosen_score" in next(read_shard(self.prepared.path / shard)).schema.names

    def _require_whole(self, shard: str) -> None:
        if shard in self.whole:
            return
        path = self.prepared.path / shard
        with reading(path):
            whole = hash_file(path) == self.prepared.manifest.files[shard].sha256
        if not whole:
            raise PreparedError(
                f"{path}: has other bytes than when it was written.\n"
                f"  Find out more: dpo-data validate {self.prepared.path}; then convert again with --overwrite."
            )
        self.whole.add(shard)

    def _batches(self, shard: str, schema: pa.Schema) -> Iterator[_Batch]:
        """The pairs of one text shard as packed ids; encodes further batches while one is packed."""
        self._require_whole(shard)
        table = pa.Table.from_batches(read_shard(self.prepared.path / shard))
        starts = iter(range(0, table.num_rows, BATCH_ROWS))
        encoding: deque[tuple[pa.RecordBatch, Future[tuple[EncodedPairs, dict[int, str]]]]] = deque()
        threads = IN_FLIGHT if self.encoder.in_threads else 1
        with ThreadPoolExecutor(threads) as pool:
            while True:
                for start in islice(starts, threads + 1 - len(encoding)):
                    (rows,) = table.slice(start, BATCH_ROWS).combine_chunks().to_batches()
                    encoding.append((rows, pool.submit(encode_rows, self.encoder, self.prepared.manifest.form, rows)))
                if not encoding:
                    return
                rows, future = encoding.popleft()
                encoded, refused = future.result()
                yield pack(rows, encoded, refused, self.options, self.encoder.bos_token_id, schema)


def encode_rows(encoder: Encoder, form: Form, rows: pa.RecordBatch) -> tuple[EncodedPairs, dict[int, str]]:
    """The ids of prepared rows, not yet cut, and the rows that a chat template refuses, each with the reason."""
    prompts, chosen, rejected = (rows.column(name).to_pylist() for name in FIELDS)
    if form == "text":
        return encoder.encode_texts(Texts(prompts, chosen, rejected, {})), {}
    tools = rows.column("tools").to_pylist() if "tools" in rows.schema.names else None
    texts = encoder.render(prompts, chosen, rejected, tools)
    return encoder.encode_rendered(texts), texts.refused


def pack(
    rows: pa.RecordBatch,
    encoded: EncodedPairs,
    refused: dict[int, str],
    options: TokenOptions,
    bos_token_id: int | None,
    schema: pa.Schema,
) -> _Batch:
    """Cut pairs to their limits, leave out those without signal, and pack the others into Arrow.

    Raises: RowError: with on_overlong="fail", the first pair that is too long.
    """
    prompt, chosen, rejected = encoded.prompts, encoded.chosen, encoded.rejected
    longer = np.maximum(chosen.lengths, rejected.lengths)
    too_long = np.zeros(len(longer), bool)
    if options.max_length is not None:
        too_long = prompt.lengths + longer > options.max_length
    if options.on_overlong == "fail" and too_long.any():
        row = int(np.flatnonzero(too_long)[0])
        raise RowError(
            "too_long",
            "",
            f"{rows.column('origin')[row]}: {prompt.lengths[row] + longer[row]} tokens, over --max-length "
            f"{options.max_length}.",
            "Raise --max-length, or cut or leave out such pairs: --on-overlong truncate|drop.",
        )
    kept = kept_lengths(prompt.lengths, chosen.lengths, rejected.lengths, options.max_length, options.max_prompt_length)
    cut_prompt = cut_prompts(prompt, kept.prompt, options.truncation_mode, bos_token_id)
    cut_chosen, cut_rejected = (
        ids.cut_end(length) for ids, length in ((chosen, kept.chosen), (rejected, kept.rejected))
    )

    reasons: dict[int, str] = {}
    if options.on_overlong == "drop":
        reasons.update(dict.fromkeys(np.flatnonzero(too_long).tolist(), "too_long"))
    reasons.update(dict.fromkeys(np.flatnonzero(equal_rows(cut_chosen, cut_rejected)).tolist(), "equal_responses"))
    reasons.update(dict.fromkeys(np.flatnonzero(prompt.lengths == 0).tolist(), "empty_prompt"))
    reasons.update(refused)
    keep = np.ones(rows.num_rows, bool)
    keep[list(reasons)] = False

    ids = [side.select(keep) for side in (cut_prompt, cut_chosen, cut_rejected)]
    carried = rows if keep.all() else rows.take(numbers_column(np.flatnonzero(keep), pa.int64()))
    columns = [ids_column(side) for side in ids]
    columns += [carried.column(name) for name in carried.schema.names if name in CARRIED_COLUMNS]
    prompt_lost = (prompt.lengths - kept.prompt)[keep]
    response_lost = np.concatenate([(chosen.lengths - kept.chosen)[keep], (rejected.lengths - kept.rejected)[keep]])
    counts = TokenCounts(
        pairs_read=rows.num_rows,
        pairs=int(keep.sum()),
        dropped=dict(sorted(Counter(reasons.values()).items())),
        prompts_cut=int((prompt_lost > 0).sum()),
        responses_cut=int((response_lost > 0).sum()),
        prompt_tokens_cut=int(prompt_lost.sum()),
        response_tokens_cut=int(response_lost.sum()),
        prompt_tokens=len(ids[0].values),
        response_tokens=len(ids[1].values) + len(ids[2].values),
        longest_pair=int((kept.prompt + np.maximum(kept.chosen, kept.rejected))[keep].max(initial=0)),
        seams=encoded.seams,
    )
    lost = [
        {
            "origin": rows.column("origin")[row].as_py(),
            "id": rows.column("id")[row].as_py(),
            "reason": reason,
            "prompt_tokens": int(prompt.lengths[row]),
            "chosen_tokens": int(chosen.lengths[row]),
            "rejected_tokens": int(rejected.lengths[row]),
        }
        for row, reason in sorted(reasons.items())
    ]
    return _Batch(pa.record_batch(columns, schema=schema), lost, counts)


def _sum(counts: list[TokenCounts]) -> TokenCounts:
    total = {
        name: sum(getattr(part, name) for part in counts)
        for name in TokenCounts.model_fields
        if name not in ("dropped", "longest_pair")
    }
    dropped = sum((Counter(part.dropped) for part in counts), Counter[str]())
    longest = max((part.longest_pair for part in counts), default=0)
    return TokenCounts(**total, dropped=dict(sorted(dropped.items())), longest_pair=longest)


def _all_shards(cache: TokenCache) -> Iterator[TokenShard]:
    return chain.from_iterable(cache.manifest.shards.values())


def _is_whole(cache: TokenCache, shard: TokenShard) -> bool:
    """Whether a shard and the list of what was dropped have their bytes still: a copy would get a new, right hash."""
    paths = {name: cache.path / name for name in (shard.file, DROPPED)}
    return all(path.is_file() and hash_file(path) == cache.manifest.files[name].sha256 for name, path in paths.items())


def _dropped_lines(cache: Path, shard_key: str) -> list[str]:
    with (cache / DROPPED).open(encoding="utf-8") as lines:
        return [line for line in lines if json.loads(line)["shard"] == shard_key]
