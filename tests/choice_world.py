"""A small world in which the same people rate images and choose between them: each person's taste is everyone's and a
direction in feature space."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pamela_hf.embeddings import Embeddings
from pamela_hf.ratings.sources._rows import RowChecker, read_choices, read_tables
from pamela_hf.ratings.table import RatingData, RatingSource, integer_levels


@dataclass
class ChoiceWorld:
    """`ratings` and `choices` alone (the same people and images), `both`, and the images' features."""

    ratings: RatingData
    choices: RatingData
    both: RatingData
    embeddings: Embeddings


def choice_world(
    people: int = 10, images: int = 60, per_person: int = 40, width: int = 8, tie_width: float = 0.6, seed: int = 0,
    random_people: int = 0, held_out: int = 40,
) -> ChoiceWorld:  # fmt: skip
    """People know the first 60 % of the images by `per_person` answers of either kind; of the others they answer
    `held_out` questions in val_seen. Three quarters of them do so; the others only in val_unseen."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(images, width)).astype(np.float32)
    common, own = rng.normal(size=width), rng.normal(size=(people, width))
    utility = (features @ (common + own).T).T * (1.6 / np.sqrt(2 * width)) * 1.4
    utility[people - random_people :] = 0
    half, seen = int(0.6 * images), people - people // 4
    ratings: dict[str, list] = {}
    choices: dict[str, list] = {}
    for person in range(people):
        for split, low, high, count in (
            ("train", 0, half, per_person),
            ("val_seen" if person < seen else "val_unseen", half, images, held_out),
        ):
            if split == "train" and person >= seen:
                continue
            rated = rng.choice(np.arange(low, high), min(count, high - low), replace=False)
            noisy = utility[person, rated] + rng.logistic(size=len(rated))
            scores = np.digitize(noisy, np.array([-2.2, -0.7, 0.7, 2.2])) + 1
            ratings.setdefault(split, []).extend(
                {"participant_id": f"p{person:03d}", "image_id": f"i{i:04d}", "score": int(score)}
                for i, score in zip(rated, scores)
            )
            for _ in range(count):
                a, b = rng.choice(np.arange(low, high), 2, replace=False)
                margin = utility[person, a] - utility[person, b] + rng.logistic()
                first, second = (a, b) if margin > 0 else (b, a)
                choices.setdefault(split, []).append(
                    {"participant_id": f"p{person:03d}", "preferred_id": f"i{first:04d}", "other_id": f"i{second:04d}",
                     "tie": bool(abs(margin) < tie_width)}
                )  # fmt: skip
    embeddings = Embeddings([f"i{i:04d}" for i in range(images)], features)

    def readers(rows: dict[str, list]) -> dict:
        return {s: (lambda of=of: (("toy", n, row) for n, row in enumerate(of, 1))) for s, of in rows.items()}

    source = RatingSource(
        "toy", readers(ratings), lambda images: "", level_values=integer_levels(1, 5), choices=readers(choices)
    )
    checker = RowChecker(source)
    both = RatingData(
        "toy", read_tables(checker, source.rows), checker.level_values, choices=read_choices(checker, source.choices)
    )
    return ChoiceWorld(replace(both, choices={}), replace(both, splits={}, level_values={}), both, embeddings)


def mean_accuracy(credit: np.ndarray, choices: pd.DataFrame) -> float:
    """Mean over people of the share of choices that were foreseen."""
    return float(pd.Series(credit).groupby(choices["participant_id"].astype(str).to_numpy()).mean().mean())
