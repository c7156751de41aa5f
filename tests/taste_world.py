"""A small world in which people differ along a few directions of the features, by age and each for themselves."""

import numpy as np
import pandas as pd

from pamela_hf.embeddings import Embeddings
from pamela_hf.ratings.table import RATING_COLUMNS

LEVELS = {"five": (1.0, 2.0, 3.0, 4.0, 5.0), "slider": tuple(10.0 * k for k in range(11))}


def taste_world(seed: int = 0, people: int = 24, images: int = 160, width: int = 10):
    """Tables train, val_seen, val_unseen, support_unseen (its people rate train images), and the features."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(images, width))
    texts = rng.normal(size=(images // 4, 4)).repeat(4, 0)  # a theme is four images
    everyone, old, axes = rng.normal(size=width), rng.normal(size=width), rng.normal(size=(2, width))
    prompt_taste = rng.normal(size=4)
    tables = {split: [] for split in ("train", "val_seen", "val_unseen", "support_unseen")}
    for person in range(people + people // 3):
        age = "20-29" if person % 2 else "60-69"
        taste = everyone + (old if age == "60-69" else -old) + 1.2 * rng.normal(size=2) @ axes
        liking = features @ taste / np.sqrt(width) + 0.3 * texts @ prompt_taste + 0.3 * rng.normal(size=images)
        scale = "slider" if person % 5 == 0 else "five"
        levels = np.array(LEVELS[scale])
        place = rng.uniform(0.35, 0.65) + rng.uniform(0.1, 0.2) * liking
        score = levels[np.clip(np.round(place * (len(levels) - 1)), 0, len(levels) - 1).astype(int)]
        seen = person < people
        for split, of in (
            (("train", True), ("val_seen", False)) if seen else (("support_unseen", True), ("val_unseen", False))
        ):
            rated = np.sort(
                rng.choice(np.arange(images)[(np.arange(images) < 100) == of], 48 if of else 30, replace=False)
            )
            table = pd.DataFrame(
                {
                    "participant_id": f"p{person:02}",
                    "image_id": [f"i{k}" for k in rated],
                    "prompt": [f"theme {k // 4}" for k in rated],
                    "score": score[rated].astype(np.float32),
                    "rating_scale": scale,
                    "age_binned": age,
                }
            )
            tables[split].append(table.reindex(columns=RATING_COLUMNS))
    ids = [f"i{k}" for k in range(images)]
    categories = ("participant_id", "image_id", "prompt", "rating_scale", "age_binned")
    joined = {split: pd.concat(parts, ignore_index=True) for split, parts in tables.items()}
    return (
        {split: table.astype(dict.fromkeys(categories, "category")) for split, table in joined.items()},
        Embeddings(ids, features.astype(np.float32), texts.astype(np.float32)),
    )


def srocc(predicted, table) -> float:
    """The mean over people of Spearman's correlation."""
    values = table.assign(predicted=predicted.scores).groupby("participant_id", observed=True)
    return float(values.apply(lambda one: one["predicted"].corr(one["score"], method="spearman")).mean())
