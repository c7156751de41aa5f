"""The noise ceiling: how well people agree with themselves when they rate an image a second time.

The ratings table holds one rating of an image by a person, so second ratings come in a file of their own: a CSV (see
[`pamela_hf.files.csv`]) with the columns ``participant,image,score``, ids as in the ratings, scores on the scale of
the first rating. What it holds is compared with the ratings and never fitted on.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..files.csv import open_table, read_number
from ..files.folders import name_key
from ..metrics import judge
from ..ratings.table import RatingData, RatingError

COLUMNS = ("participant", "image", "score")


def read_repeats(path: str | os.PathLike, data: RatingData) -> pd.DataFrame:
    """Second ratings beside the first: columns participant_id, image_id, first, second, rating_scale.

    Args:
        path: a CSV file with the columns `COLUMNS`.
        data: the first ratings.

    Raises:
        RatingError: a column is missing, or a row (counted as a spreadsheet does: the header is row 1) has no first
            rating in `data`, occurs twice, or has a score off its rating scale.
        OSError: the file cannot be read.
    """
    opened = open_table(path, COLUMNS, error=RatingError)
    rows = list(opened.rows())
    table = pd.DataFrame([{name: row.get(name, "") for name in COLUMNS} for _, row in rows])
    if table.empty:
        raise RatingError(f"{os.fspath(path)}: holds no rows below its header; leave --repeats out if there are none.")

    def check(bad: pd.Series, problem: str) -> None:
        if len(at := np.flatnonzero(bad)):
            row = table.iloc[at[0]]
            raise RatingError(
                f"{os.fspath(path)}, row {rows[at[0]][0]}: participant {row.participant!r}, image {row.image!r}, score "
                f"{row.score!r}: {problem} ({len(at)} such rows). Correct the file or remove the rows."
            )

    check(pd.Series([None in row for _, row in rows]), f"more or fewer fields than the header's {len(opened.names)}")
    check((table[list(COLUMNS)] == "").any(axis=1), "a field is empty")
    check(table.duplicated(["participant", "image"]), "this second rating occurs twice")
    first = pd.concat(
        [
            ratings[["participant_id", "image_id", "score", "rating_scale"]].astype(
                {"participant_id": str, "image_id": str, "rating_scale": str, "score": np.float64}
            )
            for ratings in data.splits.values()
        ]
    )
    keys = ["participant_id", "image_id"]
    known = set(first.image_id)
    alike = {name_key(image): image for image in known}  # a name may be written as the ratings' table does, or not
    table["image"] = [image if image in known else alike.get(name_key(image), image) for image in table.image]
    joined = table.merge(first, "left", left_on=["participant", "image"], right_on=keys, suffixes=("", "_first"))
    check(joined.score_first.isna(), "no first rating of this image by this person is in the ratings")
    second = pd.Series([read_number(score) for score in table.score], dtype=np.float64)
    on_scale = [
        bool(np.isclose(score, data.level_values[scale], atol=1e-5).any())
        for score, scale in zip(second, joined.rating_scale)
    ]
    check(~pd.Series(on_scale, dtype=bool), f"not a level of the rating scale; there are {dict(data.level_values)}")
    return joined[keys].assign(first=joined.score_first, second=second, rating_scale=joined.rating_scale)


def noise_ceiling(
    repeats: pd.DataFrame, level_values: dict[str, Sequence[float]], *, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The metrics of the second rating, taken as a prediction, against the first.

    Args:
        repeats: as [`read_repeats`] gives them.
        level_values: rating scale → its ascending levels.
        bootstrap: draws of people, 0 for none.
        seed: of the draws.

    Returns:
        `{"metrics": {metric: {"value", "ci_low", "ci_high", "n_users"}}, "ratings", "participants", "images",
        "left_out"}`. People with fewer than 6 repeated ratings are left out of the per-person means, as everywhere.
        coverage_80 is NaN: a second rating is not a distribution.
    """
    levels = np.empty(len(repeats))
    for scale in repeats.rating_scale.unique():
        here = (repeats.rating_scale == scale).to_numpy()
        values = level_values[scale]
        levels[here] = np.interp(repeats["first"].to_numpy()[here], values, np.arange(len(values)))
    estimates, people = judge(
        repeats["second"].to_numpy(),
        repeats["first"].to_numpy(),
        repeats.participant_id.to_numpy(),
        repeats.image_id.to_numpy(),
        levels=levels,
        bootstrap=bootstrap,
        seed=seed,
    )
    return {
        "metrics": {metric: estimate.as_dict() for metric, estimate in estimates.items()},
        "ratings": len(repeats),
        "participants": len(people.participants),
        "images": int(repeats.image_id.nunique()),
        "left_out": people.left_out,
    }
