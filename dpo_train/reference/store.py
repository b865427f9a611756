"""Store of reference log-probabilities: in memory, and on disk for later runs."""

import json
import os
import uuid
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from dpo_data.errors import InputError, UsageError
from dpo_train.adapters import adapter_base

#: To be increased when stored values or their keys no longer match what the code computes.
FORMAT_VERSION = 2

ENTRY = np.dtype([("key", "<i8", 2), ("logp", "<f4"), ("tokens", "<i4")])
#: Values of a weight, or parts of a file, that identify it.
HASHED_VALUES = 64


class ReferenceStore:
    """Log-probabilities of responses under a reference model, by a hash of prompt and response.

    A folder holds the values of one reference model. Each writer adds its own files and renames them when they are
    complete, so that several processes can write at the same time and a killed one only loses what it had not saved.

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
                entries = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise InputError(
                    f"{path}: cannot be read: {error}\n  Delete it; its values are computed again."
                ) from error
            if entries.dtype != ENTRY:
                raise InputError(f"{path}: not a file of reference log-probabilities.\n  Delete it.")
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
        part = self.folder / f"{uuid.uuid4().hex}.npy"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            about = self.folder / "reference.json"
            if not about.exists():
                about.write_text(json.dumps(self._description, indent=2) + "\n", encoding="utf-8")
            with part.with_suffix(".partial").open("wb") as file:
                np.save(file, entries, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            part.with_suffix(".partial").replace(part)
        except OSError as error:
            raise UsageError(
                f"{self.folder}: cannot write reference log-probabilities: {error.strerror}.\n"
                "  Choose a writable folder: --cache-dir."
            ) from error

    def _insert(self, entries: np.ndarray) -> None:
        merged = np.concatenate([self._entries, entries])
        # Sorted by the first 64 bits, which two responses only share by chance among some 2^32.
        self._entries = merged[np.unique(merged["key"][:, 0], return_index=True)[1]]


def weights_identity(model: nn.Module, **settings: Any) -> str:
    """Return a hash of a model's weights and of the settings that it computes with.

    Only some values of each weight are hashed, spread over it, which is fast for any size. Training changes nearly
    every value.

    Args:
        model: its adapters are ignored, because they are disabled in a reference.
        settings: dtype, attention and other settings that change the numbers.
    """
    digest = blake2b(f"{FORMAT_VERSION} {sorted(settings.items())}".encode(), digest_size=16)
    for name, weight in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            continue
        tensor = weight.detach()
        values = (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).reshape(-1)
        # Computed in integers, because float32 is not exact above 2^24.
        indices = torch.arange(HASHED_VALUES, device=values.device) * (len(values) - 1) // (HASHED_VALUES - 1)
        digest.update(f"{name.replace('.base_layer', '')} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(values[indices].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def files_identity(folder: Path, **settings: Any) -> str:
    """Return a hash of a model's folder: its configuration, and the size, header and some bytes of its weight files.

    For an adapter, it covers the folder of the base model too.

    Raises:
        InputError: the base model of an adapter is not a folder.
    """
    digest = blake2b(f"{FORMAT_VERSION} files {sorted(settings.items())}".encode(), digest_size=16)
    if (base := adapter_base(str(folder))) is not None:
        digest.update(files_identity(Path(base), **settings).encode())
    for path in sorted(folder.glob("*config.json")):
        digest.update(path.read_bytes())
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for offset in np.linspace(0, max(0, size - 4096), HASHED_VALUES, dtype=np.int64):
                file.seek(int(offset))
                digest.update(file.read(4096))
    return digest.hexdigest()
