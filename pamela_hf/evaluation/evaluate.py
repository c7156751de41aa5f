"""Any scorer on any split, judged person by person: the report as a dict, JSON and HTML.

The report, cells being `{"value", "ci_low", "ci_high", "n_users"}`::

    {"splits":        {split: {scorer: {metric: cell}}},
     "differences":   {split: {"A - B": {metric: cell, paired over the people}}},
     "few_shot":      {split: {scorer@k=…: {metric: cell of the scorer at k=0 on the same people and rows}}},
     "per_user":      {split: {scorer: {"user_srocc": sorted values, nobody's name}}},
     "diverging":     {split: cell and "n_pairs", see `pamela_hf.evaluation.disagreement`},
     "gap":           {"val" or "test": {scorer: {metric: "value", "ci_low", "ci_high", "n_seen", "n_unseen"}}},
     "calibration":   {split: {scorer: see `pamela_hf.evaluation.calibration`}},
     "groups":        {split: see `pamela_hf.evaluation.groups.group_tables`},
     "noise_ceiling": see `pamela_hf.evaluation.noise_ceiling`, or None without second ratings,
     "choices":       see `pamela_hf.evaluation.choices`, or None without choices,
     "paper":         see `pamela_hf.evaluation.paper.paper_table`,
     "meta":          {"version", "seed", "bootstrap", "reference", "simulated", "data", "scorers", "counts"}}

Metrics and intervals are those of `pamela_hf.metrics`. A personal scorer NAME has two controls on `*_seen`
splits, made by editing the ratings table alone: `NAME@no_user` (nobody's id, demographics kept) and
`NAME@wrong_user` (the ids swapped by a fixed derangement, demographics kept). On `*_unseen` splits people are
unknown to it anyway, and the same numbers stand under `NAME@k=0`, where few-shot results (`NAME@k=20`, …) can
be read against them. Where those judge a part of the people or ratings only (ratings of the split are set aside to be
given, and who has too few is left out), k=0 on that very part stands in "few_shot" and is what the difference is taken
from: NAME as a whole would be another sample.

The gap is NAME on the seen people minus NAME on the unseen ones, who are other people: both are resampled on their own.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ..baselines import load_baseline
from ..embeddings import Embeddings, load_embeddings
from ..metrics import METRICS, Estimate, UserMetrics, judge
from ..ratings.builder import load_ratings
from ..ratings.table import RatingData
from ..reports.files import write_report
from ..scoring import PamelaScorer, Predictions, Scorer
from ..version import __version__
from .calibration import calibration
from .choices import choice_report
from .disagreement import diverging_share
from .few_shot import FewShotFits
from .groups import group_tables
from .noise_ceiling import noise_ceiling, read_repeats
from .page import render_html
from .paper import is_papers_release, paper_table

DEFAULT_SPLITS = ("val_seen", "val_unseen", "test_seen", "test_unseen")
PARTS = ("splits", "differences", "few_shot", "per_user", "diverging", "gap", "calibration", "groups")

FewShot = Callable[[Scorer, str, pd.DataFrame], Mapping[str, Sequence[tuple[np.ndarray, Predictions]]]]
"""few_shot(scorer, split, ratings) → suffix such as "k=20" → one (rows judged, their predictions) per draw of the
ratings fitted on. Per-user values and bootstrap draws are averaged over the draws."""


class Judged(NamedTuple):
    """Predictions as judged.

    Attributes:
        estimates: metric → value with its bootstrap draws.
        users: the same by person.
        predictions: where all rows were predicted at once, turned so that higher means liked more.
        without_ratings: of few-shot results on a part of the rows: the same scorer's estimates on that part before it
            was fitted on the person's ratings.
    """

    estimates: dict[str, Estimate]
    users: UserMetrics
    predictions: Predictions | None = None
    without_ratings: dict[str, Estimate] | None = None


@dataclass(frozen=True)
class _Split:
    """A split as it is judged: n ratings, the level of each on its scale `(n,)`, how intervals are drawn."""

    name: str
    ratings: pd.DataFrame
    levels: np.ndarray
    level_values: Mapping[str, Sequence[float]]
    bootstrap: int
    seed: int

    @classmethod
    def of(cls, name: str, data: RatingData, bootstrap: int, seed: int) -> "_Split":
        ratings = data.splits[name].reset_index(drop=True)
        if ratings.participant_id.isna().any():
            raise ValueError(f"split {name!r} has ratings without participant_id; taste is judged per person.")
        return cls(name, ratings, rating_levels(ratings, data.level_values), data.level_values, bootstrap, seed)

    @property
    def draws(self) -> dict[str, int]:
        return {"bootstrap": self.bootstrap, "seed": self.seed}


def run(
    model: str | os.PathLike,
    data: str | os.PathLike,
    output: str | os.PathLike,
    *,
    baselines: Iterable[str] = (),
    splits: Sequence[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    embeddings: str | os.PathLike | None = None,
    simulated: bool | None = None,
    few_shot: Sequence[int] = (),
    draws: int = 3,
    select: str = "random",
    repeats: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """What `scripts/evaluate.py` and `pamela evaluate` do: load, fit the baselines on train, evaluate, write.

    Args:
        model: model folder or Hub id.
        data: anything [`pamela_hf.ratings.load_ratings`] reads.
        output: folder for `report.json` and `report.html`.
        baselines: names of modules in `pamela_hf/baselines`, fitted on the train split.
        splits: as in [`evaluate`].
        bootstrap: as in [`evaluate`].
        seed: as in [`evaluate`].
        embeddings: features of all images; default: those beside the ratings.
        simulated: the ratings are simulated, and the report says so; default: if they are the demo world's.
        few_shot: numbers of own ratings to fit unseen people on.
        draws: how often each number of ratings is drawn anew.
        select: how they are chosen, see [`pamela_hf.evaluation.few_shot.FewShotFits`].
        repeats: CSV of second ratings, `participant,image,score`, for the noise ceiling; see
            [`pamela_hf.evaluation.noise_ceiling`].

    Returns:
        The report.

    Raises:
        ValueError, FileNotFoundError: something is missing or misnamed; raised before any work.
    """
    modules = {name: load_baseline(name) for name in baselines}
    ratings = load_ratings(data)
    _chosen_splits(ratings, splits)
    path = embeddings or ratings.embeddings
    if path is None:
        raise FileNotFoundError(
            f"{os.fspath(data)!r} has no embeddings.safetensors, which evaluation reads. Run `pamela embed` on it."
        )
    without = [name for name, module in modules.items() if not getattr(module, "FITS_CHOICES", False)]
    if without and "train" not in ratings.splits:
        raise ValueError(f"baselines={sorted(without)} are fitted on ratings of the train split, which {data!s} lacks.")
    again = None if repeats is None else read_repeats(repeats, ratings)
    features = load_embeddings(path)
    support = ratings.splits.get("support_unseen")
    fits = FewShotFits(support, features, few_shot, draws, select, seed) if few_shot else None
    scorers: list[Scorer] = [PamelaScorer.from_pretrained(model)]
    context = {
        "level_values": ratings.level_values,
        "model_dir": Path(model),
        "data": ratings,
        "output": Path(output),
    }
    for module in tqdm(modules.values(), "baselines", disable=not modules):
        scorers.append(module.fit(ratings.splits.get("train"), features, seed=seed, **context))
    if simulated is None:
        simulated = ratings.name == "simulated"
    report = evaluate(
        scorers,
        ratings,
        features,
        splits=splits,
        bootstrap=bootstrap,
        seed=seed,
        few_shot=fits,
        simulated=simulated,
        repeats=again,
    )
    if fits is not None:
        left = fits.left_out
        report["meta"]["few_shot"] = {"k": sorted(few_shot), "draws": draws, "select": select, "left_out": left}
    write_report(report, output, render_html)
    return report


def evaluate(
    scorers: Sequence[Scorer],
    data: RatingData,
    embeddings: Embeddings,
    *,
    splits: Sequence[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    reference: str = "pamela",
    few_shot: FewShot | None = None,
    simulated: bool = False,
    repeats: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Judges every scorer on every split.

    Args:
        scorers: with distinct names. rmse is reported of those that give probabilities or whose `score_range`
            is that of the ratings; coverage of those that give probabilities.
        data: ratings by split, and the levels of each rating scale.
        embeddings: of every image in the splits.
        splits: default: the val and test splits there are. Choices belong on val; read test once per claim.
        bootstrap: draws of people for the intervals, 0 for none.
        seed: of these draws and of the randomized PIT.
        reference: the scorer that all others are subtracted from, if it is among them.
        few_shot: see [`FewShot`]; called for each personal scorer on each `*_unseen` split.
        simulated: the ratings are simulated, and the report says so.
        repeats: second ratings, as [`pamela_hf.evaluation.noise_ceiling.read_repeats`] gives them.

    Returns:
        The report: see the module.

    Raises:
        ValueError: a split that is unknown or empty, two scorers of one name, predictions of a wrong length, or
            not finite (with scorer, split and row).
    """
    names = [scorer.name for scorer in scorers]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"scorers are named {names}; give at least one, each with a name of its own.")
    if bootstrap < 0:
        raise ValueError(f"bootstrap={bootstrap}; the number of draws is 0 (no intervals) or more, such as 1000.")
    chosen = _chosen_splits(data, splits)
    rated = [split for split in chosen if split in data.splits]
    report: dict[str, Any] = {part: {} for part in PARTS}
    judged: dict[str, dict[str, Judged]] = {}
    counts: dict[str, dict[str, Any]] = {}
    with tqdm(total=len(rated) * len(scorers), desc="evaluating") as progress:
        for name in rated:
            split = _Split.of(name, data, bootstrap, seed)
            judged[name] = {}
            for scorer in scorers:
                progress.set_postfix_str(f"{name} {scorer.name}")
                judged[name] |= _judge_scorer(scorer, split, embeddings, few_shot)
                progress.update()
            for part, cells in _report_split(split, judged[name], names, reference).items():
                report[part][name] = cells
            counts[name] = _counts(split, judged[name][names[0]])
    for part in ("val", "test"):
        if {f"{part}_seen", f"{part}_unseen"} <= set(judged):
            report["gap"][part] = _gaps(judged[f"{part}_seen"], judged[f"{part}_unseen"])
    ceiling = None if repeats is None else noise_ceiling(repeats, data.level_values, bootstrap=bootstrap, seed=seed)
    report["noise_ceiling"] = ceiling
    compared = {split: data.choices[split] for split in chosen if split in data.choices}
    report["choices"] = None if not compared else choice_report(
        scorers,
        compared,
        embeddings,
        scale=next(iter(data.level_values), data.name),
        controls={"no_user": without_user, "wrong_user": with_wrong_user},
        pairs=lambda judged: _pairs(judged, reference),
        bootstrap=bootstrap,
        seed=seed,
    )
    report["meta"] = {
        "version": __version__,
        "seed": seed,
        "bootstrap": bootstrap,
        "reference": reference,
        "simulated": simulated,
        "data": data.name,
        "scorers": {scorer.name: _describe(scorer) for scorer in scorers},
        "counts": counts,
    }
    report["paper"] = paper_table(report, not simulated and is_papers_release(data))
    return report


