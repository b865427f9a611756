"""A real chat model on its own template: SmolLM2-135M-Instruct, in the folder that DPO_DATA_REAL_MODEL names."""

import math
import os
from pathlib import Path

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpo_train import DPOConfig, DPOTrainer

MODEL = os.environ.get("DPO_DATA_REAL_MODEL")

pytestmark = pytest.mark.skipif(MODEL is None, reason="DPO_DATA_REAL_MODEL does not name the folder of the real model")

QUESTIONS = {
    "What is the capital of France?": ("The capital of France is Paris.", "France has no capital."),
    "Name a prime number.": ("Seven is a prime number.", "Nine."),
}


def test_the_untrained_policy_has_the_log_probabilities_of_the_model_alone(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    rows = [
        {
            "prompt": [{"role": "user", "content": question}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for question, (chosen, rejected) in QUESTIONS.items()
    ]

    def log_probability(row: dict, side: str) -> float:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        # The template writes a line break after the end of a turn, which no policy has to learn.
        text = tokenizer.apply_chat_template(row["prompt"] + row[side], tokenize=False).rstrip("\n")
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            of_tokens = model(ids).logits[0, :-1].double().log_softmax(-1).gather(1, ids[0, 1:, None])
        return of_tokens[len(prompt) - 1 :].sum().item()

    expected = {side: sum(log_probability(row, side) for row in rows) / len(rows) for side in ("chosen", "rejected")}
    dataset = datasets.Dataset.from_list(rows)
    arguments = DPOConfig(output_dir=str(tmp_path), report_to="none", per_device_eval_batch_size=2)
    trainer = DPOTrainer(model, args=arguments, train_dataset=dataset, eval_dataset=dataset, processing_class=tokenizer)
    found = trainer.evaluate()
    for side, value in expected.items():
        assert found[f"eval_logps/{side}"] == pytest.approx(value, abs=1e-3)
    assert found["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
