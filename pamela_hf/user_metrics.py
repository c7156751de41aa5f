"""The report's metrics as an `evaluate.Metric`: `evaluate.load("pamela_hf/user_metrics.py")`, offline.

Never imported by name: `evaluate` copies this file and its neighbour `metrics.py` and imports the copies.
"""

import datasets
import evaluate
import numpy as np

from .metrics import METRICS, judge

_DESCRIPTION = """\
How well predicted ratings agree with people's own, person by person: correlations, pairwise accuracy at
margins of 0 to 3 levels, rmse and coverage are computed for each participant and averaged with equal weights,
never pooled. People with fewer than 6 ratings, or whose ratings are all equal, are left out and counted.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: predicted scores, higher = liked more.
    references: the ratings.
    groups: who gave each rating.
    image_ids: which image each rating is of; without it `diverging`, `avg_srocc` and `avg_plcc` are NaN. Like all
        that follows it is passed to `compute`, aligned with all rows added so far.
    probs: (n, K) probability of each level, with level_values: (K,) or (n, K); without them `coverage_80` is NaN.
    bootstrap: draws of people for 95 % intervals, `<name>_ci_low` and `<name>_ci_high`; 0 for none, and NaN where a
        value rests on fewer than two people.
    seed: of the draws.

Returns:
    A float for each of `user_srocc`, `user_plcc`, `user_krocc`, `user_pairwise_0` … `user_pairwise_3`,
    `diverging`, `avg_srocc`, `avg_plcc`, `rmse`, `coverage_80`, and the counts `n_users` (people in the per-user
    means), `n_few_ratings` and `n_constant_ratings` (people left out of them).

Examples:

    One person is ordered perfectly, the other exactly the wrong way round.

    >>> import evaluate
    >>> user_metrics = evaluate.load("pamela_hf/user_metrics.py")
    >>> ratings = [1, 2, 3, 4, 5, 5]
    >>> results = user_metrics.compute(
    ...     predictions=[1, 2, 3, 4, 5, 6] + [6, 5, 4, 3, 2, 1],
    ...     references=ratings + ratings,
    ...     groups=["ann"] * 6 + ["ben"] * 6,
    ... )
    >>> results["user_pairwise_0"], results["n_users"]
    (0.5, 2)

    A third person with two ratings is left out; images let people be compared with each other.

    >>> results = user_metrics.compute(
    ...     predictions=[1, 2, 3, 4, 5, 6] + [6, 5, 4, 3, 2, 1] + [1, 2],
    ...     references=[1, 2, 3, 4, 5, 6] + [6, 5, 4, 3, 2, 1] + [2, 1],
    ...     groups=["ann"] * 6 + ["ben"] * 6 + ["eve"] * 2,
    ...     image_ids=list("ABCDEF") + list("ABCDEF") + list("AB"),
    ... )
    >>> results["user_srocc"], results["n_users"], results["n_few_ratings"]
    (1.0, 2, 1)
    >>> round(results["diverging"], 3)  # of 16 x 2 decisions, eve's single one is wrong
    0.969
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class UserMetrics(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=[
                datasets.Features(
                    {
                        "predictions": datasets.Value("float64"),
                        "references": datasets.Value("float64"),
                        "groups": datasets.Value(group),
                    }
                )
                for group in ("string", "int64")
            ],
        )

    def _compute(
        self,
        predictions: list[float],
        references: list[float],
        groups: list[str],
        image_ids: list[str] | None = None,
        probs: list[list[float]] | None = None,
        level_values: list | None = None,
        bootstrap: int = 0,
        seed: int = 0,
    ) -> dict[str, float | int]:
        estimates, users = judge(
            predictions, references, groups, image_ids, probs, level_values, bootstrap=bootstrap, seed=seed
        )
        results: dict[str, float | int] = {name: estimates[name].value for name in METRICS}
        if bootstrap:
            for name in METRICS:
                interval = estimates[name].as_dict()
                results |= {f"{name}_{end}": interval[end] for end in ("ci_low", "ci_high")}
        results["n_users"] = int(np.isfinite(users.values["user_srocc"]).sum())
        return results | {f"n_{k}": int(users.left_out[k]) for k in ("few_ratings", "constant_ratings")}
