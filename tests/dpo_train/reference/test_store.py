"""Files of reference log-probabilities, and the hashes that identify a reference."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import make_tiny_model

from dpo_data.errors import InputError, UsageError
from dpo_train.reference.store import ReferenceStore, files_identity, weights_identity


def keys(*numbers: int) -> np.ndarray:
    return np.array([[number, -number] for number in numbers], np.int64)


def test_values_are_found_by_their_whole_key(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    store.add(keys(5, 2, 9), np.array([-5.0, -2.0, -9.0], np.float32), np.array([1, 2, 3]))
    store.add(keys(2, 7), np.array([-20.0, -7.0], np.float32), np.array([2, 4]))
    values, known = store.find(np.array([[9, -9], [2, -2], [3, -3], [5, 0], [7, -7]], np.int64))
    assert known.tolist() == [True, True, False, False, True]
    assert values.tolist() == [-9.0, -2.0, 0.0, 0.0, -7.0]
    assert len(store) == 4


def test_saved_values_are_read_again_and_an_interrupted_write_is_ignored(tmp_path: Path) -> None:
    for number in (1, 2):
        store = ReferenceStore(tmp_path)
        store.add(keys(number), np.array([-number], np.float32), np.array([1]))
        store.save()
        store.save()
    (tmp_path / "killed.partial").write_bytes(b"\x93NUMPY")
    assert len(list(tmp_path.glob("*.npy"))) == 2
    again = ReferenceStore(tmp_path)
    assert again.find(keys(1, 2))[0].tolist() == [-1.0, -2.0]
    again.save()
    assert len(list(tmp_path.glob("*.npy"))) == 2


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"not numbers at all"])
def test_a_broken_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "part.npy").write_bytes(content)
    with pytest.raises(
        InputError, match=r"part\.npy: cannot be read: [^\n]*\n  Delete it; its values are computed again"
    ):
        ReferenceStore(tmp_path)


def test_a_file_with_other_content_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "part.npy", np.arange(3))
    with pytest.raises(InputError, match="not a file of reference log-probabilities"):
        ReferenceStore(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ReferenceStore(tmp_path / "file" / "below")
    store.add(keys(1), np.array([-1], np.float32), np.array([1]))
    with pytest.raises(UsageError, match=r"cannot write .*\n  Choose a writable folder: --cache-dir"):
        store.save()


def test_values_of_other_processes_are_found_and_not_saved_twice(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    store.add(keys(1), np.array([-1], np.float32), np.array([1]))
    store.add(keys(2), np.array([-2], np.float32), np.array([1]), saved=True)
    store.save()
    assert store.find(keys(1, 2))[1].all()
    assert ReferenceStore(tmp_path).find(keys(1, 2))[1].tolist() == [True, False]


def test_the_identity_depends_on_weights_dtype_and_settings() -> None:
    model = make_tiny_model()
    identity = weights_identity(model, dtype="float32")
    assert identity == weights_identity(make_tiny_model(), dtype="float32")
    assert identity != weights_identity(model, dtype="bfloat16")
    assert identity != weights_identity(make_tiny_model(1), dtype="float32")
    assert identity != weights_identity(make_tiny_model().bfloat16(), dtype="float32")


def test_the_identity_of_a_weight_with_more_values_than_float32_can_count_includes_its_last_value() -> None:
    model = torch.nn.Linear(2**13, 3457, bias=False, dtype=torch.bfloat16)
    before = weights_identity(model)
    with torch.no_grad():
        model.weight[-1, -1] += 1
    assert weights_identity(model) != before


def test_a_model_folder_with_other_weights_has_another_identity(model_folder: Path, tmp_path: Path) -> None:
    make_tiny_model(1).save_pretrained(tmp_path / "other")
    assert files_identity(model_folder, dtype="x") != files_identity(tmp_path / "other", dtype="x")
    assert files_identity(model_folder, dtype="x") == files_identity(model_folder, dtype="x")
