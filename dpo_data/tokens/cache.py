"""Token caches of a prepared folder: made, found, listed and opened.

A cache has one shard of ids for each shard of text, under a key of its content, tokenizer and options. New rows
therefore cost the tokenization of their own shards only.
"""

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from dpo_data.engine.threads import map_in_threads
from dpo_data.errors import PreparedError, UsageError, argument, require_choice
from dpo_data.options import (
    DEFAULT_MAX_INVALID,
    DEFAULT_MAX_LENGTH,
    Form,
    OnOverlong,
    Progress,
    TokenizerEngine,
    TruncationMode,
    TruncationUnit,
    silent,
)
from dpo_data.prepared.building import building, set_aside, set_aside_if_unreadable
from dpo_data.prepared.files import fast_hash, hash_file, hash_json
from dpo_data.prepared.manifest import write_manifest
from dpo_data.prepared.reader import (
    Prepared,
    damaged_files,
    open_prepared,
    read_shard,
    refuse_damaged,
    shard_schema,
)
from dpo_data.prepared.schema import token_schema
from dpo_data.prepared.writer import SplitWriter, finish_folder
from dpo_data.slices import slices
from dpo_data.tokens.build import encode_rows, truncate_and_build
from dpo_data.tokens.dropped import DROPPED, DroppedWriter, read_dropped
from dpo_data.tokens.encoder import (
    EncodedPairs,
    Encoder,
    load_tokenizer,
    require_eos,
    tokenizer_entry,
    tokenizer_hash,
)
from dpo_data.tokens.engines import EnginesDiffer
from dpo_data.tokens.manifest import TOKENS_VERSION, TokenCounts, TokenizerEntry, TokenShard, TokensManifest
from dpo_data.tokens.options import TokenOptions, token_options
from dpo_data.tokens.reader import (
    TokenCache,
    all_tokens,
    caches_in,
    list_tokens,
    open_tokens,
    refuse_old_tokens,
    shard_hashes,
    text_hash,
    tokens_folder,
)
from dpo_data.tokens.refusals import RefusalLimit
from dpo_data.tokens.templates import ChatTemplate

#: Maximum rows, and bytes of several rows, whose texts go to the tokenizer library in one call: enough for all cores,
#: little memory, of which the library takes tens of times as much as the texts have bytes.
BATCH_ROWS = 1000
BATCH_BYTES = 8 << 20
#: Calls of the tokenizer library at a time: while Python takes over the ids of one batch, it works on another.
CALLS_IN_FLIGHT = 2

__all__ = [
    "TokenCache",
    "all_tokens",
    "find_tokens",
    "list_tokens",
    "open_tokens",
    "refuse_old_tokens",
    "tokenize",
    "tokenizer_hash",
]


