"""What the encoder's features go through before the networks: a common scale, and directions of linear taste."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_pamela import PamelaConfig
from .factors_pamela import Ratings, factorize

MAX_GAIN = 100.0  # it is about 4 where people agree on something


class PamelaFeatures(nn.Module):
    """Standardized features of images and prompts, and `read`ings of them: directions along which utility is linear.

    The first `taste_factors` readings are directions along which people differ, weighed by each person's row (see
    [`factorize`]). The last is everyone's taste: ridge regression of the images' mean standardized ratings on the first
    `linear_axes` principal axes of the joint features (image and prompt, the prompt with `text_share` of the variance).
    All are in closed form or nearly, from the ratings alone. They know no interactions, so they err elsewhere than the
    fusion networks do, which is what averaging the two lives from.
    """

    def __init__(self, config: PamelaConfig):
        super().__init__()
        self.config = config
        self.dims = {
            name: dim for name, dim in (("image", config.image_embed_dim), ("text", config.text_embed_dim)) if dim
        }
        for name, dim in self.dims.items():
            self.register_buffer(f"{name}_mean", torch.zeros(dim))
            self.register_buffer(f"{name}_scale", torch.ones(()))
            self.register_buffer(f"{name}_readings", torch.zeros(dim, config.taste_factors + 1))
        self.register_buffer("linear_offset", torch.zeros(()))

    def standardize(self, name: str, value: Tensor) -> Tensor:
        """Features `(N, D)` of "image" or "text" as the networks take them."""
        mean, scale = getattr(self, f"{name}_mean"), getattr(self, f"{name}_scale")
        value = value.to(mean.device, torch.float32)
        value = F.normalize(value, dim=-1) if self.config.normalize_embeds else value
        return ((value - mean) / scale).to(mean.dtype)

    def read(self, image: Tensor, text: Tensor | None, has_prompt: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Readings `(N, taste_factors + 1)` of standardized images, and what their prompts add, if any."""
        seen = image @ self.image_readings
        return seen, None if text is None else (text @ self.text_readings) * has_prompt.unsqueeze(-1)

    @torch.no_grad()
    def fit(
        self,
        image_embeds: Tensor,
        text_embeds: Tensor | None = None,
        ratings: Ratings | None = None,
        seed: int = 0,
    ) -> Tensor | None:
        """Fits all of it to the training images, `(N, D)` and `(N, Dt)` (a text row of zeros = no prompt).

        Args:
            ratings: of these images, in the raters' own standard deviations. seed: of the factors' start.

        Returns:
            `(U, taste_factors)` how much each rater likes each factor, where there are ratings and factors.
        """
        joint, weights = self._standardize_all(image_embeds, text_embeds)
        axes = torch.linalg.svd(joint, full_matrices=False).Vh.T
        # all is fitted to the images' coordinates on their principal axes, which are fewer than the features
        readings, tastes = joint.new_zeros(joint.shape[1], self.config.taste_factors + 1), None
        if ratings is not None and len(ratings.value) and self.config.linear_share:
            ratings = dataclasses.replace(ratings, value=ratings.value.double())
            z = (joint @ axes).double()
            linear = z[:, : self.config.linear_axes]
            weight = ridge(linear, *ratings.likings(len(z)), self.config.linear_penalty)
            readings[:, -1] = (axes[:, : self.config.linear_axes].double() @ weight).float()
            if rank := self.config.taste_factors:
                factors = factorize(z, ratings, rank=rank, penalty=self.config.factor_penalty, seed=seed)
                readings[:, :rank] = (axes.double() @ factors.directions.T).float()
                tastes = factors.tastes(z, ratings).float()
        for name, part in zip(weights, readings.split([self.dims[name] for name in weights])):
            getattr(self, f"{name}_readings").copy_(part * weights[name])
        return tastes

    def _standardize_all(self, image: Tensor, text: Tensor | None) -> tuple[Tensor, dict[str, float]]:
        """Fits means and scales; returns all images' joint features, centred and of mean squared length 1, and the
        weight of each kind in them."""
        given = {"image": image, "text": text}
        given = {n: given[n].float() for n in self.dims if given[n] is not None and given[n].any()}
        shares = {"image": 1 - self.config.text_share if "text" in given else 1.0, "text": self.config.text_share}
        parts, weights = [], {}
        for name, value in given.items():
            there = value.any(dim=-1, keepdim=True)
            known = value[there.squeeze(-1)]
            known = F.normalize(known, dim=-1) if self.config.normalize_embeds else known
            mean = known.mean(0)
            getattr(self, f"{name}_mean").copy_(mean)
            # one scale for all dimensions, so that their relative weight stays the encoder's
            spread, size = (known - mean).square().mean().sqrt(), known.square().mean().sqrt()
            # where all are the same, any scale will do that doesn't blow up rounding errors and what others differ in
            getattr(self, f"{name}_scale").copy_(spread if spread > 1e-5 * size else size)
            weights[name] = (shares[name] / self.dims[name]) ** 0.5
            parts.append(self.standardize(name, value).float() * there.to(self.linear_offset.device) * weights[name])
        joint = torch.cat(parts, dim=1)
        return joint - joint.mean(0), weights

    @torch.no_grad()
    def match_linear(self, linear: Tensor, utility: Tensor) -> None:
        """Rescales the readings, all alike, and shifts the last so that its values, `linear (N,)` of the training
        images, have the mean and spread of what the networks say of the same images, `utility (N,)`."""
        gain = (utility.std() / linear.std().clamp_min(1e-12)).nan_to_num(0.0)
        if gain > MAX_GAIN:  # people agree on nothing: scaling that up would blow up what they differ in
            gain = torch.ones_like(gain)
        for name in self.dims:
            getattr(self, f"{name}_readings").mul_(gain)
        self.linear_offset.copy_(utility.mean() - gain * linear.mean())


def ridge(z: Tensor, target: Tensor, weight: Tensor, penalty: float) -> Tensor:
    """`(K,)` coefficients of `target (N,)` on `z (N, K)`, images weighted by their raters, `weight (N,)`."""
    w = weight / weight.mean()
    normal = z.T @ (w[:, None] * z) + penalty * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return torch.linalg.solve(normal, z.T @ (w * (target - (w * target).mean())))
