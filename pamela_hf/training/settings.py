"""Settings that training chooses itself: the shares of prompts, metadata and linear taste, and how far people differ.

Most are chosen by evidence: people's ratings, less what others say of the same images, are taken for Gaussian processes
with a linear kernel for each kind of feature, and the shares of the kernels, their variance and the noise maximize the
marginal likelihood (Rasmussen & Williams 2006, *Gaussian Processes for Machine Learning*, 5.4). So is the part of
everyone's taste that is linear, beside a squared-exponential kernel. What has no closed form is asked of a pilot, see
[`pamela_hf.training.pilot`].
"""

import copy
import dataclasses
import json
import math
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from scipy.optimize import minimize
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from ..embeddings import Embeddings
from ..files.writing import write_text
from ..metrics import user_metrics
from ..model.configuration_pamela import PamelaConfig
from ..model.factors_pamela import Ratings
from ..model.features_pamela import AXES_POWER, METADATA_AXES, PamelaFeatures
from ..ratings.table import RatingData
from ..scoring import PamelaScorer
from .batches import epoch_batches
from .config import CHOSEN, Choice, TrainingConfig
from .pilot import choose_by_pilot
from .run import all_features, build_config, informative_answers, start, training_answers

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# What of the linear part of everyone's taste the share is, by the number of images: the fewer, the less networks are
# worth beside it. Calibrated where the best share by hand is known: on OASIS' 567 images (linear part .6, best share
# .25 to .45), on 40 to 300 of them, and in simulated and made-up worlds of 40 to 100 (best share .4 to 1, on average
# 1.1 of the part). Least squares on the unseen images of two or three pilots told hardly more (SROCC .0005 on average)
# and took .6 on OASIS.
LINEAR_OF_PART = ((150, 1.1), (500, 0.75))
# Networks know few images by heart. Of 80 that made-up people rated by whom they show, .34 were 1.1 of the part, and .5
# ranks others by .765 in place of .756; of a hundred of the simulated world's, .511 in place of .506.
LEAST_LINEAR = ((100, 0.5), (200, 0.0))
LENGTHSCALES = (0.5, 0.7, 1.0, 1.4)  # of the squared-exponential kernel, where images' mean squared length is 1
# The evidence of so many is sharp already, and takes seconds.
MOST_PEOPLE, MOST_RATINGS, MOST_IMAGES = 120, 120, 500
FEWEST_RATERS = 3  # of an image, for its mean to be somebody else's
# People who rate the same few images share what moves them: no more of them count than there are images. What little
# these say is weighed against usual shares, those of many ratings: .35 to .5 of prompts, .05 to .2 of metadata. By the
# likelihood alone a draw of 40 of OASIS' images gave .85, and other images ranked by .433; by .488 with .3, and .465
# with .6. Three more draws of 40 and 80 are .004 to .012 better with .3 than with .6, too.
USUAL_TEXT_SHARE, TEXT_SHARE_STD, USUAL_METADATA_SHARE = 0.35, 0.08, 0.2
# Half a log-likelihood ratio test at 5 %: within it, a value is as good as the best.
AS_GOOD = 2.0
AS_GOOD_SROCC = 0.003  # less of it tells nothing
# Rows' prior where people's variance is that of the noise, by cross-validation on OASIS (flat from .2 to .4).
ROW_PRIOR_STD = 0.25
# So many people always tell what they share; few may be better off with tastes that are all their own.
MANY_PEOPLE = 100
# Of few images, the penalty of what people share is asked: the best by closed forms is 3 where 60 made-up people rated
# 48 images on two levels (others ranked by .627, with 12 by .583), 24 for 60 people of OASIS (.452, with 12 .419).
# Cross-validation finds both, and so do a third of the steps. The bounds keep it from growing with the ratings.
FACTORS = {"taste_factors", "factor_penalty"}
FACTOR_PENALTIES = (3.0, 6.0, 12.0, 24.0)
FACTOR_IMAGES, FACTOR_RATINGS, FACTOR_FOLDS, FACTOR_STEPS = 1_000, 50_000, 3, 30
# Fewer images are not divided.
FEWEST_IMAGES = 10
# Few ratings make few steps, and networks that have not learned: in the simulated world of `make demo`, 20 steps an
# epoch, 16 epochs rank other images .013 better than 4 and new people's .020 (three seeds). On cuts of OASIS to 60
# people, to 40 or 80 images, and to 100, 50 or 20 ratings a person, they are worth .008, .003, .001, -.002, -.004 and
# -.002, and less error everywhere. OASIS whole makes 62 steps an epoch; 5 epochs are worth what 4 are.
FEWEST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 320, 4, 16