def tokenize(
    prepared: str | Path,
    *,
    tokenizer: Any,
    max_length: int | None = DEFAULT_MAX_LENGTH,
    max_prompt_length: int | None = None,
    truncation_mode: TruncationMode | None = None,
    truncation_unit: TruncationUnit | None = None,
    keep_system: bool | None = None,
    on_overlong: OnOverlong = "truncate",
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    template_date: datetime.date | str | None = None,
    max_invalid: float = DEFAULT_MAX_INVALID,
    tokenizer_engine: TokenizerEngine = "auto",
    cache_dir: str | Path | None = None,
    progress: Progress = silent,
) -> TokenCache:
    """Return the token cache of a prepared folder, and make it if there is none.

    Args:
        prepared: a finished prepared folder.
        tokenizer: a name on the Hub, a folder, or a loaded tokenizer of transformers.
        max_length: maximum tokens in the prompt plus its longer response; None disables truncation.
        max_prompt_length: maximum tokens in the prompt of a pair that exceeds max_length; None keeps the responses
            whole where it can.
        truncation_mode: "keep_end" keeps the last tokens of a truncated prompt, "keep_start" the first; None is
            "keep_end".
        truncation_unit: "turn" drops whole turns from the beginning of a prompt and renders the rest again, "token"
            cuts tokens only; None is "turn" for conversations, and "token" for text or where max_prompt_length or
            truncation_mode is given.
        keep_system: whether "turn" keeps the system message; None: it does.
        on_overlong: "truncate" pairs that exceed max_length, "drop" them (counted), or "fail" at the first.
        chat_template: a Jinja template that replaces the tokenizer's; for conversational data.
        chat_template_kwargs: variables that the template gets, such as enable_thinking=False.
        template_date: the day that the template takes for today; None for the day of the folder's first token cache
            with this template, or else today.
        max_invalid: make no cache if the template refuses more than this share of the pairs.
        tokenizer_engine: the library that encodes, "tokenizers" or the faster "fastokens"; "auto" takes fastokens where
            it pays and gives the ids of tokenizers.
        cache_dir: folder for token caches instead of `prepared`.
        progress: called with the share of rows that are done, and their number.

    Returns: the cache; its `hit` is False if it was made by this call.

    Raises:
        PreparedError: the folder is unfinished, rejected or damaged.
        UsageError: options that contradict each other or the data; a tokenizer without an end-of-sequence token.
        InputError: the tokenizer cannot be loaded.
        RowError: with on_overlong="fail", the first pair that is too long.
        TooManyInvalid: the chat template refuses more than `max_invalid` of the pairs.
    """
    if not 0 <= max_invalid <= 1:
        raise UsageError("must be between 0 and 1 (0% and 100%).", "max_invalid", max_invalid)
    require_choice("tokenizer_engine", tokenizer_engine, TokenizerEngine)
    options = token_options(
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        truncation_mode=truncation_mode,
        truncation_unit=truncation_unit,
        keep_system=keep_system,
        on_overlong=on_overlong,
        chat_template=chat_template,
        chat_template_kwargs=chat_template_kwargs,
        template_date=template_date,
    )
    job = _make_job(prepared, tokenizer, options, chat_template, cache_dir)
    limit = RefusalLimit(job.prepared, job.encoder, max_invalid)
    found = job.find()
    if found and not found.damaged_files():
        for counts in found.manifest.splits.values():
            limit.add(counts)
        return found
    aside = set_aside(job.folder) if found else set_aside_if_unreadable(job.folder, "tokens")
    text_bytes = sum(job.prepared.manifest.files[shard].size_bytes for shard in shard_hashes(job.prepared))
    job.encoder.choose_engine(tokenizer_engine, text_bytes)
    try:
        _CacheWriter(job, limit, progress).write()
    except EnginesDiffer as difference:
        job.encoder.leave_engine(str(difference))
        _CacheWriter(job, RefusalLimit(job.prepared, job.encoder, max_invalid), progress).write()
    return replace(open_tokens(job.folder), hit=False, set_aside=aside)


def find_tokens(
    prepared: str | Path,
    *,
    tokenizer: Any,
    chat_template: str | None = None,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> TokenCache | None:
    """Return the token cache that `tokenize` would find with the same arguments, or None if it would make one."""
    checked = token_options(chat_template=chat_template, **options)
    return _make_job(prepared, tokenizer, checked, chat_template, cache_dir).find()


def load_encoder(
    tokenizer: Any,
    form: Form,
    options: TokenOptions,
    chat_template: str | None = None,
    *,
    data: str | Path,
    caches: Iterable[TokenCache] = (),
) -> tuple[Encoder, TokenOptions]:
    """Return an encoder after checking that it suits the data, and the options with what data and template decide.

    Args:
        tokenizer: a name on the Hub, a folder, or a loaded tokenizer.
        form: of the data.
        options: of tokenization.
        chat_template: given by the user.
        data: name of the data in messages.
        caches: token caches of the data, which may have been made with a date.

    Raises:
        UsageError: no end-of-sequence token; a chat template, its options or truncation by turns for text;
            conversations without a template, or with one that is not valid Jinja; a date for a template that writes
            none.
        InputError: the tokenizer cannot be loaded.
    """
    tokenizer = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    require_eos(tokenizer)
    given = {
        "chat_template": chat_template,
        "chat_template_kwargs": options.chat_template_kwargs,
        "template_date": options.date,
    }
    useless = next((name for name, value in given.items() if value is not None), None)
    if form == "text" and useless:
        raise UsageError(f"{argument(useless)} is for conversational data, and this is text.\n  Leave it out.")
    if form == "conversational" and not (chat_template or tokenizer.chat_template):
        raise UsageError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template, and {data} holds conversations.\n"
            f"  Give one with {argument('chat_template')}, or convert with {argument('form', 'text')}."
        )
    options = options.for_form(form)
    template = ChatTemplate(tokenizer, chat_template, options.chat_template_kwargs)
    if form == "conversational":
        template.check()
        options = _with_date(options, template, tokenizer, caches)
    return Encoder(tokenizer, template.at(options.date)), options


