"""What is said of a person: how well they are known, what they like, where their answers disagree with each other.

Everything is computed from answers and scores in memory; nothing here is written anywhere.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ..heads.head import UserHead
from ..metrics import MIN_RATINGS, correlation
from .base import Base
from .store import Answer

FOLDS = 5
SHOWN = 12  # pictures in each row of the page
CONTRADICTION = 0.3  # of the scale's length between a rating and what the others say of it


@dataclass(frozen=True)
class Answers:
    """A person's answers about pictures that have features, in the form that heads are fitted on.

    Attributes:
        ratings: (id, score). choices: (preferred, other), without ties. likes: (id, True or False).
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
        return UserHead.fit(
            base.scorer, self.ratings, name=name, likes=self.likes, choices=self.choices, embeddings=base.embeddings
        )


def held_out_predictions(base: Base, answers: Answers) -> dict[str, tuple[float, float]]:
    """id → (given, predicted) of rated pictures, each predicted by a head that was fitted on the other folds.

    Empty with fewer rated pictures than a correlation needs.
    """
    given: dict[str, list[float]] = defaultdict(list)
    for id, score in answers.ratings:
        given[id].append(score)
    ids = list(given)
    if len(ids) < MIN_RATINGS:
        return {}
    fold_of = dict(zip(ids, np.random.default_rng(0).permutation(len(ids)) % FOLDS))
    rows = dict(zip(ids, base.embeddings.rows(ids)))
    predicted: dict[str, tuple[float, float]] = {}
    for fold in range(FOLDS):
        left_out = [id for id in ids if fold_of[id] == fold]
        others = [pair for pair in answers.ratings if fold_of[pair[0]] != fold]
        head = Answers(others, answers.choices, answers.likes).fit(base, "fold")
        scores, _ = base.scores(base.embeddings.image_embeds[[rows[id] for id in left_out]], [head])
        predicted.update((id, (float(np.mean(given[id])), float(s))) for id, s in zip(left_out, scores[:, 0]))
    return predicted


def contradictions(predicted: Mapping[str, tuple[float, float]], levels: Sequence[float]) -> list[str]:
    """ids whose rating is far from what this person's other ratings say, the farthest first."""
    least = CONTRADICTION * (levels[-1] - levels[0])
    far = {id: abs(given - expected) for id, (given, expected) in predicted.items()}
    return sorted((id for id in far if far[id] >= least), key=lambda id: -far[id])[:SHOWN]


def self_agreement(answers: Sequence[Answer]) -> dict[str, Any] | None:
    """How steady this person's ratings are, from pictures shown twice: `{"pairs", "same", "mean_difference", "srocc"}`;
    `None` if none was."""
    first: dict[str, float] = {}
    pairs: list[tuple[float, float]] = []
    for answer in answers:
        if answer.kind != "rating" or answer.score is None:
            continue
        if answer.again and answer.image_id in first:
            pairs.append((first[answer.image_id], answer.score))
        first[answer.image_id] = answer.score
    if not pairs:
        return None
    before, after = np.array(pairs).T
    srocc = None
    if len(pairs) >= MIN_RATINGS and np.ptp(before) > 0 and np.ptp(after) > 0:
        srocc = round(float(correlation(rankdata(before), rankdata(after))), 3)
    return {
        "pairs": len(pairs),
        "same": int((before == after).sum()),
        "mean_difference": round(float(np.abs(before - after).mean()), 3),
        "srocc": srocc,
    }


def finite(value: Any) -> Any:
    """Plain values for JSON: NaN and infinities, which JSON lacks, are `None`."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
