"""Which picture comes next: those that stand for all, and later now and then a likely favourite.

After 30 answers of simulated people (`scripts/bench_suggest.py`) this ranks other pictures better than questions by
chance do, by .014 [.003, .025] of SROCC on a trained base and .038 [.015, .062] on a blank one; with a favourite among
every eight from the first on it was .004 [-.007, .015] and .018 [-.005, .042]. Each of these people had pictures of
their own to be asked about; where all are asked about the same, it has not been shown (`scripts/bench_app.py`).
"""

from collections.abc import Collection, Sequence

import numpy as np

from ..heads.head import UserHead
from ..heads.pool import QuestionPool

POOL = 800  # pictures that questions are chosen from: a random sample of large folders
FIRST = 40  # pictures chosen for those of whom nothing is known
TYPICAL = 16  # pictures chosen at a time
PLEASING_FROM, PLEASING = 24, 8  # after so many pictures, one of so many is a likely favourite
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
    """What somebody is shown of whom nothing is known: the pictures that stand for the whole pool, then different ones.
    `ids`: of the pool's pictures."""
    typical = [ids[i] for i in pool.suggest(None, FIRST).images]
    return list(dict.fromkeys([*typical, *diverse]))


def suggested_order(
    pool: QuestionPool, ids: Sequence[str], head: UserHead, seen: Collection[str], favourites: Sequence[str]
) -> tuple[list[str], bool, str]:
    """What to show next of the unanswered pictures.

    Args:
        pool: pictures to choose from.
        ids: of the pool's pictures.
        head: of the person.
        seen: ids that they have answered or passed over.
        favourites: ids of unanswered pictures, the one that they should like most first.

    Returns:
        ids, the next one first; whether more answers would add little; the same in words.
    """
    suggestion = pool.suggest(head, TYPICAL, [i for i, id in enumerate(ids) if id in seen])
    typical = [ids[i] for i in suggestion.images]
    pleasing = [id for id in favourites if id not in typical]
    order: list[str] = []
    for number in range(len(seen), len(seen) + TYPICAL):
        pleases = number >= PLEASING_FROM and number % PLEASING == PLEASING - 1
        source = pleasing if pleases and pleasing else typical
        order += source[:1]
        del source[:1]
    return order, suggestion.enough, suggestion.message