def best_of(values: tuple[float, ...], found: np.ndarray, as_good: float, usual: float | None = None) -> Choice:
    """The value whose figure in `found` is the highest, between its neighbours by a parabola, and the range of values
    whose figures are less by no more than `as_good`; with `usual`, of that range the value nearest to it."""
    grid, at = np.asarray(values), int(np.argmax(found))
    good = grid[found >= found[at] - as_good]
    value, width = grid[at], 0.0
    if 0 < at < len(grid) - 1:
        a, b, _ = np.polyfit(grid[at - 1 : at + 2] - value, found[at - 1 : at + 2], 2)
        if a < 0:
            value, width = value - b / (2 * a), (as_good / -a) ** 0.5
    low, high = max(grid[0], value - width), min(grid[-1], value + width)
    low, high = min(float(good.min()), low), max(float(good.max()), high)
    return Choice(float(value if usual is None else np.clip(usual, low, high)), low, high)


# -- a run's settings ----------------------------------------------------------------------------------------------
def settle(
    config: TrainingConfig,
    data: RatingData,
    embeddings: Embeddings,
    accelerator: Accelerator,
    output: Path,
    resume: bool,
    progress: bool = False,
) -> tuple[TrainingConfig, dict[str, dict[str, float]]]:
    """The configuration with a number in place of every "auto", and the choices, see [`Choice.as_dict`].
    `output/settings.json` keeps them for a resumed run. Every process must call it."""
    path = output / "settings.json"
    if resume and path.exists():
        found = [json.loads(path.read_text(encoding="utf-8"))]
    else:
        with tqdm(desc="settings", total=3, disable=not (progress and accelerator.is_main_process)) as bar:
            choices = _choose(config, data, embeddings, accelerator, bar)
        found = [{name: choice.as_dict() for name, choice in choices.items()}]
        if accelerator.is_main_process and found[0]:
            write_text(path, json.dumps(found[0], indent=1))
    chosen = broadcast_object_list(found)[0]
    return _with(config, {name: choice["value"] for name, choice in chosen.items()}), chosen


def _with(config: TrainingConfig, values: dict[str, float]) -> TrainingConfig:
    """The configuration with these values; epochs and a prior width that are still "auto" become the usual ones."""
    width = values.get("row_prior_std", ROW_PRIOR_STD if config.is_auto("row_prior_std") else config.row_prior_std)
    epochs = round(values.get("epochs", FEWEST_EPOCHS if config.is_auto("epochs") else config.epochs))
    shares = {name: value for name, value in values.items() if name in CHOSEN}
    if "taste_factors" in shares:
        shares["taste_factors"] = round(shares["taste_factors"])
    return dataclasses.replace(config, epochs=epochs, row_prior_std=width, model={**config.model, **shares})


