"""The identity of a run, which its checkpoints hold: another run does not resume from them."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainingArguments
from transformers.utils import logging

from dpo_data.errors import UsageError
from dpo_train.data.rows import PairRows
from dpo_train.options import LOSS, DPOOptions, LossOptions
from dpo_train.reference.factory import adapter_has_no_effect
from dpo_train.reference.live import FrozenModel, ModelOnDemand
from dpo_train.reference.store import weights_identity

logger = logging.get_logger(__name__)

#: File of a checkpoint that says which run saved it.
RUN_FILE = "dpo_train.json"
#: Options of the loss and the reference, which are part of a run's identity; the others only say where values are kept.
_LOSS_OPTIONS = ["loss_options"] + [
    field.name
    for options in (DPOOptions, LossOptions)
    for field in dataclasses.fields(options)
    if field.metadata.get("group") == LOSS and field.name not in ("precompute_reference", "reference_cache")
]
#: Training arguments that identify a run, or that only say where and how it runs.
_NOT_COMPARED = re.compile(
    "|".join(_LOSS_OPTIONS) + "|beta|loss_type|seed|data_seed|per_device_train_batch_size|gradient_accumulation_steps|"
    "precompute_reference|reference_cache|output_dir|resume_from_checkpoint|local_rank|logging_dir|run_name|"
    "eval_on_start|disable_tqdm|accelerator_config|.*_token|hub_.*|push_to_hub.*"
)


def run_identity(trainer: Any, weights: str | None) -> dict[str, Any]:
    """Return what must be the same when a run is resumed, by its name in messages.

    It covers the weights and the adapter that training starts from, the reference, the loss with its options, the
    training pairs and how many of them a step has, and the seeds.

    Args:
        trainer: a `DPOTrainer`.
        weights: `policy_identity` of its policy before the first step.
    """
    args = trainer.args
    configurations = getattr(trainer.model, "peft_config", None) or {}
    pairs = args.world_size * trainer.micro_batch_size * args.gradient_accumulation_steps
    identity = {
        "the model's weights": weights,
        "the adapter": {name: _adapter(each) for name, each in configurations.items()} or None,
        "the reference": _reference(trainer),
        "the loss": trainer.loss_type,
        "beta": trainer.beta,
        **{name: getattr(args, name) for name in _LOSS_OPTIONS},
        "the pairs per step": pairs,
        "the training pairs": _training_pairs(trainer.train_dataset),
        "seed": args.seed,
        "data_seed": args.data_seed,
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def policy_identity(model: Any) -> str | None:
    """Return a hash of a policy's weights before its first step; None for weights that are elsewhere."""
    if any(weight.is_meta or hasattr(weight, "ds_id") for weight in model.parameters()):
        return None
    if hasattr(model, "disable_adapter") and adapter_has_no_effect(model):  # its random values make no difference
        with model.disable_adapter():
            return weights_identity(model)
    return weights_identity(model)


def _adapter(config: Any) -> str:
    """Return the configuration of an adapter without what does not change its values."""
    settings = {name: value for name, value in config.to_dict().items() if name not in _ADAPTER_NAMES}
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in settings.items()}
    return json.dumps(plain, sort_keys=True, default=str)


_ADAPTER_NAMES = ("base_model_name_or_path", "inference_mode", "revision", "peft_version", "auto_mapping")


def _reference(trainer: Any) -> str | None:
    if trainer.is_own_reference:
        return "the model before training"
    model = getattr(trainer.reference, "model", None)
    if isinstance(model, ModelOnDemand):
        return model.path
    return policy_identity(model.network) if isinstance(model, FrozenModel) else trainer.reference.description


def _training_pairs(rows: Any) -> str | None:
    if not isinstance(rows, PairRows):
        return None
    return blake2b(rows.response_keys(np.arange(len(rows))).tobytes(), digest_size=16).hexdigest()


def write_identity(checkpoint: Path, identity: Mapping[str, Any], args: TrainingArguments) -> None:
    """Write the identity and the training arguments of a run into its checkpoint."""
    manifest = {"identity": identity, "arguments": _compared(args)}
    (checkpoint / RUN_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def check_identity(checkpoint: Path, identity: Mapping[str, Any], args: TrainingArguments) -> None:
    """Raise UsageError if another run saved a checkpoint; log which arguments differ from those of the checkpoint."""
    file = checkpoint / RUN_FILE
    if not file.exists():
        logger.warning(f"{checkpoint}: does not say which run saved it, so model, loss and data are not compared.")
        return
    manifest = json.loads(file.read_text(encoding="utf-8"))
    saved = manifest["identity"]
    if differing := _differences(saved, identity, [name for name in identity if name in saved]):
        listing = "".join(f"\n    {line}" for line in differing)
        raise UsageError(
            f"{checkpoint}: another run saved it:{listing}\n  Resume with what that run had, or start a new run."
        )
    before, now = manifest["arguments"], _compared(args)
    if changed := _differences(before, now, [name for name in now if name in before]):
        logger.warning(f"resuming with other arguments than before: {'; '.join(changed)}")


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Return a line for each name whose values differ; unknown weights and pairs, which are None, are not compared."""
    lines = []
    for name in names:
        old, new = before[name], now[name]
        if old == new or (name in _HASHES and None in (old, new)):
            continue
        lines.append(f"{name}: {new}, not {old}" if name not in (*_HASHES, "the adapter") else f"{name}: others")
    return lines


#: Parts of an identity that are hashes.
_HASHES = ("the model's weights", "the training pairs")


def _compared(args: TrainingArguments) -> dict[str, Any]:
    """Return the training arguments that a resumed run may change."""
    values = {name: value for name, value in args.to_dict().items() if not _NOT_COMPARED.fullmatch(name)}
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain
