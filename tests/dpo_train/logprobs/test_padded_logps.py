"""Log-probabilities of padded sequences."""

import numpy as np
import torch

from dpo_train.logprobs.padded import completion_logps


def numpy_logps(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Compute in plain float64, one position at a time."""
    result = np.zeros(targets.shape)
    for row, column in np.argwhere(targets != -100):
        scores = logits[row, column].astype(np.float64)
        result[row, column] = scores[targets[row, column]] - np.log(np.exp(scores - scores.max()).sum()) - scores.max()
    return result


def test_logps_equal_a_plain_float64_computation() -> None:
    torch.manual_seed(0)
    logits = 5 * torch.randn(2, 4, 7)
    targets = torch.tensor([[-100, 3, 6, -100], [0, -100, -100, 1]])
    errors = completion_logps(logits, targets).double() - torch.tensor(numpy_logps(logits.numpy(), targets.numpy()))
    assert float(errors.abs().max()) <= np.spacing(np.float32(logits.abs().max()))  # one unit in the last place


def test_logps_over_a_large_vocabulary_keep_the_digits_of_float32() -> None:
    """Sums of 49,152 float32 values in one pass would be off by some 1e-5 nats, all in the same direction."""
    logits = 3 * torch.randn(1, 40, 49152, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(40)[None]
    errors = completion_logps(logits, targets).double() - torch.tensor(numpy_logps(logits.numpy(), targets.numpy()))
    assert float(errors.abs().max()) < 3e-6
    assert float(errors.mean().abs()) < 5e-7


def test_positions_without_target_have_no_effect_and_no_gradient() -> None:
    logits = torch.randn(1, 3, 5, requires_grad=True)
    completion_logps(logits, torch.tensor([[-100, 2, -100]])).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, [0, 2]].abs().max() == 0
    assert logits.grad[0, 1].abs().max() > 0


def test_half_precision_logits_are_normalized_in_float32() -> None:
    """2,000 equal logits: log-probability -ln 2000 = -7.6009; bfloat16 would round it to -7.59375."""
    logits = torch.zeros(1, 1, 2000, dtype=torch.bfloat16)
    logps = completion_logps(logits, torch.tensor([[5]]))
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps, torch.tensor([[-7.600902]]))
