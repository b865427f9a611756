"""Find the checkpoint to resume from, and check that its files are those that were saved."""

import json
import os
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from dpo_data.errors import UsageError
from dpo_data.prepared.files import fast_hash, is_file_name

#: transformers writes this file last: without it, the checkpoint was interrupted while it was saved.
_WRITTEN_LAST = "trainer_state.json"

#: State that a run needs to continue as if it had not stopped, and the names of files that hold it.
_STATE = {
    "the weights": ("model*.safetensors", "adapter_model.safetensors", "pytorch_model*", "global_step*"),
    "the optimizer's state": ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),
    "the learning rate's schedule": ("scheduler.pt", "global_step*"),
    "the random numbers' state": ("rng_state*.pth",),
}


#: Names the files of a checkpoint with their sizes and hashes; checkpoints of plain transformers have none.
MANIFEST = "checkpoint_manifest.json"
_FORMAT = {"format": "dpo-train checkpoint", "version": 1}


def newest_checkpoint(run: Path) -> Path:
    """Return the latest complete checkpoint of a run.

    Raises:
        UsageError: there is none.
    """
    complete = [
        path
        for path in run.glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdecimal()
        and ((path / MANIFEST).is_file() or _is_saved(path / _WRITTEN_LAST))
    ]
    if not complete:
        raise UsageError(f"{run}: it has no checkpoint to resume from.\n  Start from the beginning, without --resume.")
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]))


def _is_saved(state: Path) -> bool:
    """Return True if the file that transformers writes last is there, and no kill has cut it off."""
    return state.is_file() and not _is_truncated(state)


def mark_incomplete(checkpoint: Path) -> None:
    """Remove the files that are written last, before a checkpoint is saved over an earlier one."""
    for name in (MANIFEST, _WRITTEN_LAST):
        (checkpoint / name).unlink(missing_ok=True)


def write_checkpoint_manifest(checkpoint: Path) -> None:
    """Write the sizes and hashes of the files of a checkpoint, which is complete, into it."""
    files = {
        path.relative_to(checkpoint).as_posix(): {"size_bytes": path.stat().st_size, "xxh3": _hash(path)}
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    partial = checkpoint / f"{MANIFEST}.partial"
    partial.write_text(json.dumps({**_FORMAT, "files": files}, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, checkpoint / MANIFEST)


def require_complete(checkpoint: Path) -> None:
    """Raise UsageError if a file of a checkpoint is missing or damaged, which would silently change the run.

    All bytes are compared with the hashes in its manifest. Of a checkpoint without one, which is of an older version or
    of plain transformers, this finds only files that are missing or truncated.
    """
    for name, expected in _manifest_files(checkpoint).items():
        file = checkpoint / name
        if not file.is_file():
            raise UsageError(f"{file}: the file is missing.\n{RESUME_HINT}")
        if expected != {"size_bytes": file.stat().st_size, "xxh3": _hash(file)}:
            raise UsageError(f"{file}: the file is damaged: it has other bytes than were saved.\n{RESUME_HINT}")
    for what, names in _STATE.items():
        if not any(any(checkpoint.glob(name)) for name in names):
            raise UsageError(f"{checkpoint}: {what} is missing ({' or '.join(names[:2])}).\n{RESUME_HINT}")
    for file in sorted(checkpoint.iterdir()):
        if file.is_file() and _is_truncated(file):
            raise UsageError(f"{file}: the file is damaged.\n{RESUME_HINT}")


RESUME_HINT = "  Delete this checkpoint to resume from an earlier one, or start from the beginning."


def _manifest_files(checkpoint: Path) -> dict[str, Any]:
    """Return the files that the manifest of a checkpoint names; none if there is no manifest.

    Raises: UsageError: the manifest is damaged.
    """
    manifest = checkpoint / MANIFEST
    if not manifest.exists():
        return {}
    try:
        content = json.loads(manifest.read_bytes())
        files: dict[str, Any] = content.pop("files")
        is_valid = content == _FORMAT and bool(files) and all(map(is_file_name, files))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise UsageError(f"{manifest}: the file is damaged, or of a newer version.\n{RESUME_HINT}")
    return files


def _hash(file: Path) -> str:
    return fast_hash(file) if file.stat().st_size else ""


def _is_truncated(file: Path) -> bool:
    """Return True if the end of a file is missing, as far as its format shows without reading all of it."""
    if file.suffix in (".pt", ".pth"):
        return not is_zipfile(file)
    if file.suffix == ".json":
        try:
            json.loads(file.read_bytes())
        except (ValueError, RecursionError):
            return True
    if file.suffix == ".safetensors":
        with file.open("rb") as content:
            header_size = int.from_bytes(content.read(8), "little")
            try:
                header = json.loads(content.read(header_size))
                ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            except (ValueError, LookupError, TypeError, AttributeError, MemoryError, OverflowError, RecursionError):
                return True
        return file.stat().st_size != 8 + header_size + max(ends, default=0)
    return False