def _choose(
    config: TrainingConfig, data: RatingData, embeddings: Embeddings, accelerator: Accelerator, bar: tqdm
) -> dict[str, Choice]:
    """What is "auto" and can be told from the training answers: by evidence, by cross-validation, by a pilot."""
    wanted = {name for name in ("epochs", "row_prior_std", *CHOSEN) if config.is_auto(name)}
    wanted -= {"linear_share", "taste_share"} if "linear" in config.without else set()
    wanted -= FACTORS if set(config.without) & {"taste_factors", "user", "linear"} else set()
    chosen: dict[str, Choice] = {}
    if "epochs" in wanted:
        chosen["epochs"] = choose_epochs(config, data, embeddings)
    if wanted - FACTORS - {"epochs", "taste_share"}:
        with threadpool_limits(1, user_api="blas"):  # many small matrices: threads would wait for each other
            found = choose_shares(*_answered(_with(config, {}), data, embeddings), config.seed)
        chosen |= {name: choice for name, choice in found.items() if name in wanted}
    bar.update()
    if wanted & FACTORS:
        settled = _with(config, {name: choice.value for name, choice in chosen.items()})
        known = _answered(settled, data, embeddings)
        chosen |= choose_factors(build_config(settled, data, embeddings), *known, config.seed, wanted)
    bar.update()
    if "taste_share" in wanted:

        def begin(config: TrainingConfig, part: RatingData) -> Callable[[int], PamelaScorer]:
            run = start(config, part, embeddings, accelerator, Path(), keep_backbone=False)

            def train_on(epochs: int) -> PamelaScorer:
                run.pilot(epochs, progress=not bar.disable)
                return PamelaScorer(accelerator.unwrap_model(run.model))

            return train_on

        settled = _with(config, {name: choice.value for name, choice in chosen.items()})
        few_steps = "epochs" in wanted and settled.epochs == MOST_EPOCHS
        chosen |= choose_by_pilot(settled, data, embeddings, begin, few_steps)
        accelerator.free_memory()  # a checkpoint of the training is not to hold the pilot
    bar.update()
    return chosen


def _answered(
    config: TrainingConfig, data: RatingData, embeddings: Embeddings
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, Ratings]:
    """Features of the images that somebody answered about and of their prompts, their metadata, and the answers."""
    model_config = build_config(config, data, embeddings)
    answers = training_answers(config, data, model_config, embeddings)
    used, metadata_ids = answers.images()
    features = all_features(embeddings, model_config).rows(torch.from_numpy(used))
    informative = informative_answers(data.splits.get("train"), answers, used, features)
    if model_config.normalize_embeds:
        features = tuple(None if part is None else F.normalize(part, dim=-1) for part in features)
    image, text = (None if part is None else part.numpy() for part in features)
    return image, text, metadata_ids, informative


def choose_epochs(config: TrainingConfig, data: RatingData, embeddings: Embeddings) -> Choice:
    """`epochs` that make [`FEWEST_STEPS`], within [`FEWEST_EPOCHS`] and [`MOST_EPOCHS`]."""
    usual = _with(config, {})
    answers = training_answers(usual, data, build_config(usual, data, embeddings), embeddings)
    steps = len(epoch_batches(answers.arrays, usual, 0, answers.choices))
    epochs = float(np.clip(math.ceil(FEWEST_STEPS / steps), FEWEST_EPOCHS, MOST_EPOCHS))
    return Choice(epochs, epochs, epochs)


# -- by evidence ---------------------------------------------------------------------------------------------------
@dataclass
class _Group:
    """One person's deviations from others, or the images' mean ratings: `images (n,)` and `value (n,)`; and the
    products `(n, n)` of these images' features and of their prompts'."""

    images: np.ndarray
    value: np.ndarray
    of_image: np.ndarray
    of_text: np.ndarray | None

    def joint(self, text_share: float) -> np.ndarray:
        return self.of_image if self.of_text is None else (1 - text_share) * self.of_image + text_share * self.of_text