def _report_split(
    split: _Split, judged: Mapping[str, Judged], names: Sequence[str], reference: str
) -> dict[str, dict[str, Any]]:
    """Part of the report → what it says of this split; `names`: of the scorers themselves, without their controls."""
    ratings = split.ratings
    given = (ratings.score.to_numpy(), ratings.participant_id.to_numpy())
    calibrated = {
        name: one.predictions
        for name, one in judged.items()
        if one.predictions is not None and one.predictions.probs is not None and not name.endswith("@k=0")
    }
    return {
        "splits": {name: _cells(one.estimates) for name, one in judged.items()},
        "differences": {
            f"{a} - {b}": _cells({metric: ours[metric] - theirs[metric] for metric in METRICS})
            for a, b in _pairs(list(judged), reference)
            for ours, theirs in _on_the_same_rows(judged, a, b)
        },
        "few_shot": {
            name: _cells(one.without_ratings) for name, one in judged.items() if one.without_ratings is not None
        },
        "per_user": {
            name: {"user_srocc": _sorted_finite(one.users.values["user_srocc"])} for name, one in judged.items()
        },
        "diverging": diverging_share(*given, ratings.image_id.to_numpy(), **split.draws),
        "calibration": {
            name: calibration(*given, one.probs, one.level_values, **split.draws) for name, one in calibrated.items()
        },
        "groups": group_tables(
            ratings,
            {name: judged[name].predictions.scores for name in names},
            {name: judged[name].users for name in names},
            levels=split.levels,
            **split.draws,
        ),
    }


