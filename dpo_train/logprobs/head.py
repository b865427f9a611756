"""The language-model head in chunks: token log-probabilities without the whole logits in memory."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

#: Rows of logits that pass through the log-softmax at a time: few enough to stay in a processor's cache.
_ROWS_AT_ONCE = 64


class _TokenLogps(torch.autograd.Function):
    """See `token_logps`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, predictors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The log-softmax, a few rows at a time."""
        normaliser, means = (logits.new_empty(len(logits), dtype=_wide(logits.dtype)) for _ in range(2))
        for rows in _row_chunks(len(logits)):
            chunk = logits[rows].to(normaliser.dtype)
            torch.logsumexp(chunk, -1, out=normaliser[rows])
            torch.mean(chunk, -1, out=means[rows])
        ctx.save_for_backward(logits, normaliser, predictors, targets)
        ctx.mark_non_differentiable(means)
        return logits[predictors, targets].to(normaliser.dtype) - normaliser[predictors], means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the logits, (K, V): of each position, its tokens one-hot less their number x probability."""
        logits, normaliser, predictors, targets = ctx.saved_tensors
        of_positions = torch.zeros_like(normaliser).index_add_(0, predictors, gradient)
        with torch.no_grad():  # in the logits' own memory, where most of a step's is in use
            for rows in _row_chunks(len(logits)):
                probabilities = (logits[rows].to(normaliser.dtype) - normaliser[rows, None]).exp_()
                logits[rows] = probabilities.mul_(-of_positions[rows, None])
            logits.index_put_((predictors, targets), gradient.to(logits.dtype), accumulate=True)
        return logits, None, None


def token_logps(logits: Tensor, predictors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of tokens, several of which may be predicted by one position; and the mean logit of positions.

    Nothing else of the logits' size is made: the log-softmax is never held, and backward leaves the logits' gradient in
    their place. They are of no use to anybody else then, and a second backward pass through them raises RuntimeError.

    Args:
        logits: (K, V).
        predictors: (N,) in 0..K-1, the position that predicts each token.
        targets: (N,) in 0..V-1, the tokens.

    Returns: (N,) log-probabilities in nats and (K,) means, which have no gradient; both at least float32.
    """
    results: tuple[Tensor, Tensor] = _TokenLogps.apply(logits, predictors, targets)  # type: ignore[no-untyped-call]
    return results


def _row_chunks(rows: int) -> list[slice]:
    return [slice(start, start + _ROWS_AT_ONCE) for start in range(0, rows, _ROWS_AT_ONCE)]


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type to take a log-softmax in."""
    return torch.promote_types(dtype, torch.float32)


class ChunkedHead:
    """Makes a model's head give log-probabilities instead of logits, a few positions at a time.

    Within `with ChunkedHead(...) as head:` the model's output `logits` hold nothing; the results are in `head.logps`
    and `head.means`, as `token_logps` has them. The head's own module computes, inside the model's forward, so that
    sharding, autocast and adapters see it. Each chunk of logits is dropped and made again in backward.

    Args:
        head: the module that turns hidden states (1, K, H) into logits (1, K, V).
        predictors: (N,), ascending; see `token_logps`.
        targets: (N,).
        positions: at a time.
    """

    def __init__(self, head: nn.Module, predictors: Tensor, targets: Tensor, positions: int) -> None:
        self._head = head
        self._predictors = predictors
        self._targets = targets
        self._positions = positions

    def __enter__(self) -> "ChunkedHead":
        self._forward = self._head.forward
        self._own = vars(self._head).get("forward")  # where something else has wrapped it
        self._head.forward = self._in_chunks
        return self

    def __exit__(self, *error: object) -> None:
        del self._head.forward  # the instance's own, which hid the class's
        if self._own is not None:
            self._head.forward = self._own

    def _in_chunks(self, hidden: Tensor) -> Tensor:
        starts = range(0, hidden.shape[1], self._positions)
        borders = torch.searchsorted(
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
            for start, first, last in zip(starts, borders, borders[1:], strict=False)
        ]
        self.logps, self.means = (torch.cat(results) for results in zip(*parts, strict=True))
        return hidden.new_zeros(1, hidden.shape[1], 1)

    def _chunk(self, hidden: Tensor, predictors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return token_logps(self._forward(hidden), predictors, targets)


def is_last_position(config: Any) -> bool:
    """Whether a model's logits are what its head gives, with no soft cap or scaling behind it."""
    behind = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")
    return all(getattr(config, name, None) is None for name in behind)
