"""A few taste factors that people's linear tastes share, by maximum marginal likelihood.

`z_ui = w·x_i + b + t_u·(V x_i) + noise`: V `(r, D)` are directions of the features along which people differ, and
`t_u ~ N(C d_u, 1)` how much person u likes each, with d_u what is known of them otherwise. w, b, V, C and the noise
maximize the likelihood with the t_u integrated out (factor analysis of regression weights; for the trick see Tipping &
Bishop 1999, *Probabilistic Principal Component Analysis*) under ridge penalties; the t_u are then posterior means, in
closed form. Fitting all jointly, without integrating the t_u out, overfits.
"""

import dataclasses
import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

STEPS = 100
# Variance. Few ratings a person can be fitted nearly exactly, and are (20 each on OASIS: noise .14, other images ranked
# by .369; with this bound by .379), but nobody's ratings agree better than .8 with their own of later.
MIN_NOISE = 0.2
MOST_PEOPLE = 500  # whose ratings are asked how far tastes differ beside the factors: two numbers
IDLE = 0.01  # of the largest variance, that along a direction which the likelihood has no use for
# So many ratings more are taken to differ as much as all do: where hardly an image has two raters, nothing is known to
# be shared.
APART = 20
MOST_PADDED = 1.25  # of people who are looked at together, the most ratings by the fewest


@dataclass
class PeopleRatings:
    """Ratings of G people, made equally many, n, by ratings of no image: `people (G,)`, `image (G, n)`, −1 = none, and
    `value (G, n)`, there 0."""

    people: Tensor
    image: Tensor
    value: Tensor


@dataclass
class Ratings:
    """n ratings of I images by U people: `person (n,)`, `image (n,)`, `value (n,)` in standard deviations."""

    person: Tensor
    image: Tensor
    value: Tensor
    people: int

    def by_person(self) -> "list[PeopleRatings]":
        """The ratings person by person, people with about as many ratings together."""
        order = torch.argsort(self.person, stable=True)
        counts = torch.bincount(self.person, minlength=self.people)
        first = counts.cumsum(0) - counts
        fewest_first = torch.argsort(counts, stable=True)
        widest = counts[fewest_first].tolist()
        groups, low = [], int((counts == 0).sum())
        while low < len(widest):
            high = bisect_right(widest, max(widest[low] * MOST_PADDED, widest[low] + 1), lo=low)
            people, width = fewest_first[low:high], widest[high - 1]
            place = torch.arange(width, device=counts.device)
            there = place < counts[people, None]
            at = order[torch.where(there, first[people, None] + place, 0)]
            value = torch.where(there, self.value[at], 0.0)
            groups.append(PeopleRatings(people, torch.where(there, self.image[at], -1), value))
            low = high
        return groups

    def likings(self, images: int) -> tuple[Tensor, Tensor]:
        """`(I,)` each image's mean rating, 0 where there is none, and its number of raters."""
        raters = torch.bincount(self.image, minlength=images).to(self.value)
        total = torch.zeros_like(raters).index_add(0, self.image, self.value)
        return total / raters.clamp_min(1), raters

    def beyond(self, everyone: Tensor) -> "Ratings":
        """The same ratings less `everyone (I,)`, what images with such features are rated on average, and less what an
        image's raters think of it together beside that: its appeal, a random effect by empirical Bayes (Robinson 1991,
        *That BLUP is a Good Thing*). All in standard deviations."""
        left = dataclasses.replace(self, value=self.value - everyone[self.image])
        appeal, raters = left.likings(len(everyone))
        apart, rated = (left.value - appeal[left.image]).square().sum(), (raters > 0).sum()
        within = (apart + APART * left.value.square().mean()) / (APART + len(left.value) - rated)
        between = (((raters * appeal.square()).sum() - within * rated) / raters.sum()).clamp_min(0)
        appeal = appeal * raters * between / (raters * between + within).clamp_min(1e-12)
        return dataclasses.replace(left, value=left.value - appeal[left.image])


@dataclass
class Products:
    """What the likelihood of U people's ratings depends on, given r directions: `gram (U, r, r)` of their images'
    readings, `moved (U, r)` products of readings and residuals, `squares (U,)` of the residuals, summed up."""

    gram: Tensor
    moved: Tensor
    squares: Tensor

    def around(self, prior: Tensor) -> "Products":
        """The same of residuals from tastes `prior (U, r)`."""
        taken = (self.gram @ prior[:, :, None]).squeeze(2)
        return Products(self.gram, self.moved - taken, self.squares + (prior * (taken - 2 * self.moved)).sum(1))

    def scaled(self, scale: Tensor) -> "Products":
        """The same of the directions times `scale (r,)`."""
        return Products(self.gram * scale[:, None] * scale, self.moved * scale, self.squares)

    def surprise(self, log_noise: Tensor, count: int) -> Tensor:
        """-log likelihood of `count` ratings, tastes from N(0, 1) integrated out: by Woodbury's identity only r × r
        matrices are inverted."""
        people, rank = self.moved.shape
        noise = log_noise.exp()
        explained, certain = _InvQuadLogdet.apply(self.gram, self.moved, noise)
        certain = certain + 0.5 * (count - rank * people) * log_noise
        return 0.5 * (self.squares.sum() - explained) / noise + certain


