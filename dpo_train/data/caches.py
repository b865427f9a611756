"""Choose the token cache of a prepared folder."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from dpo_data.errors import PreparedError, UsageError, argument, as_flag
from dpo_data.options import DEFAULT_MAX_INVALID, Progress, silent
from dpo_data.prepared.reader import open_prepared
from dpo_data.tokens.cache import TokenCache, find_tokens, list_tokens, refuse_old_tokens, tokenize
from dpo_data.tokens.encoder import tokenizer_hash
from dpo_data.tokens.manifest import TokenCounts
from dpo_data.tokens.remarks import cut_counts, remark_lines


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


def describe_truncation(caches: Sequence[TokenCache]) -> str:
    """Return how many prompts and responses of token caches were cut; "" if none."""
    return cut_counts(TokenCounts.total([counts for cache in caches for counts in cache.manifest.splits.values()]))


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


def joined_splits(caches: Sequence[TokenCache]) -> dict[str, datasets.Dataset]:
    """Return the splits of token caches by name, each with the pairs of all caches in turn.

    Raises:
        UsageError: the caches have different tokenizers or options.
    """
    first = caches[0]
    expected = first.manifest.tokenizer.hash, first.manifest.options.model_dump()
    for cache in caches[1:]:
        hash_, options = cache.manifest.tokenizer.hash, cache.manifest.options.model_dump()
        differing = [f"{name} {expected[1][name]} and {value}" for name, value in options.items()]
        differing = [text for text, name in zip(differing, options, strict=True) if expected[1][name] != options[name]]
        if hash_ != expected[0]:
            differing.insert(0, f"tokenizers {first.manifest.tokenizer.name} and {cache.manifest.tokenizer.name}")
        if differing:
            raise UsageError(
                f"{first.path} and {cache.path} cannot be trained on together: they differ in {', '.join(differing)}.\n"
                "  Tokenize both with the same options: dpo-data tokenize."
            )
    if len(caches) == 1:
        return dict(first.dataset())
    parts: dict[str, list[datasets.Dataset]] = {}
    for cache in caches:
        for name, split in cache.dataset().items():
            parts.setdefault(name, []).append(split)
    return {name: datasets.concatenate_datasets(_with_common_columns(splits)) for name, splits in parts.items()}


def _with_common_columns(splits: Sequence[datasets.Dataset]) -> list[datasets.Dataset]:
    """Return datasets with the columns that all of them have, in the types of the first."""
    common = [name for name in splits[0].column_names if all(name in split.column_names for split in splits)]
    return [split.select_columns(common) for split in splits]


def describe_tokens(caches: Sequence[TokenCache]) -> list[tuple[str, str]]:
    """Return what token caches hold in titled lines: pairs, what was truncated and dropped, template and remarks."""
    names = dict.fromkeys(name for cache in caches for name in cache.manifest.splits)
    of_split = {
        name: TokenCounts.total([cache.manifest.splits[name] for cache in caches if name in cache.manifest.splits])
        for name in names
    }
    counts = TokenCounts.total([*of_split.values()])
    manifest = caches[0].manifest
    limit = f"to {manifest.options.max_length} tokens" if manifest.options.max_length else "without a max_length"
    cut = []
    if counts.prompts_cut:
        turns = f" ({counts.turns_dropped:,} turns dropped)" if counts.turns_dropped else ""
        cut.append(f"{counts.prompts_cut:,} prompts by {counts.prompt_tokens_cut:,} tokens{turns}")
    if counts.responses_cut:
        cut.append(f"{counts.responses_cut:,} responses by {counts.response_tokens_cut:,} tokens")
    lines = [("pairs", ", ".join(f"{name} {split.pairs:,}" for name, split in of_split.items()))]
    lines.append(("truncated", f"{limit}: {', '.join(cut) or 'nothing'}"))
    if counts.dropped:
        reasons = ", ".join(f"{reason} {pairs:,}" for reason, pairs in counts.dropped.items())
        lines.append(("dropped", f"{sum(counts.dropped.values()):,} pairs: {reasons}"))
    if manifest.form == "conversational":
        own = "given by the user" if manifest.options.chat_template else f"of {manifest.tokenizer.name}"
        arguments = manifest.options.chat_template_kwargs
        lines.append(("template", f"{own}{f', with {json.dumps(arguments)}' if arguments else ''}"))
    else:
        lines.append(("template", "none: the pairs are text"))
    return lines + [("note", line) for line in remark_lines(counts)]


@dataclass(frozen=True)
class DataCard:
    """Where the training data comes from, for a model card."""

    source: str
    license: str
    homepage: str
    pairs: int
    quarantined: int


def data_card(*folders: Path) -> DataCard:
    """Return the facts about the sources in the manifests of prepared folders."""
    manifests = [open_prepared(folder).manifest for folder in folders]
    names, licenses, homepages = (
        ", ".join(dict.fromkeys(str(getattr(manifest.source, name)) for manifest in manifests))
        for name in ("name", "license", "homepage")
    )
    pairs, quarantined = (sum(getattr(each, name) for each in manifests) for name in ("pairs", "quarantined"))
    return DataCard(names, licenses, homepages, pairs, quarantined)
