"""Any scorer on any split, judged person by person: the report as a dict, a console table, JSON and HTML.

The report::

    {"splits":      {split: {scorer: {metric: {"value", "ci_low", "ci_high", "n_users"}}}},
     "differences": {split: {"A - B": {metric: the same four, paired over the people}}},
     "per_user":    {split: {scorer: {"user_srocc": sorted values, nobody's name}}},
     "meta":        {"version", "seed", "bootstrap", "reference", "simulated", "data", "scorers", "counts"}}

Metrics and intervals are those of `pamela_hf.metrics`. A personal scorer NAME has two controls on `*_seen`
splits, made by editing the ratings table alone: `NAME@no_user` (nobody's id, demographics kept) and
`NAME@wrong_user` (the ids swapped by a fixed derangement, demographics kept). On `*_unseen` splits people are
unknown to it anyway, and the same numbers stand under `NAME@k=0`, where few-shot results (`NAME@k=20`, …) can
be read against them.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .baselines import load_baseline
from .builder import load_ratings
from .data import RatingData
from .embeddings import Embeddings, load_embeddings
from .few_shot import FewShotFits
from .metrics import METRICS, Estimate, UserMetrics, judge
from .report import render_html
from .scoring import PamelaScorer, Predictions, Scorer
from .version import __version__

DEFAULT_SPLITS = ("val_seen", "val_unseen", "test_seen", "test_unseen")

FewShot = Callable[[Scorer, str, pd.DataFrame], Mapping[str, Sequence[tuple[np.ndarray, Predictions]]]]
"""few_shot(scorer, split, ratings) → suffix such as "k=20" → one (rows judged, their predictions) per draw of the
ratings fitted on. Per-user values and bootstrap draws are averaged over the draws."""

Judged = tuple[dict[str, Estimate], UserMetrics]


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
) -> dict[str, Any]:
    """What `scripts/evaluate.py` and `pamela evaluate` do: load, fit the baselines on train, evaluate, write.

    Args:
        model: model folder or Hub id.
        data: anything `load_ratings` reads.
        output: folder for `report.json` and `report.html`.
        baselines: names of modules in `pamela_hf/baselines`, fitted on the train split.
        embeddings: features of all images; default: those beside the ratings.
        simulated: the ratings are made up, and the report says so; default: if they are the demo world's.
        splits, bootstrap, seed: as in `evaluate`.
        few_shot, draws, select: numbers of own ratings to fit unseen people on, how often each is drawn, and how
            they are chosen, see [`pamela_hf.few_shot.FewShotFits`].

    Returns:
        The report. Raises ValueError or FileNotFoundError for what is missing or misnamed, before any work.
    """
    modules = {name: load_baseline(name) for name in baselines}
    ratings = load_ratings(data)
    _chosen_splits(ratings.splits, splits)
    path = embeddings or ratings.embeddings
    if path is None:
        raise FileNotFoundError(
            f"{os.fspath(data)!r} has no embeddings.safetensors, which evaluation reads. Run scripts/embed.py on it."
        )
    if modules and "train" not in ratings.splits:
        raise ValueError(f"baselines={sorted(modules)} are fitted on the train split, which {data!s} lacks.")
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
        scorers.append(module.fit(ratings.splits["train"], features, seed=seed, **context))
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
    )
    if fits is not None:
        report["meta"]["few_shot"] = {"k": sorted(few_shot), "draws": draws, "select": select}
    write_report(report, output)
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
) -> dict[str, Any]:
    """Judges every scorer on every split.

    Args:
        scorers: with distinct names. rmse is reported of those that give probabilities or whose `score_range`
            is that of the ratings; coverage of those that give probabilities.
        data: ratings by split, and the levels of each rating scale.
        embeddings: of every image in the splits.
        splits: default: the val and test splits there are. Choices belong on val; read test once per claim.
        bootstrap: draws of people for the intervals, 0 for none. seed: of the draws and of the randomized
        PIT. reference: the scorer that all others are subtracted from, if it is among them. few_shot: see
        `FewShot`; called for each personal scorer on each `*_unseen` split.

    Raises:
        ValueError: a split that is unknown or empty, two scorers of one name, predictions of a wrong length,
        or
            not finite (with scorer, split and row).
    """
    names = [scorer.name for scorer in scorers]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"scorers are named {names}; give at least one, each with a name of its own.")
    if bootstrap < 0:
        raise ValueError(f"bootstrap={bootstrap}; the number of draws is 0 (no intervals) or more, such as 1000.")
    chosen = _chosen_splits(data.splits, splits)
    meta: dict[str, Any] = {
        "version": __version__,
        "seed": seed,
        "bootstrap": bootstrap,
        "reference": reference,
        "simulated": simulated,
        "data": data.name,
        "scorers": {scorer.name: _describe(scorer) for scorer in scorers},
        "counts": {},
    }
    report: dict[str, Any] = {"splits": {}, "differences": {}, "per_user": {}, "meta": meta}
    with tqdm(total=len(chosen) * len(scorers), desc="evaluating") as progress:
        for split in chosen:
            ratings = data.splits[split].reset_index(drop=True)
            judged: dict[str, Judged] = {}
            for scorer in scorers:
                progress.set_postfix_str(f"{split} {scorer.name}")
                judge_rows = _Judge(scorer, split, ratings, data.level_values, bootstrap, seed)
                judged |= _judge_scorer(scorer, split, ratings, embeddings, judge_rows, few_shot)
                progress.update()
            report["splits"][split] = {
                name: {metric: estimate.as_dict() for metric, estimate in estimates.items()}
                for name, (estimates, _) in judged.items()
            }
            report["differences"][split] = {
                f"{a} - {b}": {m: (judged[a][0][m] - judged[b][0][m]).as_dict() for m in METRICS}
                for a, b in _pairs(list(judged), reference)
            }
            report["per_user"][split] = {
                name: {"user_srocc": _sorted_finite(users.values["user_srocc"])} for name, (_, users) in judged.items()
            }
            meta["counts"][split] = {
                "ratings": len(ratings),
                "participants": int(ratings.participant_id.nunique()),
                "images": int(ratings.image_id.nunique()),
                "left_out": judged[names[0]][1].left_out,
            }
    return report


def _judge_scorer(scorer, split, ratings, embeddings, judge_rows, few_shot) -> dict[str, Judged]:
    """The scorer under its name, and what belongs beside it on this split."""
    name = scorer.name
    everyone = np.arange(len(ratings))
    judged = {name: judge_rows(everyone, scorer.predict(ratings, embeddings))}
    if not scorer.personal:
        return judged
    if split.endswith("_seen"):
        for control, edit in (("no_user", without_user), ("wrong_user", with_wrong_user)):
            if control == "no_user" or ratings.participant_id.nunique() > 1:
                judged[f"{name}@{control}"] = judge_rows(everyone, scorer.predict(edit(ratings), embeddings))
    if split.endswith("_unseen"):
        judged[f"{name}@k=0"] = judged[name]
        for suffix, draws in (few_shot(scorer, split, ratings) if few_shot else {}).items():
            judged[f"{name}@{suffix}"] = _mean([judge_rows(rows, predicted) for rows, predicted in draws])
    return judged


def without_user(ratings: pd.DataFrame) -> pd.DataFrame:
    """The same rows given by nobody in particular: `participant_id` missing, demographics kept."""
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

    def __init__(self, scorer, split, ratings, level_values, bootstrap, seed):
        if ratings.participant_id.isna().any():
            raise ValueError(f"split {split!r} has ratings without participant_id; taste is judged per person.")
        self.scorer, self.where = scorer, f"scorer {scorer.name!r} on split {split!r}"
        self.ratings, self.options = ratings, {"bootstrap": bootstrap, "seed": seed}
        self.options["participants"] = sorted(ratings.participant_id.astype(str).unique())
        self.levels = np.zeros(len(ratings))
        scales = ratings.rating_scale.astype(str).to_numpy()
        ends = set()
        for scale in np.unique(scales):
            values = np.asarray(level_values[scale], dtype=np.float64)
            here = scales == scale
            self.levels[here] = np.interp(ratings.score.to_numpy()[here], values, np.arange(len(values)))
            ends.add((values[0], values[-1]))
        in_units = getattr(scorer, "rating_units", True) and scorer.score_range is not None
        self.in_rating_units = in_units and ends == {tuple(map(float, scorer.score_range))}

    def __call__(self, rows: np.ndarray, predicted: Predictions) -> Judged:
        scores = np.asarray(predicted.scores, dtype=np.float64)
        if scores.shape != rows.shape:
            raise ValueError(f"{self.where}: scores has shape {scores.shape}, {len(rows)} ratings were asked.")
        if len(bad := np.flatnonzero(~np.isfinite(scores))):
            image = self.ratings.image_id.iloc[rows[bad[0]]]
            raise ValueError(
                f"{self.where} predicted {scores[bad[0]]} in {len(bad)} of {len(rows)} rows, first row {rows[bad[0]]} "
                f"(image {image!r}). A missing score is never better than anything: fix the scorer or drop the image."
            )
        ratings = self.ratings.iloc[rows]
        estimates, users = judge(
            scores if self.scorer.higher_is_better else -scores,
            ratings.score.to_numpy(),
            ratings.participant_id.astype(str).to_numpy(),
            ratings.image_id.astype(str).to_numpy(),
            predicted.probs,
            predicted.level_values,
            levels=self.levels[rows],
            **self.options,
        )
        if predicted.probs is None and not self.in_rating_units:
            estimates["rmse"] = Estimate(math.nan, np.full_like(estimates["rmse"].draws, np.nan), 0)
        return estimates, users


def _mean(judged: list[Judged]) -> Judged:
    """The average over draws of few-shot ratings, person by person and bootstrap draw by bootstrap draw."""
    estimates = {
        metric: Estimate(
            float(np.mean([e[metric].value for e, _ in judged])),
            np.mean([e[metric].draws for e, _ in judged], axis=0),
            max(e[metric].n_users for e, _ in judged),
        )
        for metric in METRICS
    }
    values = {metric: np.mean([users.values[metric] for _, users in judged], axis=0) for metric in judged[0][1].values}
    return estimates, UserMetrics(judged[0][1].participants, values, judged[0][1].left_out)


def _pairs(names: list[str], reference: str) -> list[tuple[str, str]]:
    """Which differences are reported: the reference against all, and right, no and wrong user of each."""
    pairs = [(reference, other) for other in names if other not in (reference, f"{reference}@k=0")]
    pairs = pairs if reference in names else []
    for name in (name.removesuffix("@no_user") for name in names if name.endswith("@no_user")):
        controls = [name, f"{name}@no_user", f"{name}@wrong_user"]
        pairs += [(a, b) for i, a in enumerate(controls) for b in controls[i + 1 :] if b in names]
    return list(dict.fromkeys(pairs))


def _chosen_splits(there: Mapping[str, pd.DataFrame], splits: Sequence[str] | None) -> list[str]:
    chosen = [split for split in DEFAULT_SPLITS if split in there] if splits is None else list(splits)
    if not chosen:
        raise ValueError(f"splits: none to evaluate; the data has {sorted(there)}. Name some, such as val_seen.")
    for split in chosen:
        if split not in there:
            raise ValueError(f"splits has {split!r}; the data has {sorted(there)}. Name some of these.")
        if not len(there[split]):
            raise ValueError(f"splits has {split!r}, which holds no ratings; leave it out.")
    return chosen


def _describe(scorer: Scorer) -> dict[str, Any]:
    """What identifies a scorer: its own `identity`, or its config's `base_identity`, and its declared range."""
    identity = getattr(scorer, "identity", None) or getattr(getattr(scorer, "config", None), "base_identity", None)
    span = None if scorer.score_range is None else [float(end) for end in scorer.score_range]
    return {"identity": identity, "personal": bool(scorer.personal), "score_range": span}


