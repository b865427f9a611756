"""Table of the options of TRL's DPOConfig beside ours: which are the same, renamed, not needed, or refused.

    PYTHONPATH=. python benchmarks/trl_fields.py TRL --output benchmarks/results/trl_fields_202611.md

TRL is a folder in which TRL is installed (pip install --no-deps --target FOLDER trl==1.16.0). Its configuration is read
as source code, and not imported. A field that this script does not know is an error, so that the table stays complete.
"""

import argparse
import ast
import dataclasses
from pathlib import Path
from typing import Any

from dpo_train import DPOConfig

FILES = ("trl/trainer/dpo_config.py", "trl/trainer/base_config.py")

#: TRL's field -> our name for it, and why it differs, for fields that we do not have under the same name.
OTHER = {
    "disable_dropout": ("`DPOTrainer(disable_dropout=)`", "argument of the trainer, as in TRL 0.7"),
    "dataset_num_proc": (
        "`dpo-data tokenize --workers`",
        "tokens are made once, before training; text in memory is tokenized in one process",
    ),
    "max_length": ("`DPOTrainer(max_length=)`, `--max-length`", "argument of the trainer, as in TRL 0.7"),
    "truncation_mode": (
        "`DPOTrainer(truncation_mode=)`, `--truncation-mode`",
        "argument of the trainer; keep_end is the default and stays; responses keep their beginning in both modes",
    ),
    "padding_free": (
        "",
        "not needed: sequences are packed without padding where the model allows it (`attention_path`)",
    ),
    "precompute_ref_log_probs": (
        "`precompute_reference`",
        "None: precompute if possible, for the rows of the run; True: all rows; False: never",
    ),
    "activation_offloading": (
        "",
        "refused as unknown: `max_tokens_per_microbatch` and `gradient_checkpointing` bound the activations",
    ),
    "pad_token": ("", "deprecated in TRL; set `tokenizer.pad_token`"),
}
#: Why a field that both have differs, besides its default.
NOTES = {
    "loss_type": "one name or several; besides TRL's losses: kto_pair, odpo, rpo, simpo, orpo",
    "label_smoothing": "for every loss that has it, also sigmoid; None for the default of the loss; others refuse it",
    "beta": "None for 0.1; also `DPOTrainer(beta=)`; negative values are refused",
    "discopop_tau": "None for the loss's 0.05; other losses refuse it",
    "router_aux_loss_coef": "None: added only if the model's configuration has `output_router_logits`, TRL: always",
    "pad_to_multiple_of": "pads instead of packing; not for Neuron devices by itself",
    "precompute_ref_batch_size": "a maximum, within the token budget",
    "sync_ref_model": "refused with a stored reference and with adapters; the reference is in the checkpoints",
    "model_init_kwargs": "refused for a model that is loaded already; float32 without another `dtype`",
    "learning_rate": "1e-5 by default for adapters trained by dpo-train",
    "f_divergence_type": "also for odpo and rpo",
    "ld_alpha": "sequences are padded, and reference values are not stored",
    "use_weighting": "sequences are padded; refused for losses over the whole step",
    "logging_steps": "",
    "gradient_checkpointing": "packing and a token budget bound the memory",
    "bf16": "the command line sets it on request (`--bf16`)",
    "lr_scheduler_kwargs": "",
    "use_liger_kernel": "kernels of the model, as transformers replaces them; the loss is ours",
}


def trl_fields(folder: Path) -> dict[str, str]:
    """Return the fields of TRL's configuration with their defaults as source code."""
    fields: dict[str, str] = {}
    for file in FILES:
        tree = ast.parse((folder / file).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.value.keywords}
                default = given.get("default", given.get("default_factory", "").removeprefix("lambda: "))
                fields.setdefault(ast.unparse(node.target), default)
    return fields


def our_default(field: Any) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    return "" if field.default_factory is dataclasses.MISSING else repr(field.default_factory())


def table(theirs: dict[str, str]) -> str:
    """Return the table as Markdown.

    Raises KeyError for a field of TRL that is neither ours nor explained.
    """
    ours = {field.name: field for field in dataclasses.fields(DPOConfig)}
    lines = ["| TRL 1.16 | its default | dpo-train | our default | difference |", "|---|---|---|---|---|"]
    for name, default in theirs.items():
        if name in ours:
            own, note = our_default(ours[name]), NOTES.get(name, "")
            same = own.replace('"', "'") == default.replace('"', "'")
            lines.append(f"| `{name}` | `{default}` | same | `{own}` | {note or ('' if same else 'default')} |")
        else:
            new_name, why = OTHER[name]
            lines.append(f"| `{name}` | `{default}` | {new_name or 'none'} | | {why} |")
    from transformers import TrainingArguments

    of_transformers = {field.name for field in dataclasses.fields(TrainingArguments)}
    further = [name for name in ours if name not in theirs and name not in of_transformers]
    lines += ["", "Options that only dpo-train has: " + ", ".join(f"`{name}`" for name in further) + "."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trl", type=Path, help="folder in which TRL is installed")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    result = table(trl_fields(arguments.trl))
    print(result)
    if arguments.output:
        title = "# Fields of TRL's DPOConfig and of dpo-train's\n\nWritten by `benchmarks/trl_fields.py`.\n\n"
        arguments.output.write_text(f"{title}{result}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
