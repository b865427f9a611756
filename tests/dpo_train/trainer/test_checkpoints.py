"""Complete and incomplete checkpoints."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dpo_data.errors import UsageError
from dpo_train.trainer.checkpoints import newest_checkpoint, require_complete, write_checkpoint_manifest

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


def changed(content: bytes, how: str) -> bytes | None:
    """Return the content of a damaged file; None for a file that is gone."""
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return {"flipped": flipped, "zeroed": bytes(len(content)), "longer": content + b" ", "gone": None}[how]


@pytest.mark.parametrize("how", ["flipped", "zeroed", "longer", "gone"])
@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_with_any_damaged_file_is_refused_naming_it(tmp_path: Path, name: str, how: str) -> None:
    checkpoint = save(tmp_path, 1)
    write_checkpoint_manifest(checkpoint)
    require_complete(checkpoint)
    file = checkpoint / name
    content = changed(file.read_bytes(), how)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=rf"{name}: the file is (damaged|missing)"):
        require_complete(newest_checkpoint(tmp_path))


@pytest.mark.parametrize("content", ["", "{}", "[]", "[" * 100_000, '{"files": {"../x": {}}}', "null"])
def test_a_checkpoint_with_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    checkpoint = save(tmp_path, 1)
    (checkpoint / "checkpoint_manifest.json").write_text(content)
    with pytest.raises(UsageError, match=r"checkpoint_manifest\.json: the file is damaged"):
        require_complete(checkpoint)


def test_a_folder_that_is_not_a_checkpoint_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-old").mkdir()
    (tmp_path / "checkpoint-old" / "trainer_state.json").write_text("{}")
    with pytest.raises(UsageError, match="it has no checkpoint to resume from"):
        newest_checkpoint(tmp_path)
