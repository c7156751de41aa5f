"""What the encoder's features go through before the networks: a common scale, and directions of linear taste."""

import dataclasses
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_pamela import PamelaConfig

if TYPE_CHECKING:
    from .factors_pamela import Ratings, TasteFactors

MAX_GAIN = 100.0  # it is about 4 where people agree on something
# Cross-validated on OASIS: on the first 4 people's tastes within kinds of images gained as much, on the first 20 less.
METADATA_AXES = 10
# Of a blank base, by Gaussian processes on 20, 50 and 100 ratings of one person, 210 people of OASIS's train judged on
# val: how much of a taste lies along a principal axis of the features goes with the axis' variance to this power. At 1,
# ridge regression, SROCC was .17, .23, .28; at 1.5 .19, .25, .31; at 2 and at 2.5 .19, .26, .34.
BLANK_POWER = 2.0
# The same power of the axes beside taste factors, and the variance of tastes along all of them, in that of ratings.
# Cross-validated over themes and people of train (`bench_cv.py`), without → with 64 axes: a hundred of a newcomer
# .551 → .551 on OASIS, .583 → .610 in the simulated world (.614 → .641 with twice its linear share), trained people
# .531 → .531 and .606 → .609. Of closed forms alone .537 → .542 and .569 → .611; flat from .05 to .2 and from 1 to 2.
AXES_POWER = 1.5
# The variance is that of the largest likelihood within these: .2 for 300 simulated people's ratings of 80 images, which
# ranks other images by .593 (with .1 by .571), of two levels by .444 (.434); on 80 of OASIS' images by .529 (.521);
# without factors beside the axes by .656 (.633) in the simulated world. Where every factor is in use, the likelihood,
# of the ratings that they were fitted to, leaves the axes too little: .02 on OASIS, by which closed forms rank new
# images .006 worse than by .1, and .008 in the simulated world. Where some are idle, .1 is too much: by .010 for
# made-up people who differ along two or four directions, by .004 along twelve (on 160 images of OASIS .001 too little).
AXES_VARIANCE, IDLE_AXES_VARIANCE = (0.1, 1.0), (1e-3, 1.0)
# How much more or less of everyone's taste a person has, as a variance: some are typical. Trained people are ranked
# alike by .03 and .1 (OASIS and the simulated world .5435, .5439 and .6763, .6762; without .5425 and .6774, but made-up
# people who differ along two directions .721 in place of .723); newcomers in the simulated world .001 worse by .1.
TYPICAL_VARIANCE = 0.03

# Of an image's ratings so many count for the factors' penalty. Closed forms with penalties of 12, 3 and 1.5 for every
# rating rank other images by .613, .640 and .647 (1) where made-up people gave each of 80 images 120 ratings, by .593,
# .600 and .600 where simulated ones gave 300; but on OASIS, with 52 ratings an image, by .458, .417 and .392 (.452 with
# 6, about what this bound makes of 12), and in the simulated world, with 12 an image, by .683, .641 and .599.
MOST_RATERS = 25


