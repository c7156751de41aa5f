"""Losses of the reward: an ordinal link between a utility and a rating, a pairwise loss within each person, and the
likelihood of choices between two images.

[`pamela_hf.heads.fitting.level_gradients`] is the same link in numpy, with the same constants.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CUTPOINT_PAD = 1e4
"""Logits, far beyond any utility: cutpoints of scales with fewer levels are padded with multiples of it."""
MAX_STRETCH = 1.6
"""Bound of the log-stretch of a person's cutpoints."""


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
        `(..., K)` in float32, or in float64 where an argument is.
    """
    z = _full_precision(cutpoints) - _full_precision(utility).unsqueeze(-1)
    first, last = F.logsigmoid(z[..., :1]), F.logsigmoid(-z[..., -1:])
    return torch.cat([first, log_sub_sigmoid(z[..., 1:], z[..., :-1]), last], dim=-1)


def ordinal_moments(utilities: Tensor, cutpoints: Tensor, levels: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a rating, `(…)`: the link of [`ordinal_log_probs`] averaged over members, without
    its logarithms.

    With g_k the gap between levels k and k + 1, F_k = P(y ≤ k) and S_k = P(y > k), the mean is the lowest level and
    Σ g_k S_k, the variance Σ_k g_k F_k (g_k S_k + 2 Σ_(l>k) g_l S_l): nothing is the difference of two near numbers.

    Args:
        utilities: `(members, …)` float32.
        cutpoints: `(K - 1, …)` ascending, of a shape that spreads over one member's utilities.
        levels: the scale's K ratings, ascending.
    """
    members = len(utilities)
    mean = variance = torch.zeros_like(utilities[0])
    for k in reversed(range(len(levels) - 1)):
        distance = utilities - cutpoints[k]
        gap = (levels[k + 1] - levels[k]) / members
        above = distance.sigmoid().sum(0).mul_(gap)
        below = distance.neg_().sigmoid_().sum(0)
        variance = torch.addcmul(variance, below, torch.add(above, mean, alpha=2), value=gap)
        mean = mean + above
    return mean + levels[0], variance.sqrt()


