"""The paper's own values, to stand beside ours where the ratings are the paper's, and only there.

Source: Maerten et al., Personalizing Text-to-Image Generation to Individual Taste, arXiv 2604.07427: the table of
held-out users, the accuracies on diverging pairs, the gap between users seen in training and unseen ones.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..ratings.table import RatingData

COLUMNS = ("user_srocc", "user_plcc", "user_pairwise_0")
HELD_OUT = {
    "PAMELA": (0.4514, 0.4722, 0.6631),
    "HPSv3": (0.4019, 0.4444, 0.6427),
    "Q-Align": (0.2677, 0.2906, 0.5932),
    "ImageReward": (0.2841, 0.2855, 0.5978),
    "LAION Aesthetics": (0.1516, 0.1471, 0.5110),
}
"""Method → its figures in `COLUMNS`, on users who are not in training (our split test_unseen)."""
SCORERS = {
    "pamela": "PAMELA",
    "hpsv3": "HPSv3",
    "qalign": "Q-Align",
    "imagereward": "ImageReward",
    "laion_aesthetics": "LAION Aesthetics",
}
"""Our scorer → the paper's method."""
DIVERGING = {"test_seen": 0.61, "test_unseen": 0.55}
ABLATION = "user, demographics and metadata together give the best balance of people seen and unseen in training."
GAP = 0.06  # user_srocc, seen minus unseen; the paper says about

# What the released training split is known to hold. A layout, a file name or a size can be anybody's; these means of
# 50,222 ratings together can't.
RELEASED_RATINGS = {
    "train": 50_222,
    "val_seen": 6_551,
    "val_unseen": 926,
    "test_seen": 9_735,
    "test_unseen": 2_470,
}
RELEASED_MEANS = {
    ("type", "Art"): 2.989,
    ("type", "Photorealism"): 3.255,
    ("group", "abstract"): 2.069,
    ("group", "product"): 2.774,
    ("group", "still life"): 2.943,
    ("group", "automotive"): 3.114,
    ("group", "cinematic"): 3.145,
    ("group", "portrait"): 3.214,
    ("group", "fashion"): 3.232,
    ("group", "cityscape"): 3.255,
    ("group", "architecture"): 3.277,
    ("group", "food"): 3.341,
    ("group", "flower painting"): 3.374,
    ("group", "landscape"): 3.552,
    ("group", "travel"): 3.515,
    ("group", "animal"): 3.826,
}


def is_papers_release(data: RatingData) -> bool:
    """Are these the ratings the paper reports on? By their content: every split's size, and the means of training."""
    if {split: len(table) for split, table in data.splits.items()} != RELEASED_RATINGS:
        return False
    train = data.splits["train"]
    score = pd.Series(train.score.to_numpy("float64"))
    return all(
        abs(score[(train[field] == value).to_numpy()].mean() - mean) < 6e-4
        for (field, value), mean in RELEASED_MEANS.items()
    )


def paper_table(report: Mapping[str, Any], same_ratings: bool) -> dict[str, Any]:
    """The report's figures in the form of the paper's tables.

    Args:
        report: with `splits` and `gap`.
        same_ratings: the ratings are the paper's, so that its values may stand beside ours.

    Returns:
        `{"same_ratings", "columns", "held_out": [{"scorer", "method", "ours": {metric: cell} or None,
        "paper": {metric: value} or None}], "claims": [{"claim", "ours": cell or None, "paper": value or None}]}`.
        held_out has a row per scorer of test_unseen, then the paper's further methods; method is the paper's name.
    """
    splits, reference = report["splits"], report["meta"]["reference"]
    rows = []
    for scorer, cells in splits.get("test_unseen", {}).items():
        if "@" in scorer:
            continue
        method = SCORERS.get(scorer)
        paper = dict(zip(COLUMNS, HELD_OUT[method])) if same_ratings and method else None
        rows.append(
            {"scorer": scorer, "method": method, "ours": {metric: cells[metric] for metric in COLUMNS}, "paper": paper}
        )
    if same_ratings and rows:
        listed = {row["method"] for row in rows}
        rows += [
            {"scorer": None, "method": method, "ours": None, "paper": dict(zip(COLUMNS, values))}
            for method, values in HELD_OUT.items()
            if method not in listed
        ]
    gap = report["gap"].get("test", {}).get(reference, {}).get("user_srocc")
    claims = [
        ("Diverging pairs ranked right, people of the training", "test_seen", DIVERGING["test_seen"]),
        ("Diverging pairs ranked right, people never met", "test_unseen", DIVERGING["test_unseen"]),
    ]
    given = [(claim, splits.get(part, {}).get(reference, {}).get("diverging"), paper) for claim, part, paper in claims]
    given.append(("user_srocc, people of the training minus people never met", gap, GAP))
    return {
        "same_ratings": same_ratings,
        "columns": list(COLUMNS),
        "held_out": rows,
        "claims": [
            {"claim": claim, "ours": ours, "paper": paper if same_ratings else None}
            for claim, ours, paper in given
            if ours is not None or same_ratings
        ],
    }
