"""What the scores so far say about prompts that have not been rendered: a Gaussian process over prompts.

Rendering is what costs; a refiner writes ten prompts in the time of one image. So more are written than rendered, and
this model picks those that are likely to score well or of which little is known.
"""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import solve_triangular

from .refiners import prompt_parts


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
    (Rasmussen and Williams, *Gaussian Processes for Machine Learning*, eq. 5.8).

    Args:
        features: `(n, D)` of all prompts, known ones first; `None` = [`word_features`] of `prompts`.
        prompts: n texts.
    """

    LENGTHS = (0.5, 1.0, 2.0, 4.0)  # of the median distance between prompts
    NOISES = (0.03, 0.1, 0.3, 0.6)  # variance of the noise, of the scores' variance

    def __init__(self, features: np.ndarray | None, prompts: Sequence[str]):
        x = word_features(prompts) if features is None else np.asarray(features, np.float64)
        x = x - x.mean(0)
        norms = np.square(x).sum(1)
        distance = np.maximum(norms[:, None] + norms[None, :] - 2 * x @ x.T, 0)
        self._distance = distance / max(
            float(np.median(distance[distance > 1e-12])) if (distance > 1e-12).any() else 1, 1e-12
        )

    def fit(self, scores: Sequence[float]) -> None:
        """Learns from the first prompts' scores, finite and at least one."""
        y = np.asarray(scores, np.float64)
        self._n, self._mean, spread = len(y), y.mean(), y.std()
        self._spread = spread if spread > 1e-9 else 1.0
        y = (y - self._mean) / self._spread
        best = -np.inf
        for length in self.LENGTHS:
            kernel = np.exp(-0.5 * self._distance[: self._n, : self._n] / length**2)
            for noise in self.NOISES:
                factor = np.linalg.cholesky(kernel + (noise + 1e-8) * np.eye(self._n))
                z = solve_triangular(factor, y, lower=True)
                likelihood = -0.5 * z @ z - np.log(np.diag(factor)).sum()
                if likelihood > best:
                    best, self._noise, kept = likelihood, noise, (length, factor, z)
        length, factor, z = kept
        kernel = np.exp(-0.5 * self._distance[:, self._n :] / length**2)
        cross = solve_triangular(factor, kernel[: self._n], lower=True)
        self._mu = cross.T @ z
        self._cov = kernel[self._n :] - cross.T @ cross

    @property
    def mean(self) -> np.ndarray:
        """Expected scores of the prompts not yet seen, rating units."""
        return self._mean + self._spread * self._mu

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of those expectations, rating units."""
        return self._spread * np.sqrt(np.maximum(np.diag(self._cov), 0))

    def by_upper_bound(self, count: int, exploration: float, rng: np.random.Generator) -> list[int]:
        """`count` distinct prompts not yet seen (0 = the first), each with the highest mean + exploration · std.

        After each choice the uncertainty is what it will be once that prompt is scored, so that one round does not
        spend itself on neighbours (Desautels et al., *Parallelizing exploration–exploitation tradeoffs in Gaussian
        process bandit optimization*, 2014).
        """
        cov, chosen = self._cov.copy(), []
        for _ in range(count):
            bound = self._mu + exploration * np.sqrt(np.maximum(np.diag(cov), 0))
            bound[chosen] = -np.inf
            k = int(np.argmax(bound))
            chosen.append(k)
            cov -= np.outer(cov[:, k], cov[k]) / (cov[k, k] + self._noise)
        return chosen

    def by_sampling(self, count: int, exploration: float, rng: np.random.Generator) -> list[int]:
        """`count` distinct prompts, each the best under one draw of what the scores might be (Thompson sampling)."""
        values, vectors = np.linalg.eigh(self._cov)
        root = vectors * np.sqrt(np.maximum(values, 0))
        chosen: list[int] = []
        for _ in range(count):
            draw = self._mu + exploration * (root @ rng.standard_normal(len(root)))
            draw[chosen] = -np.inf
            chosen.append(int(np.argmax(draw)))
        return chosen
