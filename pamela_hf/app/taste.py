"""What is said of a person: how well they are known, what they like, where their answers disagree with each other.

Everything is computed from answers and scores in memory; nothing here is written anywhere.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ..metrics import MIN_RATINGS, correlation
from .answers import Answers
from .base import Base
from .learner import Person
from .ranking import doubt
from .store import Answer

FOLDS = 5
SURPRISING = 6  # ratings that the page asks about at a time
SHOWN = 12  # pictures in each row of the page
UNSURE_AMONG = 600  # unseen pictures, a random sample of large folders
CONTRADICTION = 0.3  # of the scale's length between a rating and what the others say of it


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
    return sorted((id for id in far if far[id] >= least), key=lambda id: -far[id])[:SURPRISING]


def picture_rows(
    base: Base, person: Person, answers: Sequence[Answer]
) -> dict[str, list[tuple[str, dict[str, float]]]]:
    """Rows of pictures that show a person's taste, each (id, figures).

    Returns:
        `most`, `least` (liked of the unseen), `more_than_others`, `less_than_others` (empty on a blank base) and
        `unsure_about`, with `score`, `std`, `everyone`; `predicted` and `contradictions`, with `given`, `predicted`.
    """
    learned, ids = person.learned, base.embeddings.image_ids
    unseen = np.array([i for i, row in enumerate(learned.rows) if ids[row] not in person.seen], int)
    best = unseen[np.argsort(-learned.scores[unseen])]
    sample = unseen[np.random.default_rng(0).permutation(len(unseen))[:UNSURE_AMONG]]
    unsure = np.zeros(len(learned.rows))
    unsure[sample] = doubt(base, base.embeddings.image_embeds[learned.rows[sample]], learned.head)

    def row(order: np.ndarray) -> list[tuple[str, dict[str, float]]]:
        figures = {"score": learned.scores, "std": learned.std, "everyone": learned.everyone, "doubt": unsure}
        return [
            (ids[learned.rows[i]], {name: round(float(values[i]), 2) for name, values in figures.items()})
            for i in order[:SHOWN]
        ]

    difference = np.zeros(len(learned.rows)) if base.blank else learned.scores - learned.everyone
    by_difference = np.argsort(-difference)
    predicted = held_out_predictions(base, Answers.of(answers, base.positions))
    pairs = {id: {"given": round(g, 2), "predicted": round(p, 2)} for id, (g, p) in predicted.items()}
    return {
        "most": row(best),
        "least": row(best[::-1]),
        "more_than_others": row(by_difference[difference[by_difference] > 0]),
        "less_than_others": row(by_difference[::-1][difference[by_difference[::-1]] < 0]),
        "unsure_about": row(sample[np.argsort(-unsure[sample])]),
        "predicted": list(pairs.items()),
        "contradictions": [(id, pairs[id]) for id in contradictions(predicted, base.levels)],
    }


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