def _cells(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    return {metric: estimate.as_dict() for metric, estimate in estimates.items()}


def _counts(split: _Split, judged: Judged) -> dict[str, Any]:
    return {
        "ratings": len(split.ratings),
        "participants": int(split.ratings.participant_id.nunique()),
        "images": int(split.ratings.image_id.nunique()),
        "left_out": judged.users.left_out,
    }


def rating_levels(ratings: pd.DataFrame, level_values: Mapping[str, Sequence[float]]) -> np.ndarray:
    """(n,) the position of each rating on its scale, in levels."""
    levels, scales = np.zeros(len(ratings)), ratings.rating_scale.astype(str).to_numpy()
    for scale in np.unique(scales):
        values, here = np.asarray(level_values[scale], dtype=np.float64), scales == scale
        levels[here] = np.interp(ratings.score.to_numpy()[here], values, np.arange(len(values)))
    return levels


def _gaps(seen: Mapping[str, Judged], unseen: Mapping[str, Judged]) -> dict[str, dict[str, dict[str, Any]]]:
    """Seen minus unseen people of each scorer that stands on both: two samples of people, so nothing is paired."""
    gaps: dict[str, dict[str, dict[str, Any]]] = {}
    for name in seen:
        if name not in unseen:
            continue
        for metric in METRICS:
            a, b = seen[name].estimates[metric], unseen[name].estimates[metric]
            # Draws of one seed may resemble each other; a draw and another's neighbour are independent.
            people = min(a.n_users, b.n_users)
            cell = Estimate(a.value - b.value, a.draws - np.roll(b.draws, 1), people).as_dict()
            cell |= {"n_seen": a.n_users, "n_unseen": b.n_users}
            del cell["n_users"]
            gaps.setdefault(name, {})[metric] = cell
    return gaps


def _judge_scorer(
    scorer: Scorer, split: _Split, embeddings: Embeddings, few_shot: FewShot | None
) -> dict[str, Judged]:
    """The scorer under its name, and what belongs beside it on this split."""
    name, ratings, judge_rows = scorer.name, split.ratings, _Judge(scorer, split)
    every_row = np.arange(len(ratings))
    plain = scorer.predict(ratings, embeddings)
    judged = {name: judge_rows(every_row, plain)}
    if not scorer.personal:
        return judged
    if split.name.endswith("_seen"):
        for control, edit in (("no_user", without_user), ("wrong_user", with_wrong_user)):
            if control == "no_user" or ratings.participant_id.nunique() > 1:
                judged[f"{name}@{control}"] = judge_rows(every_row, scorer.predict(edit(ratings), embeddings))
    if split.name.endswith("_unseen"):
        judged[f"{name}@k=0"] = judged[name]
        for suffix, draws in (few_shot(scorer, split.name, ratings) if few_shot else {}).items():
            fitted = _mean([judge_rows(rows, predicted) for rows, predicted in draws])
            if any(len(rows) < len(ratings) for rows, _ in draws):
                before = _mean([judge_rows(rows, _only(plain, rows)) for rows, _ in draws])
                fitted = fitted._replace(without_ratings=before.estimates)
            judged[f"{name}@{suffix}"] = fitted
    return judged


def _only(predicted: Predictions, rows: np.ndarray) -> Predictions:
    """The predictions of some rows."""
    parts = {field: getattr(predicted, field) for field in ("scores", "std", "probs", "level_values")}
    if parts["probs"] is not None:
        parts["level_values"] = np.broadcast_to(parts["level_values"], np.shape(parts["probs"]))
    return Predictions(**{field: None if part is None else np.asarray(part)[rows] for field, part in parts.items()})


def _on_the_same_rows(judged: Mapping[str, Judged], a: str, b: str) -> list[tuple[dict, dict]]:
    """The estimates that `a - b` is taken of, or none if the two were judged on different rows."""
    one, other = judged[a], judged[b]
    if (one.without_ratings is None) == (other.without_ratings is None):
        return [(one.estimates, other.estimates)]
    if b.startswith(f"{a}@k=") and other.without_ratings:
        return [(other.without_ratings, other.estimates)]
    return []


def without_user(ratings: pd.DataFrame) -> pd.DataFrame:
    """The same rows without a participant: `participant_id` missing, demographics kept."""
    ids = ratings.participant_id.astype("category")
    return ratings.assign(participant_id=pd.Categorical.from_codes(np.full(len(ids), -1), dtype=ids.dtype))


def with_wrong_user(ratings: pd.DataFrame) -> pd.DataFrame:
    """The same rows under somebody else's id: of n sorted ids, the k-th becomes the (k + n // 2) mod n-th.

    The demographics stay, so what changes is what the id alone carries. With n ≥ 2 nobody keeps their id.
    """
    ids = ratings.participant_id.astype("category")
    present = sorted(ids.dropna().unique())
    swap = {one: present[(k + len(present) // 2) % len(present)] for k, one in enumerate(present)}
    place = np.array([ids.cat.categories.get_loc(swap.get(one, one)) for one in ids.cat.categories])
    codes = ids.cat.codes.to_numpy()
    swapped = np.where(codes >= 0, place[codes], -1)
    return ratings.assign(participant_id=pd.Categorical.from_codes(swapped, dtype=ids.dtype))


class _Judge:
    """Judges predictions for rows of one split by the participants who really gave the ratings."""

    def __init__(self, scorer: Scorer, split: _Split):
        self.scorer, self.split = scorer, split
        self.where = f"scorer {scorer.name!r} on split {split.name!r}"
        self.participants = sorted(split.ratings.participant_id.astype(str).unique())
        scales = [split.level_values[scale] for scale in split.ratings.rating_scale.astype(str).unique()]
        ends = {(float(values[0]), float(values[-1])) for values in scales}
        in_units = getattr(scorer, "rating_units", True) and scorer.score_range is not None
        self.in_rating_units = in_units and ends == {tuple(map(float, scorer.score_range))}

    def __call__(self, rows: np.ndarray, predicted: Predictions) -> Judged:
        scores = np.asarray(predicted.scores, dtype=np.float64)
        if scores.shape != rows.shape:
            raise ValueError(f"{self.where}: scores has shape {scores.shape}, {len(rows)} ratings were asked.")
        if len(bad := np.flatnonzero(~np.isfinite(scores))):
            image = self.split.ratings.image_id.iloc[rows[bad[0]]]
            raise ValueError(
                f"{self.where} predicted {scores[bad[0]]} in {len(bad)} of {len(rows)} rows, first row {rows[bad[0]]} "
                f"(image {image!r}). A missing score is never better than anything: fix the scorer or drop the image."
            )
        ratings = self.split.ratings.iloc[rows]
        scores = scores if self.scorer.higher_is_better else -scores
        estimates, users = judge(
            scores,
            ratings.score.to_numpy(),
            ratings.participant_id.astype(str).to_numpy(),
            ratings.image_id.astype(str).to_numpy(),
            predicted.probs,
            predicted.level_values,
            levels=self.split.levels[rows],
            participants=self.participants,
            **self.split.draws,
        )
        if predicted.probs is None and not self.in_rating_units:
            estimates["rmse"] = Estimate(math.nan, np.full_like(estimates["rmse"].draws, np.nan), 0)
            users.values["rmse"][:] = np.nan
        return Judged(estimates, users, replace(predicted, scores=scores))


def _mean(judged: list[Judged]) -> Judged:
    """The average over draws of few-shot ratings, person by person and bootstrap draw by bootstrap draw."""
    estimates = {
        metric: Estimate(
            float(np.mean([one.estimates[metric].value for one in judged])),
            np.mean([one.estimates[metric].draws for one in judged], axis=0),
            max(one.estimates[metric].n_users for one in judged),
            _anybody([one.estimates[metric].people for one in judged]),
        )
        for metric in METRICS
    }
    first = judged[0].users
    values = {metric: np.mean([one.users.values[metric] for one in judged], axis=0) for metric in first.values}
    return Judged(estimates, UserMetrics(first.participants, values, first.left_out))


def _anybody(people: list[np.ndarray | None]) -> np.ndarray | None:
    return None if any(one is None for one in people) else np.any(people, axis=0)


def _pairs(names: list[str], reference: str) -> list[tuple[str, str]]:
    """Which differences are reported: the reference against all, right, no and wrong user of each, and after the same k
    ratings the reference against each rival that can be fitted on them."""
    pairs = [(reference, other) for other in names if other not in (reference, f"{reference}@k=0")]
    pairs = pairs if reference in names else []
    for name in names:
        rival, _, few = name.partition("@k=")
        fitted = f"{reference}@k={few}"
        if few not in ("", "0") and rival != reference and fitted in names:
            # both after the same ratings: against a reference without them it would not be a comparison
            pairs[pairs.index((reference, name))] = (fitted, name)
    for name in (name.removesuffix("@no_user") for name in names if name.endswith("@no_user")):
        controls = [name, f"{name}@no_user", f"{name}@wrong_user"]
        pairs += [(a, b) for i, a in enumerate(controls) for b in controls[i + 1 :] if b in names]
    return list(dict.fromkeys(pairs))


def _chosen_splits(data: RatingData, splits: Sequence[str] | None) -> list[str]:
    there = {split for tables in (data.splits, data.choices) for split in tables}
    chosen = [split for split in DEFAULT_SPLITS if split in there] if splits is None else list(splits)
    if not chosen:
        raise ValueError(f"splits: none to evaluate; the data has {sorted(there)}. Name some, such as val_seen.")
    for split in chosen:
        if split not in there:
            raise ValueError(f"splits has {split!r}; the data has {sorted(there)}. Name some of these.")
        if not any(len(tables.get(split, ())) for tables in (data.splits, data.choices)):
            raise ValueError(f"splits has {split!r}, which holds no ratings; leave it out.")
    return chosen


def _describe(scorer: Scorer) -> dict[str, Any]:
    """What identifies a scorer: its own `identity`, or its config's `base_identity`, and its declared range."""
    identity = getattr(scorer, "identity", None) or getattr(getattr(scorer, "config", None), "base_identity", None)
    span = None if scorer.score_range is None else [float(end) for end in scorer.score_range]
    return {"identity": identity, "personal": bool(scorer.personal), "score_range": span}


def _sorted_finite(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in np.sort(values[np.isfinite(values)])]
