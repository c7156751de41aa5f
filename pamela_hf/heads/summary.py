"""A head in figures and words: how well it predicts, how it differs from everyone's taste; and its card.

All of it is counts and summaries over several images: no rating, no image and no demographic can be read from it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCardData
from scipy.stats import rankdata

from ..hub.cards import render_card
from ..metrics import MIN_RATINGS, correlation
from ..scoring import PamelaScorer, scoring_mode
from .answers import PersonAnswers
from .fitting import Answers, Posterior, held_out_utilities

FOLDS = 5
DRAWS = 500
FEWEST = 3  # images behind any figure of a group


def held_out(answers: Answers, answered: PersonAnswers, covariance: np.ndarray) -> dict[str, Any] | None:
    """Rank correlation of a person's ratings with scores fitted on the others: `{"srocc", "ci_low", "ci_high",
    "everyone", "folds"}`; `None` with fewer than `MIN_RATINGS` rated images, or no ratings that differ.

    An image rated more than once counts once, with its mean rating. Images of one prompt stay in one fold. The interval
    (95 %) resamples images; `everyone` is row 0's correlation.
    """
    rated, first, which, times = np.unique(answered.rated, return_index=True, return_inverse=True, return_counts=True)
    scores, n = np.bincount(which, answered.scores) / times, len(rated)
    if n < MIN_RATINGS or np.ptp(scores) == 0:
        return None
    group = np.arange(len(answered.keys))
    if answered.text_embeds is not None and answered.text_embeds.any():
        _, prompt = np.unique(answered.text_embeds, axis=0, return_inverse=True)
        prompted = answered.text_embeds.any(1)
        if len(np.unique(prompt[prompted])) >= FOLDS:
            group = np.where(prompted, prompt.ravel() + len(group), group)
    _, group = np.unique(group, return_inverse=True)
    fold_of_group = np.random.default_rng(0).permutation(group.max() + 1) % FOLDS
    fold = fold_of_group[group]
    if len(np.unique(fold[rated])) < 2:
        return None
    personal = held_out_utilities(answers, covariance, fold)[first]
    everyone = answers.utility[rated]
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, n, (DRAWS, n))
    draws = correlation(rankdata(personal[drawn], axis=1), rankdata(scores[drawn], axis=1))
    low, high = np.nanquantile(draws, [0.025, 0.975])
    figures = {
        "srocc": correlation(rankdata(personal), rankdata(scores)),
        "ci_low": low,
        "ci_high": high,
        "everyone": correlation(rankdata(everyone), rankdata(scores)),
    }
    return {**{key: round(float(value), 4) for key, value in figures.items()}, "folds": FOLDS}


def differences(
    scorer: PamelaScorer,
    answered: PersonAnswers,
    answers: Answers,
    found: Posterior,
    prior: np.ndarray,
    demographics: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """`distance`, `likes_more` and `unsure` of [`pamela_hf.heads.head.UserHead.describe`], over the rated images."""
    people = scorer.processor.field_ids("demographics", demographics, 1)
    rows = torch.from_numpy(np.stack([np.zeros_like(found.row), found.row]).astype(np.float32))
    inputs = {name: torch.as_tensor(value) for name, value in answered.inputs(scorer).items() if value is not None}
    with scoring_mode(scorer.model):
        out = scorer.model.score_matrix(
            **inputs, user_embeds=rows, demographic_ids=people.expand(2, -1), scale=answered.scale_id
        )
    everyone, personal = out.scores.double().cpu().numpy().T
    difference = personal - everyone
    distance = {"rank_correlation": None, "rating_units": round(float(np.abs(difference).mean()), 3)}
    if len(difference) > 1 and np.ptp(personal) > 0 and np.ptp(everyone) > 0:
        distance["rank_correlation"] = round(float(correlation(rankdata(personal), rankdata(everyone))), 4)
    slope = answers.slope - answers.slope.mean(0)
    left, before = (((slope @ covariance) * slope).sum(1) for covariance in (found.covariance, prior))
    likes_more: dict[str, dict[str, float]] = {}
    unsure: dict[str, dict[str, float]] = {}
    for field, known in scorer.config.metadata.items():
        values = np.array(["" if row.get(field) is None else str(row[field]) for row in answered.metadata])
        for value in sorted(known):  # other values teach nothing, and may be private
            here = values == value
            if here.sum() < FEWEST:
                continue
            more = difference[here].mean() - difference.mean()
            likes_more.setdefault(field, {})[value] = round(float(more), 2)
            unsure.setdefault(field, {})[value] = round(float(left[here].mean() / max(before[here].mean(), 1e-12)), 2)
    likes_more = {f: dict(sorted(v.items(), key=lambda item: -item[1])) for f, v in likes_more.items()}
    unsure = {f: dict(sorted(v.items(), key=lambda item: -item[1])) for f, v in unsure.items()}
    return {"distance": distance, "likes_more": likes_more, "unsure": unsure}


def in_words(about: Mapping[str, Any]) -> list[str]:
    """What `describe()` says as lines of text."""
    counts = [f"{about[key]} {key}" for key in ("ratings", "likes", "choices") if about.get(key)]
    lines = [", ".join(counts) or "no answers"]
    if (strength := about.get("strength", 1.0)) != 1:
        lines.append(f"At {strength:g} times its own strength (0 = everyone's taste)")
    if held := about.get("held_out"):
        lines.append(
            f"Held-out SROCC {held['srocc']:.3f} [{held['ci_low']:.3f}, {held['ci_high']:.3f}]; "
            f"everyone's taste {held['everyone']:.3f}"
        )
    if (distance := about.get("distance")) and distance.get("rank_correlation") is not None:
        lines.append(
            f"Ranks images as everyone does with correlation {distance['rank_correlation']:.2f}; "
            f"scores differ by {distance['rating_units']:.2f} on average"
        )
    for field, values in (about.get("likes_more") or {}).items():
        lines.append(f"More or less than others, {field}: {', '.join(f'{v} {d:+.2f}' for v, d in values.items())}")
    for field, values in (about.get("unsure") or {}).items():
        lines.append(f"Doubt left, {field}: {', '.join(f'{v} {100 * d:.0f} %' for v, d in values.items())}")
    return [*lines, *about.get("notes", [])]


def head_card(name: str, base: str | None, base_identity: str, about: Mapping[str, Any]) -> str:
    """The README.md of a head's folder: YAML for the Hub and a page for people.

    Args:
        name: of the person.
        base: Hub id of the model it belongs to; None: that model is not on the Hub.
        base_identity: of that model.
        about: what `describe()` gives.
    """
    data = ModelCardData(
        library_name="peft",
        **({"base_model": base, "base_model_relation": "adapter"} if base else {}),
        tags=["pamela", "personalization", "reward-model"],
    )
    return render_card(
        "model_card/head.md",
        data,
        name=name,
        base=base,
        base_argument=repr(base or "BASE"),
        base_identity=base_identity,
        facts=in_words(about),
        uses_demographics=bool(about.get("uses_demographics")),
        n_answers=sum(int(about.get(key, 0)) for key in ("ratings", "likes", "choices")),
    )
