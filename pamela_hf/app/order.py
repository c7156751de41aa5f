"""Which picture comes next: first different ones, then those that teach most, and now and then a likely favourite."""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from ..heads.head import UserHead
from .base import Base

DIVERSE_FIRST = 10  # answers before suggestions begin
POOL = 160  # pictures a suggestion chooses from: it takes a third of a second on one core
TEACHING, FAVOURITES = 16, 4
DIVERSE_POOL, DIVERSE = 3000, 300


def diverse_order(features: np.ndarray, count: int = DIVERSE, seed: int = 0) -> list[int]:
    """Up to `count` rows of `features (N, D)`, each as far as can be from those before it, by cosine.

    Farthest-point traversal: T. F. Gonzalez (1985), "Clustering to minimize the maximum intercluster distance". Of
    large folders a random sample is gone through.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(features))[:DIVERSE_POOL]
    vectors = features[rows] - features[rows].mean(0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    nearest = np.full(len(rows), -np.inf)
    at, picked = 0, []
    for _ in range(min(count, len(rows))):
        picked.append(int(rows[at]))
        nearest = np.maximum(nearest, vectors @ vectors[at])
        nearest[at] = np.inf
        at = int(nearest.argmin())
    return picked


def suggested_order(
    base: Base, head: UserHead, fresh: Sequence[int], scores: np.ndarray, seed: int
) -> tuple[list[str], bool, str]:
    """What to show next of the unanswered pictures.

    Args:
        fresh: rows of `base.embeddings` without an answer, at least one.
        scores: `(N,)` this person's scores of all rows.
        seed: seed of the sample that suggestions are chosen from.

    Returns:
        ids, the next one first; whether more answers would add little; the same in words.
    """
    rng = np.random.default_rng(seed)
    ids = base.embeddings.image_ids
    fresh = np.asarray(fresh)
    pool = [ids[row] for row in rng.permutation(fresh)[:POOL]]
    suggestion = head.suggest(base.scorer, pool, TEACHING, embeddings=base.embeddings)
    teaching = [pool[i] for i in suggestion.images]
    favourites = [ids[row] for row in fresh[np.argsort(-scores[fresh])][: FAVOURITES * 3]]
    favourites = [id for id in favourites if id not in teaching][:FAVOURITES]
    step = TEACHING // FAVOURITES
    parts = [teaching[start : start + step] for start in range(0, len(teaching), step)]
    order = [id for part, one in zip_longest(parts, favourites) for id in [*(part or []), one] if id is not None]
    return order, suggestion.enough, suggestion.message
