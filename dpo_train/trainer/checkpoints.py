"""Find the checkpoint to resume from, and check that it is complete."""

import json
from pathlib import Path
from zipfile import is_zipfile

from dpo_data.errors import UsageError

#: transformers writes this file last: without it, the checkpoint was interrupted while it was saved.
_WRITTEN_LAST = "trainer_state.json"

#: State that a run needs to continue as if it had not stopped, and the names of files that hold it.
_STATE = {
    "the weights": ("model*.safetensors", "adapter_model.safetensors", "pytorch_model*", "global_step*"),
    "the optimizer's state": ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),
    "the learning rate's schedule": ("scheduler.pt", "global_step*"),
    "the random numbers' state": ("rng_state*.pth",),
}


def newest_checkpoint(run: Path) -> Path:
    """Return the latest complete checkpoint of a run.

    Raises:
        UsageError: there is none.
    """
    complete = [path.parent for path in run.glob(f"checkpoint-*/{_WRITTEN_LAST}")]
    if not complete:
        raise UsageError(f"{run}: it has no checkpoint to resume from.\n  Start from the beginning, without --resume.")
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]))


def checkpoint_to_resume(resume: str | bool | None, run: Path) -> str | None:
    """Return the checkpoint of `train(resume_from_checkpoint=...)`, which is complete; True is the latest one of a run.

    Raises:
        UsageError: there is no such checkpoint, or it is incomplete.
    """
    if not resume:
        return None
    checkpoint = newest_checkpoint(run) if resume is True else Path(resume)
    require_complete(checkpoint)
    return str(checkpoint)


def require_complete(checkpoint: Path) -> None:
    """Raise UsageError if a file of a checkpoint is missing or truncated, which would silently change the run."""
    for what, names in _STATE.items():
        if not any(any(checkpoint.glob(name)) for name in names):
            raise UsageError(f"{checkpoint}: {what} is missing ({' or '.join(names[:2])}).\n{RESUME_HINT}")
    for file in sorted(checkpoint.iterdir()):
        if file.is_file() and _is_truncated(file):
            raise UsageError(f"{file}: the file is damaged.\n{RESUME_HINT}")


RESUME_HINT = "  Delete this checkpoint to resume from an earlier one, or start from the beginning."


def _is_truncated(file: Path) -> bool:
    """Return True if the end of a file is missing, as far as its format shows without reading all of it."""
    if file.suffix in (".pt", ".pth"):
        return not is_zipfile(file)
    if file.suffix == ".json":
        try:
            json.loads(file.read_bytes())
        except ValueError:
            return True
    if file.suffix == ".safetensors":
        with file.open("rb") as content:
            header_size = int.from_bytes(content.read(8), "little")
            try:
                header = json.loads(content.read(header_size))
            except ValueError:
                return True
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return file.stat().st_size != 8 + header_size + max(ends, default=0)
    return False