def choose_shares(
    image: np.ndarray, text: np.ndarray | None, metadata_ids: np.ndarray, ratings: Ratings, seed: int = 0
) -> dict[str, Choice]:
    """`text_share`, `metadata_share`, `linear_share` and `row_prior_std` of training ratings, those that they tell
    anything about.

    Args:
        image: `(I, D)` features of the rated images, as they are compared (of unit length where the model makes them
            so).
        text: `(I, Dt)` features of their prompts, 0 where there is none; `None` = a model without prompts.
        metadata_ids: `(I, F)` value of each metadata field, 0 = unknown.
        ratings: of these images, in the raters' own standard deviations.
        seed: which people and images are looked at where there are many.
    """
    rng = np.random.default_rng(seed)
    features = [_Scaled(part) for part in (image, text) if part is not None]
    answered, means = _deviations(ratings, len(image), rng)
    people = [_group(features, *answers) for answers in answered]
    everyone = [_group(features, *means)] if means else []
    if not people:
        return {}
    chosen: dict[str, Choice] = {}
    text_share, metadata_share, within = 0.0, 0.0, None
    sample = rng.permutation(len(image))[:MOST_IMAGES]
    weight, grid = min(1.0, len(image) / len(people)), np.array(SHARES)
    for _ in range(2):  # each depends on the other a little
        if text is not None:
            found = []
            for share in SHARES:
                kernels = _mixed([one.joint(share) for one in people], within, metadata_share)
                alike = _evidence([one.joint(share) for one in everyone], everyone)[0] if everyone else 0.0
                found.append(alike + weight * _evidence(kernels, people)[0])
            usual = -0.5 * ((grid - USUAL_TEXT_SHARE) / TEXT_SHARE_STD) ** 2
            chosen["text_share"] = best_of(SHARES, np.array(found) + usual, AS_GOOD)
            text_share = chosen["text_share"].value
        if metadata_ids.shape[1]:
            within = _within_kinds(features, text_share, metadata_ids, sample, people)
            joint = [one.joint(text_share) for one in people]
            found = [weight * _evidence(_mixed(joint, within, share), people)[0] for share in SHARES]
            usual = -grid / USUAL_METADATA_SHARE  # of an exponential distribution
            chosen["metadata_share"] = best_of(SHARES, np.array(found) + usual, AS_GOOD)
            metadata_share = chosen["metadata_share"].value
    if everyone:
        chosen["linear_share"] = _linear_share(everyone[0], text_share, len(image))
    kernels = _mixed([one.joint(text_share) for one in people], within, metadata_share)
    _, variance, noise = _evidence(kernels, people)
    width = float(np.clip(ROW_PRIOR_STD * (variance / noise) ** 0.5, 0.05, 1.0))
    chosen["row_prior_std"] = Choice(width, width, width)
    return chosen


class _Scaled:
    """Features `(I, D)`, centred and of mean squared length 1, a few images at a time: there may be very many."""

    def __init__(self, features: np.ndarray):
        self.features = features
        self.mean = features.mean(0, dtype=np.float64)
        squares = np.einsum("nd,nd->", features, features, dtype=np.float64) / len(features)
        self.size = max(float(squares - self.mean @ self.mean), 1e-12) ** 0.5

    def __getitem__(self, images: np.ndarray) -> np.ndarray:
        return (self.features[images] - self.mean) / self.size


def _group(features: list[_Scaled], images: np.ndarray, value: np.ndarray) -> _Group:
    products = [part @ part.T for part in (one[images] for one in features)]
    return _Group(images, value, products[0], products[1] if len(products) > 1 else None)


def _mixed(joint: list[np.ndarray], within: list[np.ndarray] | None, share: float) -> list[np.ndarray]:
    return joint if within is None else [(1 - share) * one + share * kinds for one, kinds in zip(joint, within)]


def _deviations(
    ratings: Ratings, images: int, rng: np.random.Generator
) -> tuple[list[tuple[np.ndarray, np.ndarray]], tuple[np.ndarray, np.ndarray] | None]:
    """Of some people, which images they rated and how far from what others say of them; and the images' means, if
    enough have several raters. People's own means are left out of both by the evidence."""
    person, image, value = (np.asarray(part) for part in (ratings.person, ratings.image, ratings.value))
    total, raters = (np.bincount(image, weights, images) for weights in (value, None))
    others = (total[image] - value) / np.maximum(raters[image] - 1, 1)
    deviation = value - np.where(raters[image] >= FEWEST_RATERS, others, 0.0)
    people = []
    order = np.argsort(person, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(person[order])) + 1):
        if len(rows) >= 8:
            rows = rng.permutation(rows)[:MOST_RATINGS]
            people.append((image[rows], deviation[rows]))
    people = [people[i] for i in rng.permutation(len(people))[:MOST_PEOPLE]]
    common = rng.permutation(np.flatnonzero(raters >= FEWEST_RATERS))[:MOST_IMAGES]
    return people, (common, (total / np.maximum(raters, 1))[common]) if len(common) >= 20 else None


