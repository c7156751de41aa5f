"""A generic network and each person's residual on top, as personalized aesthetics has it since FLICKR-AES.

After Ren et al. 2017, *Personalized Image Aesthetics* (ICCV): a network learns what people think of an image on
average, and for each person a support vector regression learns by how much their ratings differ. Ours takes the same
image and text features as our model (theirs fine-tuned an image network); the generic part is the mean of a few
networks of one hidden layer. Residuals are taken from networks that did not see the image's theme: of what a network
has seen, it leaves too little (on OASIS, .436 against .445 on val_seen). It does not know demographics. Recipe of the
network, kernel width and C by cross-validation inside train; C chosen for 10 ratings a person came out the same.
Written anew; no weights from elsewhere, no licence but the package's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVR
from torch import nn
from tqdm.auto import tqdm

from ..embeddings import Embeddings
from ._personal import PersonalScorer, known_people
from ._ratings import Consensus, RatingMatrix

RECIPES = ((3.0, 1e-3, 20), (10.0, 3e-4, 40))  # length of the inputs, learning rate, epochs
WIDTH, DROPOUT, WEIGHT_DECAY, BATCH, MEMBERS = 128, 0.5, 0.1, 64, 3
GAMMAS, CS, EPSILON = (0.25, 0.5, 1.0), (0.3, 0.6, 1.2, 2.5), 0.3


@dataclass
class ResidualScorer(PersonalScorer):
    """See the module.

    Attributes:
        networks: features `(n, D)` → everyone's liking `(n, 1)`, to be averaged.
        held_out: train image → everyone's liking of it, by networks that did not see its theme.
        gamma: kernel width of the support vector regressions.
        c: C of the support vector regressions.
        seen: `(I, D)` features of the images people rated.
        dual: `(U, I)` each person's coefficients of the kernel with the images in `seen`.
        offset: `(U,)` each person's offset.
    """

    networks: list[nn.Module]
    held_out: dict[str, float]
    gamma: float
    c: float
    seen: np.ndarray
    dual: np.ndarray
    offset: np.ndarray
    name: ClassVar[str] = "residual"

    def liking(self, x: np.ndarray, image: np.ndarray, person: np.ndarray, ratings: pd.DataFrame) -> np.ndarray:
        own = rbf_kernel(x, self.seen, self.gamma) @ self.dual.T + self.offset
        return generic(self.networks, x)[image] + np.column_stack([own, np.zeros(len(x))])[image, person]

    def fit_people(self, x: np.ndarray, ratings: RatingMatrix, table: pd.DataFrame) -> dict[str, object]:
        everyone = [self.held_out.get(*one) for one in zip(ratings.image_ids, generic(self.networks, x))]
        kernel = rbf_kernel(x, x, self.gamma)
        dual, offset = fit_residuals(kernel, ratings, np.array(everyone), ratings.rated, self.c)
        return {"seen": x, "dual": dual, "offset": offset}


def fit_residuals(
    kernel: np.ndarray, ratings: RatingMatrix, everyone: np.ndarray, rated: np.ndarray, c: float
) -> tuple[np.ndarray, np.ndarray]:
    """Dual coefficients `(U, I)` and offsets `(U,)` of each person's regression of z - `everyone (I,)`, where rated."""
    dual, offset = np.zeros(ratings.z.shape), np.zeros(len(ratings.z))
    for user, (z, here) in enumerate(zip(ratings.z, rated)):
        at = np.flatnonzero(here)
        if len(at) < 2:
            continue
        machine = SVR(kernel="precomputed", C=c, epsilon=EPSILON).fit(kernel[np.ix_(at, at)], z[at] - everyone[at])
        dual[user, at[machine.support_]] = machine.dual_coef_[0]
        offset[user] = machine.intercept_[0]
    return dual, offset


