"""Token log-probabilities that overwrite their logits, and the head in chunks."""

from typing import Any

import pytest
import torch
from architectures import make
from prefix_rows import ROWS, assert_same_gradients, gradients, packed

import dpo_train.logprobs.packed
from dpo_train.attention.register import shared_prefixes
from dpo_train.logprobs.head import token_logps
from dpo_train.logprobs.packed import packed_logps


def test_token_logps_and_their_gradient_equal_the_log_softmax() -> None:
    predictors, targets = torch.tensor([0, 0, 1, 3, 4, 4]), torch.tensor([2, 6, 0, 1, 3, 3])
    weights = torch.randn(6, dtype=torch.float64)
    hidden, head = torch.randn(5, 3, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    plain = (hidden @ head).log_softmax(-1)[predictors, targets]
    (expected,) = torch.autograd.grad(plain @ weights, head)
    logps, means = token_logps(hidden @ head, predictors, targets)
    (gradient,) = torch.autograd.grad(logps @ weights, head)
    torch.testing.assert_close(logps, plain)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(means, (hidden @ head).mean(-1))
    assert not means.requires_grad


def test_a_second_backward_pass_through_overwritten_logits_is_an_error() -> None:
    logits = torch.randn(2, 5, requires_grad=True) * 1.0
    logps, _ = token_logps(logits, torch.tensor([0, 1]), torch.tensor([2, 3]))
    logps.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        logps.sum().backward()


def test_huge_logits_give_finite_values_in_float32() -> None:
    logits = torch.tensor([[3e4, -3e4, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    logps, _ = token_logps(logits * 1, torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert logps.dtype == torch.float32
    assert logps.tolist() == pytest.approx([0.0, -59904.0])
    logps.sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["llama_tied", "gpt2", "gemma2_softcap", "granite_scaled"])
def test_a_chunked_head_equals_the_whole_head(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(name).eval()
    batch = packed(ROWS)
    results = []
    for max_logits in (2**27, 258 * 3):
        monkeypatch.setattr(dpo_train.logprobs.packed, "MAX_LOGITS", max_logits)
        with shared_prefixes(model):
            sums, means = packed_logps(model, model, batch)
            results.append((sums.detach(), means, gradients(model, sums.mean())))
    for whole, chunked in zip(results[0][:2], results[1][:2], strict=True):
        torch.testing.assert_close(whole, chunked, rtol=1e-6, atol=1e-6)
    assert_same_gradients(results[1][2], results[0][2])
    assert "forward" not in vars(model.get_output_embeddings())


def test_a_chunked_head_never_allocates_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With chunks of three positions, the largest tensor with the length of the vocabulary has three rows."""
    model = make("llama").eval()
    monkeypatch.setattr(dpo_train.logprobs.packed, "MAX_LOGITS", 258 * 3)
    seen: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor) and tensor.dim() > 1 and tensor.shape[-1] == 258:
                    seen.append(tensor.numel() // 258)
            return out

    batch = packed(ROWS)
    with shared_prefixes(model), Watch():
        sums, _ = packed_logps(model, model, batch)
        sums.mean().backward()
    assert seen
    assert max(count for count in seen if count != 32) <= 3  # 32: the head's own weight, transposed
