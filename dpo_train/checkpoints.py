"""Which checkpoint of a run to go on from, and whether it is whole. Knows no model."""

from pathlib import Path

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
        UsageError: a file is missing.
    """
    for what, names in _STATE.items():
        if not any(any(checkpoint.glob(name)) for name in names):
            raise UsageError(
                f"{checkpoint}: {what} is missing ({' or '.join(names[:2])}).\n"
                "  Resume from an older checkpoint: delete this one; or start anew."
            )