def _within_kinds(
    features: list[_Scaled], text_share: float, metadata_ids: np.ndarray, sample: np.ndarray, people: list[_Group]
) -> list[np.ndarray]:
    """Of each person's images `(n, n)` what the first axes of the joint features mean among images of one kind, on
    average over the metadata fields; axes and scales are those of a `sample` of images."""
    shares = (1 - text_share, text_share) if len(features) > 1 else (1.0,)

    def joint(images: np.ndarray) -> np.ndarray:
        return np.hstack([share**0.5 * part[images] for share, part in zip(shares, features)])

    some = joint(sample)
    spread, directions = np.linalg.eigh(some @ some.T)
    axes = some.T @ directions[:, -METADATA_AXES:] / np.sqrt(spread[-METADATA_AXES:].clip(1e-12))
    squares = ((some @ axes) ** 2).sum(1)
    fields = metadata_ids.T
    sizes = [max(float((squares * (ids[sample] > 0)).mean()), 1e-12) for ids in fields]
    out = []
    for one in people:
        few = joint(one.images) @ axes
        inner = few @ few.T
        kernel = np.zeros_like(inner)
        for ids, size in zip(fields, sizes):
            here = ids[one.images]
            kernel += inner * ((here[:, None] == here) & (here > 0)) / (size * len(fields))
        out.append(kernel)
    return out


def _evidence(kernels: list[np.ndarray], groups: list[_Group]) -> tuple[float, float, float]:
    """Log marginal likelihood of the groups' values, each with a mean of its own, at the best variance of their kernels
    and of the noise, which all share; and these two. What the values are without their mean counts: restricted
    maximum likelihood, as one direction of each group says nothing of the noise."""

    def along_axes(kernel: np.ndarray, one: _Group) -> tuple[np.ndarray, np.ndarray]:
        inner = kernel - kernel.mean(0)
        inner = inner - inner.mean(1, keepdims=True)
        spread, axes = np.linalg.eigh(inner)
        return spread.clip(0), (axes.T @ (one.value - one.value.mean())) ** 2

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # one small matrix keeps one core busy
        spread, square = map(np.concatenate, zip(*pool.map(along_axes, kernels, groups)))

    def cost(logs: np.ndarray) -> tuple[float, np.ndarray]:
        variance, noise = np.exp(logs)
        total = variance * spread + noise
        slope = 0.5 / total - 0.5 * square / total**2
        value = 0.5 * ((np.log(total) + square / total).sum() - len(groups) * logs[1])
        return value, np.array([variance * (slope * spread).sum(), noise * slope.sum() - 0.5 * len(groups)])

    found = minimize(cost, np.log([0.3, 0.3]), jac=True, method="L-BFGS-B", bounds=[(-12, 5), (-7, 5)])
    return -float(found.fun), *map(float, np.exp(found.x))


def _linear_share(everyone: _Group, text_share: float, images: int) -> Choice:
    """[`LINEAR_OF_PART`] of the part of everyone's taste that is linear, where there are so many images: its mean, and
    between which values nine tenths of its probability lie; [`LEAST_LINEAR`] at least."""
    kernel = everyone.joint(text_share)
    kernel = kernel - kernel.mean(0)
    kernel = kernel - kernel.mean(1, keepdims=True)
    kernel /= kernel.diagonal().mean()
    variance, axes = np.linalg.eigh(kernel)
    linear = (axes * variance.clip(0) ** AXES_POWER) @ axes.T
    linear /= linear.diagonal().mean()
    apart = (kernel.diagonal()[:, None] + kernel.diagonal() - 2 * kernel).clip(0)
    parts = np.linspace(0, 1, 11)
    found = np.array([
        [_evidence([part * linear + (1 - part) * np.exp(-apart / (2 * length**2))], [everyone])[0] for part in parts]
        for length in LENGTHSCALES
    ])  # fmt: skip
    probability = np.exp(found - found.max()).sum(0)
    probability /= probability.sum()
    of_part, least = (
        np.interp(np.log(images), *zip(*((np.log(count), value) for count, value in table)))
        for table in (LINEAR_OF_PART, LEAST_LINEAR)
    )
    shares, below = (of_part * parts).clip(max=SHARES[-1]), probability.cumsum()
    low, high = shares[np.searchsorted(below, 0.05)], shares[np.searchsorted(below, 0.95)]
    return Choice(*(max(float(share), float(least)) for share in (probability @ shares, low, high)))


