"""Token log-probabilities with little memory: the language-model head in chunks, the log-softmax in place."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

#: Rows of logits in one chunk of the log-softmax: few enough to stay in a processor's cache.
_CHUNK_ROWS = 64


class _TokenLogps(torch.autograd.Function):
    """See `token_logps`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, predictors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the log-softmax, a few rows at a time."""
        normalizer, means = (logits.new_empty(len(logits), dtype=_wide(logits.dtype)) for _ in range(2))
        for rows in _row_chunks(len(logits)):
            chunk = logits[rows].to(normalizer.dtype)
            torch.logsumexp(chunk, -1, out=normalizer[rows])
            torch.mean(chunk, -1, out=means[rows])
        ctx.save_for_backward(logits, normalizer, predictors, targets)
        ctx.mark_non_differentiable(means)
        return logits[predictors, targets].to(normalizer.dtype) - normalizer[predictors], means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the logits, (K, V): one-hot targets minus probabilities, weighted by `gradient`."""
        logits, normalizer, predictors, targets = ctx.saved_tensors
        position_grads = torch.zeros_like(normalizer).index_add_(0, predictors, gradient)
        with torch.no_grad():  # in the memory of the logits, the largest tensor of a step
            for rows in _row_chunks(len(logits)):
                probabilities = (logits[rows].to(normalizer.dtype) - normalizer[rows, None]).exp_()
                logits[rows] = probabilities.mul_(-position_grads[rows, None])
            logits.index_put_((predictors, targets), gradient.to(logits.dtype), accumulate=True)
        return logits, None, None


def token_logps(logits: Tensor, predictors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of tokens, several of which may share a predicting position, and mean logits.

    No other tensor of the size of the logits is allocated: the log-softmax is never stored, and the backward pass
    overwrites the logits with their gradient. Nothing else may use them, and a second backward pass through them raises
    RuntimeError.

    Args:
        logits: (K, V).
        predictors: (N,) in 0..K-1, the position that predicts each token.
        targets: (N,) in 0..V-1, the tokens.

    Returns: (N,) log-probabilities in nats, and the (K,) mean logits of the positions, which have no gradient; both at
        least float32.
    """
    results: tuple[Tensor, Tensor] = _TokenLogps.apply(logits, predictors, targets)  # type: ignore[no-untyped-call]
    return results


def _row_chunks(rows: int) -> list[slice]:
    return [slice(start, start + _CHUNK_ROWS) for start in range(0, rows, _CHUNK_ROWS)]


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype to compute a log-softmax in."""
    return torch.promote_types(dtype, torch.float32)


class ChunkedHead:
    """Context in which a model's head computes log-probabilities instead of logits, a few positions at a time.

    Within `with ChunkedHead(...) as head:` the `logits` of the model's output are empty; the results are in
    `head.logps` and `head.means`, as `token_logps` returns them. The head's own module runs inside the model's forward,
    so that sharding, autocast and adapters apply. Each chunk of logits is freed, and recomputed in the backward pass.

    Args:
        head: module that maps hidden states (1, K, H) to logits (1, K, V).
        predictors: (N,), ascending; see `token_logps`.
        targets: (N,).
        positions: positions per chunk.
    """

    def __init__(self, head: nn.Module, predictors: Tensor, targets: Tensor, positions: int) -> None:
        self._head = head
        self._predictors = predictors
        self._targets = targets
        self._positions = positions

    def __enter__(self) -> "ChunkedHead":
        self._forward = self._head.forward
        self._own = vars(self._head).get("forward")  # if something else has replaced it on the instance
        self._head.forward = self._in_chunks
        return self

    def __exit__(self, *error: object) -> None:
        del self._head.forward  # removes the instance attribute, which hides the method of the class
        if self._own is not None:
            self._head.forward = self._own

    def _in_chunks(self, hidden: Tensor) -> Tensor:
        starts = range(0, hidden.shape[1], self._positions)
        bounds = torch.searchsorted(
            self._predictors, torch.tensor([*starts, hidden.shape[1]], device=self._predictors.device)
        ).tolist()
        parts = [
            checkpoint(
                self._chunk,
                hidden[0, start : start + self._positions],
                self._predictors[first:last] - start,
                self._targets[first:last],
                use_reentrant=False,
            )
            for start, first, last in zip(starts, bounds, bounds[1:], strict=False)
        ]
        self.logps, self.means = (torch.cat(results) for results in zip(*parts, strict=True))
        return hidden.new_zeros(1, hidden.shape[1], 1)

    def _chunk(self, hidden: Tensor, predictors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return token_logps(self._forward(hidden), predictors, targets)


def has_plain_logits(config: Any) -> bool:
    """Return True if the logits are the head's output, without a soft cap or scaling after it.

    The configuration of a model for text and images has that of its language model inside.
    """
    later_steps = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")
    configs = (config, config.get_text_config())
    return all(getattr(each, name, None) is None for each in configs for name in later_steps)