def _with_date(
    options: TokenOptions, template: ChatTemplate, tokenizer: Any, caches: Iterable[TokenCache]
) -> TokenOptions:
    """Return the options with a date if the template writes one: given, of the first cache, or today."""
    if not template.uses_date:
        if options.date is not None:
            raise UsageError("the chat template writes no date.\n  Leave it out.", "template_date", options.date)
        return options
    if options.date is not None:
        return options
    made_by = tokenizer_hash(tokenizer)
    known = [
        cache.manifest.options.date
        for cache in caches
        if cache.manifest.tokenizer.hash == made_by and cache.manifest.options.chat_template == options.chat_template
    ]
    date = min(filter(None, known), default=datetime.date.today().isoformat())
    return options.model_copy(update={"date": date})


def _make_job(
    prepared: str | Path,
    tokenizer: Any,
    options: TokenOptions,
    chat_template: str | None,
    cache_dir: str | Path | None,
) -> "_Job":
    folder = open_prepared(prepared)
    encoder, options = load_encoder(
        tokenizer, folder.manifest.form, options, chat_template, data=prepared, caches=all_tokens(folder, cache_dir)
    )
    return _Job(folder, encoder, options, tokens_folder(folder, cache_dir))


@dataclass(frozen=True)
class _Job:
    """The inputs of one token cache, and its place."""

    prepared: Prepared
    encoder: Encoder
    options: TokenOptions
    parent: Path

    @cached_property
    def entry(self) -> TokenizerEntry:
        return tokenizer_entry(self.encoder.tokenizer)

    @cached_property
    def shard_keys(self) -> dict[str, str]:
        """Text shard -> key of its token shard, a hash of content, tokenizer, options and version of the format."""
        # Unset options are left out, so that an option added later does not change the keys of older caches.
        options = self.options.model_dump(exclude_none=True)
        common = [self.entry.hash, options, TOKENS_VERSION]
        return {shard: hash_json([sha256, *common]) for shard, sha256 in shard_hashes(self.prepared).items()}

    @property
    def folder(self) -> Path:
        return self.parent / hash_json(self.shard_keys)[:16]

    def find(self) -> TokenCache | None:
        try:
            return open_tokens(self.folder)
        except PreparedError:  # not there, unfinished, or with a damaged manifest: it is made again
            return None


