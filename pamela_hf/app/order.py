"""Which picture comes next: those that teach most, from the first one on, and now and then a likely favourite.

After 30 answers of 60 simulated people (`scripts/bench_suggest.py`) this ranked other pictures .012 ± .011 of SROCC
better than asking by chance. Ten different pictures first, then suggestions out of 160 with every fourth a favourite,
gained nothing (.000 ± .007).
"""

from collections.abc import Container, Sequence
from itertools import zip_longest

import numpy as np

from ..heads.head import UserHead
from ..heads.pool import QuestionPool

POOL = 800  # pictures that questions are chosen from: a random sample of large folders
FIRST = 40  # pictures chosen for those of whom nothing is known
TEACHING = 16  # pictures chosen at a time …
BETWEEN = 8  # … so many between two favourites
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


def first_order(pool: QuestionPool, ids: Sequence[str], diverse: Sequence[str]) -> list[str]:
    """What somebody is shown of whom nothing is known: the pool's pictures that tell people apart most, then different
    ones. `ids`: of the pool's pictures."""
    telling = [ids[i] for i in pool.suggest(None, FIRST).images]
    return list(dict.fromkeys([*telling, *diverse]))


def suggested_order(
    pool: QuestionPool, ids: Sequence[str], head: UserHead, seen: Container[str], favourites: Sequence[str]
) -> tuple[list[str], bool, str]:
    """What to show next of the unanswered pictures.

    Args:
        pool: pictures to choose from.
        ids: of the pool's pictures.
        head: of the person.
        seen: ids that they have answered.
        favourites: ids of unanswered pictures, the one that they should like most first.

    Returns:
        ids, the next one first; whether more answers would add little; the same in words.
    """
    fresh = [i for i, id in enumerate(ids) if id not in seen]
    suggestion = pool.suggest(head, TEACHING, fresh)
    teaching = [ids[i] for i in suggestion.images]
    pleasing = [id for id in favourites if id not in teaching][: TEACHING // BETWEEN]
    parts = [teaching[start : start + BETWEEN] for start in range(0, len(teaching), BETWEEN)]
    order = [id for part, one in zip_longest(parts, pleasing) for id in [*(part or []), one] if id is not None]
    return order, suggestion.enough, suggestion.message
