from pathlib import Path

import pytest

from dpo_data.errors import UsageError
from dpo_train.checkpoints import newest_checkpoint, require_whole

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def save(run: Path, step: int, *, without: str = "") -> Path:
    checkpoint = run / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in FILES:
        if name != without:
            (checkpoint / name).touch()
    return checkpoint


def test_the_newest_checkpoint_is_the_one_of_the_most_steps(tmp_path: Path) -> None:
    for step in (20, 100, 3):
        save(tmp_path, step)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-100"


def test_a_checkpoint_cut_off_while_saving_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 10)
    save(tmp_path, 20, without="trainer_state.json")
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it has no checkpoint to resume from"):
        newest_checkpoint(tmp_path)


def test_a_whole_checkpoint_passes(tmp_path: Path) -> None:
    require_whole(save(tmp_path, 1))


@pytest.mark.parametrize("name", FILES[:-1])
def test_a_checkpoint_that_lacks_a_state_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"checkpoint-1: .* is missing"):
        require_whole(save(tmp_path, 1, without=name))
