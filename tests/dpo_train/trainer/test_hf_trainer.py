"""The only module that depends on private members of transformers.Trainer."""

import ast
import inspect
from pathlib import Path

from transformers import Trainer

import dpo_train
from dpo_train import DPOTrainer
from dpo_train.trainer.hf_trainer import HFTrainer

#: Parameters that an override names, because it uses them.
USED = {"_run_epoch": {"epoch", "train_dataloader", "resume_from_checkpoint", "epochs_trained"}}


def private_members(cls: type) -> set[str]:
    return {name for name in vars(cls) if name.startswith("_") and not name.startswith("__")}


def test_private_overrides_exist_in_transformers_with_the_parameters_that_are_used() -> None:
    overrides = private_members(HFTrainer) & private_members(Trainer)
    assert {"_prepare_inputs", "_run_epoch", "_save_checkpoint"} <= overrides
    for name in overrides:
        theirs = inspect.signature(getattr(Trainer, name)).parameters
        ours = inspect.signature(getattr(HFTrainer, name)).parameters
        assert USED.get(name, set(ours)) <= set(theirs), name


def test_no_other_class_overrides_private_members_of_transformers() -> None:
    assert not private_members(DPOTrainer) & private_members(Trainer)


def test_no_other_module_uses_private_members_of_transformers() -> None:
    trainer_source = inspect.getsource(Trainer)
    private = private_members(Trainer) | {
        node.attr
        for node in ast.walk(ast.parse(trainer_source))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self" and node.attr[0] == "_" != node.attr[1]
    }
    assert {"_tr_loss", "_train_batch_size"} <= private
    modules = sorted((Path(str(dpo_train.__file__)).parent / "trainer").glob("*.py"))
    assert len(modules) > 5
    for path in modules:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "super()")
        }
        if path.name != "hf_trainer.py":
            assert (used - own) & private == set(), path.name
