"""How well scorers do for different people and for different kinds of images, so that bias shows.

Groups of people are those of one demographic answer, groups of images those of one metadata value. A figure of fewer
than `LEAST` people would point to persons, so such a group is named and marked, its people and figures withheld. Where
all that is withheld of a field is about fewer than `LEAST` people, its other figures are rounded to two digits, or
theirs would be what the others lack to the whole.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..embeddings import Embeddings
from ..metrics import Estimate, UserMetrics, bootstrap_weights, user_metrics
from ..ratings.table import DEMOGRAPHIC_FIELDS, METADATA_FIELDS, RatingData
from ..scoring import PamelaScorer

LEAST = 5  # people; a figure of fewer would point to persons
FEW = 20  # people; a figure of fewer is shown and marked: its interval is wide, and itself uncertain
SPLITS = ("test_seen", "test_unseen", "val_seen", "val_unseen")
GROUP_METRICS = ("user_srocc", "user_pairwise_0", "bias")
_MISSING = "not stated"


def group_tables(
    ratings: pd.DataFrame,
    scores: Mapping[str, np.ndarray],
    users: Mapping[str, UserMetrics],
    *,
    levels: np.ndarray | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures by group of people and of images, for each scorer on one split.

    Args:
        ratings: n rows, see [`pamela_hf.ratings.table.RatingData`].
        scores: scorer → (n,), higher = liked more.
        users: scorer → its per-person values, over all people.
        levels: (n,) position of each rating on its scale; default: the ratings.
        bootstrap: draws of people, 0 for none.
        seed: of the draws.

    Returns:
        `{"least", "few", "everyone": row, "people": {field: [row]}, "images": {field: [row]}}`, fields that are never
        stated left out. row: `{"value", "people", "ratings", "images", "few", "scorers": {scorer: {metric: cell}}}`
        with metrics `GROUP_METRICS`, bias being the mean over people of predicted minus given rating (only of
        scorers that predict ratings), cells as everywhere. few: fewer than `FEW` people; with fewer than `LEAST`,
        people and ratings are None (of groups of people) and so is every value.

        Within a kind of images ranks are harder to tell than between kinds: `user_srocc` there is to be compared
        between scorers and between kinds, not with everyone's.
    """
    names = next(iter(users.values())).participants
    person = np.searchsorted(names, ratings.participant_id.astype(str).to_numpy())
    weights = bootstrap_weights(len(names), bootstrap, seed)
    given = ratings.score.to_numpy(np.float64)
    errors = {name: one - given for name, one in scores.items() if np.isfinite(users[name].values["rmse"]).any()}
    whole = {name: dict(of.values) | _bias(errors.get(name), person, len(names)) for name, of in users.items()}

    def row(value: str, rows: np.ndarray, member: np.ndarray, values: Mapping[str, Any], of_people=False, digits=3):
        n_people, n_ratings = int(member.sum()), int(rows.sum())
        hidden = of_people and n_people < LEAST
        return {
            "value": value,
            "people": None if hidden else n_people,
            "ratings": None if hidden else n_ratings,
            "images": None if hidden else int(ratings.image_id[rows].nunique()),
            "few": n_people < FEW,
            "scorers": {
                name: {metric: _cell(of[metric], member, weights, digits) for metric in GROUP_METRICS if metric in of}
                for name, of in values.items()
            },
        }

    def within(rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        if rows.all():
            return whole
        own_levels = None if levels is None else levels[rows]
        values = {}
        for name, one in scores.items():
            own = user_metrics(one[rows], given[rows], names[person[rows]], levels=own_levels, participants=names)
            error = errors[name][rows] if name in errors else None
            values[name] = dict(own.values) | _bias(error, person[rows], len(names))
        return values

    everybody, all_rows = np.ones(len(names), bool), np.ones(len(ratings), bool)
    tables: dict[str, Any] = {
        "least": LEAST,
        "few": FEW,
        "everyone": row("everyone", all_rows, everybody, whole),
        "people": {},
        "images": {},
    }
    for field in DEMOGRAPHIC_FIELDS:
        groups = [(v, rows, np.bincount(person[rows], minlength=len(names)) > 0) for v, rows in _groups(ratings[field])]
        withheld = sum(int(member.sum()) for *_, member in groups if member.sum() < LEAST)
        digits = 2 if 0 < withheld < LEAST else 3
        if groups:
            tables["people"][field] = [row(*group, whole, of_people=True, digits=digits) for group in groups]
    for field in METADATA_FIELDS:
        for value, rows in _groups(ratings[field]):
            member = np.bincount(person[rows], minlength=len(names)) > 0
            tables["images"].setdefault(field, []).append(row(value, rows, member, within(rows)))
    return tables


def _groups(column: pd.Series) -> list[tuple[str, np.ndarray]]:
    """(value, its rows as a mask) in the values' order, what is missing last; nothing where all is missing."""
    values = column.astype(str).where(column.notna(), None)
    stated = sorted(values.dropna().unique())
    groups = [(value, (values == value).to_numpy()) for value in stated]
    if stated and values.isna().any():
        groups.append((_MISSING, values.isna().to_numpy()))
    return groups


def _bias(errors: np.ndarray | None, person: np.ndarray, n_people: int) -> dict[str, np.ndarray]:
    if errors is None:
        return {}
    with np.errstate(invalid="ignore"):
        return {"bias": np.bincount(person, errors, n_people) / np.bincount(person, minlength=n_people)}


def _cell(values: np.ndarray, member: np.ndarray, weights: np.ndarray, digits: int) -> dict[str, Any]:
    """The mean over the members who have a value, as value, ci_low, ci_high, n_users."""
    counted = member & np.isfinite(values)
    n = int(counted.sum())
    if n < LEAST:
        return {"value": None, "ci_low": None, "ci_high": None, "n_users": None}
    with np.errstate(invalid="ignore"):
        draws = weights[:, counted] @ values[counted] / weights[:, counted].sum(1)
    cell = Estimate(float(values[counted].mean()), draws, n).as_dict()
    return {key: number if key == "n_users" else round(number, digits) for key, number in cell.items()}


def group_summary(scorer: PamelaScorer, ratings: RatingData, embeddings: Embeddings) -> dict[str, Any] | None:
    """A model card's table on bias: each group of at least `LEAST` people, on the first of `SPLITS`.

    Args:
        scorer: the model.
        ratings: with one split of `SPLITS` or more.
        embeddings: of their images.

    Returns:
        `{"split", "least", "rows": [{"field", "value", "people", "srocc", "bias"}]}`: mean within-person SROCC with
        its 95 % interval over people, as text, and the mean over people of predicted minus given rating, in rating
        units; None without such a split or group.
    """
    split = next((split for split in SPLITS if split in ratings.splits), None)
    if split is None:
        return None
    table = ratings.splits[split].reset_index(drop=True)
    scores = scorer.predict(table, embeddings).scores
    users = user_metrics(scores, table.score.to_numpy(), table.participant_id.astype(str).to_numpy())
    rows = []
    for field, groups in group_tables(table, {"model": scores}, {"model": users})["people"].items():
        for group in groups:
            srocc, bias = (group["scorers"]["model"][metric] for metric in ("user_srocc", "bias"))
            if srocc["value"] is None or group["value"] == _MISSING:
                continue
            text = f"{srocc['value']:.3f} [{srocc['ci_low']:.3f}, {srocc['ci_high']:.3f}]"
            row = {"field": field, "value": group["value"], "people": srocc["n_users"], "srocc": text}
            rows.append(row | {"bias": f"{bias['value']:+.2f}"})
    return {"split": split, "least": LEAST, "rows": rows} if rows else None
