"""Losses of the reward: an ordinal link between a utility and a rating, and a pairwise loss within each person."""

import torch
import torch.nn.functional as F
from torch import Tensor

CUTPOINT_PAD = 1e4  # logits; far beyond any utility


def log_sub_sigmoid(upper: Tensor, lower: Tensor) -> Tensor:
    """`log(σ(upper) - σ(lower))` for `upper > lower`, stable in both tails.

    σ(a) - σ(b) = σ(a) · σ(-b) · (1 - exp(b - a)).
    """
    return F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))


def ordinal_log_probs(utility: Tensor, cutpoints: Tensor) -> Tensor:
    """Log-probabilities of K ordered levels: the cumulative-logit model `P(y ≤ k) = σ(c_k - u)` (McCullagh 1980).

    Args:
        utility: `(...,)`, any real number; higher = liked more.
        cutpoints: `(..., K - 1)`, ascending. Scales with fewer levels are padded with [`CUTPOINT_PAD`] × 1, 2, …:
            the padded levels then have probability 0 (exactly, in float32) and finite gradients.

    Returns:
        `(..., K)` in float32.
    """
    z = cutpoints.float() - utility.float().unsqueeze(-1)
    first, last = F.logsigmoid(z[..., :1]), F.logsigmoid(-z[..., -1:])
    return torch.cat([first, log_sub_sigmoid(z[..., 1:], z[..., :-1]), last], dim=-1)


def ordinal_nll(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood `(B,)` of level indices `labels (B,)` under `log_probs (B, K)`."""
    return -log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def within_group_pairs(labels: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Indices `(P,)`, `(P,)` of all pairs (preferred, other) rated differently within one group.

    Args:
        labels: `(B,)` ratings or level indices. groups: `(B,)` one number per (person, rating scale).
    """
    better = (groups.unsqueeze(1) == groups.unsqueeze(0)) & (labels.unsqueeze(1) > labels.unsqueeze(0))
    return better.nonzero(as_tuple=True)


def pairwise_logistic(utility: Tensor, preferred: Tensor, other: Tensor) -> Tensor:
    """Bradley–Terry loss `-log σ(u_a - u_b)`, `(P,)`, of pairs where `a` was preferred over `b`."""
    return F.softplus(utility[other] - utility[preferred])


def preference_probability(utility_a: Tensor, utility_b: Tensor) -> Tensor:
    """`P(a ≻ b)` for one person from that person's utilities, in [0, 1]."""
    return torch.sigmoid(utility_a - utility_b)