def _sorted_finite(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in np.sort(values[np.isfinite(values)])]


def metric_table(report: Mapping[str, Any]) -> str:
    """The report for a console: a row per scorer with its intervals beneath, the best of each column starred.

    Best is highest, but lowest for rmse and nearest to .80 for coverage_80.
    """
    short = {"coverage_80": "cover_80"}
    width, first = (
        10,
        max([12, *(len(name) + 1 for scorers in report["splits"].values() for name in scorers)]),
    )
    lines = []
    for split, scorers in report["splits"].items():
        count = report["meta"]["counts"][split]
        lines.append(
            f"\n{split}: {count['ratings']:,} ratings of {count['images']:,} images by {count['participants']:,} people"
            f" (left out: {count['left_out']['few_ratings']} with few, "
            f"{count['left_out']['constant_ratings']} with constant ratings)"
        )
        heads = [short.get(metric, metric).replace("user_", "").replace("pairwise", "pair") for metric in METRICS]
        lines.append(" " * first + "".join(head.rjust(width) for head in heads))
        losses = {
            metric: {name: _loss(metric, cells[metric]["value"]) for name, cells in scorers.items()}
            for metric in METRICS
        }
        for name, cells in scorers.items():
            values, intervals = "", ""
            for metric in METRICS:
                best = losses[metric][name] < math.inf and losses[metric][name] == min(losses[metric].values())
                values += (_number(cells[metric]["value"], 3) + ("*" if best else " ")).rjust(width)
                low, high = (_number(cells[metric][end], 2) for end in ("ci_low", "ci_high"))
                intervals += ("" if low == "–" else f"{low}–{high} ").rjust(width)
            lines += [name.ljust(first) + values, " " * first + intervals]
    lines.append("\n* best; beneath each value its 95 % interval over people; coverage_80 is right at .80")
    return "\n".join(line.rstrip() for line in lines)


def _loss(metric: str, value: float | None) -> float:
    if value is None or math.isnan(value):
        return math.inf
    return {"rmse": value, "coverage_80": abs(value - 0.8)}.get(metric, -value)


def _number(value: float | None, digits: int) -> str:
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def write_report(report: Mapping[str, Any], out_dir: str | os.PathLike) -> tuple[Path, Path]:
    """Writes `report.json` (strict JSON, NaN as null) and `report.html`, each whole or not at all."""
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    plain = _without_nan(report)
    text = json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return _write(folder / "report.json", text), _write(folder / "report.html", render_html(plain))


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, (np.integer, np.bool_)) else value


def _write(path: Path, text: str) -> Path:
    """Beside the target, then moved over it: a reader sees the old file or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
