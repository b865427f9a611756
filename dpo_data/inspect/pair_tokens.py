"""Tokens of one pair as the trainer gets them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from dpo_data.inspect.pairs import PairAt
from dpo_data.prepared.reader import Prepared, read_shard, refuse_damaged
from dpo_data.prepared.schema import TOKEN_COLUMNS
from dpo_data.ragged import Ragged
from dpo_data.tokens.build import TruncatedPairs, drop_reasons, encode_rows, truncate_pairs
from dpo_data.tokens.cache import TokenCache, list_tokens
from dpo_data.tokens.encoder import EncodedPairs, Encoder, tokenizer_hash
from dpo_data.tokens.options import TokenOptions
from dpo_data.tokens.truncation import cut_prompts


class DisplayToken(NamedTuple):
    """One token of a pair.

    Attributes:
        id: token id.
        text: decoded text; the name in the vocabulary if the token is a part of a character.
        kept: False if truncation removes it.
        special: True for begin and end of sequence and for markers of the chat template.
    """

    id: int
    text: str
    kept: bool
    special: bool


@dataclass(frozen=True)
class DisplayedPair:
    """Tokens of a pair, including those that truncation removes.

    Attributes:
        prompt: tokens of the prompt.
        chosen: likewise.
        rejected: likewise.
        dropped: reason that the pair is not used for training; None if it is used.
        message: the chat template's own message, if it refuses the pair.
        cache: key of a token cache with these options that has exactly the kept ids; None if there is none.
    """

    prompt: list[DisplayToken]
    chosen: list[DisplayToken]
    rejected: list[DisplayToken]
    dropped: str | None
    message: str | None
    cache: str | None

    def kept_ids(self) -> tuple[list[int], ...]:
        """Return the ids that the trainer uses, for prompt, chosen and rejected."""
        return tuple([token.id for token in side if token.kept] for side in (self.prompt, self.chosen, self.rejected))

    def _repr_html_(self) -> str:
        from dpo_data.reports.html.fragments import tokens

        return tokens(self)


def tokens_of(
    prepared: Prepared, pair: PairAt, encoder: Encoder, options: TokenOptions, cache_dir: str | Path | None = None
) -> DisplayedPair:
    """Return the tokens of a pair as `tokenize` with the same options gives them to the trainer.

    Args:
        prepared: the folder of the pair.
        pair: a pair in it.
        encoder: the tokenizer.
        options: options of `tokenize`.
        cache_dir: where the folder's token caches are, if not in the folder.
    """
    encoded = encode_rows(encoder, prepared.manifest.form, pair.stored, options)
    truncated = truncate_pairs(encoded, options, encoder.bos_token_id)
    kept = truncated.kept
    whole, final = encoded.prompts.values.tolist(), truncated.prompts.values.tolist()
    prompt = _cut_by_turns(whole, final) if encoded.turn_cuts else _cut_by_tokens(encoded, truncated, options)
    tokens = DisplayedPair(
        prompt=_tokens(encoder, prompt),
        chosen=_tokens(encoder, _first_kept(encoded.chosen, int(kept.chosen[0]))),
        rejected=_tokens(encoder, _first_kept(encoded.rejected, int(kept.rejected[0]))),
        dropped=drop_reasons(truncated, options).get(0),
        message=encoded.refused[0].message if encoded.refused else None,
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


def _cut_by_tokens(encoded: EncodedPairs, truncated: TruncatedPairs, options: TokenOptions) -> list[tuple[int, bool]]:
    """Return the ids of a prompt, and whether truncation keeps them."""
    positions = cut_prompts(encoded.prompts.positions, truncated.kept.prompt, options.truncation_mode, None)
    stayed = positions.values.tolist()
    final = truncated.prompts.values.tolist()
    ids = encoded.prompts.values.tolist()
    whole = [(id_, position in set(stayed)) for position, id_ in enumerate(ids)]
    if stayed and final[0] != ids[stayed[0]]:
        # The begin token replaces the oldest token that would have been kept.
        whole[stayed[0]] = (ids[stayed[0]], False)
        whole.insert(stayed[0] + 1, (final[0], True))
    return whole


def _cut_by_turns(whole: list[int], final: list[int]) -> list[tuple[int, bool]]:
    """Return the ids of a prompt that were kept or lost, in order; those that it has only without its oldest turns too.

    >>> _cut_by_turns([0, 1, 2, 3, 4], [0, 3, 4])
    [(0, True), (1, False), (2, False), (3, True), (4, True)]
    """
    size = min(len(whole), len(final))
    begin = next((place for place in range(size) if whole[place] != final[place]), size)
    end = next((place for place in range(size - begin) if whole[-1 - place] != final[-1 - place]), size - begin)
    kept = [(id_, True) for id_ in final]
    lost = [(id_, False) for id_ in whole[begin : len(whole) - end]]
    return [*kept[:begin], *lost, *kept[begin:]]


def _first_kept(ids: Ragged, length: int) -> list[tuple[int, bool]]:
    return [(id_, position < length) for position, id_ in enumerate(ids.values.tolist())]


def _tokens(encoder: Encoder, ids: list[tuple[int, bool]]) -> list[DisplayToken]:
    tokenizer = encoder.tokenizer
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    names = tokenizer.convert_ids_to_tokens([id_ for id_, _ in ids])
    texts = [tokenizer.decode([id_], clean_up_tokenization_spaces=False) for id_, _ in ids]
    return [
        DisplayToken(id_, _readable(name, text), kept, id_ in special)
        for (id_, kept), name, text in zip(ids, names, texts, strict=True)
    ]


def _readable(name: str, text: str) -> str:
    if not text or "\ufffd" in text:
        return name.replace("▁", " ")
    # Decoded by itself, a word of sentencepiece loses its leading space.
    return f" {text}" if name.startswith("▁") and not text.startswith(" ") else text


def _cached_ids(cache: TokenCache, pair: PairAt) -> tuple[list[int], ...] | None:
    refuse_damaged(cache.path, cache.damaged_files(), f"Find out more: dpo-data validate {cache.path.parent.parent}.")
    for shard in cache.manifest.shards.get(pair.split, []):
        for batch in read_shard(cache.path / shard.file):
            rows = np.flatnonzero(pc.equal(batch.column("id"), pair.row.id).to_numpy(zero_copy_only=False))
            if len(rows):
                return tuple(batch.column(name)[int(rows[0])].as_py() for name in TOKEN_COLUMNS)
    return None