def _full_precision(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def ordinal_nll(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood `(B,)` of level indices `labels (B,)` under `log_probs (B, K)`."""
    return -log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def within_group_pairs(labels: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Indices `(P,)`, `(P,)` of all pairs (preferred, other) rated differently within one group.

    Args:
        labels: `(B,)` ratings or level indices.
        groups: `(B,)` one number per (person, rating scale).
    """
    better = (groups.unsqueeze(1) == groups.unsqueeze(0)) & (labels.unsqueeze(1) > labels.unsqueeze(0))
    return better.nonzero(as_tuple=True)


def pairwise_logistic(utility: Tensor, preferred: Tensor, other: Tensor) -> Tensor:
    """Bradley–Terry loss `-log σ(u_a - u_b)`, `(P,)`, of pairs where `a` was preferred over `b`."""
    return F.softplus(utility[other] - utility[preferred])


def preference_probability(utility_a: Tensor, utility_b: Tensor) -> Tensor:
    """`P(a ≻ b)` for one person from that person's utilities, in [0, 1]."""
    return torch.sigmoid(utility_a - utility_b)


@dataclass(eq=False, repr=False)
class RatingTargets:
    """Ratings of B pairs, and how their loss is taken.

    Attributes:
        labels: `(B,)` level indices on the asked scale.
        group_ids: `(B,)` one number per person and scale: the pairwise loss compares within it.
        weights: `(B,)` weight of each rating, 1 by default.
        row_penalty: `(B,)` what the squared length of a pair's row adds (a Gaussian prior on rows), 0 by default.
        pairwise_weight: λ of the within-person pairwise loss; 0 = off.
        squared_error: squared error of the expected rating in place of the ordinal likelihood (an ablation).
        normalizers: total weight of ratings and of pairs to divide by; by default, those of this batch.
    """

    labels: Tensor
    group_ids: Tensor
    weights: Tensor | None = None
    row_penalty: Tensor | None = None
    pairwise_weight: float = 0.0
    squared_error: bool = False
    normalizers: tuple[Tensor, Tensor] | None = None

    def loss(self, utilities: Tensor, log_probs: Tensor, levels: Tensor, squared_rows: Tensor) -> Tensor:
        """The scalar loss of M members: each member's own, so that members stay different, which is what their average
        lives from.

        Args:
            utilities: `(M, B)`.
            log_probs: `(M, B, K)` of the levels.
            levels: `(B, K)` their values, NaN beyond a scale's own.
            squared_rows: `(B,)` squared length of each pair's row.
        """
        labels = self.labels
        weights = torch.ones_like(labels, dtype=torch.float32) if self.weights is None else self.weights
        total_ratings, total_pairs = self.normalizers if self.normalizers is not None else (weights.sum(), None)
        if self.squared_error:
            error = (log_probs.exp() * levels.nan_to_num(0.0)).sum(-1) - levels.gather(-1, labels[:, None]).T
            rating_loss = error.square().mean(0)
        else:
            rating_loss = ordinal_nll(log_probs, labels.expand(len(utilities), -1)).mean(0)
        if self.row_penalty is not None:
            rating_loss = rating_loss + squared_rows * self.row_penalty
        loss = (rating_loss * weights).sum() / total_ratings
        if self.pairwise_weight:
            preferred, other = within_group_pairs(labels, self.group_ids)
            pairs = pairwise_logistic(utilities.T, preferred, other).mean(-1)
            total_pairs = weights[preferred].sum() if total_pairs is None else total_pairs
            loss = loss + self.pairwise_weight * (pairs * weights[preferred]).sum() / total_pairs.clamp_min(1e-9)
        return loss


CHOICE_LAPSE = 0.02
"""How often a choice says nothing of the images (a slip, a random click): bounds what a single choice can cost."""


def choice_log_probs(margin: Tensor, log_nu: Tensor) -> Tensor:
    """Log-probabilities that the first image is preferred, neither is, and the second is, by Davidson's model of ties:
    in proportion to `exp(margin / 2)`, `ν` and `exp(-margin / 2)`; with probability [`CHOICE_LAPSE`] the three are
    equally likely.

    Source: Davidson (1970), JASA 65:317; without ties it is Bradley and Terry's model. [`pamela_hf.study.analysis`]
    is the same for conditions.

    Args:
        margin: `(...,)` utility of the first image minus that of the second, as choices see it.
        log_nu: `()` how likely a tie is.

    Returns:
        `(..., 3)` float32.
    """
    half = margin.float() / 2
    log_probs = torch.stack([half, log_nu.float().expand_as(half), -half], dim=-1).log_softmax(-1)
    lapse = torch.full_like(log_probs, math.log(CHOICE_LAPSE / 3))
    return torch.logaddexp(log_probs + math.log1p(-CHOICE_LAPSE), lapse)


@dataclass(eq=False, repr=False)
class ChoiceTargets:
    """C choices between two of B scored pairs of an image and a person, and how their loss is taken.

    Attributes:
        pairs: `(C, 2)` places among the B: the preferred image and the other one.
        ties: `(C,)` bool, neither was preferred.
        weights: `(C,)` weight of each choice.
        row_penalty: `(C,)` what the squared length of the person's row adds (a Gaussian prior on rows), 0 by default.
        total: total weight of all answers to divide by; by default, that of these choices.
    """

    pairs: Tensor
    ties: Tensor
    weights: Tensor
    row_penalty: Tensor | None = None
    total: Tensor | None = None

    def to(self, device: torch.device) -> "ChoiceTargets":
        """The same on another device."""
        values = (self.pairs, self.ties, self.weights, self.row_penalty, self.total)
        return ChoiceTargets(*(None if value is None else value.to(device) for value in values))

    def loss(self, utilities: Tensor, link: Tensor, squared_rows: Tensor) -> Tensor:
        """The scalar loss of M members, each member's own.

        Args:
            utilities: `(M, B)`.
            link: `(2,)` log-stretch of differences of utilities, and log ν of ties.
            squared_rows: `(B,)` squared length of each pair's row.
        """
        first, second = self.pairs.T
        margin = (utilities[:, first] - utilities[:, second]) * link[0].exp()
        log_probs = choice_log_probs(margin, link[1])
        loss = -torch.where(self.ties, log_probs[..., 1], log_probs[..., 0]).mean(0)
        if self.row_penalty is not None:
            loss = loss + squared_rows[first] * self.row_penalty
        total = self.weights.sum() if self.total is None else self.total
        return (loss * self.weights).sum() / total
