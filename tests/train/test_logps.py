import numpy as np
import torch

from dpo_train.logps import completion_logps


def numpy_logps(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Plain float64, one position at a time."""
    result = np.zeros(targets.shape)
    for row, column in np.argwhere(targets != -100):
        scores = logits[row, column].astype(np.float64)
        result[row, column] = scores[targets[row, column]] - np.log(np.exp(scores - scores.max()).sum()) - scores.max()
    return result


def test_logps_equal_a_plain_float64_computation() -> None:
    torch.manual_seed(0)
    logits = 5 * torch.randn(2, 4, 7)
    targets = torch.tensor([[-100, 3, 6, -100], [0, -100, -100, 1]])
    logps = completion_logps(logits, targets)
    torch.testing.assert_close(logps.double(), torch.tensor(numpy_logps(logits.numpy(), targets.numpy())))


def test_positions_without_target_count_nothing_and_get_no_gradient() -> None:
    logits = torch.randn(1, 3, 5, requires_grad=True)
    completion_logps(logits, torch.tensor([[-100, 2, -100]])).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, [0, 2]].abs().max() == 0
    assert logits.grad[0, 1].abs().max() > 0


def test_half_precision_logits_are_normalised_in_float32() -> None:
    """2,000 equal logits: log-probability -ln 2000 = -7.6009; bfloat16 would round it to -7.59375."""
    logits = torch.zeros(1, 1, 2000, dtype=torch.bfloat16)
    logps = completion_logps(logits, torch.tensor([[5]]))
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps, torch.tensor([[-7.600902]]))