class PamelaFeatures(nn.Module):
    """Standardized features of images and prompts, and `read`ings of them: directions along which utility is linear.

    The first `taste_factors` readings are directions along which people differ, weighed by each person's row (see
    [`factorize`]). `taste_axes` more are for what of a taste is a person's own: how much of everyone's they have, and
    principal axes of the features. The last is everyone's taste: ridge regression of the images' mean standardized
    ratings on the first `linear_axes` principal axes of the joint features (image and prompt, the prompt with
    `text_share` of the variance). All are in closed form or nearly, from the ratings alone. They know few interactions,
    so they err elsewhere than the fusion networks do, which is what averaging the two lives from.

    With `metadata_share`, the directions depend on what kind of image it is: to everybody's readings each value of each
    metadata field adds readings of its own (people who like bright landscapes need not like bright portraits). An image
    whose metadata is unknown gets what they add on average.
    """

    def __init__(self, config: PamelaConfig):
        super().__init__()
        self.config = config
        self.readings = config.tastes + 1
        self.dims = {
            name: dim for name, dim in (("image", config.image_embed_dim), ("text", config.text_embed_dim)) if dim
        }
        kinds = config.metadata.values() if config.metadata_share and config.tastes else ()
        self.kinds = [len(values) + 1 for values in kinds]
        self.first_kind = [1 + sum(self.kinds[:i]) for i in range(len(self.kinds))]
        for name, dim in self.dims.items():
            self.register_buffer(f"{name}_mean", torch.zeros(dim))
            self.register_buffer(f"{name}_scale", torch.ones(()))
            self.register_buffer(f"{name}_readings", torch.zeros(dim, (1 + sum(self.kinds)) * self.readings))
        self.register_buffer("linear_offset", torch.zeros(()))

    def standardize(self, name: str, value: Tensor) -> Tensor:
        """Features `(N, D)` of "image" or "text" as the networks take them."""
        mean, scale = getattr(self, f"{name}_mean"), getattr(self, f"{name}_scale")
        value = value.to(mean.device, torch.float32)
        value = F.normalize(value, dim=-1) if self.config.normalize_embeds else value
        return (value - mean).div_(scale).to(mean.dtype)  # in place: fresh memory costs as much as the division

    def read(
        self,
        image: Tensor,
        text: Tensor | None = None,
        has_prompt: Tensor | None = None,
        metadata_ids: Tensor | None = None,
    ) -> Tensor:
        """Readings `(N, tastes + 1)` of images as the kinds of image that they are.

        Args:
            image: `(N, D)` standardized features.
            text: `(N, Dt)` of their prompts; default: none.
            has_prompt: `(N,)` bool, which prompts count; given with `text`.
            metadata_ids: `(N, fields)`; default: what is read of any kind of image.
        """
        found = self._read("image", image, metadata_ids)
        if text is None:
            return found
        return found + self._read("text", text, metadata_ids) * has_prompt.unsqueeze(-1)

    def _read(self, name: str, value: Tensor, metadata_ids: Tensor | None) -> Tensor:
        weight = getattr(self, f"{name}_readings").unflatten(1, (-1, self.readings))
        found = value @ weight[:, 0]
        if metadata_ids is None:
            return found
        for first, ids in zip(self.first_kind, metadata_ids.unbind(-1)):
            for kind in ids.unique().tolist():  # each image is of one of many kinds
                rows = (ids == kind).nonzero().squeeze(-1)
                found = found.index_add(0, rows, value[rows] @ weight[:, first + kind])
        return found

    @torch.no_grad()
    def fit(
        self,
        image_embeds: Tensor,
        text_embeds: Tensor | None = None,
        ratings: "Ratings | None" = None,
        metadata_ids: Tensor | None = None,
        seed: int = 0,
        steps: int | None = None,
    ) -> Tensor | None:
        """Fits all of it to the training images.

        Args:
            image_embeds: `(N, D)` features of the images.
            text_embeds: `(N, Dt)` features of their prompts; a row of zeros = no prompt.
            ratings: ratings of these images, in the raters' own standard deviations.
            metadata_ids: `(N, fields)` of the images, 0 = unknown; default: all unknown.
            seed: seed of the factors' start; default: 0.
            steps: of the factors' fit at most; default: [`factorize`]'s.

        Returns:
            `(U, tastes)` how much each rater likes each factor and axis, where there are ratings and any of them.
        """
        joint, weights = self._standardize_all(image_embeds, text_embeds)
        axes = principal_axes(joint)
        # all is fitted to the images' coordinates on their principal axes, which are fewer than the features
        readings, tastes = joint.new_zeros(joint.shape[1], 1 + sum(self.kinds), self.readings), None
        if ratings is not None and len(ratings.value) and self.config.linear_share:
            ratings = dataclasses.replace(ratings, value=ratings.value.double())
            z = (joint @ axes).double()
            del joint  # of very many images each copy takes half a gigabyte
            linear = z[:, : self.config.linear_axes]
            weight = ridge(linear, *ratings.likings(len(z)), self.config.linear_penalty)
            readings[:, 0, -1] = (axes[:, : self.config.linear_axes].double() @ weight).float()
            if self.config.tastes:
                x, fields = self._within_kinds(z, metadata_ids)
                ratings = ratings.beyond(linear @ weight + ratings.value.mean())
                factors = self._taste_factors(x, ratings, weight, seed, steps)
                readings[..., :-1] = self._readings_of(factors.directions, axes.double(), fields).float()
                tastes = factors.tastes(x, ratings).float()
        readings = readings.flatten(1)
        for name, part in zip(weights, readings.split([self.dims[name] for name in weights])):
            getattr(self, f"{name}_readings").copy_(part * weights[name])
        return tastes

    def _taste_factors(
        self, x: Tensor, ratings: "Ratings", everyone: Tensor, seed: int, steps: int | None
    ) -> "TasteFactors":
        """What people's `ratings`, beyond what all think of the images, differ in: `taste_factors` directions of
        features `x (I, K)` that they share, then `taste_axes`: everyone's taste, with weights `everyone (k,)` of the
        first k features, and principal axes. `seed` and `steps` are those of [`factorize`]."""
        from .factors_pamela import factorize  # for training only

        config = self.config
        penalty = config.factor_penalty * min(1.0, MOST_RATERS * len(x) / len(ratings.value))
        factors = factorize(x, ratings, rank=config.taste_factors, penalty=penalty, seed=seed, steps=steps)
        variance = AXES_VARIANCE if factors.all_in_use(x) else IDLE_AXES_VARIANCE
        typical = F.pad(everyone, (0, x.shape[1] - len(everyone)))[None][: config.taste_axes]
        whole = 1 - config.metadata_share if self.kinds else 1.0  # of x, what does not depend on kinds
        typical = typical * (TYPICAL_VARIANCE / whole) ** 0.5
        factors.directions = torch.cat([factors.directions, typical])
        own = principal_directions(x, config.taste_axes - len(typical), AXES_POWER)
        return factors.with_own(x, ratings, own, *variance)

    @torch.no_grad()
    def fit_blank(self, image_embeds: Tensor, text_embeds: Tensor | None = None) -> None:
        """Fits scales to images that nobody has rated, `(N, D)` and `(N, Dt)`, and makes the principal axes of their
        features the taste factors: people are taken to differ most in what images differ in most.

        Readings are scaled so that a taste drawn from N(0, 1) gives these images a variance of 1.

        Raises:
            ValueError: fewer than two different images.
        """
        joint, weights = self._standardize_all(image_embeds, text_embeds)
        if len(joint) < 2 or joint.square().mean() <= 1e-14:
            raise ValueError("features hold fewer than two different images; a blank base needs some to differ in.")
        readings = joint.new_zeros(joint.shape[1], self.readings)
        readings[:, :-1] = principal_directions(joint.double(), self.readings - 1, BLANK_POWER).T.float()
        for name, part in zip(weights, readings.split([self.dims[name] for name in weights])):
            getattr(self, f"{name}_readings").copy_(part * weights[name])

    @torch.no_grad()
    def even_variances(self) -> Tensor:
        """Variances `(taste_factors,)` of a taste, relative to those of [`fit_blank`], that counts with each principal
        axis as much as images vary along it, as ridge regression takes it; of a blank base. Both spread utilities
        alike over the images."""
        text_share = self.config.text_share if "text" in self.dims else 0.0
        shares = {"image": 1 - text_share, "text": text_share}
        length = sum(
            getattr(self, f"{name}_readings")[:, :-1].float().square().sum(0) * dim / shares[name]
            for name, dim in self.dims.items()
        )
        variance = length.pow(1 / (BLANK_POWER - 1))  # of the axes, up to a factor
        even = torch.where(variance > 0, variance.clamp_min(1e-30).pow(1 - BLANK_POWER), 0.0)
        return even * variance.pow(BLANK_POWER).sum() / variance.sum().clamp_min(1e-30)

    def _within_kinds(self, z: Tensor, metadata_ids: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Features `(N, K)` that directions are fitted in: coordinates `z (N, D)`, then, for every value of a metadata
        field, the first few of them, 0 where an image has another value. Of each field also `(values + 1, values)`,
        the scaled part that an image has in the values by its id: where it is unknown, their shares of the images."""
        if not self.kinds:  # of many images, a copy would take much
            return z, []
        share = self.config.metadata_share
        few = z[:, None, :METADATA_AXES]
        parts, fields = [(1 - share) ** 0.5 * z], []
        for field, size in enumerate(self.kinds):
            ids = torch.zeros(len(z), dtype=torch.long) if metadata_ids is None else metadata_ids[:, field]
            counts = torch.bincount(ids, minlength=size)[1:].to(z)
            has = torch.cat([counts[None] / counts.sum().clamp_min(1), torch.eye(size - 1).to(z)])
            copies = has[ids, :, None] * few
            scale = (share / len(self.kinds) / copies.square().sum((1, 2)).mean().clamp_min(1e-12)) ** 0.5
            parts.append(scale * copies.flatten(1))
            fields.append(scale * has)
        return torch.cat(parts, dim=1), fields

    def _readings_of(self, directions: Tensor, axes: Tensor, fields: list[Tensor]) -> Tensor:
        """`(features, kinds, r)` from directions `(r, K)` of what [`_within_kinds`] made, with `axes (features, D)`."""
        few = min(METADATA_AXES, axes.shape[1])
        whole, *within = directions.split([axes.shape[1], *(few * has.shape[1] for has in fields)], dim=1)
        share = self.config.metadata_share if self.kinds else 0.0
        out = [(1 - share) ** 0.5 * (axes @ whole.T)[:, None]]
        for has, part in zip(fields, within):
            out.append(torch.einsum("df,kv,rvf->dkr", axes[:, :few], has, part.unflatten(1, (-1, few))))
        return torch.cat(out, dim=1)

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
        return joint.sub_(joint.mean(0)), weights

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


def principal_axes(x: Tensor) -> Tensor:
    """`(D, K)` principal axes of centred features `x (N, D)`, that of the largest variance first; K = min(N, D)."""
    if len(x) > x.shape[1]:  # of many images, the covariance is the smaller matrix
        return torch.linalg.eigh((x.T @ x).double()).eigenvectors.flip(1).to(x)
    return torch.linalg.svd(x, full_matrices=False).Vh.T


def principal_directions(x: Tensor, count: int, power: float) -> Tensor:
    """`(count, D)` principal axes of features `x (I, D)`; directions of 0 where there are fewer.

    They are scaled so that a taste drawn from N(0, 1) along each gives the images a variance that goes with the axis'
    own to the `power`, and of 1 in all.
    """
    x = x - x.mean(0)
    if len(x) > x.shape[1]:  # of many images, the covariance is the smaller matrix
        variance, axes = torch.linalg.eigh(x.T @ x / len(x))
        variance, axes = variance.flip(0).clamp_min(0), axes.flip(1).T
    else:
        _, spread, axes = torch.linalg.svd(x, full_matrices=False)
        variance = spread.square() / len(x)
    there = variance[:count] > 1e-9 * variance[:1]  # what is left of rounding errors is not an axis
    share = torch.where(there, variance[:count].clamp_min(1e-300), 0.0).pow(power)
    along = torch.where(there, share / share.sum().clamp_min(1e-300) / variance[:count].clamp_min(1e-300), 0.0).sqrt()
    out = x.new_zeros(count, x.shape[1])
    out[: len(along)] = along[:, None] * axes[:count]
    return out


def ridge(z: Tensor, target: Tensor, weight: Tensor, penalty: float) -> Tensor:
    """`(K,)` coefficients of `target (N,)` on `z (N, K)`, images weighted by their raters, `weight (N,)`."""
    w = weight / weight.mean()
    normal = z.T @ (w[:, None] * z) + penalty * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return torch.linalg.solve(normal, z.T @ (w * (target - (w * target).mean())))
