"""Replaced forwards that save memory in the backward pass, and do not change gradients."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from architectures import make
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from toys import make_pairs

import dpo_train.logprobs.packed
from dpo_train import DPOConfig, DPOTrainer
from dpo_train.memory.lean import fuse_tied_embedding_grad, recompute_gated_mlp

#: Includes the padding token (257), whose row of an embedding gets no gradient, and one token twice.
IDS = torch.tensor([[30, 31, 257, 31, 10, 256]])

Lean = Callable[[Any], AbstractContextManager[None]]


@contextmanager
def both(model: Any) -> Iterator[None]:
    with recompute_gated_mlp(model), fuse_tied_embedding_grad(model):
        yield


def unchanged(model: Any) -> AbstractContextManager[None]:
    return nullcontext()


def loss_of(model: Any, lean: Lean) -> torch.Tensor:
    with lean(model):
        loss: torch.Tensor = model(IDS, use_cache=False).logits.square().mean()
    return loss


def gradients(model: Any, lean: Lean) -> dict[str, torch.Tensor]:
    """Return the summed gradients of two micro-batches."""
    model.zero_grad()
    for _ in range(2):
        loss_of(model, lean).backward()  # type: ignore[no-untyped-call]
    return {name: weight.grad for name, weight in model.named_parameters()}


def saved_bytes(model: Any, lean: Lean) -> int:
    """Return the bytes that the forward pass saves besides the weights, counting each storage once."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of(model, lean)
    return sum(saved.values())


def vocabulary_sized(model: Any, lean: Lean) -> int:
    """Return how many matrices of the head's size the backward pass allocates."""
    size, allocated = model.get_output_embeddings().weight.numel(), 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal allocated
            given = {part.data_ptr() for part in args if isinstance(part, torch.Tensor)}
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.numel() == size and out.data_ptr() not in given:
                allocated += 1
            return out

    loss = loss_of(model, lean)
    with Watch():
        loss.backward()  # type: ignore[no-untyped-call]
    return allocated


@pytest.mark.parametrize("name", ["llama_tied", "llama", "gemma2_softcap", "qwen3", "gpt2"])
def test_gradients_equal_those_of_the_unchanged_model(name: str) -> None:
    model = make(name).eval()
    plain = {name: gradient.clone() for name, gradient in gradients(model, unchanged).items()}
    for weight, gradient in gradients(model, both).items():
        torch.testing.assert_close(gradient, plain[weight], rtol=1e-5, atol=1e-7)


def test_a_gated_mlp_saves_two_tensors_of_its_inner_size_less() -> None:
    """Two layers with six tokens in float32 save two tensors of 6 x inner size x 4 bytes less each."""
    model = make("llama").eval()
    saved = saved_bytes(model, unchanged) - saved_bytes(model, recompute_gated_mlp)
    assert saved == 2 * 2 * IDS.numel() * model.config.intermediate_size * 4


def test_the_down_projection_is_not_recomputed() -> None:
    model = make("llama").eval()
    loss_of(model, recompute_gated_mlp)  # the first call checks the layers on a token
    calls = []
    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_hook(lambda *_: calls.append(1))
    loss_of(model, recompute_gated_mlp).backward()  # type: ignore[no-untyped-call]
    assert len(calls) == len(model.model.layers)


def test_the_backward_pass_of_a_tied_embedding_allocates_one_matrix_of_the_vocabulary_size() -> None:
    model = make("llama_tied").eval()
    assert vocabulary_sized(model, fuse_tied_embedding_grad) == 1
    assert vocabulary_sized(model, unchanged) > 1


def test_a_module_that_computes_something_else_is_not_replaced() -> None:
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
    torch.testing.assert_close(loss_of(model, recompute_gated_mlp), loss_of(model, unchanged), rtol=0, atol=0)


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
def test_an_unsupported_embedding_is_not_replaced(change: Callable[[Any], Any]) -> None:
    model = make("llama_tied").eval()
    change(model)
    with fuse_tied_embedding_grad(model):
        assert "forward" not in vars(model.get_input_embeddings())


def test_a_backward_pass_to_other_weights_has_no_effect_on_the_next_one() -> None:
    """The gradient of the head is not computed, so the next pass must not find an old one."""
    model = make("llama_tied").eval()
    norm = model.model.norm.weight
    plain = gradients(model, unchanged)["model.embed_tokens.weight"].clone()
    torch.autograd.grad(loss_of(model, fuse_tied_embedding_grad), norm)
    torch.testing.assert_close(
        gradients(model, fuse_tied_embedding_grad)["model.embed_tokens.weight"], plain, rtol=1e-5, atol=1e-7
    )
    embedding = model.get_input_embeddings()
    with fuse_tied_embedding_grad(model):
        embedding(IDS).sum().backward()  # without the head
    assert torch.isfinite(embedding.weight.grad).all()


def test_autocast_inside_the_model_does_not_change_gradients() -> None:
    """accelerate enables autocast around the forward of the model, after the embedding was checked."""
    model = make("llama_tied").eval()
    model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)
    plain = {name: gradient.clone() for name, gradient in gradients(model, unchanged).items()}
    for weight, gradient in gradients(model, fuse_tied_embedding_grad).items():
        torch.testing.assert_close(gradient, plain[weight], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_replaced_forwards_can_be_turned_off(
    enabled: bool, config: Callable[..., DPOConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    for name in ("recompute_gated_mlp", "fuse_tied_embedding_grad"):
        monkeypatch.setattr(
            dpo_train.logprobs.packed, name, lambda network, name=name: used.append(name) or nullcontext()
        )
    args = config(reduce_activation_memory=enabled, max_steps=1)
    DPOTrainer(make("llama_tied"), args=args, train_dataset=make_pairs(4)).train()
    assert set(used) == ({"recompute_gated_mlp", "fuse_tied_embedding_grad"} if enabled else set())


def test_modules_get_their_own_forward_back_even_after_an_error() -> None:
    model = make("llama_tied").eval()
    with pytest.raises(IndexError), both(model):
        model(torch.tensor([[10_000]]), use_cache=False)
    assert not [module for module in model.modules() if "forward" in vars(module)]


def test_gated_mlps_in_checkpointed_layers_are_not_replaced() -> None:
    model = make("llama").train()
    # The name in transformers 5.23 and later, and the one before.
    newer = hasattr(model, "activation_checkpointing_enable")
    (model.activation_checkpointing_enable if newer else model.gradient_checkpointing_enable)()
    with recompute_gated_mlp(model):
        assert not [module for module in model.modules() if "forward" in vars(module)]
