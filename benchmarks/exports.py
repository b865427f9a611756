"""Exports read by the programs that they are for: the pairs they find, and the token ids they make, against ours.

    python benchmarks/exports.py trl --model MODEL --rows FILE [--pairs 300]

Run it with an interpreter that has the peer (TRL, LLaMA-Factory or ms-swift) besides dpo-data; see
benchmarks/results/exports_*.md for the versions. A peer is not a dependency of dpo-data.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpo_data import convert, export, tokenize

Ids = tuple[list[int], list[int], list[int]]


def read_trl(folder: Path, model: str) -> list[Ids]:
    """Return the ids of prompt, chosen and rejected that TRL's DPOTrainer makes of an export."""
    import datasets
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    config = AutoConfig.from_pretrained(model)
    config.num_hidden_layers, config.hidden_size, config.intermediate_size = 1, 32, 32
    config.num_attention_heads = config.num_key_value_heads = 2
    config.head_dim = 16
    rows = datasets.load_dataset("json", data_files=str(folder / "train.jsonl"), cache_dir=str(folder / "cache"))
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_config(config),
        args=DPOConfig(output_dir=str(folder / "run"), use_cpu=True, report_to=[], max_length=None, bf16=False),
        train_dataset=rows["train"],
        processing_class=tokenizer,
    )
    made = trainer.train_dataset
    return list(zip(made["prompt_ids"], made["chosen_ids"], made["rejected_ids"], strict=True))


def read_llamafactory(folder: Path, model: str) -> list[Ids]:
    """Return the ids that LLaMA-Factory makes of an export with the tokenizer's own chat template."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    name = next(iter(json.loads((folder / "dataset_info.json").read_text())))
    model_args, data_args, training_args, _, _ = get_train_args(
        {
            "stage": "dpo", "do_train": True, "model_name_or_path": model, "dataset": name, "finetuning_type": "full",
            "dataset_dir": str(folder), "template": "chatml", "cutoff_len": 100_000, "output_dir": str(folder / "run"),
            "report_to": "none", "use_cpu": True,
        }
    )  # fmt: skip
    loaded = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(loaded["tokenizer"], data_args)
    made = get_dataset(template, model_args, data_args, training_args, stage="rm", **loaded)["train_dataset"]
    found = []
    for row in made:
        start = sum(label == -100 for label in row["chosen_labels"])
        found.append(
            (row["chosen_input_ids"][:start], row["chosen_input_ids"][start:], row["rejected_input_ids"][start:])
        )
    return found


def up_to(eos: int, ids: list[int]) -> list[int]:
    """Return ids up to the last EOS, which a template may put white space after."""
    return ids[: len(ids) - ids[::-1].index(eos)] if eos in ids else ids


READERS: dict[str, Callable[[Path, str], list[Ids]]] = {"trl": read_trl, "llamafactory": read_llamafactory}


def main() -> None:
    """Export real rows, let the peer read them, and print the row of the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=READERS)
    parser.add_argument("--model", required=True, help="folder of a chat model")
    parser.add_argument("--rows", required=True, help="raw rows of hh-rlhf")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--form", default="conversational")
    options = parser.parse_args()
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as scratch:
        prepared, out = Path(scratch) / "prepared", Path(scratch) / "out"
        convert("hh-rlhf", [options.rows], output=prepared, form=options.form, limit=options.pairs, split="train")
        report = export(options.peer, prepared, output=out, allow_loss=True)
        cache = tokenize(prepared, tokenizer=options.model, max_length=None)
        ours: list[Ids] = [
            tuple(row[f"{side}_ids"] for side in ("prompt", "chosen", "rejected"))  # type: ignore[misc]
            for row in cache.dataset()["train"]
        ]
        theirs = READERS[options.peer](out, options.model)
    eos = AutoTokenizer.from_pretrained(options.model).eos_token_id
    both = list(zip(ours, theirs, strict=False))
    result: dict[str, Any] = {
        "peer": options.peer,
        "pairs": report.pairs,
        "lines": report.lines,
        "left_out": report.left_out,
        "read": len(theirs),
        "ours": len(ours),
        "equal_prompts": sum(a[0] == b[0] for a, b in both),
        "equal_ids": sum(list(a) == list(b) for a, b in both),
        "equal_up_to_eos": sum([up_to(eos, ids) for ids in a] == [up_to(eos, ids) for ids in b] for a, b in both),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
