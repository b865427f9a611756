"""Plain computations to compare the trainer with."""

from typing import Any

import datasets
import numpy as np
import torch
from toys import make_tiny_model
from transformers import TrainerCallback

from dpo_train import DPOConfig, DPOTrainer


def naive_logp(model: torch.nn.Module, prompt: list[int], response: list[int]) -> float:
    """Return the log-probability of a response: one sequence, all logits, NumPy float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0].double().numpy()
    total = 0.0
    for index, token in enumerate(response):
        scores = logits[len(prompt) + index - 1]
        total += scores[token] - scores.max() - np.log(np.exp(scores - scores.max()).sum())
    return total


def naive_logps(model: torch.nn.Module, dataset: datasets.Dataset, side: str) -> np.ndarray:
    return np.array([naive_logp(model, row["prompt_ids"], row[f"{side}_ids"]) for row in dataset])


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def gradients_of_first_step(args: DPOConfig, dataset: datasets.Dataset) -> dict[str, torch.Tensor]:
    """Return the gradients that the optimizer sees in its first step."""
    seen: dict[str, torch.Tensor] = {}

    class Keep(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
            if not seen:
                seen.update({name: parameter.grad.clone() for name, parameter in model.named_parameters()})

    DPOTrainer(make_tiny_model(), args=args, train_dataset=dataset, callbacks=[Keep()]).train()
    return seen
