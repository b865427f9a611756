"""Which checkpoint of a run to go on from, and whether it is whole. Knows no model."""

import json
from pathlib import Path
from zipfile import is_zipfile

from dpo_data.errors import UsageError

#: transformers writes this file last: a checkpoint without it was cut off while it was being saved.
_WRITTEN_LAST = "trainer_state.json"

#: What a run must have to go on as if it had never stopped, and the file names that hold it.
_STATE = {
    "the weights": ("model*.safetensors", "adapter_model.safetensors", "pytorch_model*", "global_step*"),
    "the optimizer's state": ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),
    "the learning rate's schedule": ("scheduler.pt", "global_step*"),
    "the random numbers' state": ("rng_state*.pth",),
}


def newest_checkpoint(run: Path) -> Path:
    """The newest checkpoint of a run that was saved to its end.

    Raises:
        UsageError: there is none.
    """
    whole = [path.parent for path in run.glob(f"checkpoint-*/{_WRITTEN_LAST}")]
    if not whole:
        raise UsageError(f"{run}: it has no checkpoint to resume from.\n  Start it anew, without --resume.")
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]))


def require_whole(checkpoint: Path) -> None:
    """Refuse a checkpoint that lacks part of the state: going on from it would silently give another run.

    Raises:
        UsageError: a file is missing or cut off.
    """
    for what, names in _STATE.items():
        if not any(any(checkpoint.glob(name)) for name in names):
            raise UsageError(f"{checkpoint}: {what} is missing ({' or '.join(names[:2])}).\n{_WAY_OUT}")
    for file in sorted(checkpoint.iterdir()):
        if file.is_file() and _is_cut_off(file):
            raise UsageError(f"{file}: the file is damaged.\n{_WAY_OUT}")


_WAY_OUT = "  Delete this checkpoint, to resume from the one before; or start anew."


def _is_cut_off(file: Path) -> bool:
    """Whether a file's end is missing, as far as its format tells without reading all of it."""
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
