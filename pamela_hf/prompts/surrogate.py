"""What the scores so far say about prompts that have not been rendered: a Gaussian process over prompts.

Rendering is what costs; a refiner writes ten prompts in the time of one image. So more are written than rendered, and
this model picks those that are likely to score well or of which little is known.
"""

from collections.abc import Sequence

import numpy as np
import torch

from ..refiners import prompt_parts


def word_features(prompts: Sequence[str]) -> np.ndarray:
    """`(n, D)` indicators of the comma-separated parts and the words of prompts, over those that occur among them."""
    sets = [{*prompt_parts(p.casefold()), *p.casefold().replace(",", " ").split()} for p in prompts]
    column = {word: k for k, word in enumerate(sorted(set().union(*sets)))}
    out = np.zeros((len(prompts), len(column)))
    for row, words in zip(out, sets):
        row[[column[word] for word in words]] = 1.0
    return out


class PromptSurrogate:
    """A Gaussian process with a radial kernel over standardized features.

    Its length scale and the share of noise are those, of a small grid, under which the scores seen are most likely
    (Rasmussen and Williams, *Gaussian Processes for Machine Learning*, eq. 5.8). In torch, since the threads that numpy
    computes with keep a core busy for a while after they are done: the reward took twice as long on two cores.

    Args:
        features: `(n, D)` of all prompts, known ones first; `None` = [`word_features`] of `prompts`.
        prompts: n texts.
    """

    LENGTHS = (0.5, 1.0, 2.0, 4.0)  # of the median distance between prompts
    NOISES = (0.03, 0.1, 0.3, 0.6)  # variance of the noise, of the scores' variance

    def __init__(self, features: np.ndarray | None, prompts: Sequence[str]):
        x = torch.from_numpy(np.asarray(word_features(prompts) if features is None else features, np.float64))
        x = x - x.mean(0)
        norms = x.square().sum(1)
        distance = (norms[:, None] + norms[None, :] - 2 * x @ x.T).clamp_min(0)
        apart = distance[distance > 1e-12]
        self._distance = distance / (apart.median() if len(apart) else 1.0)

    def fit(self, scores: Sequence[float]) -> None:
        """Learns from the first prompts' scores, finite and at least one."""
        y = torch.tensor(scores, dtype=torch.float64)
        self._n, self._mean, spread = len(y), float(y.mean()), float(y.std(correction=0))
        self._spread = spread if spread > 1e-9 else 1.0
        y = ((y - self._mean) / self._spread)[:, None]
        best, identity = -np.inf, torch.eye(self._n, dtype=y.dtype)
        for length in self.LENGTHS:
            kernel = (-0.5 * self._distance[: self._n, : self._n] / length**2).exp()
            for noise in self.NOISES:
                factor = torch.linalg.cholesky(kernel + (noise + 1e-8) * identity)
                z = torch.linalg.solve_triangular(factor, y, upper=False)
                likelihood = float(-0.5 * z.square().sum() - factor.diagonal().log().sum())
                if likelihood > best:
                    best, self._noise, kept = likelihood, noise, (length, factor, z)
        length, factor, z = kept
        kernel = (-0.5 * self._distance[:, self._n :] / length**2).exp()
        cross = torch.linalg.solve_triangular(factor, kernel[: self._n], upper=False)
        self._mu = (cross.T @ z)[:, 0]
        self._cov = kernel[self._n :] - cross.T @ cross

    @property
    def mean(self) -> np.ndarray:
        """Expected scores of the prompts not yet seen, rating units."""
        return (self._mean + self._spread * self._mu).numpy()

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of those expectations, rating units."""
        return (self._spread * self._cov.diagonal().clamp_min(0).sqrt()).numpy()

    def by_upper_bound(self, count: int, exploration: float, rng: np.random.Generator) -> list[int]:
        """`count` distinct prompts not yet seen (0 = the first), each with the highest mean + exploration · std.

        After each choice the uncertainty is what it will be once that prompt is scored, so that one round does not
        spend itself on neighbours (Desautels et al., *Parallelizing exploration–exploitation tradeoffs in Gaussian
        process bandit optimization*, 2014).
        """
        cov, chosen = self._cov.clone(), []
        for _ in range(count):
            bound = self._mu + exploration * cov.diagonal().clamp_min(0).sqrt()
            bound[chosen] = -np.inf
            k = int(bound.argmax())
            chosen.append(k)
            cov -= torch.outer(cov[:, k], cov[k]) / (cov[k, k] + self._noise)
        return chosen

    def by_sampling(self, count: int, exploration: float, rng: np.random.Generator) -> list[int]:
        """`count` distinct prompts, each the best under one draw of what the scores might be (Thompson sampling)."""
        jitter = 1e-6 * torch.eye(len(self._cov), dtype=self._cov.dtype)  # rounding may leave eigenvalues below 0
        root = torch.linalg.cholesky(self._cov + jitter)
        chosen: list[int] = []
        for _ in range(count):
            draw = self._mu + exploration * (root @ torch.from_numpy(rng.standard_normal(len(root))))
            draw[chosen] = -np.inf
            chosen.append(int(draw.argmax()))
        return chosen
