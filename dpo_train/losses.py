"""Preference losses: pure functions of per-pair numbers, each with its equation and paper. They know no model.

A loss says by its parameters what it needs. Positional ones are tensors of shape (B,), float32, in nats:

    chosen_logratios, rejected_logratios    log-probability of a response under the policy less that under the reference

Keyword-only ones are its options. To add a loss, write the function and name it in `LOSSES`: options, error texts and
the command line are computed from there.
"""

import inspect
from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import logsigmoid

Loss = Callable[..., Tensor]


def sigmoid(
    chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1, label_smoothing: float = 0.0
) -> Tensor:
    """-(1-e) log s(b d) - e log s(-b d), with d the difference of the log-ratios, b beta and e the label smoothing.

    Args:
        chosen_logratios: (B,), log(policy / reference) of the chosen response.
        rejected_logratios: (B,), the same of the rejected one.
        beta: strength of the pull to the reference.
        label_smoothing: e, the share of labels taken to be wrong, 0 to below 0.5.

    Returns: (B,) losses; ln 2 where the two log-ratios are equal.

    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7; smoothing: Mitchell 2023, "A note on DPO with noisy
    preferences" (cDPO), equation 3.
    """
    logits = beta * (chosen_logratios - rejected_logratios)
    return -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)


LOSSES: dict[str, Loss] = {
    "sigmoid": sigmoid,
}


def inputs_of(loss: Loss) -> tuple[str, ...]:
    """Names of the per-pair tensors that a loss takes, in order."""
    return tuple(
        name
        for name, parameter in inspect.signature(loss).parameters.items()
        if parameter.kind != parameter.KEYWORD_ONLY
    )


def options_of(loss: Loss) -> tuple[str, ...]:
    """Names of the options that a loss takes."""
    return tuple(
        name
        for name, parameter in inspect.signature(loss).parameters.items()
        if parameter.kind == parameter.KEYWORD_ONLY
    )
