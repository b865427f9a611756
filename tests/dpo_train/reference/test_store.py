"""Files of reference log-probabilities, and the hashes that identify a reference."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from toys import make_tiny_model

from dpo_data.errors import InputError, UsageError
from dpo_train.models import load_model
from dpo_train.reference.store import ReferenceStore, checksum, weights_identity


def identity_of(model: Path | Any) -> str:
    return weights_identity(load_model(str(model), {}) if isinstance(model, Path) else model, dtype="x")


def adapted(seed: int, **options: Any) -> Any:
    model = make_tiny_model()
    torch.manual_seed(seed)
    return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, **options))


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
    assert identity_of(model_folder) != identity_of(tmp_path / "other")
    assert identity_of(model_folder) == identity_of(model_folder)


def test_a_single_changed_value_of_a_weight_changes_the_identity() -> None:
    model = make_tiny_model()
    before = identity_of(model)
    with torch.no_grad():
        model.model.embed_tokens.weight[100, 7] += 1e-3
    assert identity_of(model) != before


def test_a_setting_of_the_configuration_that_changes_the_numbers_changes_the_identity() -> None:
    models = [make_tiny_model() for _ in range(3)]
    models[0].config.rms_norm_eps = 1e-3
    models[1].config.use_cache = False
    assert identity_of(models[0]) != identity_of(models[2]) == identity_of(models[1])


def test_the_identity_includes_the_adapters_as_they_are_applied() -> None:
    models = [adapted(0), adapted(1), adapted(0, lora_alpha=3), adapted(0, use_dora=True), make_tiny_model()]
    assert len({identity_of(model) for model in models}) == len(models)
    assert identity_of(adapted(0)) == identity_of(models[0])
    with models[0].disable_adapter():
        assert identity_of(models[0]) == identity_of(models[-1])


@pytest.mark.parametrize(
    "options", [{"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [5]}, {"use_dora": True}]
)
def test_a_disabled_adapter_of_any_kind_has_the_identity_of_the_model(options: dict[str, Any]) -> None:
    model = adapted(0, **options)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 1
    assert identity_of(model) != identity_of(make_tiny_model())
    with model.disable_adapter():
        assert identity_of(model) == identity_of(make_tiny_model())


def test_a_second_adapter_that_is_not_used_does_not_change_the_identity() -> None:
    model = adapted(0)
    before = identity_of(model)
    model.add_adapter("other", LoraConfig(r=2, target_modules=["v_proj"], init_lora_weights=False))
    assert identity_of(model) == before
    model.set_adapter("other")
    assert identity_of(model) != before


@pytest.mark.parametrize("position", [-1, -30, 200])
def test_a_flipped_bit_is_found(position: int, tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path)
    store.add(keys(*range(9)), -np.arange(9, dtype=np.float32), np.ones(9))
    store.save()
    (file,) = tmp_path.glob("*.npy")
    assert file.stem == checksum(file.read_bytes())
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"\.npy: is damaged: .*\n  Delete it; its values are computed again"):
        ReferenceStore(tmp_path)
