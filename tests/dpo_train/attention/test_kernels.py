"""Kernels of shared-prefix attention, compared with attention that is written out token by token."""

import inspect

import numpy as np
import pytest
import torch
from prefix_rows import ROWS, packed

import dpo_train.attention.kernels
from dpo_train.attention.register import shared_prefix_attention
from dpo_train.attention.segments import Segments


def attended_token_by_token(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, table: np.ndarray, window: int | None
) -> torch.Tensor:
    """Compute attention from the meaning of the table alone, (1, T, heads, D)."""
    groups = query.shape[1] // key.shape[1]
    hidden = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool)
    start = 0
    attended: list[list[int]] = []  # indices that the last token of each segment attends to
    for length, parent, shared in table.tolist():
        before = [] if parent < 0 else attended[parent][: len(attended[parent]) - int(table[parent, 0]) + shared]
        for index in range(start, start + length):
            indices = [*before, *range(start, index + 1)]
            hidden[index, indices if window is None else indices[-window:]] = False
        attended.append(indices)
        start += length
    scores = query @ key.repeat_interleave(groups, 1).mT * query.shape[-1] ** -0.5
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return (weights @ value.repeat_interleave(groups, 1)).transpose(1, 2)


@pytest.mark.parametrize("window", [None, 1, 50, 96, 150, 1000])
@pytest.mark.parametrize("softcap", [None, 1e6], ids=["kernel", "eager"])
def test_blocks_of_long_segments_equal_attention_token_by_token(softcap: float | None, window: int | None) -> None:
    """Segments of 230, 97 and 120 tokens are computed in blocks, one of 1,030 as a whole; some branch off a branch."""
    table = np.array([[230, -1, 0], [40, 0, 190], [97, 1, 30], [5, 2, 80], [1030, -1, 0], [120, 4, 1000], [9, 5, 120]])
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(1, heads, int(table[:, 0].sum()), 8, generator=generator, requires_grad=True) for heads in (4, 2, 2)
    ]
    expected = attended_token_by_token(*tensors, table, window)
    weights = torch.randn(expected.shape, generator=generator)
    gradients = torch.autograd.grad((expected * weights).sum(), tensors)
    result, _ = shared_prefix_attention(
        torch.nn.Module(), *tensors, None, segments=Segments(table), sliding_window=window, softcap=softcap
    )
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=2e-6)
    for actual, gradient in zip(torch.autograd.grad((result * weights).sum(), tensors), gradients, strict=True):
        torch.testing.assert_close(actual, gradient, rtol=1e-5, atol=1e-5)


def varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cumulative_queries: torch.Tensor,
    cumulative_keys: torch.Tensor,
    max_queries: int,
    max_keys: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """Compute what torch.nn.attention.varlen documents: bottom-right causal, with `window_size[0]` keys to the left."""
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert window_size[1] == 0
    groups = query.shape[1] // key.shape[1]
    parts = []
    for index in range(len(cumulative_queries) - 1):
        own = query[cumulative_queries[index] : cumulative_queries[index + 1]].float()
        keys, values = (
            tensor[cumulative_keys[index] : cumulative_keys[index + 1]].float().repeat_interleave(groups, dim=1)
            for tensor in (key, value)
        )
        assert len(own) <= max_queries
        assert len(keys) <= max_keys
        scores = torch.einsum("qhd,khd->hqk", own, keys) * (own.shape[-1] ** -0.5 if scale is None else scale)
        for row in range(len(own)):
            last = len(keys) - len(own) + row
            first = 0 if window_size[0] < 0 else max(0, last - window_size[0])
            scores[:, row, :first] = scores[:, row, last + 1 :] = float("-inf")
        parts.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
    return torch.cat(parts).to(query.dtype)


@pytest.mark.parametrize("window", [None, 3, 100])
def test_varlen_inputs_describe_the_same_attention_as_the_segments(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpo_train.attention.kernels.varlen, "varlen_attn", varlen_attn)
    segments: Segments = packed(ROWS).segments
    tokens = int(segments.table[:, 0].sum())
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, tokens, 8, generator=generator).half() for heads in (4, 2, 2))
    expected, _ = shared_prefix_attention(
        torch.nn.Module(), query.float(), key.float(), value.float(), None, segments=segments, sliding_window=window
    )
    result = dpo_train.attention.kernels._varlen_attention(query, key, value, segments, None, window)
    torch.testing.assert_close(result.float(), expected, rtol=2e-3, atol=2e-3)


def test_varlen_attn_has_the_signature_that_is_called() -> None:
    from torch.nn.attention.varlen import varlen_attn as real

    parameters = inspect.signature(real).parameters
    assert list(parameters)[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert {"scale", "window_size", "enable_gqa"} <= set(parameters)
