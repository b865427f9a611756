"""Reference log-probabilities, computed once: in memory, and on disk for the next run. Knows no model's forward."""

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

#: Changes where a stored value would no longer be what this code computes, or not be found by its key.
FORMAT_VERSION = 2

ENTRY = np.dtype([("key", "<i8", 2), ("logp", "<f4"), ("tokens", "<i4")])
_SAMPLED = 64


class ReferenceStore:
    """Sums of a reference's token log-probabilities, by prompt and response.

    A folder holds the values of one reference model. Each writer adds files of its own, each moved into place when it
    is whole, so that several processes may write at once and a killed one loses no more than what it had not saved.

    Args:
        folder: of this reference's values; None to keep them in memory alone.
        described: what a person should know about the reference, written beside the values.

    Raises:
        InputError: a file of the folder cannot be read.
    """

    def __init__(self, folder: Path | None = None, described: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._described = described or {}
        self._entries = np.empty(0, ENTRY)
        self._unsaved: list[np.ndarray] = []
        for path in sorted(folder.glob("*.npy")) if folder is not None and folder.is_dir() else []:
            try:
                entries = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise InputError(
                    f"{path}: cannot be read: {error}\n  Delete it: its values are computed again."
                ) from error
            if entries.dtype != ENTRY:
                raise InputError(f"{path}: holds no reference log-probabilities.\n  Delete it.")
            self._insert(entries)
        #: Whether another run has left values that nobody has compared with the reference yet.
        self.unchecked = len(self._entries) > 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look up responses.

        Args:
            keys: (R, 2) int64, as `batching.SharedPrefixCollator` makes them.

        Returns: (R,) float32 log-probabilities in nats, and (R,) bool, whether each is known; unknown ones read 0.
        """
        if not len(self._entries):
            return np.zeros(len(keys), np.float32), np.zeros(len(keys), bool)
        place = np.searchsorted(self._entries["key"][:, 0], keys[:, 0]).clip(max=len(self._entries) - 1)
        known: np.ndarray = (self._entries["key"][place] == keys).all(1)
        return np.where(known, self._entries["logp"][place], np.float32(0)), known

    def add(self, keys: np.ndarray, logps: np.ndarray, tokens: np.ndarray, *, saved: bool = False) -> None:
        """Take values in: (R, 2) int64, (R,) float32, (R,) int. Known responses keep the value they have.

        `saved` says that another process writes them.
        """
        entries = np.empty(len(keys), ENTRY)
        entries["key"], entries["logp"], entries["tokens"] = keys, logps, tokens
        entries = entries[~self.find(keys)[1]]
        if len(entries):
            self._insert(entries)
            if not saved:
                self._unsaved.append(entries)

    def save(self) -> None:
        """Write what was taken in since the last time.

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
                about.write_text(json.dumps(self._described, indent=2) + "\n", encoding="utf-8")
            with part.with_suffix(".partial").open("wb") as file:
                np.save(file, entries, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            part.with_suffix(".partial").replace(part)
        except OSError as error:
            raise UsageError(
                f"{self.folder}: the reference's log-probabilities cannot be written: {error.strerror}.\n"
                "  Give a folder that can: --cache-dir."
            ) from error

    def _insert(self, entries: np.ndarray) -> None:
        merged = np.concatenate([self._entries, entries])
        # By the first 64 bits: two responses that share them would have to be found among 2^32 others.
        self._entries = merged[np.unique(merged["key"][:, 0], return_index=True)[1]]


def weights_identity(model: nn.Module, **settings: Any) -> str:
    """A name for what a model computes: its weights, and the settings it computes under.

    Of each weight some values are looked at, spread over it, so that a model of any size takes no time. Training
    changes nearly every value, and so does any other way to get another model.

    Args:
        model: adapters are left out: they are off in a reference.
        settings: dtype, attention and whatever else changes the numbers.
    """
    digest = blake2b(f"{FORMAT_VERSION} {sorted(settings.items())}".encode(), digest_size=16)
    for name, weight in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            continue
        tensor = weight.detach()
        values = (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).reshape(-1)
        # In whole numbers: float32 counts no further than 2^24.
        places = torch.arange(_SAMPLED, device=values.device) * (len(values) - 1) // (_SAMPLED - 1)
        digest.update(f"{name.replace('.base_layer', '')} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(values[places].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def files_identity(folder: Path, **settings: Any) -> str:
    """The same of a model that is not loaded: its configuration, and the size, header and some bytes of its weights."""
    digest = blake2b(f"{FORMAT_VERSION} files {sorted(settings.items())}".encode(), digest_size=16)
    digest.update((folder / "config.json").read_bytes())
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for place in np.linspace(0, max(0, size - 4096), _SAMPLED, dtype=np.int64):
                file.seek(int(place))
                digest.update(file.read(4096))
    return digest.hexdigest()
