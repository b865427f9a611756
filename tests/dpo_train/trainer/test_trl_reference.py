"""Twenty steps of the tiny model equal those of TRL 1.16, whose numbers benchmarks/trl_agreement.py saved."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from toys import make_text_pairs, make_tiny_model, make_tiny_tokenizer

from dpo_train import DPOConfig, DPOTrainer


def test_twenty_steps_equal_those_of_trl(config: Callable[..., DPOConfig]) -> None:
    frozen = json.loads(Path(__file__).with_name("trl_reference.json").read_text(encoding="utf-8"))
    args = config(**frozen["options"])
    trainer = DPOTrainer(
        make_tiny_model(),
        make_tiny_model(),
        args=args,
        train_dataset=make_text_pairs(80),
        tokenizer=make_tiny_tokenizer(),
    )
    trainer.train()
    steps = [record for record in trainer.state.log_history if "loss" in record]
    assert len(steps) == len(frozen["steps"]) == 20
    for ours, theirs in zip(steps, frozen["steps"], strict=True):
        for name in ("loss", "grad_norm", "logps/chosen", "logps/rejected"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
        for name in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=2e-5), name
        if abs(theirs["rewards/margins"]) > 1e-4:
            assert ours["rewards/accuracies"] == theirs["rewards/accuracies"]