class _CacheWriter:
    """Writes the token cache of a job."""

    def __init__(self, job: _Job, limit: RefusalLimit, progress: Progress) -> None:
        self._job = job
        self._limit = limit
        self._progress = progress
        self._rows = 0
        self._checked: set[str] = set()
        #: Key of each shard in the other caches -> the cache and the shard.
        self._reusable = {
            shard.key: (cache, shard)
            for cache in caches_in(job.parent)
            for shards in cache.manifest.shards.values()
            for shard in shards
        }

    def write(self) -> None:
        """Tokenize the shards that no other cache has, and publish the folder."""
        job = self._job
        with building(job.folder, "tokens", overwrite=True) as scratch:
            shards: dict[str, list[TokenShard]] = {}
            hashes: dict[str, dict[str, str]] = {}
            with DroppedWriter(scratch) as dropped:
                for split, entry in job.prepared.manifest.splits.items():
                    if entry.shards:
                        hashes[split], shards[split] = self._write_split(split, entry.shards, scratch, dropped)
            manifest = TokensManifest(
                key=job.folder.name,
                text_hash=text_hash(job.prepared),
                tokenizer=job.entry,
                form=job.prepared.manifest.form,
                options=job.options,
                splits={split: TokenCounts.total([shard.counts for shard in part]) for split, part in shards.items()},
                shards=shards,
                files=finish_folder(scratch, hashes, **job.encoder.provenance),
            )
            write_manifest(scratch, manifest)

    def _write_split(
        self, split: str, text_shards: list[str], scratch: Path, dropped: DroppedWriter
    ) -> tuple[dict[str, str], list[TokenShard]]:
        """Write the shards of a split, and return its Arrow files with their SHA-256, and its manifest entries."""
        writer = SplitWriter(scratch, split, token_schema(shard_schema(self._checked_path(text_shards[0]))))
        counts = []
        for text_shard in text_shards:
            key = self._job.shard_keys[text_shard]
            if key in self._reusable and _is_undamaged(*self._reusable[key]):
                counts.append(self._adopt(*self._reusable[key], writer, dropped))
            else:
                counts.append(self._tokenize(text_shard, writer, dropped))
        hashes = writer.finish()
        entries = [
            TokenShard(
                key=self._job.shard_keys[text_shard],
                file=file,
                counts=of_shard,
                xxh3=fast_hash(scratch / file),
            )
            for text_shard, file, of_shard in zip(text_shards, hashes, counts, strict=True)
        ]
        return hashes, entries

    def _adopt(self, cache: TokenCache, shard: TokenShard, writer: SplitWriter, dropped: DroppedWriter) -> TokenCounts:
        """Take over a shard from another cache, with its dropped pairs."""
        writer.adopt_shard(cache.path / shard.file, shard.counts.pairs)
        dropped.write(writer.split, shard.key, (row for row in read_dropped(cache.path) if row.shard == shard.key))
        self._rows += shard.counts.pairs_read
        self._limit.add(shard.counts)
        return shard.counts

    def _tokenize(self, text_shard: str, writer: SplitWriter, dropped: DroppedWriter) -> TokenCounts:
        """Write the token shard of a text shard."""
        job, encoder = self._job, self._job.encoder
        counts = []
        # In threads, not in processes: the tokenizer library works outside Python's lock and uses all cores by itself,
        # so that a second call merely fills the gaps, while a process would first have to load the tokenizer. One
        # written in Python may keep state, and gets one call at a time.
        batches = map_in_threads(
            _encode,
            text_batches(self._checked_path(text_shard)),
            (encoder, job.prepared.manifest.form, job.options),
            threads=CALLS_IN_FLIGHT if encoder.in_threads else 1,
        )
        for rows, encoded in batches:
            batch = truncate_and_build(rows, encoded, job.options, encoder.bos_token_id, writer.schema)
            self._limit.add(batch.counts)
            writer.write(batch.rows)
            dropped.write(writer.split, job.shard_keys[text_shard], batch.dropped)
            counts.append(batch.counts)
            self._rows += batch.counts.pairs_read
            self._progress(self._rows / job.prepared.manifest.pairs, self._rows)
        if not counts:
            writer.write(pa.RecordBatch.from_pylist([], schema=writer.schema))
        writer.end_shard()
        return TokenCounts.total(counts)

    def _checked_path(self, shard: str) -> Path:
        """Return the path of a text shard.

        Raises: PreparedError: its bytes are not those that were written.
        """
        prepared = self._job.prepared
        path = prepared.path / shard
        if shard not in self._checked:
            refuse_damaged(prepared.path, damaged_files(prepared.path, {shard: prepared.manifest.files[shard]}))
            self._checked.add(shard)
        return path


def text_batches(shard: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a text shard, `BATCH_ROWS` at a time, and fewer where they are long."""
    batches = list(read_shard(shard))
    if not batches:
        return
    table = pa.Table.from_batches(batches)
    for part in slices(table, BATCH_ROWS, BATCH_BYTES):
        yield from part.combine_chunks().to_batches()


def _encode(rows: pa.RecordBatch, job: tuple[Encoder, Form, TokenOptions]) -> tuple[pa.RecordBatch, EncodedPairs]:
    encoder, form, options = job
    return rows, encode_rows(encoder, form, rows, options)


def _is_undamaged(cache: TokenCache, shard: TokenShard) -> bool:
    """Return True if a shard and its dropped pairs have their bytes still: a damaged copy would get a valid hash."""
    paths = {name: cache.path / name for name in (shard.file, DROPPED)}
    return all(path.is_file() and hash_file(path) == cache.manifest.files[name].sha256 for name, path in paths.items())
