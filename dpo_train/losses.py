"""Preference losses: pure functions of per-pair numbers, each with its equation and paper.

The signature of a loss defines what it needs. Positional parameters are tensors of shape (B,), float32:

    chosen_logratios, rejected_logratios    log-probability of a response, policy minus reference, in nats
    chosen_logps, rejected_logps            log-probability of a response under the policy, in nats
    chosen_tokens, rejected_tokens          number of tokens of a response
    score_margins                           score of the chosen response minus that of the rejected one, from the data
    mean_logratios                          running mean of the log-ratios of both sides over training, without a graph

Keyword-only parameters are its options: numbers with a default, described in the docstring. The trainer refuses an
option that the loss does not have. A loss without log-ratios needs no reference model. To add a loss, write the
function and name it in `LOSSES`, and in `STEP_LOSSES` if the loss of a pair depends on other pairs; error texts and the
options of the command line are derived from there.

Below, s is the logistic function, c and r the log-ratios of chosen and rejected, b beta, |.| a number of tokens.
"""

import inspect
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Loss = Callable[..., Tensor]


def sigmoid(
    chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1, label_smoothing: float = 0.0
) -> Tensor:
    """-(1 - e) log s(b (c - r)) - e log s(-b (c - r)), with label smoothing e.

    Args:
        chosen_logratios: (B,), c.
        rejected_logratios: (B,), r.
        beta: how strongly the policy is kept close to the reference.
        label_smoothing: share of labels that are assumed to be wrong, in [0, 0.5); e in the equation.

    Returns: (B,) losses; ln 2 for equal log-ratios.

    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7; smoothing: Mitchell 2023, "A note on DPO with noisy
    preferences and relationship to IPO" (cDPO).
    """
    return _smoothed(beta * (chosen_logratios - rejected_logratios), label_smoothing)