# -- by cross-validation -------------------------------------------------------------------------------------------
def choose_factors(
    config: PamelaConfig,
    image: np.ndarray,
    text: np.ndarray | None,
    metadata_ids: np.ndarray,
    ratings: Ratings,
    seed: int = 0,
    wanted: Collection[str] = FACTORS,
) -> dict[str, Choice]:
    """`taste_factors`, the config's or 0, where there are few people, and `factor_penalty`, where there are few images,
    by how well linear tastes rank each person's images that were not fitted to. Nothing where there are many of both,
    too few images, or no linear tastes. What is not `wanted` stays the config's. The other arguments are those of
    [`choose_shares`]."""
    person, value = (np.asarray(part) for part in (ratings.person, ratings.value))
    few_people = "taste_factors" in wanted and len(np.unique(person)) < MANY_PEOPLE
    few_images = "factor_penalty" in wanted and len(image) <= FACTOR_IMAGES and len(value) <= FACTOR_RATINGS
    linear = config.users and config.tastes and config.linear_share  # without, nobody's taste is fitted in closed form
    if not linear or not config.taste_factors or not (few_people or few_images) or len(image) < FEWEST_IMAGES:
        return {}
    penalties = FACTOR_PENALTIES if few_images else (config.factor_penalty,)

    def reached(count: int, penalty: float) -> float:
        tried = copy.deepcopy(config)
        tried.taste_factors, tried.factor_penalty = count, penalty
        liked = _liked_unseen(tried, image, text, metadata_ids, ratings, seed)
        return user_metrics(liked, value, pd.Series(person.astype(str))).mean("user_srocc")

    by_penalty = np.array([reached(config.taste_factors, penalty) for penalty in penalties])
    if not np.isfinite(by_penalty).all():  # nobody has rated enough
        return {}
    chosen = {}
    if few_images:
        grid, usual = tuple(map(math.log, penalties)), math.log(config.factor_penalty)
        found = best_of(grid, by_penalty, AS_GOOD_SROCC, usual)
        chosen["factor_penalty"] = Choice(*map(math.exp, (found.value, found.low, found.high)))
    if few_people:
        counts, by_count = (0, config.taste_factors), np.array([reached(0, config.factor_penalty), by_penalty.max()])
        chosen["taste_factors"] = best_of(counts, by_count, AS_GOOD_SROCC, config.taste_factors)
    return chosen


def _liked_unseen(
    config: PamelaConfig,
    image: np.ndarray,
    text: np.ndarray | None,
    metadata_ids: np.ndarray,
    ratings: Ratings,
    seed: int,
) -> np.ndarray:
    """`(n,)` how each rater likes each rated image by linear tastes that were fitted to other images."""
    person, rated, value = (np.asarray(part) for part in (ratings.person, ratings.image, ratings.value))
    liked = np.zeros(len(value))
    for fitted, held in KFold(FACTOR_FOLDS, shuffle=True, random_state=seed).split(image):
        place = np.full(len(image), -1)
        place[fitted] = np.arange(len(fitted))
        known = place[rated] >= 0
        part = Ratings(*(torch.from_numpy(a[known]) for a in (person, place[rated], value)), ratings.people)
        features = PamelaFeatures(config)

        def of(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
            texts = None if text is None else torch.from_numpy(text[rows])
            return torch.from_numpy(image[rows]), texts, torch.from_numpy(metadata_ids[rows])

        images, texts, kinds = of(fitted)
        tastes = features.fit(images, texts, part, kinds, seed, FACTOR_STEPS)
        images, texts, kinds = of(held)
        there = None if texts is None else texts.any(dim=-1)
        texts = None if texts is None else features.standardize("text", texts)
        readings = features.read(features.standardize("image", images), texts, there, kinds).numpy()
        place[held] = np.arange(len(held))
        of_rating = readings[place[rated[~known]]]
        own = (of_rating[:, :-1] * (tastes - tastes.mean(0)).numpy()[person[~known]]).sum(1)
        liked[~known] = of_rating[:, -1] + own
    return liked