def train_generic(
    x: np.ndarray, ratings: RatingMatrix, images: np.ndarray, recipe: tuple[float, float, int], seed: int
) -> list[nn.Module]:
    """Networks of the images' mean standardized rating, weighted by raters; they differ in their random start."""
    length, learning_rate, epochs = recipe
    raters = ratings.rated[:, images].sum(0)
    target = torch.from_numpy(ratings.z[:, images].sum(0) / np.maximum(raters, 1)).float()
    weight, features = torch.from_numpy(raters / raters.mean()).float(), torch.from_numpy(x[images]).float()
    networks = []
    with torch.random.fork_rng(devices=[]):
        for member in range(MEMBERS):
            torch.manual_seed(seed * MEMBERS + member)
            network = nn.Sequential(
                Stretch(length), nn.Dropout(DROPOUT), nn.Linear(x.shape[1], WIDTH), nn.GELU(),
                nn.Dropout(DROPOUT), nn.Linear(WIDTH, 1),
            )  # fmt: skip
            optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
            steps = epochs * -(-len(images) // BATCH)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
            for _ in range(epochs):
                for batch in torch.randperm(len(images)).split(BATCH):
                    loss = (weight[batch] * (network(features[batch])[:, 0] - target[batch]) ** 2).mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
            networks.append(network.eval())
    return networks


class Stretch(nn.Module):
    """Times a number: inputs of mean square length 1 are short for a network."""

    def __init__(self, length: float):
        super().__init__()
        self.length = length

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.length * x


def generic(networks: Sequence[nn.Module], x: np.ndarray) -> np.ndarray:
    """`(n,)` everyone's liking of images with features x `(n, D)`."""
    with torch.inference_mode():
        return np.mean([network(torch.from_numpy(x).float())[:, 0].double().numpy() for network in networks], axis=0)


def fit(
    train: pd.DataFrame,
    embeddings: Embeddings,
    *,
    seed: int = 0,
    level_values: Mapping[str, Sequence[float]] | None = None,
    recipes: Sequence[tuple[float, float, int]] = RECIPES,
    gammas: Sequence[float] = GAMMAS,
    cs: Sequence[float] = CS,
    **context: Any,
) -> ResidualScorer:
    """Fits on train alone.

    Args:
        seed: seed of the networks; default: 0.
        level_values: rating scale → its levels; by default, the ratings that occur in train.
        recipes: (length of the inputs, learning rate, epochs) of the network to choose from; default: `RECIPES`.
        gammas: kernel widths of the support vector regressions to choose from; default: `GAMMAS`.
        cs: values of C of the support vector regressions to choose from; default: `CS`.

    Raises:
        ValueError: train is empty or has one prompt only. EmbeddingError: an image of train has no features.
    """
    ratings = RatingMatrix.of(train, level_values)
    x, folds = (consensus := Consensus.fit(ratings, embeddings)).x, ratings.folds()  # for the weight of the text alone
    best = None
    for recipe in tqdm(recipes, "residual: generic network"):
        everyone = np.empty(len(x))
        for fitted, kept in folds:
            everyone[kept] = generic(train_generic(x, ratings, fitted, recipe, seed), x[kept])
        reached = ratings.mean_srocc(np.broadcast_to(everyone, ratings.z.shape))
        if best is None or reached > best[0]:
            best = reached, recipe, everyone
    _, recipe, everyone = best
    best = None
    for gamma, c in tqdm(list(product(gammas, cs)), "residual: cross-validation"):
        kernel, held_out = rbf_kernel(x, x, gamma), np.zeros_like(ratings.z)
        for fitted, kept in folds:
            seen = np.isin(np.arange(len(x)), fitted)
            dual, offset = fit_residuals(kernel, ratings, everyone, ratings.rated & seen, c)
            held_out[:, kept] = everyone[kept] + dual @ kernel[:, kept] + offset[:, None]
        reached = ratings.mean_srocc(held_out)
        if best is None or reached > best[0]:
            best = reached, gamma, c, ratings.line(held_out)
    _, gamma, c, line = best
    dual, offset = fit_residuals(rbf_kernel(x, x, gamma), ratings, everyone, ratings.rated, c)
    return ResidualScorer(
        consensus.inputs,
        ratings.use,
        line,
        ratings.levels,
        **known_people(train, ratings),
        networks=train_generic(x, ratings, np.arange(len(x)), recipe, seed),
        held_out=dict(zip(ratings.image_ids, everyone.tolist())),
        gamma=gamma,
        c=c,
        seen=x,
        dual=dual,
        offset=offset,
    )
