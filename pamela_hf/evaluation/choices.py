"""Any scorer on people's choices between two images, judged person by person: a part of the evaluation's report.

The part, cells being those of [`pamela_hf.evaluation.evaluate`]::

    {"splits":      {split: {scorer: {metric: cell}}},
     "differences": {split: {"A - B": {metric: cell, paired over the people}}},
     "counts":      {split: {"choices", "ties", "participants", "images"}}}

The metrics are those of [`CHOICE_METRICS`]. A scorer with a method `predict_choices` says how likely each outcome is;
of any other the higher score is what it expects to be preferred, and it has no log-loss. A personal scorer has the same
controls on `*_seen` splits as for ratings, `NAME@no_user` and `NAME@wrong_user`; the consensus of other people is the
baseline `consensus`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..embeddings import Embeddings
from ..metrics import Estimate, Metric, bootstrap_weights, mean_over_people
from ..ratings.table import DEMOGRAPHIC_FIELDS, METADATA_FIELDS, SIDES
from ..scoring import Scorer, choice_credit

CHOICE_METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        "How often the image with the higher score is the one that the person preferred; a tie counts ½. Knowing "
        "nothing gives .5.",
        "accuracy",
        best=1.0,
        in_differences=True,
    ),
    "log_loss": Metric(
        "Surprise at what people chose, ties among it: the mean of -log of the probability that was given to it.",
        "log-loss",
        best=0.0,
    ),
}
LEAST_PROBABILITY = 1e-6  # of an outcome, in the log-loss: a model without ties is not infinitely wrong

Edit = Callable[[pd.DataFrame], pd.DataFrame]


def judge_choices(
    scorer: Scorer, choices: pd.DataFrame, embeddings: Embeddings, scale: str, weights: np.ndarray
) -> dict[str, Estimate]:
    """Metric → its estimate, the mean over people with equal weights.

    Args:
        scorer: who foresees them.
        choices: table of m choices, see [`pamela_hf.ratings.table.RatingData`].
        embeddings: of all images.
        scale: rating scale that a scorer without `predict_choices` is asked on.
        weights: `(B, U)` how often each person is drawn, in the order of their sorted names.

    Raises:
        ValueError: a prediction that is not finite.
    """
    return _judge(_probabilities(scorer, choices, embeddings, scale), choices, weights)


def choice_report(
    scorers: Sequence[Scorer],
    choices: Mapping[str, pd.DataFrame],
    embeddings: Embeddings,
    *,
    scale: str,
    controls: Mapping[str, Edit],
    pairs: Callable[[list[str]], list[tuple[str, str]]],
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Judges every scorer on every split's choices.

    Args:
        scorers: with distinct names.
        choices: split → table of choices.
        embeddings: of all images.
        scale: as in [`judge_choices`].
        controls: suffix, such as "no_user", → how it edits a table, for personal scorers on `*_seen` splits.
        pairs: names judged on a split → which are subtracted from which.
        bootstrap: draws of people for the intervals.
        seed: of these draws.

    Returns:
        The part of the report: see the module.
    """
    report: dict[str, Any] = {"splits": {}, "differences": {}, "counts": {}}
    for split, table in choices.items():
        people = table.participant_id.astype(str).nunique()
        weights = bootstrap_weights(people, bootstrap, seed)
        found: dict[str, dict[str, Estimate]] = {}
        for scorer in scorers:
            found[scorer.name] = judge_choices(scorer, table, embeddings, scale, weights)
            for control, edit in controls.items() if scorer.personal and split.endswith("_seen") else ():
                if control == "no_user" or people > 1:
                    probs = _probabilities(scorer, edit(table), embeddings, scale)
                    found[f"{scorer.name}@{control}"] = _judge(probs, table, weights)
        report["splits"][split] = {name: _cells(estimates) for name, estimates in found.items()}
        report["differences"][split] = {
            f"{a} - {b}": _cells({metric: found[a][metric] - found[b][metric] for metric in CHOICE_METRICS})
            for a, b in pairs(list(found))
        }
        report["counts"][split] = {
            "choices": len(table),
            "ties": int(table.tie.sum()),
            "participants": people,
            "images": len(pd.unique(np.concatenate([table.preferred_id, table.other_id]))),
        }
    return report


def _judge(probs: np.ndarray, choices: pd.DataFrame, weights: np.ndarray) -> dict[str, Estimate]:
    ties = choices["tie"].to_numpy(bool)
    given = np.where(ties, probs[:, 1], probs[:, 0])
    surprise = -np.log(np.maximum(given, LEAST_PROBABILITY))
    if np.isnan(probs[:, 1]).any():  # the scorer gives no probabilities
        surprise = np.full(len(ties), np.nan)
    by_choice = {"accuracy": choice_credit(probs, ties), "log_loss": surprise}
    person = choices["participant_id"].astype(str).to_numpy()
    return {
        metric: mean_over_people(pd.Series(values).groupby(person).mean().to_numpy(), weights)
        for metric, values in by_choice.items()
    }


def _probabilities(scorer: Scorer, choices: pd.DataFrame, embeddings: Embeddings, scale: str) -> np.ndarray:
    """`(m, 3)`: the first is preferred, neither is, the second is; of a scorer without probabilities 1 or ½ for what it
    expects, and NaN for ties."""
    if hasattr(scorer, "predict_choices"):
        probs = np.asarray(scorer.predict_choices(choices, embeddings), np.float64)
        compared = probs
    else:
        scores = [scorer.predict(_as_ratings(choices, side, scale), embeddings).scores for side in SIDES]
        first, second = (np.asarray(s, np.float64) if scorer.higher_is_better else -np.asarray(s) for s in scores)
        compared = np.stack([first, second], 1)
        ahead = 0.5 + 0.5 * np.sign(first - second)
        probs = np.stack([ahead, np.full(len(ahead), np.nan), 1 - ahead], 1)
    if len(bad := np.flatnonzero(~np.isfinite(compared).all(1))):
        row = choices.iloc[bad[0]]
        raise ValueError(
            f"scorer {scorer.name!r} predicted no finite number in {len(bad)} of {len(choices)} choices, first of "
            f"images {row.preferred_id!r} and {row.other_id!r}. Fix the scorer or drop the images."
        )
    return probs


def _as_ratings(choices: pd.DataFrame, side: str, scale: str) -> pd.DataFrame:
    """One side's images as a table of ratings that are not known."""
    columns = {name: choices[name] for name in ("participant_id", "age", *DEMOGRAPHIC_FIELDS)}
    own = choices[f"{side}_prompt"].astype(object)
    return pd.DataFrame(
        {
            **columns,
            "image_id": choices[f"{side}_id"],
            "prompt": own.where(own.notna(), choices["prompt"].astype(object)),
            "score": np.float32("nan"),
            "rating_scale": pd.Categorical([scale] * len(choices)),
            **{field: choices[f"{side}_{field}"] for field in METADATA_FIELDS},
        }
    )


def _cells(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    return {metric: estimate.as_dict() for metric, estimate in estimates.items()}
