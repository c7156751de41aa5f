"""Which picture comes next: those whose answers say most about all, and later now and then a likely favourite.

After 30 answers of simulated people this ranks other pictures better than questions by chance do: by .031 [.011, .051]
of SROCC on a blank base, by .010 [.002, .019] on a trained one (`scripts/bench_app.py`, by way of the app's endpoints).
"""

import zlib
from collections.abc import Collection, Sequence

import numpy as np

from ..heads.head import UserHead
from ..heads.pool import QuestionPool
from .learner import FIRST_SHOWN

POOL = 2_000  # pictures that questions are chosen from: a random sample of large folders
FIRST = 40  # pictures chosen for those of whom nothing is known
TELLING = 16  # pictures chosen at a time
PLEASING_FROM, PLEASING = 24, 8  # after so many pictures, one of so many is a likely favourite


def own_half(person: str, count: int) -> np.ndarray:
    """Indices of half of `count` pictures, others for each person.

    A set of 30 pictures is good or bad to learn from for everybody alike, by luck that no rule of choosing foretells
    (a standard deviation of .04 of SROCC on a blank base). Asked about different ones, people do not share bad luck,
    and what they say together covers more of a folder.
    """
    return np.random.default_rng(zlib.crc32(person.encode(errors="replace"))).permutation(count)[: -(-count // 2)]


def first_order(pool: QuestionPool, ids: Sequence[str]) -> list[str]:
    """What somebody is shown of whom nothing is known, from a pool with these ids, which are in an order by chance."""
    telling = [ids[i] for i in pool.suggest(None, FIRST).images]
    return list(dict.fromkeys([*telling, *ids]))[:FIRST_SHOWN]


def suggested_order(
    pool: QuestionPool,
    ids: Sequence[str],
    person: str,
    head: UserHead,
    seen: Collection[str],
    favourites: Sequence[str],
) -> tuple[list[str], bool, str]:
    """What to show next of the unanswered pictures.

    Args:
        pool: pictures to choose from.
        ids: of the pool's pictures.
        person: their name, see [`own_half`].
        head: theirs.
        seen: ids that they have answered or passed over.
        favourites: ids of unanswered pictures, the one that they should like most first.

    Returns:
        ids, the next one first; whether more answers would add little; the same in words.
    """
    rated = [i for i, id in enumerate(ids) if id in seen]
    suggestion = pool.suggest(head, TELLING, rated, own_half(person, len(ids)))
    telling = [ids[i] for i in suggestion.images]
    pleasing = [id for id in favourites if id not in telling]
    order: list[str] = []
    for number in range(len(seen), len(seen) + TELLING):
        pleases = number >= PLEASING_FROM and number % PLEASING == PLEASING - 1
        source = pleasing if pleases and pleasing else telling
        order += source[:1]
        del source[:1]
    return order, suggestion.enough, suggestion.message
