"""Store of reference log-probabilities: in memory, and on disk for later runs."""

import io
import json
import os
import re
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch.distributed.tensor import DTensor

from dpo_data.errors import InputError, UsageError, first_line
from dpo_train.models import without_adapter

#: To be increased when stored values or their keys no longer match what the code computes.
FORMAT_VERSION = 3

ENTRY = np.dtype([("key", "<i8", 2), ("logp", "<f4"), ("tokens", "<i4")])
#: Fields of a model's configuration that do not change a log-probability.
_WITHOUT_EFFECT = re.compile(
    "_name_or_path|transformers_version|architectures|(torch_)?dtype|use_cache|.*attn_implementation.*|"
    "(bos|eos|pad)_token_id|id2label|label2id|return_dict|output_.*"
)


class ReferenceStore:
    """Log-probabilities of responses under a reference model, by a hash of prompt and response.

    A folder holds the values of one reference model. Each writer adds its own files and renames them when they are
    complete, so that several processes can write at the same time and a killed one only loses what it had not saved.
    A file is an array of `ENTRY` in NumPy's format, and its name is the checksum of its content.

    Args:
        folder: folder of this reference's values; None to keep them in memory.
        description: facts about the reference for people, written to reference.json.

    Raises:
        InputError: a file of the folder cannot be read.
    """

    def __init__(self, folder: Path | None = None, description: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._description = description or {}
        self._entries = np.empty(0, ENTRY)
        self._unsaved: list[np.ndarray] = []
        for path in sorted(folder.glob("*.npy")) if folder is not None and folder.is_dir() else []:
            try:
                content = path.read_bytes()
                entries = np.load(io.BytesIO(content), allow_pickle=False)
            except Exception as error:  # NumPy raises many kinds for bytes that are not its format
                raise InputError(
                    f"{path}: cannot be read: {first_line(error)}.\n  Delete it; its values are computed again."
                ) from error
            if entries.dtype != ENTRY or entries.ndim != 1:
                raise InputError(f"{path}: not a file of reference log-probabilities.\n  Delete it.")
            if path.stem != checksum(content):
                raise InputError(
                    f"{path}: is damaged: its name is not the checksum of its content.\n"
                    "  Delete it; its values are computed again."
                )
            self._insert(entries)
        #: Whether the folder has values of another run that were not compared with the reference yet.
        self.unchecked = len(self._entries) > 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look up responses.

        Args:
            keys: (R, 2) int64, see `PackedBatch.keys`.

        Returns: (R,) float32 log-probabilities in nats, and (R,) bool, whether each is known; unknown ones are 0.
        """
        if not len(self._entries):
            return np.zeros(len(keys), np.float32), np.zeros(len(keys), bool)
        index = np.searchsorted(self._entries["key"][:, 0], keys[:, 0]).clip(max=len(self._entries) - 1)
        known: np.ndarray = (self._entries["key"][index] == keys).all(1)
        return np.where(known, self._entries["logp"][index], np.float32(0)), known

    def add(self, keys: np.ndarray, logps: np.ndarray, tokens: np.ndarray, *, saved: bool = False) -> None:
        """Add values; responses that are known keep the value they have.

        Args:
            keys: (R, 2) int64.
            logps: (R,) float32.
            tokens: (R,) int, tokens of each response.
            saved: whether another process writes these values to disk.
        """
        entries = np.empty(len(keys), ENTRY)
        entries["key"], entries["logp"], entries["tokens"] = keys, logps, tokens
        entries = entries[~self.find(keys)[1]]
        if len(entries):
            self._insert(entries)
            if not saved:
                self._unsaved.append(entries)

    def save(self) -> None:
        """Write the values that were added since the last save.

        Raises:
            UsageError: the folder cannot be written.
        """
        entries, self._unsaved = np.concatenate([np.empty(0, ENTRY), *self._unsaved]), []
        if self.folder is None or not len(entries):
            return
        buffer = io.BytesIO()
        np.save(buffer, entries, allow_pickle=False)
        part = self.folder / f"{checksum(buffer.getvalue())}.npy"
        partial = part.with_suffix(f".{os.getpid()}.partial")  # two processes may compute the same values
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            about = self.folder / "reference.json"
            if not about.exists():
                about.write_text(json.dumps(self._description, indent=2) + "\n", encoding="utf-8")
            with partial.open("wb") as file:
                file.write(buffer.getvalue())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(part)
        except OSError as error:
            raise UsageError(
                f"{self.folder}: cannot write reference log-probabilities: {error.strerror}.\n"
                "  Choose a writable folder: --cache-dir."
            ) from error

    def _insert(self, entries: np.ndarray) -> None:
        merged = np.concatenate([self._entries, entries])
        # Sorted by the first 64 bits, which two responses only share by chance among some 2^32.
        self._entries = merged[np.unique(merged["key"][:, 0], return_index=True)[1]]


def checksum(content: bytes) -> str:
    """Return the BLAKE2b hash of 16 bytes that names a file with this content."""
    return blake2b(content, digest_size=16).hexdigest()


def weights_identity(model: Any, **settings: Any) -> str:
    """Return a hash of everything that changes the log-probabilities of a model.

    It covers the configuration, all weights with their dtypes, and the adapters that are enabled. A model with its
    adapter disabled has the identity of the model under the adapter.

    Args:
        model: the model, ready to compute.
        settings: dtype of the computation, attention and other settings that change the numbers.
    """
    network = without_adapter(model)
    digest = blake2b(f"{FORMAT_VERSION} {sorted(settings.items())}".encode(), digest_size=16)
    if hasattr(network, "config"):
        digest.update(json.dumps(_computed(network.config.to_dict()), sort_keys=True, default=str).encode())
    without_effect: list[str] = []
    for name, module in network.named_modules():
        # A layer of an adapter, or a layer that is replaced together with one.
        for parts in getattr(module, "adapter_layer_names", ()):
            present = _adapters(module, parts)
            enabled = [] if module.disable_adapters else [each for each in present if each in module.active_adapters]
            if enabled:
                scaling = {adapter: getattr(module, "scaling", {}).get(adapter) for adapter in enabled}
                digest.update(f"{_plain(name)} {parts} {scaling} {module.merged_adapters}".encode())
            without_effect += [f"{name}.{parts}.{each}" for each in present if each not in enabled]
    for name, weight in network.named_parameters():
        if any(name == each or name.startswith(f"{each}.") for each in without_effect):
            continue
        tensor = weight.full_tensor() if isinstance(weight, DTensor) else weight
        digest.update(f"{_plain(name)} {tuple(tensor.shape)} {tensor.dtype}".encode())
        # Copied, because FSDP cannot free a weight of which NumPy holds a view.
        values: Any = tensor.detach().cpu().clone().reshape(-1).view(torch.uint8).numpy()
        digest.update(xxhash.xxh3_128_digest(values))
    return digest.hexdigest()


def _adapters(module: Any, parts: str) -> list[str]:
    """Return the names of the adapters that have parameters in a dictionary of a layer, such as lora_A."""
    try:
        return list(attrgetter(parts)(module).keys())
    except AttributeError:  # not every layer has all parts, and some are no dictionaries
        return []


def _plain(name: str) -> str:
    """Return the name that a module or weight has without an adapter around it.

    >>> _plain("model.layers.0.q_proj.base_layer.weight"), _plain("lm_head.original_module.weight")
    ('model.layers.0.q_proj.weight', 'lm_head.weight')
    """
    return re.sub(r"\.(base_layer|original_module|token_adapter)(?=\.|$)", "", name)


def _computed(config: Any) -> Any:
    """Return a configuration without the fields that do not change a log-probability."""
    if not isinstance(config, dict):
        return config
    return {name: _computed(value) for name, value in config.items() if not _WITHOUT_EFFECT.fullmatch(name)}
