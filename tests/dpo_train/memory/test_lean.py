"""What is not kept or made for backward must change nothing but memory."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from architectures import make
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dpo_train.memory.lean import fuse_tied_embedding_grad, recompute_gated_mlp

#: The padding token (257) among them, whose row of an embedding learns nothing as an input; and one token twice.
IDS = torch.tensor([[30, 31, 257, 31, 10, 256]])

Lean = Callable[[Any], AbstractContextManager[None]]


@contextmanager
def both(model: Any) -> Iterator[None]:
    with recompute_gated_mlp(model), fuse_tied_embedding_grad(model):
        yield


def by_itself(model: Any) -> AbstractContextManager[None]:
    return nullcontext()


def loss_of(model: Any, lean: Lean) -> torch.Tensor:
    with lean(model):
        loss: torch.Tensor = model(IDS, use_cache=False).logits.square().mean()
    return loss


def gradients(model: Any, lean: Lean) -> dict[str, torch.Tensor]:
    """Of two micro-batches, added up."""
    model.zero_grad()
    for _ in range(2):
        loss_of(model, lean).backward()  # type: ignore[no-untyped-call]
    return {name: weight.grad for name, weight in model.named_parameters()}


def kept_bytes(model: Any, lean: Lean) -> int:
    """What the forward pass keeps besides the weights, each memory once."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of(model, lean)
    return sum(kept.values())


def vocabulary_sized(model: Any, lean: Lean) -> int:
    """How many matrices of the head's size backward makes."""
    size, made = model.get_output_embeddings().weight.numel(), 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal made
            given = {part.data_ptr() for part in args if isinstance(part, torch.Tensor)}
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.numel() == size and out.data_ptr() not in given:
                made += 1
            return out

    loss = loss_of(model, lean)
    with Watch():
        loss.backward()  # type: ignore[no-untyped-call]
    return made


@pytest.mark.parametrize("name", ["llama_tied", "llama", "gemma2_softcap", "qwen3", "gpt2"])
def test_gradients_are_those_of_the_model_by_itself(name: str) -> None:
    model = make(name).eval()
    plain = {name: gradient.clone() for name, gradient in gradients(model, by_itself).items()}
    for weight, gradient in gradients(model, both).items():
        torch.testing.assert_close(gradient, plain[weight], rtol=1e-5, atol=1e-7)


def test_a_gated_mlp_keeps_two_tensors_of_its_inner_size_less() -> None:
    """Two layers, six tokens, float32: two tensors each of 6 x the inner size x 4 bytes."""
    model = make("llama").eval()
    saved = kept_bytes(model, by_itself) - kept_bytes(model, recompute_gated_mlp)
    assert saved == 2 * 2 * IDS.numel() * model.config.intermediate_size * 4


def test_the_products_with_the_down_projection_are_not_made_again() -> None:
    model = make("llama").eval()
    loss_of(model, recompute_gated_mlp)  # in which the layers are tried on a token
    calls = []
    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_hook(lambda *_: calls.append(1))
    loss_of(model, recompute_gated_mlp).backward()  # type: ignore[no-untyped-call]
    assert len(calls) == len(model.model.layers)


def test_backward_makes_one_matrix_of_the_vocabularys_size_where_head_and_embedding_are_one() -> None:
    model = make("llama_tied").eval()
    assert vocabulary_sized(model, fuse_tied_embedding_grad) == 1
    assert vocabulary_sized(model, by_itself) > 1


def test_a_module_that_computes_something_else_is_left_alone() -> None:
    class Scaled(nn.Module):
        def __init__(self, mlp: Any) -> None:
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj
            self.act_fn = mlp.act_fn

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            product: torch.Tensor = self.down_proj(self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden))
            return 2 * product

    model = make("llama").eval()
    model.model.layers[0].mlp = Scaled(model.model.layers[0].mlp)
    torch.testing.assert_close(loss_of(model, recompute_gated_mlp), loss_of(model, by_itself), rtol=0, atol=0)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.get_output_embeddings().register_parameter("bias", nn.Parameter(torch.zeros(258))),
        lambda model: model.to(torch.bfloat16),
        lambda model: model.get_input_embeddings().weight.requires_grad_(False),
        lambda model: setattr(model.get_input_embeddings(), "scale_grad_by_freq", True),
    ],
    ids=["a bias", "half precision", "frozen", "scaled by frequency"],
)
def test_an_embedding_that_needs_more_is_left_alone(change: Callable[[Any], Any]) -> None:
    model = make("llama_tied").eval()
    change(model)
    with fuse_tied_embedding_grad(model):
        assert "forward" not in vars(model.get_input_embeddings())


def test_a_gradient_that_is_asked_for_of_other_weights_alone_leaves_nothing_behind() -> None:
    """The head's gradient is not made then, and the next pass does not find an old one."""
    model = make("llama_tied").eval()
    norm = model.model.norm.weight
    plain = gradients(model, by_itself)["model.embed_tokens.weight"].clone()
    torch.autograd.grad(loss_of(model, fuse_tied_embedding_grad), norm)
    torch.testing.assert_close(
        gradients(model, fuse_tied_embedding_grad)["model.embed_tokens.weight"], plain, rtol=1e-5, atol=1e-7
    )
    embedding = model.get_input_embeddings()
    with fuse_tied_embedding_grad(model):
        embedding(IDS).sum().backward()  # without a head behind it
    assert torch.isfinite(embedding.weight.grad).all()


def test_autocast_that_begins_inside_the_model_gives_the_gradients_of_the_model_by_itself() -> None:
    """As accelerate turns it on: around the model's forward, when the embedding has been looked at already."""
    model = make("llama_tied").eval()
    model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)
    plain = {name: gradient.clone() for name, gradient in gradients(model, by_itself).items()}
    for weight, gradient in gradients(model, fuse_tied_embedding_grad).items():
        torch.testing.assert_close(gradient, plain[weight], rtol=1e-5, atol=1e-7)


def test_afterwards_and_after_an_error_the_modules_have_their_own_forward() -> None:
    model = make("llama_tied").eval()
    with pytest.raises(IndexError), both(model):
        model(torch.tensor([[10_000]]), use_cache=False)
    assert not [module for module in model.modules() if "forward" in vars(module)]


def test_layers_that_are_checkpointed_whole_are_left_to_that() -> None:
    model = make("llama").train()
    # The name in transformers 5.23 and later, and the one before.
    newer = hasattr(model, "activation_checkpointing_enable")
    (model.activation_checkpointing_enable if newer else model.gradient_checkpointing_enable)()
    with recompute_gated_mlp(model):
        assert not [module for module in model.modules() if "forward" in vars(module)]
