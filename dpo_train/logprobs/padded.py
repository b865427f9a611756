"""Log-probabilities of padded sequences."""

import torch
from torch import Tensor


def next_tokens(labels: Tensor, ignored: int = -100) -> Tensor:
    """Return the label that each position predicts: labels shifted left by one; the last position predicts nothing.

    >>> next_tokens(torch.tensor([[-100, 5, 6]]))
    tensor([[   5,    6, -100]])
    """
    return torch.cat([labels[:, 1:], labels.new_full((len(labels), 1), ignored)], dim=1)


def completion_logps(logits: Tensor, targets: Tensor, ignored: int = -100) -> Tensor:
    """Return the log-probability of every target token, in nats.

    Args:
        logits: (B, T, V), any float dtype. Only positions with a target pass through the log-softmax, which is computed
            in float32: half precision loses whole nats over a long completion.
        targets: (B, T) int64, the token that each position predicts; `ignored` on prompt and padding.
        ignored: label of positions without a target.

    Returns: (B, T) float32; 0.0 where there is no target. Summed over T, the log-probability of each completion.

    Source: Rafailov et al. 2023, arXiv:2305.18290, section 4.
    """
    predicted = targets != ignored
    scores = logits[predicted].float()
    token_logps = torch.zeros(targets.shape, dtype=torch.float32, device=logits.device)
    # PyTorch's log_softmax sums a row in one pass, which loses two digits with a vocabulary of 49,152.
    token_logps[predicted] = scores.gather(-1, targets[predicted][:, None])[:, 0] - scores.logsumexp(-1)
    return token_logps
