"""How often people differ in taste at all, whatever a scorer says: the share of diverging pairs."""

import numpy as np
from numpy.typing import ArrayLike as Array

from ..metrics import Estimate, bootstrap_weights


def diverging_share(
    references: Array, groups: Array, image_ids: Array, *, bootstrap: int = 1000, seed: int = 0
) -> dict[str, float | int]:
    """Of all (pair of people, pair of images) both ordered, the share they ordered oppositely.

    Both rated both images, each gave the two different ratings. `diverging` of `pamela_hf.metrics` is judged on these.
    0 = everybody agrees, ½ = as if the ratings of different people had nothing in common.

    Args:
        references: (n,) the ratings.
        groups: (n,) who gave each.
        image_ids: (n,) what was rated; nobody rates an image twice.
        bootstrap: draws of people, 0 for none.
        seed: of the draws.

    Returns:
        `{"value", "ci_low", "ci_high", "n_users", "n_pairs"}`: n_pairs counts what was ordered oppositely, n_users the
        people in any such comparison; NaN if no two people ordered the same two images.
    """
    people, user = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    image = np.unique(np.asarray(image_ids).astype(str), return_inverse=True)[1]
    level = np.unique(np.asarray(references, dtype=np.float64), return_inverse=True)[1]
    n_people, n_levels = len(people), level.max() + 1
    by_image = np.argsort(image, kind="stable")
    raters = np.bincount(image)
    first = np.cumsum(raters) - raters
    others = user[by_image] * n_levels + level[by_image]
    opposite, both = np.zeros((2, n_people, n_people))
    for one in range(n_people):
        own = np.flatnonzero(user == one)
        # Everyone's rating of each image that this person rated, side by side.
        n = raters[image[own]]
        rows = np.repeat(first[image[own]] - (np.cumsum(n) - n), n) + np.arange(n.sum())
        cell = np.repeat(level[own], n) * (n_people * n_levels) + others[rows]
        table = np.bincount(cell, minlength=n_levels * n_people * n_levels).reshape(n_levels, n_people, n_levels)
        # table[i, v, j]: images this person rated i and v rated j. Paired with the images this person rated lower:
        lower = table.cumsum(0) - table
        upto = lower.cumsum(2)
        same = (table * (upto - lower)).sum((0, 2))
        opposite[one] = (table * (upto[:, :, -1:] - upto)).sum((0, 2))
        both[one] = same + opposite[one]
    np.fill_diagonal(both, 0)
    weights = bootstrap_weights(n_people, bootstrap, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = ((weights @ opposite) * weights).sum(1) / ((weights @ both) * weights).sum(1)
        value = np.float64(opposite.sum()) / both.sum()
    cell = Estimate(float(value), draws, int((both.sum(1) > 0).sum())).as_dict()
    return {**cell, "n_pairs": int(opposite.sum()) // 2}
