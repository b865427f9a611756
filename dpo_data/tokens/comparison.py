"""Comparison of the ids of a token cache with those that the library tokenizers gives for its text."""

from itertools import zip_longest
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field, NonNegativeInt

from dpo_data.errors import DataError, argument, as_flag
from dpo_data.prepared.files import hash_json
from dpo_data.prepared.manifest import ManifestModel
from dpo_data.prepared.reader import Prepared, read_shard, shard_schema
from dpo_data.prepared.schema import TOKEN_COLUMNS
from dpo_data.tokens.build import encode_rows, truncate_and_build
from dpo_data.tokens.cache import load_encoder, text_batches
from dpo_data.tokens.encoder import Encoder, tokenizer_hash
from dpo_data.tokens.reader import TokenCache

_COMPARED = [*TOKEN_COLUMNS, "origin"]


class TokenComparison(ManifestModel):
    """Ids of a token cache, compared with those that the library tokenizers gives for its text."""

    pairs: Annotated[NonNegativeInt, Field(description="Pairs that were compared.")] = 0
    different: Annotated[NonNegativeInt, Field(description="Pairs with other ids.")] = 0
    not_compared: Annotated[str | None, Field(description="Why no pair was compared; null if all were.")] = None


def compare_tokens(
    cache: TokenCache, prepared: Prepared, tokenizer: Any = None, chat_template: str | None = None
) -> tuple[TokenComparison, dict[str, str]]:
    """Encode the text of an undamaged token cache with tokenizers, and compare all ids.

    Args:
        cache: a cache of the folder's present text.
        prepared: the folder.
        tokenizer: a loaded tokenizer, used if the cache was made with an equal one; else that of the cache is loaded.
        chat_template: the template that the cache was made with, if it was given by the user.

    Returns: the counts, and each shard of the cache that has other ids, with what is wrong with it.
    """
    try:
        encoder = _open_encoder(cache, prepared, tokenizer, chat_template)
    except DataError as error:
        return TokenComparison(not_compared=error.spelled(as_flag)), {}
    pairs = different = 0
    wrong = {}
    for split, shards in cache.manifest.shards.items():
        for text_shard, shard in zip(prepared.manifest.splits[split].shards, shards, strict=True):
            rows, first = _different_rows(cache, prepared, encoder, text_shard, shard.file)
            pairs += shard.counts.pairs
            different += rows
            if rows:
                wrong[shard.file] = (
                    f"has other ids than tokenizers gives for {rows:,} of {shard.counts.pairs:,} pairs, first {first}: "
                    f"remove {cache.path}, and tokenize with --tokenizer-engine tokenizers"
                )
    return TokenComparison(pairs=pairs, different=different), wrong


def _open_encoder(cache: TokenCache, prepared: Prepared, tokenizer: Any, chat_template: str | None) -> Encoder:
    """Return an encoder that works with tokenizers and gives the ids of a cache.

    Raises: DataError: its tokenizer or its chat template is not at hand.
    """
    made_by, options = cache.manifest.tokenizer, cache.manifest.options
    if options.chat_template is None:
        chat_template = None
    elif chat_template is None or hash_json(chat_template) != options.chat_template:
        raise DataError(f"made with another chat template: give its file with {argument('chat_template')}")
    if tokenizer is None or tokenizer_hash(tokenizer) != made_by.hash:
        tokenizer = cache.tokenizer_source
    encoder, _ = load_encoder(tokenizer, prepared.manifest.form, options, chat_template, data=prepared.path)
    if tokenizer_hash(encoder.tokenizer) != made_by.hash:
        raise DataError(f"made with another tokenizer than {tokenizer} is now: give it with {argument('tokenizer')}")
    return encoder


def _different_rows(
    cache: TokenCache, prepared: Prepared, encoder: Encoder, text_shard: str, file: str
) -> tuple[int, str]:
    """Return the number of pairs of a shard that have other ids, and the origin of the first."""
    # No pair of the cache is too long where its options let the first such pair fail.
    options = cache.manifest.options
    if options.on_overlong == "fail":
        options = options.model_copy(update={"on_overlong": "truncate"})
    schema = shard_schema(cache.path / file)
    stored = pa.Table.from_batches(read_shard(cache.path / file), schema).select(_COMPARED)
    start = different = 0
    first = ""
    for rows in text_batches(prepared.path / text_shard):
        encoded = encode_rows(encoder, prepared.manifest.form, rows, options)
        batch = truncate_and_build(rows, encoded, options, encoder.bos_token_id, schema).rows
        right = pa.Table.from_batches([batch]).select(_COMPARED)
        part = stored.slice(start, right.num_rows)
        start += right.num_rows
        if part.equals(right):
            continue
        pairs = zip_longest(right.to_pylist(), part.to_pylist())
        origins = [row["origin"] for row, old in pairs if row != old]
        first = first or origins[0]
        different += len(origins)
    extra = max(0, stored.num_rows - start)  # pairs that tokenizers would drop
    return different + extra, first or "at the end"