@dataclass
class Kernels:
    """What the likelihood of G people with n ratings each, fewer than directions, depends on: products `(G, n, n)` of
    the ratings' readings, along directions of one variance, `shared`, and of another, `own`; residuals `left (G, n)`,
    of which `none` are of no image."""

    shared: Tensor
    own: Tensor
    left: Tensor
    none: int

    @classmethod
    def of(cls, group: PeopleRatings, readings: Tensor, rank: int) -> "Kernels":
        """Of `readings` as [`TasteFactors._read`] makes them, along directions of which the first `rank` are shared."""
        part = F.embedding(group.image % len(readings), readings)
        shared, own = part[..., :rank], part[..., rank:-1]
        none = int((group.image < 0).sum())
        return cls(shared @ shared.mT, own @ own.mT, group.value + part[..., -1], none)

    def surprise(self, variance: Tensor, log_noise: Tensor) -> Tensor:
        """As [`Products.surprise`], with n × n matrices inverted."""
        explained, certain = _InvQuadLogdet.apply(self.shared + variance * self.own, self.left, log_noise.exp())
        return 0.5 * explained + certain - 0.5 * self.none * log_noise


class _InvQuadLogdet(torch.autograd.Function):
    """Of `A = gram + noise·1` of each person, the sums of `movedᵀ A⁻¹ moved` and of ½ log det A. Their derivatives are
    written out: by a Cholesky decomposition's they take five times as long as the sums themselves."""

    @staticmethod
    def forward(ctx: FunctionCtx, gram: Tensor, moved: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        factor = torch.linalg.cholesky(gram + noise * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device))
        mean = torch.cholesky_solve(moved[:, :, None], factor)[:, :, 0]
        ctx.save_for_backward(factor, mean)
        return (moved * mean).sum(), factor.diagonal(dim1=1, dim2=2).log().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, explained: Tensor, certain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        factor, mean = ctx.saved_tensors
        gram = (0.5 * certain) * torch.cholesky_inverse(factor)
        gram.baddbmm_(mean[:, :, None], mean[:, None, :] * -explained)
        return gram, 2 * explained * mean, gram.diagonal(dim1=1, dim2=2).sum()


