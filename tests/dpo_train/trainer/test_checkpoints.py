"""Complete and incomplete checkpoints."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dpo_data.errors import UsageError
from dpo_train.trainer.checkpoints import newest_checkpoint, require_complete

FILES: dict[str, Callable[[Path], object]] = {
    "model.safetensors": lambda path: save_file({"weight": torch.ones(50)}, path),
    "optimizer.pt": lambda path: torch.save({"step": torch.ones(50)}, path),
    "scheduler.pt": lambda path: torch.save({}, path),
    "rng_state.pth": lambda path: torch.save({}, path),
    "trainer_state.json": lambda path: path.write_text('{"global_step": 1}'),
}


def save(run: Path, step: int, *, without: str = "") -> Path:
    checkpoint = run / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name, write in FILES.items():
        if name != without:
            write(checkpoint / name)
    return checkpoint


def test_the_latest_checkpoint_has_the_highest_step(tmp_path: Path) -> None:
    for step in (20, 100, 3):
        save(tmp_path, step)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-100"


def test_a_checkpoint_that_was_interrupted_while_saving_is_skipped(tmp_path: Path) -> None:
    save(tmp_path, 10)
    save(tmp_path, 20, without="trainer_state.json")
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_a_run_without_a_checkpoint_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it has no checkpoint to resume from"):
        newest_checkpoint(tmp_path)


def test_a_complete_checkpoint_is_accepted(tmp_path: Path) -> None:
    require_complete(save(tmp_path, 1))


@pytest.mark.parametrize("name", list(FILES)[:-1])
def test_a_checkpoint_without_a_state_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"checkpoint-1: .* is missing"):
        require_complete(save(tmp_path, 1, without=name))


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_with_a_truncated_file_is_refused_naming_it(tmp_path: Path, name: str) -> None:
    file = save(tmp_path, 1) / name
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UsageError, match=rf"{name}: the file is damaged"):
        require_complete(file.parent)
