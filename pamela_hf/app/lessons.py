"""What the learner's thread does with the model: which pictures come first, and a person's head from their answers.

The thread imports this module itself: PyTorch and transformers take seconds, in which pages and pictures are served.
"""

from collections.abc import Sequence

import numpy as np
import torch

from ..heads.folder import HeadError, check_name
from ..heads.pool import QuestionPool
from ..scoring import PamelaScorer
from .answers import Answers
from .base import Base
from .learner import Learned, Person
from .order import POOL, TELLING, first_order, suggested_order
from .store import Answer

SCORED = 5000  # pictures of a large folder that are scored for everybody; the others when a page asks


def one_thread() -> None:
    """One thread for PyTorch's arithmetic: beside a server on few cores, more of them wait for each other."""
    torch.set_num_threads(1)


class Lessons:
    """Questions to people, and what is learned from their answers.

    Args:
        base: the model and the features of the pictures.

    Attributes:
        scored: `(n,)` rows of the features that are scored for everybody.
        pool_ids: ids of the pictures that questions are chosen from.
    """

    def __init__(self, base: Base):
        rows = np.random.default_rng(0).permutation(len(base.embeddings))
        self.base, self.scored = base, np.sort(rows[:SCORED])
        self.pool_ids = [base.embeddings.image_ids[row] for row in rows[:POOL]]
        self._pool = QuestionPool(base.scorer, self.pool_ids, embeddings=base.embeddings)

    def first(self) -> list[str]:
        """ids for people of whom nothing is known, the first one first."""
        return first_order(self._pool, self.pool_ids)

    def learn(self, person: Person, answers: Sequence[Answer], count: int) -> Learned:
        """A person's head, and what to show them next.

        Args:
            person: who.
            answers: what the store has of them.
            count: how many answers that counts as.
        """
        base, ids, seen = self.base, self.base.embeddings.image_ids, person.seen
        usable = Answers.of(answers, base.positions)
        if not len(usable):
            return Learned(count)
        head = usable.fit(base, head_name(person.name, base.scorer))
        scores, std = base.scores(base.embeddings.image_embeds[self.scored], [head, None])
        fresh = np.array([i for i, row in enumerate(self.scored) if ids[row] not in seen], int)
        favourites = [ids[self.scored[i]] for i in fresh[np.argsort(-scores[fresh, 0])][: 2 * TELLING]]
        order, enough, message = [], not len(fresh), "You have answered every picture there is."
        if len(fresh):
            order, enough, message = suggested_order(self._pool, self.pool_ids, person.name, head, seen, favourites)
            if not order:  # of a large folder the whole pool is answered
                enough, message = False, "All pictures that questions are chosen from are answered; others follow."
        return Learned(count, head, self.scored, scores[:, 0], std[:, 0], scores[:, 1], tuple(order), enough, message)


def head_name(person: str, scorer: PamelaScorer) -> str:
    """A name for a person's head: their own where a head may bear it."""
    try:
        name = check_name(person.rpartition("/")[2])  # of a visitor's person what they call it
    except HeadError:  # such as an emoji
        return "me"
    return f"{name[:60]}-app" if name in scorer.config.users else name
