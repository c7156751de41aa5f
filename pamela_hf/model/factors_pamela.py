"""A few taste factors that people's linear tastes share, by maximum marginal likelihood.

`z_ui = w·x_i + b + t_u·(V x_i) + noise`: V `(r, D)` are directions of the features along which people differ, and
`t_u ~ N(C d_u, 1)` how much person u likes each, with d_u what is known of them otherwise. w, b, V, C and the noise
maximize the likelihood with the t_u integrated out (factor analysis of regression weights; for the trick see Tipping &
Bishop 1999, *Probabilistic Principal Component Analysis*) under ridge penalties; the t_u are then posterior means, in
closed form. Fitting all jointly, without integrating the t_u out, overfits.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 100
# variance: a few ratings can be fitted exactly, but nobody rates the same to a tenth of a standard deviation twice
MIN_NOISE = 0.01


@dataclass
class Ratings:
    """n ratings of I images by U people: `person (n,)`, `image (n,)`, `value (n,)` in standard deviations."""

    person: Tensor
    image: Tensor
    value: Tensor
    people: int

    def counted(self, images: int) -> Tensor:
        """`(U, I)` sparse, 1 where rated."""
        at, ones = torch.stack([self.person, self.image]), torch.ones_like(self.value)
        return torch.sparse_coo_tensor(at, ones, (self.people, images), check_invariants=False).coalesce()

    def likings(self, images: int) -> tuple[Tensor, Tensor]:
        """`(I,)` each image's mean rating, 0 where there is none, and its number of raters."""
        raters = torch.bincount(self.image, minlength=images).to(self.value)
        total = torch.zeros_like(raters).index_add(0, self.image, self.value)
        return total / raters.clamp_min(1), raters


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

    def _posterior(self, x: Tensor, ratings: Ratings, prior: Tensor, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Residuals `(n,)`, their products with the directions `(U, r)`, and the Cholesky factor of the posterior
        precision times the noise `(U, r, r)`: by Woodbury's identity only r × r matrices are inverted."""
        along, rank = x @ self.directions.T, len(self.directions)
        seen = along[ratings.image]
        left = ratings.value - self.everyone(x)[ratings.image] - (seen * prior[ratings.person]).sum(1)
        moved = along.new_zeros(ratings.people, rank).index_add(0, ratings.person, left[:, None] * seen)
        gram = torch.sparse.mm(counted, (along[:, :, None] * along[:, None, :]).flatten(1))
        gram = gram.view(ratings.people, rank, rank)
        return left, moved, torch.linalg.cholesky(gram + self.noise * torch.eye(rank, dtype=x.dtype, device=x.device))


@torch.enable_grad()
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
) -> TasteFactors:
    """Maximizes the penalized marginal likelihood from a random start by L-BFGS.

    Args:
        x: `(I, D)` features of mean squared length 1, in double precision: line searches need the last digits.
        who: `(U, F)` what is known of people; default: nothing.
        rank: number of factors. penalty, everyone_penalty, known_penalty: of V, w and C, in ratings an image.
        seed: of the start.
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
    log_noise = x.new_zeros(()).requires_grad_()
    free = [found.weights, found.intercept, found.directions, found.known]
    counted, n = ratings.counted(len(x)), torch.bincount(ratings.person, minlength=ratings.people)
    unit = len(ratings.value) / len(x)
    optimizer = torch.optim.LBFGS(
        [*(one.requires_grad_() for one in free), log_noise],
        max_iter=STEPS,
        history_size=20,
        tolerance_change=1e-6,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        level = log_noise.clamp_min(math.log(MIN_NOISE))
        found.noise = level.exp()
        left, moved, factor = found._posterior(x, ratings, who @ found.known, counted)
        explained = (moved * torch.cholesky_solve(moved[:, :, None], factor)[:, :, 0]).sum()
        value = 0.5 * (left.square().sum() - explained) / found.noise
        value = value + factor.diagonal(dim1=1, dim2=2).log().sum() + 0.5 * (n - rank).sum() * level
        penalties = ((found.weights, everyone_penalty), (found.directions, penalty), (found.known, known_penalty))
        value = value + sum(0.5 * unit * strength * one.square().sum() for one, strength in penalties)
        value.backward()
        return value

    optimizer.step(loss)
    return TasteFactors(*(one.detach() for one in free), log_noise.detach().exp().clamp_min(MIN_NOISE))
