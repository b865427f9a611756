"""An adapter is a model: it is continued, or merged below a new adapter, and it is part of the reference."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from naive import naive_logps, weights
from peft import LoraConfig, PeftModel, get_peft_model
from toys import make_tiny_model
from train_cli import QUICK, dpo_train, records
from transformers import AutoModelForCausalLM

from dpo_data.errors import InputError, UsageError
from dpo_train import DPOConfig, DPOTrainer
from dpo_train.adapters import adapter_base
from dpo_train.run.arguments import training_arguments
from dpo_train.run.options import RunOptions
from dpo_train.trainer.metrics import COLUMNS

Config = Callable[..., DPOConfig]

#: Kinds of adapters that people train.
KINDS: dict[str, dict[str, Any]] = {
    "all-linear": {"target_modules": "all-linear", "lora_alpha": 7},
    "rslora": {"target_modules": ["q_proj", "down_proj"], "use_rslora": True},
    "dora": {"target_modules": ["q_proj", "down_proj"], "use_dora": True},
    "modules_to_save": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
    "embeddings": {"target_modules": ["embed_tokens", "v_proj"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [35, 256]}},
    "tokens alone": {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [35]}},
}


def adapted(kind: str = "all-linear", seed: int = 5, model: Any = None) -> Any:
    """Return a model with an adapter that has an effect."""
    model = get_peft_model(model or make_tiny_model(), LoraConfig(r=4, task_type="CAUSAL_LM", **KINDS[kind]))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.requires_grad and not (kind == "tokens alone" and "lora_" in name):
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


def save(model: Any, folder: Path, base: Path) -> Path:
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def sft(model_folder: Path, tmp_path: Path) -> Path:
    """A folder with the adapter of an earlier run on the tiny model."""
    return save(adapted(), tmp_path / "sft", model_folder)


def reference_logps(trainer: DPOTrainer) -> np.ndarray:
    trainer.evaluate()
    assert trainer.evaluated is not None
    return trainer.evaluated[:, [COLUMNS.index("reference_logps/chosen"), COLUMNS.index("reference_logps/rejected")]]


def expected_logps(model: Any, pairs: datasets.Dataset) -> np.ndarray:
    return np.stack([naive_logps(model.eval(), pairs, side) for side in ("chosen", "rejected")], axis=1)


def as_given(form: str, sft: Path) -> Any:
    """Return a trained adapter in one of the forms that users pass."""
    if form == "folder":
        return str(sft)
    if form == "transformers":
        return AutoModelForCausalLM.from_pretrained(sft, dtype=torch.float32)
    return PeftModel.from_pretrained(make_tiny_model(), sft, is_trainable=form == "peft, trainable")


FORMS = ["folder", "transformers", "peft", "peft, trainable"]


@pytest.mark.parametrize("path", ["auto", "padded"])
@pytest.mark.parametrize("form", FORMS)
def test_an_adapter_is_continued_and_is_its_own_reference(
    form: str, path: str, config: Config, pairs: datasets.Dataset, sft: Path
) -> None:
    args = config(attention_path=path)
    trainer = DPOTrainer(as_given(form, sft), args=args, train_dataset=pairs, eval_dataset=pairs)
    before = weights(trainer.model)
    trainer.train()
    np.testing.assert_allclose(reference_logps(trainer), expected_logps(adapted(), pairs), rtol=1e-4)
    changed = [name for name, weight in weights(trainer.model).items() if not torch.equal(weight, before[name])]
    assert changed
    assert all("lora_" in name for name in changed)
    first = next(record for record in trainer.state.log_history if "loss" in record)
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_new_adapter_is_trained_on_top_of_a_merged_one_and_is_saved_with_it(
    form: str, config: Config, pairs: datasets.Dataset, sft: Path, tmp_path: Path
) -> None:
    trainer = DPOTrainer(
        as_given(form, sft),
        args=config(),
        train_dataset=pairs,
        eval_dataset=pairs,
        peft_config={"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"},
    )
    trainer.train()
    np.testing.assert_allclose(reference_logps(trainer), expected_logps(adapted(), pairs), rtol=1e-4)
    trainer.save_model()
    again = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(adapter_base(str(tmp_path / "run")), dtype=torch.float32), tmp_path / "run"
    )
    ids = torch.tensor([[31, 32, 33, 10]])
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(ids).logits, trainer.model.eval()(ids).logits)


@pytest.mark.parametrize("form", FORMS)
def test_an_adapter_is_a_reference(form: str, config: Config, pairs: datasets.Dataset, sft: Path) -> None:
    trainer = DPOTrainer(make_tiny_model(), as_given(form, sft), args=config(), train_dataset=pairs, eval_dataset=pairs)
    trainer.train()
    np.testing.assert_allclose(reference_logps(trainer), expected_logps(adapted(), pairs), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_is_its_own_reference(kind: str, config: Config, pairs: datasets.Dataset) -> None:
    trainer = DPOTrainer(adapted(kind), args=config(), train_dataset=pairs, eval_dataset=pairs)
    trainer.train()
    np.testing.assert_allclose(reference_logps(trainer), expected_logps(adapted(kind), pairs), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_adapter_of_every_kind_has_the_model_as_its_reference(
    kind: str, config: Config, pairs: datasets.Dataset
) -> None:
    trainer = DPOTrainer(
        make_tiny_model(),
        args=config(),
        train_dataset=pairs,
        eval_dataset=pairs,
        peft_config={"r": 4, "task_type": "CAUSAL_LM", **KINDS[kind]},
    )
    trainer.train()
    np.testing.assert_allclose(reference_logps(trainer), expected_logps(make_tiny_model(), pairs), rtol=1e-4)


def test_texts_of_the_reference_come_from_the_adapter_as_it_was_loaded(
    config: Config, pairs: datasets.Dataset, sft: Path
) -> None:
    trainer = DPOTrainer(str(sft), args=config(learning_rate=0.1), train_dataset=pairs)
    trainer.train()
    inputs = {"input_ids": torch.tensor([[31, 32, 33]]), "max_new_tokens": 8, "do_sample": False}
    assert trainer.reference.generate(**inputs).tolist() == adapted().eval().generate(**inputs).tolist()


def test_an_adapter_without_a_base_model_or_with_another_one_is_refused(sft: Path, pairs: Any, config: Config) -> None:
    file = sft / "adapter_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"base_model_name_or_path": None}))
    with pytest.raises(InputError, match=r"adapter_config\.json: names no base model\.\n  Add it as base_model"):
        DPOTrainer(str(sft), args=config(), train_dataset=pairs)
    file.write_text(json.dumps(settings | {"r": 3}))
    with pytest.raises(InputError, match="sft: the adapter does not fit its base model"):
        DPOTrainer(str(sft), args=config(), train_dataset=pairs)


def test_an_adapter_is_not_merged_into_quantized_weights(config: Config, pairs: datasets.Dataset) -> None:
    model = adapted()
    model.get_base_model().is_quantized = True
    with pytest.raises(UsageError, match=r"cannot be merged into quantized weights.*\n  Continue it"):
        DPOTrainer(model, args=config(), train_dataset=pairs, peft_config={"r": 2, "target_modules": ["q_proj"]})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "adapter    {sft} is continued, on {base}"),
        (["--lora-r", 2], "adapter    {sft} is merged into {base}; a new adapter of rank 2 is trained on the result"),
        (["--merge-adapter"], "adapter    {sft} is continued, on {base}"),
    ],
)
def test_a_run_starts_from_an_adapter_folder(
    words: list[Any],
    line: str,
    prepared: Path,
    model_folder: Path,
    sft: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = tmp_path / "run"
    result = dpo_train("--data", prepared, "--model", sft, "--output", run, *QUICK, *words)
    assert result.exit_code == 0, result.stderr
    assert line.format(sft=sft, base=model_folder) in caplog.messages
    before = next(record for record in records(run) if "eval_loss" in record)
    assert before["eval_loss"] == pytest.approx(np.log(2), abs=1e-6)
    again = dpo_train(
        "--data", prepared, "--model", run, "--eval-only", "--reference", sft, "--json", "--output", tmp_path / "b"
    )
    assert again.exit_code == 0, again.stderr
    after = [record["eval_loss"] for record in records(run) if "eval_loss" in record][-1]
    assert json.loads(again.stdout)["after"]["eval_loss"] == pytest.approx(after, rel=1e-4)


@pytest.mark.parametrize("adapter", [[], ["--lora-r", 2]], ids=["continued", "new"])
def test_the_base_model_is_a_reference_of_an_adapter(
    adapter: list[Any], prepared: Path, model_folder: Path, sft: Path, tmp_path: Path
) -> None:
    margins = []
    for reference in (model_folder, "base"):
        run = tmp_path / Path(reference).name
        words = ("--data", prepared, "--model", sft, "--reference", reference, "--output", run, *QUICK, *adapter)
        assert dpo_train(*words, "--dry-run").exit_code == 0
        result = dpo_train(*words)
        assert result.exit_code == 0
        assert f"reference  {model_folder}" in result.stderr
        margins.append(next(record["eval_rewards/margins"] for record in records(run) if "eval_loss" in record))
    assert abs(margins[0]) > 1e-3
    assert margins[0] == margins[1]


def test_the_model_under_a_new_adapter_is_the_model_before_training(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    words = ("--data", prepared, "--model", model_folder, "--reference", "base", "--output", tmp_path / "run", *QUICK)
    result = dpo_train(*words, "--lora-r", 2)
    assert "reference  the model under the adapter" in result.stderr
    refused = dpo_train(*words, "--overwrite")
    assert refused.exit_code == 2
    assert f"--reference base: is the model under an adapter, and {model_folder} is none" in refused.stderr


@pytest.mark.parametrize(
    ("peft_config", "line"),
    [
        (None, "adapter    {sft} is continued, on {base}"),
        ({"r": 2}, "adapter    {sft} is merged into {base}; a new adapter of rank 2 is trained on the result"),
    ],
)
def test_what_becomes_of_an_adapter_is_logged(
    peft_config: Any,
    line: str,
    config: Config,
    pairs: datasets.Dataset,
    sft: Path,
    model_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    DPOTrainer(str(sft), args=config(), train_dataset=pairs, peft_config=peft_config)
    assert line.format(sft=sft, base=model_folder) in caplog.messages


def test_a_new_adapter_keeps_its_dropout_and_others_lose_theirs(config: Config, pairs: datasets.Dataset) -> None:
    def dropout(model: Any) -> set[float]:
        return {module.p for name, module in model.named_modules() if name.endswith("lora_dropout.default")}

    peft_config = {"r": 2, "target_modules": ["q_proj"], "lora_dropout": 0.3}
    trainer = DPOTrainer(make_tiny_model(), args=config(), train_dataset=pairs, peft_config=peft_config)
    assert dropout(trainer.model) == {0.3}
    assert trainer.padding_reason == "dropout is on"
    trainer.train()
    first = next(record for record in trainer.state.log_history if "loss" in record)
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-6)
    continued = get_peft_model(make_tiny_model(), LoraConfig(**peft_config))
    assert not dropout(DPOTrainer(continued, args=config(), train_dataset=pairs).model) - {0.0}


@pytest.mark.parametrize(
    ("peft_config", "message"),
    [
        ({"target_modules": ["no_such_layer"]}, "the new adapter does not fit the model: .*no_such_layer"),
        ({"rank": 8}, "is refused by peft: .*rank"),
        ({"peft_type": "NONE"}, "is refused by peft"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    peft_config: Any, message: str, config: Config, pairs: datasets.Dataset
) -> None:
    with pytest.raises(UsageError, match=message):
        DPOTrainer(make_tiny_model(), args=config(), train_dataset=pairs, peft_config=peft_config)


def test_every_option_of_an_adapter_has_its_effect(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--data", prepared, "--model", model_folder, "--output", run, *QUICK, "--max-steps", 1)
    options = (
        *("--lora-r", 4, "--lora-alpha", 6, "--lora-dropout", 0.1, "--lora-rslora", "--lora-dora"),
        *("--lora-target-modules", "q_proj", "v_proj", "--lora-modules-to-save", "lm_head"),
        *("--lora-token-indices", 35, 256),
    )
    refused = dpo_train(*words, *options[2:])
    assert (refused.exit_code, "is an option of a new adapter; pass --lora-r too" in refused.stderr) == (2, True)
    result = dpo_train(*words, *options)
    assert result.exit_code == 0, result.stderr
    saved = json.loads((run / "adapter_config.json").read_text())
    expected = {
        "r": 4,
        "lora_alpha": 6,
        "lora_dropout": 0.1,
        "use_rslora": True,
        "use_dora": True,
        "modules_to_save": ["lm_head"],
        "trainable_token_indices": [35, 256],
    }
    assert {name: saved[name] for name in expected} == expected
    assert set(saved["target_modules"]) == {"q_proj", "v_proj"}


def test_embeddings_can_be_adapted(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    words = ("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *QUICK, "--max-steps", 1)
    result = dpo_train(*words, "--lora-r", 2, "--lora-target-modules", "embed_tokens", "v_proj")
    assert result.exit_code == 0, result.stderr
    assert "path       shared prompts" in result.stderr


def test_the_learning_rate_of_an_adapter_is_larger_and_a_smaller_one_is_warned_about(
    prepared: Path, model_folder: Path, sft: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def learning_rate(*words: Any) -> float:
        caplog.clear()
        found = RunOptions(data=prepared, output=tmp_path / "run", **dict(zip(words[::2], words[1::2], strict=True)))
        return float(training_arguments(found).learning_rate)

    assert learning_rate("model", str(model_folder)) == 1e-6
    assert learning_rate("model", str(model_folder), "lora_r", 2) == 1e-5
    assert learning_rate("model", str(sft)) == 1e-5
    assert learning_rate("model", str(sft), "training", {"learning_rate": 2e-6}) == 2e-6


@pytest.mark.parametrize(("rate", "warned"), [(1e-6, True), (1e-5, False)])
def test_a_small_learning_rate_of_an_adapter_is_warned_about(
    rate: float, warned: bool, config: Config, pairs: datasets.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    DPOTrainer(adapted(), args=config(learning_rate=rate), train_dataset=pairs)
    assert (f"The learning rate {rate:g} is small for an adapter" in caplog.text) is warned


@pytest.mark.parametrize("kind", ["new", "continued", "merged"])
def test_a_resumed_run_of_an_adapter_ends_as_an_uninterrupted_one(
    kind: str, config: Config, pairs: datasets.Dataset, sft: Path, tmp_path: Path
) -> None:
    peft_config = None if kind == "continued" else {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}

    def trained(checkpoint: str | None = None) -> dict[str, torch.Tensor]:
        model = make_tiny_model() if kind == "new" else str(sft)
        args = config(max_steps=4, save_strategy="steps", save_steps=2)
        trainer = DPOTrainer(model, args=args, train_dataset=pairs, peft_config=peft_config)
        trainer.train(resume_from_checkpoint=checkpoint)
        return {name: weight for name, weight in weights(trainer.model).items() if "lora_" in name}

    straight = trained()
    torch.testing.assert_close(trained(str(tmp_path / "run" / "checkpoint-2")), straight, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["itself", "the model under its adapter"])
def test_a_reference_that_shares_weights_with_the_policy_is_refused(
    kind: str, config: Config, pairs: datasets.Dataset
) -> None:
    policy = adapted()
    reference = policy if kind == "itself" else policy.get_base_model()
    with pytest.raises(UsageError, match="ref_model is the model itself, or shares weights with it"):
        DPOTrainer(policy, reference, args=config(), train_dataset=pairs)
