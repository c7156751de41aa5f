"""A person's answers in the form that heads are fitted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..embeddings import Embeddings
from ..heads.head import UserHead
from ..scoring import PamelaScorer
from .base import Base
from .store import Answer


@dataclass(frozen=True)
class Answers:
    """A person's answers about pictures that have features, in the form that heads are fitted on.

    Attributes:
        ratings: (image id, score) of each rating.
        choices: (preferred image id, other image id) of each choice, without ties.
        likes: (image id, True or False) of each like or dislike.
    """

    ratings: list[tuple[str, float]]
    choices: list[tuple[str, str]]
    likes: list[tuple[str, bool]]

    @classmethod
    def of(cls, answers: Sequence[Answer], known: Mapping[str, Any]) -> "Answers":
        usable = [a for a in answers if a.image_id in known and (a.other_id is None or a.other_id in known)]
        return cls(
            [(a.image_id, a.score) for a in usable if a.kind == "rating"],
            [(a.image_id, a.other_id) for a in usable if a.kind == "choice" and a.score is None],
            [(a.image_id, bool(a.score)) for a in usable if a.kind == "like"],
        )

    def __len__(self) -> int:
        return len(self.ratings) + len(self.choices) + len(self.likes)

    def fit(self, base: Base, name: str) -> UserHead:
        """The head of a person who gave these answers, on the app's base."""
        return self.fit_on(base.scorer, base.embeddings, name)

    def fit_on(self, scorer: PamelaScorer, embeddings: Embeddings, name: str) -> UserHead:
        """The head of a person who gave these answers, on any base with the features of the pictures."""
        return UserHead.fit(
            scorer, self.ratings, name=name, likes=self.likes, choices=self.choices, embeddings=embeddings
        )
