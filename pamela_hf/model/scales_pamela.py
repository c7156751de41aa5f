"""Rating scales of the reward: their cutpoints, and the ordinal link from a utility to a scale's levels and scores."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import ModelOutput

from .configuration_pamela import PamelaConfig
from .fusion_pamela import PairTokens
from .losses import CUTPOINT_PAD, MAX_STRETCH, ordinal_log_probs


@dataclass
class PamelaRewardOutput(ModelOutput):
    """Scores of B pairs of an image and a person; K is the number of levels of the longest rating scale.

    Attributes:
        loss: scalar, when `labels` were given.
        utility: `(B,)`, unbounded, higher = liked more; differences are log-odds of preference for one person.
        scores: `(B,)` expected rating on the asked scale, within that scale's lowest and highest level.
        std: `(B,)` standard deviation of that rating, in rating units.
        probs: `(B, K)` probability of each level, 0 beyond a scale's own.
        level_values: `(B, K)` the levels' ratings, NaN beyond a scale's own.
    """

    loss: Tensor | None = None
    utility: Tensor | None = None
    scores: Tensor | None = None
    std: Tensor | None = None
    probs: Tensor | None = None
    level_values: Tensor | None = None


class RatingScalesMixin:
    """What a [`PamelaRewardModel`] knows of its rating scales (in `self.cutpoints`, by [`scale_key`])."""

    def _add_cutpoints(self, config: PamelaConfig) -> None:
        self.cutpoints = nn.ParameterDict(
            {scale_key(name): torch.zeros(len(values) - 1) for name, values in config.rating_scales.items()}
        )
        if len(self.cutpoints) < len(config.rating_scales):
            raise ValueError(f"rating_scales={list(config.rating_scales)}: names must differ in more than '.' and '·'.")

    @torch.no_grad()
    def fit_cutpoints(self, scale: str, labels: Tensor) -> None:
        """Starts a scale's cutpoints at its ratings' shares.

        The shares' logits are widened by 1.3: one person's ratings of one image spread less than everybody's of all.

        Args:
            scale: its name.
            labels: `(n,)` training level indices.
        """
        raw = self.cutpoints[scale_key(scale)]
        counts = torch.bincount(labels, minlength=len(raw) + 1).float() + 1
        raw.copy_(_raw_cutpoints(1.3 * torch.logit(counts.cumsum(0)[:-1] / counts.sum())))

    def add_rating_scale(self, name: str, level_values: list[float]) -> None:
        """Adds a scale to train on or to answer on.

        `scale_ids` count the scales in the order of their names, so they may move: `PamelaProcessor.scale_id(name)`
        of a processor that shares this model's config.

        Args:
            name: of the scale.
            level_values: its levels, ascending, at least two.

        Raises:
            ValueError: the name is taken, or the levels are not ascending.
        """
        if name in self.config.rating_scales:
            raise ValueError(f"Rating scale {name!r} exists already, with levels {self.config.rating_scales[name]}.")
        if scale_key(name) in self.cutpoints:
            raise ValueError(f"Rating scale {name!r}: names must differ in more than '.' and '·'; choose another.")
        values = [float(v) for v in level_values]
        PamelaConfig(rating_scales={name: values})  # the config's own check of level values
        self.config.rating_scales = dict(sorted({**self.config.rating_scales, name: values}.items()))
        self.cutpoints[scale_key(name)] = nn.Parameter(equal_cutpoints(len(values)).to(self.device, self.dtype))

    def scale_cutpoints(self) -> Tensor:
        """`(S, K - 1)` float32 ascending cutpoints of every scale, padded for [`ordinal_log_probs`]."""
        longest = max(len(p) for p in self.cutpoints.values())
        out = []
        for name in self.config.rating_scales:
            raw = self.cutpoints[scale_key(name)].float()
            points = raw[0] + F.pad(F.softplus(raw[1:]).cumsum(0), (1, 0))
            pad = CUTPOINT_PAD * torch.arange(1, longest - len(raw) + 1, device=raw.device)
            out.append(torch.cat([points, pad]))
        return torch.stack(out)

    def scale_levels(self) -> Tensor:
        """`(S, K)` level values of every scale, NaN beyond a scale's own."""
        values = list(self.config.rating_scales.values())
        longest = max(len(v) for v in values)
        padded = [v + [math.nan] * (longest - len(v)) for v in values]
        return torch.tensor(padded, device=self.device)

    def link(self, utilities: Tensor, rows: PairTokens, scale_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Ordinal link of B pairs' utilities.

        A scale's cutpoints are shared by all who use it, shifted and stretched by the person's row: people use the
        same scale differently. The less is known of a person (the nearer the row is to 0), the wider the prediction:
        utility and cutpoints shrink together, which leaves the order of images as it is.

        Args:
            utilities: `(…, B)`.
            rows: of the pairs' people, the part that the networks take.
            scale_ids: `(B,)`; default: the config's `default_scale`.

        Returns:
            Log-probabilities `(…, B, K)` and level values `(B, K)`.
        """
        if scale_ids is None:
            default = list(self.config.rating_scales).index(self.config.default_scale)
            scale_ids = torch.full((utilities.shape[-1],), default, device=self.device)
        scale_ids = scale_ids.to(self.device)
        style, width = (rows.pairs(value) for value in self._scale_use(rows.distinct))
        shift, stretch = style[:, :1], style[:, 1:].exp()
        cutpoints = self.scale_cutpoints()[scale_ids] * stretch + shift
        log_probs = ordinal_log_probs(utilities * width.squeeze(-1), cutpoints * width)
        return log_probs, self.scale_levels()[scale_ids]

    def grid_link(self, rows: Tensor, scale: int) -> tuple[Tensor, Tensor, list[float]]:
        """`link` for many images and U people, as [`ordinal_moments`] takes it: what their utilities are multiplied by
        `(U,)`, their cutpoints `(K - 1, 1, U)`, and the scale's levels.

        Args:
            rows: `(U, hidden_size)` of the people, the part that the networks take.
            scale: index of the rating scale.
        """
        style, width = self._scale_use(rows)
        levels = list(self.config.rating_scales.values())[scale]
        cutpoints = self.scale_cutpoints()[scale, : len(levels) - 1] * style[:, 1:].exp() + style[:, :1]
        return width.squeeze(-1), (cutpoints * width).T.unsqueeze(1), levels

    def _scale_use(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and log-stretch `(n, 2)` of people's cutpoints, and `(n, 1)` what their utilities and cutpoints are
        multiplied by, from rows `(n, hidden_size)`."""
        shift, stretch = self.style(rows).float().split(1, dim=-1)
        known = rows.float().square().sum(-1, keepdim=True) / (2 * self.config.unknown_width**2)
        width = (self.unknown_stretch.float() * (-known).exp()).exp()
        return torch.cat([shift, stretch.clamp(-MAX_STRETCH, MAX_STRETCH)], dim=-1), width


def summarize(utilities: Tensor, log_probs: Tensor, levels: Tensor) -> PamelaRewardOutput:
    """Mean and spread of what the members expect of B pairs.

    Args:
        utilities: `(members, B)`.
        log_probs: `(members, B, K)`.
        levels: `(B, K)` ratings, NaN beyond a scale's own.
    """
    probs = log_probs.exp().mean(0)
    values = levels.nan_to_num(0.0)
    mean = (probs * values).sum(-1)
    std = (probs * (values - mean.unsqueeze(-1)).pow(2)).sum(-1).clamp_min(0).sqrt()
    return PamelaRewardOutput(utility=utilities.mean(0), scores=mean, std=std, probs=probs, level_values=levels)


def _raw_cutpoints(points: Tensor) -> Tensor:
    """Ascending cutpoints as they are stored: the first, then the gaps' inverse softplus."""
    return torch.cat([points[:1], torch.log(torch.expm1(points.diff()))])


def equal_cutpoints(levels: int) -> Tensor:
    """`(levels - 1,)` cutpoints, as they are stored, that give each level an equal share of a standard logistic: right
    for a scale of which nothing is known yet."""
    return _raw_cutpoints(torch.logit(torch.arange(1, levels) / levels))


_TAKEN = frozenset(dir(nn.ParameterDict()))


def scale_key(scale: str) -> str:
    """A parameter's name for a scale: it may hold no dot, not be empty, and not be that of another attribute."""
    key = scale.replace(".", "·")
    return f"{key}·" if not key or key in _TAKEN else key
