"""Log-probabilities of padded sequences."""

import torch
from torch import Tensor


def next_tokens(labels: Tensor, ignored: int = -100) -> Tensor:
    """Return the label that each position predicts: labels shifted left by one; the last position predicts nothing.

    >>> next_tokens(torch.tensor([[-100, 5, 6]]))
    tensor([[   5,    6, -100]])
    """
    return torch.cat([labels[:, 1:], labels.new_full((len(labels), 1), ignored)], dim=1)


def length_desensitized(token_logps: Tensor, predicted: Tensor, ld_alpha: float) -> Tensor:
    """Return the log-probability of each response, in which tokens beyond the length of the shorter one weigh less.

    Args:
        token_logps: (2B, T), chosen responses first; 0 where there is no token.
        predicted: (2B, T) bool, where there is a token.
        ld_alpha: weight of the tokens beyond, in [0, 1]; 1 is the sum.

    Returns: (2B,).

    Source: Liu et al. 2024 (LD-DPO), arXiv:2409.06411, section 3.
    """
    chosen, rejected = predicted.sum(1).chunk(2)
    shared = torch.minimum(chosen, rejected).repeat(2)
    is_beyond = predicted.cumsum(1) > shared[:, None]
    return (token_logps * torch.where(is_beyond, ld_alpha, 1.0)).sum(1)


@torch.no_grad()
def policy_weights(logits: Tensor, token_logps: Tensor, predicted: Tensor) -> Tensor:
    """Return the weight of each response: how likely the policy itself is to write it, compared with sampling.

    exp of the mean over the tokens of log p(y_t) - log sum_v p(v)^2, which is 1 on average for a response that was
    sampled from the policy. The weight of a pair is the product of those of its responses.

    Args:
        logits: (2B, T, V).
        token_logps: (2B, T); 0 where there is no token.
        predicted: (2B, T) bool, where there is a token.

    Returns: (2B,), without a graph.

    Source: Zhou et al. 2024 (WPO), arXiv:2406.11827, equation 2 with weight alignment.
    """
    scores = logits[predicted].float()
    expected = torch.zeros_like(token_logps)
    expected[predicted] = (2 * scores).logsumexp(-1) - 2 * scores.logsumexp(-1)
    return ((token_logps - expected).sum(1) / predicted.sum(1)).exp()


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