def sigmoid_norm(
    chosen_logratios: Tensor,
    rejected_logratios: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Tensor:
    """`sigmoid` with log-ratios per token: -log s(b (c / |chosen| - r / |rejected|)).

    Source: Lambert et al. 2024 (Tulu 3), arXiv:2411.15124, equation 6.
    """
    difference = chosen_logratios / chosen_tokens - rejected_logratios / rejected_tokens
    return _smoothed(beta * difference, label_smoothing)


def hinge(chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1) -> Tensor:
    """max(0, 1 - b (c - r)).

    Source: Zhao et al. 2023 (SLiC-HF), arXiv:2305.10425; with a reference: Liu et al. 2023 (RSO), arXiv:2309.06657.
    """
    return torch.relu(1 - beta * (chosen_logratios - rejected_logratios))


def ipo(
    chosen_logratios: Tensor,
    rejected_logratios: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    *,
    beta: float = 0.1,
) -> Tensor:
    """(c / |chosen| - r / |rejected| - 1 / (2 b))^2.

    Source: Azar et al. 2023, arXiv:2310.12036, equation 17. Log-ratios are per token, which the paper does not mention
    and its authors confirmed (huggingface/trl issue 1265).
    """
    difference = chosen_logratios / chosen_tokens - rejected_logratios / rejected_tokens
    return (difference - 1 / (2 * beta)) ** 2


def robust(
    chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1, label_smoothing: float = 0.1
) -> Tensor:
    """(-(1 - e) log s(h) + e log s(-h)) / (1 - 2 e), h = b (c - r): unbiased if a share e of the labels is flipped.

    Source: Chowdhury et al. 2024, arXiv:2403.00409, equation 12.
    """
    logits = beta * (chosen_logratios - rejected_logratios)
    kept, flipped = (1 - label_smoothing) * logsigmoid(logits), label_smoothing * logsigmoid(-logits)
    return (flipped - kept) / (1 - 2 * label_smoothing)


def apo_zero(chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1) -> Tensor:
    """1 - s(b c) + s(b r): raises chosen, lowers rejected. For data that is better than the model's own responses.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266, equation 7.
    """
    return 1 - torch.sigmoid(beta * chosen_logratios) + torch.sigmoid(beta * rejected_logratios)


def apo_down(chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1) -> Tensor:
    """s(b c) + 1 - s(b (c - r)): lowers both, rejected more. For data that is worse than the model's own responses.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266, equation 8.
    """
    return torch.sigmoid(beta * chosen_logratios) + 1 - torch.sigmoid(beta * (chosen_logratios - rejected_logratios))


def kto_pair(chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1) -> Tensor:
    """(1 - s(b (c - z_r)) + 1 - s(b (z_c - r))) / 2, with z the mean of the other side's log-ratios, at least 0.

    The mean is over the pairs of a step. There is no gradient through it.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, equation 8, on pairs.
    """
    chosen_kl = chosen_logratios.mean().clamp(min=0).detach()
    rejected_kl = rejected_logratios.mean().clamp(min=0).detach()
    chosen = 1 - torch.sigmoid(beta * (chosen_logratios - rejected_kl))
    rejected = 1 - torch.sigmoid(beta * (chosen_kl - rejected_logratios))
    return (chosen + rejected) / 2


def exo_pair(
    chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1, label_smoothing: float = 1e-3
) -> Tensor:
    """s(h) (log s(h) - log(1 - e)) + s(-h) (log s(-h) - log e), h = b (c - r): the reverse KL from the labels.

    The labels are smoothed by e > 0. The paper uses 1e-3.

    Source: Ji et al. 2024 (EXO), arXiv:2402.00856, equation 16, for two responses.
    """
    logits = beta * (chosen_logratios - rejected_logratios)
    kept = torch.sigmoid(logits) * (logsigmoid(logits) - math.log1p(-label_smoothing))
    flipped = torch.sigmoid(-logits) * (logsigmoid(-logits) - math.log(label_smoothing))
    return kept + flipped


def nca_pair(chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1) -> Tensor:
    """-log s(b c) - (log s(-b c) + log s(-b r)) / 2: keeps the chosen response likely by its absolute log-ratio.

    Source: Chen et al. 2024 (NCA), arXiv:2402.05369, the NCA loss of preference pairs.
    """
    chosen, rejected = beta * chosen_logratios, beta * rejected_logratios
    return -logsigmoid(chosen) - (logsigmoid(-chosen) + logsigmoid(-rejected)) / 2


def bco_pair(
    chosen_logratios: Tensor, rejected_logratios: Tensor, mean_logratios: Tensor, *, beta: float = 0.1
) -> Tensor:
    """-log s(b (c - d)) - log s(-b (r - d)), with d the running mean of the log-ratios of both sides.

    There is no gradient through d. TRL from version 1 leaves d out.

    Source: Jung et al. 2024 (BCO), arXiv:2404.04656, the loss with reward shift, on pairs.
    """
    shift = mean_logratios.detach()
    return -logsigmoid(beta * (chosen_logratios - shift)) - logsigmoid(-beta * (rejected_logratios - shift))


def sppo_hard(chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1) -> Tensor:
    """(c - 1 / (2 b))^2 + (r + 1 / (2 b))^2: the chosen response wins with probability 1.

    Source: Wu et al. 2024 (SPPO), arXiv:2405.00675, equation 4.7, with win probabilities 1 and 0; b is 1 / eta.
    """
    return (chosen_logratios - 1 / (2 * beta)) ** 2 + (rejected_logratios + 1 / (2 * beta)) ** 2


def aot(
    chosen_logratios: Tensor,
    rejected_logratios: Tensor,
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Tensor:
    """`sigmoid` of b (m - m_ref), both margins log p(chosen) - log p(rejected) sorted over the pairs of a step.

    A pair's margin under the policy is compared with the reference's margin of the same rank, that of another pair.

    Source: Melnyk et al. 2024 (AOT), arXiv:2406.05882, the paired variant.
    """
    policy = chosen_logps - rejected_logps
    reference = policy - (chosen_logratios - rejected_logratios)
    return _smoothed(beta * (policy - _of_same_rank(reference, policy)), label_smoothing)


def aot_unpaired(
    chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1, label_smoothing: float = 0.0
) -> Tensor:
    """`sigmoid` of b (c - r), both sorted over the pairs of a step: chosen and rejected need not belong together.

    Source: Melnyk et al. 2024 (AOT), arXiv:2406.05882, the unpaired variant.
    """
    difference = chosen_logratios - _of_same_rank(rejected_logratios, chosen_logratios)
    return _smoothed(beta * difference, label_smoothing)


def discopop(
    chosen_logratios: Tensor, rejected_logratios: Tensor, *, beta: float = 0.1, discopop_tau: float = 0.05
) -> Tensor:
    """-(1 - w) log s(h) + w exp(-h), w = s(h / t), h = b (c - r): logistic below h = 0, exponential above.

    Args:
        chosen_logratios: (B,), c.
        rejected_logratios: (B,), r.
        beta: how strongly the policy is kept close to the reference.
        discopop_tau: width of the transition between the two losses; t in the equation.

    Source: Lu et al. 2024 (DiscoPOP), arXiv:2406.08414, the log-ratio modulated loss.
    """
    logits = beta * (chosen_logratios - rejected_logratios)
    # w exp(-h) in one exponential: the product of 0 and infinity would be NaN.
    exponential = torch.exp(logsigmoid(logits / discopop_tau) - logits)
    return exponential - torch.sigmoid(-logits / discopop_tau) * logsigmoid(logits)


def odpo(
    chosen_logratios: Tensor,
    rejected_logratios: Tensor,
    score_margins: Tensor,
    *,
    beta: float = 0.1,
    odpo_alpha: float = 1.0,
) -> Tensor:
    """-log s(b (c - r) - a m), with the score margin m of the data: a clearer preference needs a larger margin.

    Args:
        chosen_logratios: (B,), c.
        rejected_logratios: (B,), r.
        score_margins: (B,), m.
        beta: how strongly the policy is kept close to the reference.
        odpo_alpha: weight of the score margin; a in the equation.

    Source: Amini et al. 2024, arXiv:2402.10571, equation 8, with the identity as its scaling function.
    """
    return -logsigmoid(beta * (chosen_logratios - rejected_logratios) - odpo_alpha * score_margins)


def rpo(
    chosen_logratios: Tensor,
    rejected_logratios: Tensor,
    chosen_logps: Tensor,
    chosen_tokens: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    rpo_alpha: float = 1.0,
) -> Tensor:
    """`sigmoid` + a `sft`: keeps the chosen response likely while the margin grows.

    Args:
        chosen_logratios: (B,).
        rejected_logratios: (B,).
        chosen_logps: (B,).
        chosen_tokens: (B,).
        beta: how strongly the policy is kept close to the reference.
        label_smoothing: as in `sigmoid`.
        rpo_alpha: weight of the added SFT loss; a in the equation.

    Source: Pang et al. 2024 (iterative RPO), arXiv:2404.19733, equation 1, with its weight 1.
    """
    preference = sigmoid(chosen_logratios, rejected_logratios, beta=beta, label_smoothing=label_smoothing)
    return preference + rpo_alpha * sft(chosen_logps, chosen_tokens)


def sft(chosen_logps: Tensor, chosen_tokens: Tensor) -> Tensor:
    """-log p(chosen) / |chosen|: supervised fine-tuning on the chosen response; every pair has the same weight.

    Source: the first step of Rafailov et al. 2023, arXiv:2305.18290, section 3.
    """
    return -chosen_logps / chosen_tokens


def simpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    *,
    beta: float = 0.1,
    simpo_gamma: float = 0.5,
) -> Tensor:
    """-log s(b log p(chosen) / |chosen| - b log p(rejected) / |rejected| - g). The paper uses b from 2 to 2.5.

    Args:
        chosen_logps: (B,).
        rejected_logps: (B,).
        chosen_tokens: (B,).
        rejected_tokens: (B,).
        beta: scale of the log-probabilities per token.
        simpo_gamma: target margin; g in the equation.

    Source: Meng et al. 2024, arXiv:2405.14734, equation 6.
    """
    difference = chosen_logps / chosen_tokens - rejected_logps / rejected_tokens
    return -logsigmoid(beta * difference - simpo_gamma)


def orpo(
    chosen_logps: Tensor, rejected_logps: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor, *, beta: float = 0.1
) -> Tensor:
    """`sft` - b log s(log odds(chosen) - log odds(rejected)), odds p / (1 - p) of the mean token probability p.

    Source: Hong et al. 2024, arXiv:2403.07691, equations 6 and 7; b is its lambda.
    """
    chosen, rejected = chosen_logps / chosen_tokens, rejected_logps / rejected_tokens
    log_odds_ratio = chosen - rejected - (_log_complement(chosen) - _log_complement(rejected))
    return -chosen - beta * logsigmoid(log_odds_ratio)


#: How far the policy may be from the reference, by the names of `f_divergence_type`; the first is DPO's.
DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")

#: Losses of the difference of the two log-ratios, which may be replaced by `divergence_scores`.
DIVERGENCE_LOSSES = frozenset(
    ("sigmoid", "sigmoid_norm", "hinge", "ipo", "robust", "exo_pair", "discopop", "odpo", "rpo", "sft")
)


def divergence_scores(logratios: Tensor, divergence: str, coefficient: float = 0.5) -> Tensor:
    """Return f'(u) of log-ratios log u, up to a constant: what a loss compares if the regularizer is D_f.

    reverse_kl: log u; forward_kl: 1 - 1 / u; js_divergence: log(2 u / (1 + u)); alpha_divergence with coefficient a:
    (u^(a - 1) - 1) / (a - 1), which is reverse_kl for a = 1 and forward_kl for a = 0.

    Args:
        logratios: (B,).
        divergence: one of `DIVERGENCES`.
        coefficient: a, which is 1 - alpha in the paper.

    Returns: (B,), 0 for equal log-probabilities. Exponents are clamped so that the results are finite.

    Source: Wang et al. 2023 (f-DPO), arXiv:2309.16240, table 1.
    """
    exponent = {"forward_kl": -1.0, "alpha_divergence": coefficient - 1}.get(divergence, 0.0)
    if divergence == "js_divergence":
        return math.log(2) + logsigmoid(logratios)
    if abs(exponent) < 1e-6:
        return logratios
    return torch.expm1((exponent * logratios).clamp(max=_MAX_EXPONENT)) / exponent


#: The exponential of it is far below the largest number of float32.
_MAX_EXPONENT = 80.0

LOSSES: dict[str, Loss] = {
    "sigmoid": sigmoid,
    "sigmoid_norm": sigmoid_norm,
    "hinge": hinge,
    "ipo": ipo,
    "robust": robust,
    "apo_zero": apo_zero,
    "apo_down": apo_down,
    "kto_pair": kto_pair,
    "exo_pair": exo_pair,
    "nca_pair": nca_pair,
    "bco_pair": bco_pair,
    "sppo_hard": sppo_hard,
    "aot": aot,
    "aot_unpaired": aot_unpaired,
    "discopop": discopop,
    "odpo": odpo,
    "rpo": rpo,
    "sft": sft,
    "simpo": simpo,
    "orpo": orpo,
}


#: Losses that depend on other pairs too. The trainer computes them over all pairs of an optimizer step.
STEP_LOSSES = {"kto_pair", "bco_pair", "aot", "aot_unpaired"}


def inputs_of(loss: Loss) -> tuple[str, ...]:
    """Return the names of the per-pair tensors that a loss takes, in order."""
    return tuple(
        name
        for name, parameter in inspect.signature(loss).parameters.items()
        if parameter.kind != parameter.KEYWORD_ONLY
    )


def options_of(loss: Loss) -> tuple[str, ...]:
    """Return the names of the options of a loss."""
    return tuple(
        name
        for name, parameter in inspect.signature(loss).parameters.items()
        if parameter.kind == parameter.KEYWORD_ONLY
    )


def needs_reference(loss: Loss) -> bool:
    """Return True if a loss compares the policy with a reference."""
    return "chosen_logratios" in inputs_of(loss)


def terms_of(loss: Loss) -> tuple[str, ...]:
    """Return the names of properties of the pairs that are needed for a loss and its rewards."""
    # Rewards of losses without a reference are per token.
    return inputs_of(loss) if needs_reference(loss) else (*inputs_of(loss), "chosen_tokens", "rejected_tokens")


def _of_same_rank(values: Tensor, others: Tensor) -> Tensor:
    """Return for each of `others` the one of `values` that has the same rank, (B,)."""
    ranks = others.argsort(stable=True).argsort()
    return values.sort(stable=True).values[ranks]


def _smoothed(logits: Tensor, label_smoothing: float) -> Tensor:
    return -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)


def _log_complement(log_probability: Tensor) -> Tensor:
    """Return log(1 - p) of log p, with p at most 1 minus the resolution of float32."""
    clamped = log_probability.clamp(max=-torch.finfo(torch.float32).eps)
    # The two branches are from Maechler 2012, "Accurately computing log(1 - exp(-|a|))".
    return torch.where(
        clamped > -math.log(2),
        torch.log(-torch.expm1(clamped)),
        torch.log1p(-torch.exp(clamped.clamp(max=-math.log(2)))),
    )
