"""Choose the token cache of a prepared folder."""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_data.errors import PreparedError, UsageError, argument, as_flag
from dpo_data.options import DEFAULT_MAX_INVALID, Progress, silent
from dpo_data.prepared.reader import open_prepared
from dpo_data.tokens.cache import TokenCache, find_tokens, list_tokens, refuse_old_tokens, tokenize
from dpo_data.tokens.encoder import tokenizer_hash
from dpo_data.tokens.manifest import TokenCounts
from dpo_data.tokens.remarks import cut_counts


def training_tokens(
    data: Path,
    *,
    model: str,
    tokenizer: Any,
    key: str | None,
    cache_dir: Path | None,
    options: Mapping[str, Any],
    unit: str | None = None,
    max_invalid: float = DEFAULT_MAX_INVALID,
    scratch: Path | None = None,
    progress: Progress = silent,
) -> TokenCache:
    """Return the token cache to train on: the named one, the only one that fits, or a new one if there is none.

    Args:
        data: a prepared folder.
        model: name or path of the model that the tokenizer belongs to, for messages.
        tokenizer: the tokenizer.
        key: name of a cache; None to choose by `options`.
        cache_dir: folder of the caches; None for the prepared folder itself.
        options: truncation options that the user gave, by their names in `dpo_data.tokenize`; empty for the only cache
            of this tokenizer.
        unit: truncation unit of a new cache, and of the cache that `options` name, if they do not give one.
        max_invalid: maximum share of the pairs of a new cache that the chat template may refuse.
        scratch: folder for a new cache, if not `cache_dir`.

    Raises:
        PreparedError: the folder or the cache must not be used, or another tokenizer made the cache.
        UsageError: several caches fit, or none and there are several ranks.
        TooManyInvalid: see `dpo_data.tokenize`.
    """
    wanted = {"truncation_unit": unit, **options} if unit is not None else dict(options)
    command = f"dpo-data tokenize {data} --tokenizer {model}"
    command += "".join(f" {as_flag(name, _as_word(name, value))}" for name, value in wanted.items())
    command += f" --cache-dir {cache_dir}" if cache_dir else ""

    prepared = open_prepared(data)
    caches = {cache.manifest.key: cache for cache in list_tokens(prepared, cache_dir)}
    if not caches and not options:
        refuse_old_tokens(prepared, cache_dir)
    if key is not None:
        if key not in caches:
            raise UsageError(f"{data}: it has no token cache {key}, but {', '.join(caches) or 'none'}.\n  {command}")
        return _of_tokenizer(caches[key], model, tokenizer, command)
    if caches and not options:
        made_by = tokenizer_hash(tokenizer)
        fitting = [cache for cache in caches.values() if cache.manifest.tokenizer.hash == made_by]
        if len(fitting) > 1:
            listing = "\n".join(f"    --tokens {cache.manifest.key}    {_described(cache)}" for cache in fitting)
            raise UsageError(f"{data}: {len(fitting)} token caches fit {model}; choose one:\n{listing}")
        return _of_tokenizer([*fitting, *caches.values()][0], model, tokenizer, command)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        found = find_tokens(data, tokenizer=tokenizer, cache_dir=cache_dir, **wanted)
        if found is None:
            raise UsageError(
                f"{data}: there is no such token cache, and distributed runs do not create one.\n"
                f"  Make it once, before: {command}"
            )
        return found
    if scratch is not None:
        if found := find_tokens(data, tokenizer=tokenizer, cache_dir=cache_dir, **wanted):
            return found
        cache_dir = scratch
    return tokenize(
        data, tokenizer=tokenizer, cache_dir=cache_dir, max_invalid=max_invalid, progress=progress, **wanted
    )


def describe_truncation(cache: TokenCache) -> str:
    """Return how many prompts and responses of a token cache were cut; "" if none."""
    return cut_counts(TokenCounts.total(list(cache.manifest.splits.values())))


def model_of_tokens(data: Path, *, key: str | None, cache_dir: Path | None) -> str:
    """Return the model whose tokenizer made the only token cache of a prepared folder.

    Args:
        data: a prepared folder.
        key: name of the cache to train on; None for the only one.
        cache_dir: where caches are kept; None for the prepared folder itself.

    Raises: UsageError: there is no cache, or tokenizers of several models made them.
    """
    caches = [cache for cache in list_tokens(open_prepared(data), cache_dir) if key in (None, cache.manifest.key)]
    names = sorted({cache.manifest.tokenizer.hash: cache.tokenizer_source for cache in caches}.values())
    if len(names) == 1:
        return names[0]
    if names:
        listing = "".join(f"\n    {argument('model', name)}" for name in names)
        raise UsageError(f"{data}: tokenizers of several models made its token caches; choose the model:{listing}")
    raise UsageError(
        f"{data}: has no token cache{f' {key}' if key else ''} from which the model could be taken.\n"
        f"  Name the model: {argument('model', 'NAME')}."
    )


def _of_tokenizer(cache: TokenCache, model: str, tokenizer: Any, command: str) -> TokenCache:
    made_by, wanted_hash = cache.manifest.tokenizer, tokenizer_hash(tokenizer)
    if made_by.hash != wanted_hash:
        raise PreparedError(
            f'{cache.path}: tokens were made with tokenizer "{made_by.name}" (hash {made_by.hash[:8]}), the model uses '
            f'"{model}" (hash {wanted_hash[:8]}).\n  Tokenize again: {command}'
        )
    return cache


def _as_word(name: str, value: Any) -> str:
    """Return the value of an option as a word of the command line."""
    if name == "chat_template":
        return "FILE"
    return shlex.quote(json.dumps(value)) if isinstance(value, Mapping) else str(value)


def _described(cache: TokenCache) -> str:
    options = cache.manifest.options
    prompt = f", max_prompt_length {options.max_prompt_length}" if options.max_prompt_length else ""
    arguments = f", chat_template_kwargs {json.dumps(kwargs)}" if (kwargs := options.chat_template_kwargs) else ""
    date = f", template_date {options.date}" if options.date else ""
    unit = ", by turns" if options.truncation_unit == "turn" else ""
    unit += " without the system message" if options.keep_system is False else ""
    return (
        f"max_length {options.max_length}{prompt}, {options.truncation_mode}{unit}, {options.on_overlong}{arguments}"
        f"{date}"
    )


@dataclass(frozen=True)
class DataCard:
    """Where the training data comes from, for a model card."""

    source: str
    license: str
    homepage: str
    pairs: int
    quarantined: int


def data_card(folder: Path) -> DataCard:
    """Return the facts about the source in the manifest of a prepared folder."""
    manifest = open_prepared(folder).manifest
    source = manifest.source
    return DataCard(source.name, source.license, source.homepage, manifest.pairs, manifest.quarantined)
