"""Token caches of a prepared folder: found, listed, opened and verified."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dpo_data.errors import PreparedError, as_flag
from dpo_data.options import Verify
from dpo_data.prepared.building import is_set_aside
from dpo_data.prepared.files import MANIFEST, PARTIAL, hash_json
from dpo_data.prepared.manifest import load_manifest
from dpo_data.prepared.reader import Prepared, damaged_files, is_prepared, load_dataset, refuse_damaged
from dpo_data.tokens.manifest import TOKENS_VERSION, TokensManifest
from dpo_data.tokens.options import token_options

#: Name of a token cache.
_KEY = re.compile("[0-9a-f]{16}")

if TYPE_CHECKING:
    from datasets import DatasetDict


@dataclass(frozen=True)
class TokenCache:
    """A finished token cache; `hit` is True if it was there before.

    `set_aside` is the new path of a damaged cache that it took the place of, or None.
    """

    path: Path
    manifest: TokensManifest
    hit: bool = field(default=True, compare=False)
    set_aside: Path | None = field(default=None, compare=False)

    def dataset(self, verify: Verify = "fast") -> "DatasetDict":
        """Return the token ids, memory-mapped, after a check of their files.

        Args:
            verify: "full" compares the SHA-256 of every file, "fast" the XXH3 of the shards of ids instead.

        Raises: PreparedError: a file is missing or damaged.
        """
        again = f"Tokenize again with the same options: dpo-data tokenize moves {self.path} aside, and makes it anew."
        refuse_damaged(self.path, self.damaged_files(verify), again)
        return load_dataset(
            self.path, {split: [shard.file for shard in shards] for split, shards in self.manifest.shards.items()}
        )

    def damaged_files(self, verify: Verify = "fast") -> dict[str, str]:
        """Return the files that are missing or changed, each with what is wrong with it; see `dataset`."""
        files = self.manifest.files
        shards = chain.from_iterable(self.manifest.shards.values())
        fast = {shard.file: shard.xxh3 for shard in shards if shard.xxh3 is not None and verify == "fast"}
        damaged = damaged_files(self.path, {name: files[name] for name in files if name not in fast})
        return damaged | damaged_files(self.path, {name: files[name] for name in fast}, fast)

    @property
    def tokenizer_source(self) -> str:
        """Folder of the tokenizer, or its name on the Hub; its name in the manifest if neither is known."""
        return self._provenance("tokenizer") or self.manifest.tokenizer.name

    @property
    def tokenizer_engine(self) -> str:
        """The library that encoded, its version, and why it did; empty if that is not known."""
        return self._provenance("tokenizer_engine")

    def _provenance(self, name: str) -> str:
        try:
            return str(json.loads((self.path / "provenance.json").read_bytes()).get(name) or "")
        except (OSError, ValueError):
            return ""


def open_tokens(path: str | Path) -> TokenCache:
    """Return a token cache whose manifest says that it is complete.

    Raises:
        PreparedError: the cache is unfinished, of another version, or not a token cache; or its manifest does not
            add up.
    """
    path = Path(path)
    return TokenCache(path, load_manifest(path, TokensManifest, "dpo-data tokenize", _refuse_old_cache))


def all_tokens(prepared: Prepared, cache_dir: str | Path | None = None) -> Iterator[TokenCache]:
    """Yield the finished token caches of a prepared folder, those of earlier text too."""
    return caches_in(tokens_folder(prepared, cache_dir))


def list_tokens(prepared: Prepared, cache_dir: str | Path | None = None) -> list[TokenCache]:
    """Return the finished token caches of a prepared folder's present text, in the order of their keys."""
    wanted = text_hash(prepared)
    return [cache for cache in all_tokens(prepared, cache_dir) if cache.manifest.text_hash == wanted]


def damaged_manifests(prepared: Prepared, cache_dir: str | Path | None = None) -> dict[str, str]:
    """Return the manifests of token caches that are missing or cannot be read, as `tokens/KEY/manifest.json`, and why.

    Caches of other versions, unfinished ones, and folders that have not the name of a cache are left out.
    """
    damaged = {}
    for path in sorted(tokens_folder(prepared, cache_dir).glob("*")):
        if not _KEY.fullmatch(path.name) or not path.is_dir() or (path / PARTIAL).exists() or not any(path.iterdir()):
            continue
        try:
            version = json.loads((path / MANIFEST).read_bytes())["version"]
            is_other = isinstance(version, int) and version != TOKENS_VERSION
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            is_other = False
        if is_other:
            continue
        try:
            open_tokens(path)
        except PreparedError:
            damaged[f"tokens/{path.name}/{MANIFEST}"] = "is missing or damaged: the token cache cannot be used"
    return damaged


def refuse_old_tokens(prepared: Prepared, cache_dir: str | Path | None = None) -> None:
    """Raise PreparedError if a token cache is damaged, or one of the folder's present text has an older version."""
    again = "Tokenize again with the same options: the damaged cache is moved aside."
    refuse_damaged(Path(cache_dir or prepared.path), damaged_manifests(prepared, cache_dir), again)
    wanted = text_hash(prepared)
    for path in sorted(tokens_folder(prepared, cache_dir).glob(f"*/{MANIFEST}")):
        try:
            manifest = json.loads(path.read_bytes())
            is_old = manifest["version"] in range(1, TOKENS_VERSION) and manifest["text_hash"] == wanted
        except (OSError, ValueError, LookupError, TypeError):  # damaged: a cache that nothing uses
            continue
        if is_old:
            open_tokens(path.parent)


def tokens_folder(prepared: Prepared, cache_dir: str | Path | None) -> Path:
    """Return the folder of the token caches of a prepared folder."""
    return Path(cache_dir or prepared.path) / "tokens"


def _refuse_old_cache(manifest: dict[str, Any], folder: Path) -> NoReturn:
    """Raise PreparedError with the command that makes the cache again."""
    defaults = token_options().model_dump()
    changed = {name: value for name, value in manifest["options"].items() if value != defaults[name]}
    shown = {name: 0 if value is None else value for name, value in changed.items()}
    if "chat_template" in shown:
        shown["chat_template"] = "FILE"
    flags = "".join(f" {as_flag(name, value)}" for name, value in shown.items())
    prepared = folder.parent.parent
    raise PreparedError(
        f"{folder}: has format version {manifest['version']}; this program reads version {TOKENS_VERSION}.\n"
        f"  Tokenize again: dpo-data tokenize {prepared if is_prepared(prepared) else 'FOLDER'} "
        f"--tokenizer {manifest['tokenizer']['name']}{flags}"
    )


def caches_in(parent: Path) -> Iterator[TokenCache]:
    """Yield the finished token caches in a folder, apart from those that were set aside."""
    for manifest in sorted(parent.glob(f"*/{MANIFEST}")):
        if is_set_aside(manifest.parent):
            continue
        try:
            yield open_tokens(manifest.parent)
        except PreparedError:
            continue  # damaged or of another version: neither reused nor touched


def shard_hashes(prepared: Prepared) -> dict[str, str]:
    """Return the SHA-256 of every text shard."""
    shards = chain.from_iterable(split.shards for split in prepared.manifest.splits.values())
    return {shard: prepared.manifest.files[shard].sha256 for shard in shards}


def text_hash(prepared: Prepared) -> str:
    """Return the hash of the text shards, by which token caches know their text."""
    return hash_json(shard_hashes(prepared))
