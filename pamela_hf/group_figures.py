"""How well a model does for people of different demographic groups: the figures of a model card's section on bias."""

from typing import Any

import numpy as np

from .data import DEMOGRAPHIC_FIELDS, RatingData
from .embeddings import Embeddings
from .metrics import bootstrap_ci, user_metrics
from .scoring import PamelaScorer

LEAST = 5  # people; a figure of fewer would point to persons
SPLITS = ("test_seen", "test_unseen", "val_seen", "val_unseen")


def group_figures(scorer: PamelaScorer, ratings: RatingData, embeddings: Embeddings) -> dict[str, Any] | None:
    """Figures of each group of at least `LEAST` people who have a correlation, on the first of `SPLITS` there is.

    Returns:
        `{"split", "least", "rows": [{"field", "value", "people", "srocc", "bias"}]}`: mean within-person SROCC with
        its 95 % interval over people, as text, and the mean over people of predicted minus given rating, in rating
        units; None if no such split or group is there.
    """
    split = next((split for split in SPLITS if split in ratings.splits), None)
    if split is None:
        return None
    table = ratings.splits[split]
    scores = scorer.predict(table, embeddings).scores
    people = user_metrics(scores, table.score.to_numpy(), table.participant_id.astype(str).to_numpy())
    error = (scores - table.score).groupby(table.participant_id.astype(str)).mean().reindex(people.participants)
    first = table.drop_duplicates("participant_id").set_index("participant_id").reindex(people.participants)
    rows = []
    for field in DEMOGRAPHIC_FIELDS:
        for value in sorted(first[field].dropna().astype(str).unique()):
            member = (first[field].astype(str) == value).to_numpy() & np.isfinite(people.values["user_srocc"])
            if member.sum() < LEAST:
                continue
            values = people.values["user_srocc"][member]
            low, high = bootstrap_ci(values)
            srocc = f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"
            bias = f"{error.to_numpy()[member].mean():+.2f}"
            rows.append({"field": field, "value": value, "people": int(member.sum()), "srocc": srocc, "bias": bias})
    return {"split": split, "least": LEAST, "rows": rows} if rows else None