@dataclass
class TasteFactors:
    """`weights (D,)` and `intercept` of everyone, `directions (r, D)`, `known (F, r)`, `noise` variance; `tastes`."""

    weights: Tensor
    intercept: Tensor
    directions: Tensor
    known: Tensor
    noise: Tensor

    def everyone(self, x: Tensor) -> Tensor:
        """`(I,)` what everyone thinks of images with features `x (I, D)`."""
        return x @ self.weights + self.intercept

    def tastes(self, x: Tensor, ratings: Ratings, who: Tensor | None = None) -> Tensor:
        """Posterior means `(U, r)` of people about whom `who (U, F)` is known, given their ratings of images `x`."""
        along, everyone = x @ self.directions.T, self.everyone(x)
        found = x.new_zeros(ratings.people, len(self.directions)) if who is None else who @ self.known
        order = torch.argsort(ratings.person)
        counts = torch.bincount(ratings.person, minlength=ratings.people).tolist()
        # person by person: the products of all images' readings at once would not fit where there are many
        for taste, of_person in zip(found, order.split(counts)):
            seen = along[ratings.image[of_person]]
            left = ratings.value[of_person] - everyone[ratings.image[of_person]] - seen @ taste
            noise = self.noise * torch.eye(len(taste), dtype=x.dtype, device=x.device)
            taste += torch.linalg.solve(seen.T @ seen + noise, seen.T @ left)
        return found

    def all_in_use(self, x: Tensor) -> bool:
        """Whether every factor tells images with features `x (I, D)` apart, by more than [`IDLE`] of what the first of
        their principal axes does; True where there are no factors, False of fewer images than factors."""
        rank, variance = len(self.directions), torch.linalg.svdvals(x @ self.directions.T).square()
        return not rank or (len(variance) == rank and bool(variance[-1] > IDLE * variance[0]))

    def with_own(self, x: Tensor, ratings: Ratings, own: Tensor, low: float, high: float) -> "TasteFactors":
        """These, and directions `own (K, D)` after them, along which tastes differ from person to person; their
        variance, within `low` to `high`, and the noise maximize the likelihood."""
        apart = -(-ratings.people // MOST_PEOPLE)
        some = ratings.person % apart == 0
        ratings = Ratings(ratings.person[some] // apart, ratings.image[some], ratings.value[some], ratings.people)
        there = own[own.any(dim=1)]  # of few images, less than all are directions
        both = dataclasses.replace(self, directions=torch.cat([self.directions, there]))
        groups, rank = ratings.by_person(), len(self.directions)
        few = [group for group in groups if group.image.shape[1] < len(both.directions)]
        many = [group for group in groups if group.image.shape[1] >= len(both.directions)]
        readings = both._read(x)
        kernels = [Kernels.of(group, readings, rank) for group in few]
        products = both._products(x, many) if many else None
        count = sum(int((group.image >= 0).sum()) for group in many)
        logs = torch.stack([x.new_tensor((low * high) ** 0.5), (self.noise - MIN_NOISE).clamp_min(1e-3)]).log()

        def cost() -> Tensor:
            variance, log_noise = logs[0].clamp(math.log(low), math.log(high)).exp(), (MIN_NOISE + logs[1].exp()).log()
            found = sum(one.surprise(variance, log_noise) for one in kernels)
            if products is None:
                return found
            scale = torch.cat([x.new_ones(rank), variance.sqrt().expand(len(there))])
            return found + products.scaled(scale).surprise(log_noise, count)

        _minimize(cost, [logs], tolerance=1e-4)
        variance, noise = logs.detach().exp()
        both.directions = torch.cat([self.directions, variance.clamp(low, high).sqrt() * own])
        both.noise = MIN_NOISE + noise
        return both

    def _read(self, x: Tensor) -> Tensor:
        """`(I + 1, r + 1)` readings of images `x (I, D)`, and what everyone thinks of them with the sign changed; the
        last row, of no image, is 0."""
        both = x @ torch.cat([self.directions, -self.weights[None]]).T
        return F.pad(torch.cat([both[:, :-1], both[:, -1:] - self.intercept], dim=1), (0, 0, 0, 1))

    def _products(self, x: Tensor, ratings: list[PeopleRatings]) -> Products:
        both = self._read(x)  # one gathering and one product give all three
        products, by_value = [], []
        for group in ratings:
            part = F.embedding(group.image % len(both), both)
            by_value.append((group.value[:, None] @ part).squeeze(1))
            products.append(part.mT @ part)
        product, cross = torch.cat(products), torch.cat(by_value)
        squares = product[:, -1, -1] + 2 * cross[:, -1] + torch.cat([g.value.square().sum(1) for g in ratings])
        return Products(product[:, :-1, :-1], product[:, :-1, -1] + cross[:, :-1], squares)


def factorize(
    x: Tensor,
    ratings: Ratings,
    who: Tensor | None = None,
    *,
    rank: int,
    penalty: float,
    everyone_penalty: float = 2.0,
    known_penalty: float = 20.0,
    seed: int = 0,
    steps: int | None = None,
) -> TasteFactors:
    """Maximizes the penalized marginal likelihood from a random start by L-BFGS.

    Args:
        x: `(I, D)` features of mean squared length 1, in double precision: line searches need the last digits.
        who: `(U, F)` what is known of people; default: nothing.
        rank: number of factors. penalty, everyone_penalty, known_penalty: of V, w and C, in ratings an image.
        seed: of the start. steps: at most; default: 100.
    """
    who = x.new_zeros(ratings.people, 0) if who is None else who
    start = 0.1 * torch.randn(rank, x.shape[1], generator=torch.Generator().manual_seed(seed))
    found = TasteFactors(
        weights=x.new_zeros(x.shape[1]),
        intercept=x.new_zeros(()),
        directions=start.to(x),
        known=x.new_zeros(who.shape[1], rank),
        noise=x.new_ones(()),
    )
    log_noise = x.new_zeros(())  # above MIN_NOISE; a bound by clamping would hold a line search that stepped below it
    free = [found.weights, found.intercept, found.directions, found.known]
    grouped, count = ratings.by_person(), len(ratings.value)
    raters = torch.cat([group.people for group in grouped])
    unit = count / len(x)

    def loss() -> Tensor:
        products = found._products(x, grouped).around(who[raters] @ found.known)
        value = products.surprise((MIN_NOISE + log_noise.exp()).log(), count)
        penalties = ((found.weights, everyone_penalty), (found.directions, penalty), (found.known, known_penalty))
        return value + sum(0.5 * unit * strength * one.square().sum() for one, strength in penalties)

    _minimize(loss, [*free, log_noise], steps=steps or STEPS)
    return TasteFactors(*(one.detach() for one in free), MIN_NOISE + log_noise.detach().exp())


@torch.enable_grad()
def _minimize(cost: Callable[[], Tensor], free: list[Tensor], tolerance: float = 1e-6, steps: int = STEPS) -> None:
    optimizer = torch.optim.LBFGS(
        [one.requires_grad_() for one in free],
        max_iter=steps,
        history_size=20,
        tolerance_change=tolerance,
        line_search_fn="strong_wolfe",
    )

    def step() -> Tensor:
        optimizer.zero_grad()
        value = cost()
        value.backward()
        return value

    optimizer.step(step)
