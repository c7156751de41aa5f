"""Rankings that move with a slider: every picture's score on a grid of strengths and mixes, one matrix at a time.

A page interpolates between the grid's points, so that moving a slider asks the server nothing.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..files.images import open_image_checked
from ..heads.head import UserHead
from ..ratings.near_duplicates import difference_hash, near_duplicate_groups
from .base import Base
from .kinds import Z80, drawn

STRENGTHS = (0.0, 0.5, 1.0, 1.5)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the other person, where two are mixed
NEAR = 0.98  # cosine of near-duplicates
MAX_BATCHES, MAX_UPLOADS = 12, 500
_DIVERSE = 60


@dataclass(frozen=True)
class Grid:
    """Scores on the grid.

    Attributes:
        weights: W numbers, the weights of the other person.
        strengths: S factors of the taste; 0 = everyone's taste, 1 = this person's own strength.
        scores: `(N, W, S)` predicted ratings of N pictures.
        doubt: `(N,)` half the width of the 80 % interval of this person's own score, in rating units.
    """

    weights: tuple[float, ...]
    strengths: tuple[float, ...]
    scores: np.ndarray
    doubt: np.ndarray

    def own(self) -> np.ndarray:
        """`(N,)` this person's scores at their own strength."""
        return self.scores[:, 0, self.strengths.index(1.0)]

    def everyone(self) -> np.ndarray:
        return self.scores[:, 0, self.strengths.index(0.0)]


def score_grid(base: Base, features: np.ndarray, head: UserHead | None, other: UserHead | None = None) -> Grid:
    """Scores of features `(N, D)` for a head (`None`: everyone's taste), mixed with another's."""
    weights = WEIGHTS if head is not None and other is not None else (0.0,)
    if head is None:
        scores, _ = base.scores(features, [None])
        grid = np.repeat(scores[:, :, None], len(STRENGTHS), 2)
        return Grid(weights, STRENGTHS, grid, np.zeros(len(features)))
    users = []
    for weight in weights:
        mixed = head if not weight else UserHead.mix([head, other], [1 - weight, weight], name=head.name)
        users += [replace(mixed, row=mixed.row * np.float32(strength)) for strength in STRENGTHS]
    scores, _ = base.scores(features, users)
    grid = scores.reshape(len(features), len(weights), len(STRENGTHS))
    return Grid(weights, STRENGTHS, grid, Z80 * doubt(base, features, head))


def doubt(base: Base, features: np.ndarray, head: UserHead) -> np.ndarray:
    """`(N,)` standard deviation of scores over what this person's row may be, given their answers."""
    users = drawn(head, np.random.default_rng(0))
    if not users or not len(features):
        return np.zeros(len(features))
    scores, _ = base.scores(features, users)
    return scores.std(1)


def diverse_best(features: np.ndarray, scores: np.ndarray, count: int = _DIVERSE) -> list[int]:
    """Rows of up to `count` pictures, each well liked and unlike those before it (maximal marginal relevance, Carbonell
    & Goldstein 1998, half and half)."""
    top = np.argsort(-scores)[: 10 * count]
    if not len(top):
        return []
    vectors = features[top] - features[top].mean(0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    liked = np.argsort(np.argsort(scores[top])) / max(len(top) - 1, 1)
    alike, picked = np.zeros(len(top)), []
    for _ in range(min(count, len(top))):
        gain = liked - alike
        gain[picked] = -np.inf
        picked.append(int(gain.argmax()))
        alike = np.maximum(alike, vectors @ vectors[picked[-1]])
    return [int(top[i]) for i in picked]


def near_duplicates(features: np.ndarray, hashes: Sequence[int] | None = None) -> list[int]:
    """Group numbers `(N,)`: pictures of one group show nearly the same."""
    names = [str(i) for i in range(len(features))]
    known = None if hashes is None else dict(zip(names, hashes))
    groups = near_duplicate_groups(names, hashes=known, embeddings=features, min_cosine=NEAR)
    return [groups[name] for name in names]


@dataclass
class Batch:
    """Pictures that somebody dropped on the page; their features stay in memory, they themselves do not."""

    names: list[str] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)


class Uploads:
    """The latest batches of dropped pictures, by the ids that pages made for them."""

    def __init__(self) -> None:
        self._batches: OrderedDict[str, Batch] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, base: Base, batch_id: str, name: str, data: bytes) -> int:
        """Takes in one picture and returns its number in the batch.

        Raises:
            ImageError: no usable picture. ValueError: more than `MAX_UPLOADS` in one batch.
        """
        image = open_image_checked(data, name=name)
        code, features = difference_hash(image), base.features([image])[0]
        with self._lock:
            batch = self._batches.setdefault(batch_id, Batch())
            self._batches.move_to_end(batch_id)
            while len(self._batches) > MAX_BATCHES:
                self._batches.popitem(last=False)
            if len(batch.names) >= MAX_UPLOADS:
                raise ValueError(f"At most {MAX_UPLOADS} pictures at a time; rank these, then drop the others.")
            batch.names.append(name)
            batch.features.append(features)
            batch.hashes.append(code)
            return len(batch.names) - 1

    def get(self, batch_id: str) -> Batch | None:
        with self._lock:
            return self._batches.get(batch_id)


def ranking(grid: Grid, features: np.ndarray, groups: Sequence[int]) -> dict[str, Any]:
    """A grid as plain values: `weights`, `strengths`, `scores [N][W][S]`, `doubt`, `groups`, `diverse` (rows)."""
    return {
        "weights": list(grid.weights),
        "strengths": list(grid.strengths),
        "scores": np.round(grid.scores, 3).tolist(),
        "doubt": np.round(grid.doubt, 3).tolist(),
        "groups": list(groups),
        "diverse": diverse_best(features, grid.own()),
    }
