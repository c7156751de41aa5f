"""What the images that a pilot has not seen say: how much people's linear tastes count, and how long to train.

A pilot is a training with fewer networks on most of the images. What a person's own linear taste is worth beside the
networks has no closed form: it is the weight that comes nearest to people's ratings of the others. Few ratings make few
steps, and how many more the networks need differs: OASIS' ratings, cut to as few, want none, the simulated world's
several times as many.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from accelerate.utils import broadcast_object_list
from sklearn.model_selection import GroupKFold

from ..embeddings import Embeddings
from ..metrics import MIN_RATINGS, user_metrics
from ..model.configuration_pamela import PamelaConfig
from ..ratings.table import RatingData
from ..scoring import PamelaScorer
from .config import Choice, TrainingConfig

# A pilot's images are few: three seeds on OASIS, each with other images, put the best taste_share at .14, .51 and .75.
# What they say is weighed against how the best shares of sets of ratings lie (least squares on many unseen images): .37
# on five folds of OASIS, .2 to .7 on ten draws of 40 or 80 of its images, .4 to .7 of its ratings, .55 in the simulated
# world, .55 to .9 in made-up ones, whose pilots are sure of it.
USUAL_TASTE_SHARE, USUAL_TASTE_STD = 0.5, 0.2
PARTS = 10  # of a pilot's images, left out in turn for the standard error (jackknife)
PILOT_RATINGS = 25_000  # of some of the people, where there are more
# Of the training's networks; half of these where twice the epochs are asked about, in the same time: two of eight put
# taste_share .01 above what four or eight do, on OASIS and in the simulated world. For half the epochs it would be .15
# to .2 too high.
PILOT_MEMBERS = 0.5
MOST_TIMES = 4  # as many epochs
FOLDS = 5


def choose_by_pilot(
    config: TrainingConfig,
    data: RatingData,
    embeddings: Embeddings,
    begin: Callable[[TrainingConfig, RatingData], Callable[[int], PamelaScorer]],
    ask_epochs: bool = False,
) -> dict[str, Choice]:
    """What people's ratings of images that a pilot has not seen choose.

    Args:
        config: the training's; the pilot has fewer networks.
        data: its ratings; those of a fifth of the prompts (of the images, where there are none) are held out.
        embeddings: features of the images.
        begin: starts a pilot; what it returns trains it for so many epochs more.
        ask_epochs: whether twice the configuration's epochs, or four times, are to be asked about, where these make few
            steps.

    Returns:
        `taste_share`, at most 1, where tastes count for what their likelihood says, and `epochs`, if these are asked
        about; nothing where there are too few images, their ratings say nothing, or the model knows nobody.
    """
    table = data.splits.get("train")
    if table is None:
        return {}
    prompts = table["prompt"].astype(object).fillna(table["image_id"].astype(object)).astype(str)
    if prompts.nunique() < 2 * FOLDS:
        return {}
    fitted, held = next(GroupKFold(FOLDS, shuffle=True, random_state=config.seed).split(table, groups=prompts))
    fitted = _of_some_people(table["participant_id"].iloc[fitted], fitted, config.seed)
    part = dataclasses.replace(data, splits={"train": table.iloc[fitted].reset_index(drop=True)}, choices={})
    held = held[table["participant_id"].isin(part.splits["train"]["participant_id"]).to_numpy()[held]]
    asked, part_of = table.iloc[held].reset_index(drop=True), pd.factorize(prompts.iloc[held])[0] % PARTS
    # a rank correlation of most people is needed
    ask_epochs = ask_epochs and asked.groupby("participant_id", observed=True).size().median() >= MIN_RATINGS
    members = config.model.get("num_fusion_members", PamelaConfig.num_fusion_members)
    some = {**config.model, "num_fusion_members": math.ceil(PILOT_MEMBERS * members / (1 + ask_epochs))}
    train_on = begin(dataclasses.replace(config, early_stopping=None, model=some), part)
    epochs, scorer = config.epochs, train_on(config.epochs)
    if not scorer.config.users or not scorer.config.tastes:
        return {}
    told = _Foretold.by(scorer, asked, embeddings, part_of)
    while ask_epochs and epochs < MOST_TIMES * config.epochs:
        further = _Foretold.by(train_on(epochs), asked, embeddings, part_of)
        # of several processes one decides: all go on, or none
        if not broadcast_object_list([further.is_better_than(told)])[0]:
            break
        told, epochs = further, 2 * epochs
    chosen = {"epochs": Choice(epochs, epochs, epochs)} if ask_epochs else {}
    share = told.taste_share()
    return chosen if share is None else {**chosen, "taste_share": share}


@dataclass
class _Foretold:
    """Ratings of unseen images, `asked` with n rows, and what a pilot says of them: utilities `(n,)` `without` a
    person's own linear tastes, and what these add, `tastes (n,)`; `part (n,)`: in which of some parts an image is."""

    asked: pd.DataFrame
    without: np.ndarray
    tastes: np.ndarray
    part: np.ndarray

    @classmethod
    def by(cls, scorer: PamelaScorer, asked: pd.DataFrame, embeddings: Embeddings, part: np.ndarray) -> "_Foretold":
        utilities = []
        for scorer.config.taste_share in (0.0, 1.0):
            utilities.append(scorer.predict(asked, embeddings).utility)
        without, whole = utilities
        return cls(asked, without, whole - without, part)

    def is_better_than(self, other: "_Foretold") -> bool:
        """Whether the utilities without linear tastes rank people's ratings better, by more than a standard error over
        images (Breiman et al. 1984, *Classification and Regression Trees*: the one-standard-error rule)."""

        def gained(rows: np.ndarray) -> float:
            score, people = self.asked["score"].to_numpy()[rows], self.asked["participant_id"].astype(str)[rows]
            after, before = (user_metrics(one.without[rows], score, people) for one in (self, other))
            return after.mean("user_srocc") - before.mean("user_srocc")

        return gained(np.full(len(self.part), True)) > _jackknife(self._without_parts(gained)) ** 0.5

    def _without_parts(self, figure: Callable[[np.ndarray], float]) -> np.ndarray:
        """`figure` of the rows that are left where each part of the images is left out."""
        return np.array([figure(self.part != number) for number in np.unique(self.part)])

    def taste_share(self) -> Choice | None:
        """By least squares (Breiman 1996, "Stacked regressions"), each person's ratings in their own standard
        deviations: the SROCC of so few images has hardly a maximum. `None`: nobody rated two of these images, or
        differently."""
        seen = pd.DataFrame({"rest": self.without, "tastes": self.tastes, "score": self.asked["score"].astype(float)})
        people = seen.groupby(self.asked["participant_id"].astype(str).to_numpy())
        centred = seen - people.transform("mean")
        centred["score"] /= people["score"].transform("std").clip(lower=1e-9)
        x, y = centred[["rest", "tastes"]].to_numpy(), centred["score"].fillna(0.0).to_numpy()
        if not x[:, 1].any() or not y.any():
            return None

        def best(rows: np.ndarray) -> float:
            rest, tastes = np.linalg.lstsq(x[rows], y[rows])[0]
            return float(tastes / max(rest, 1e-9))

        found, without_part = best(np.full(len(x), True)), self._without_parts(best)
        variance = _jackknife(without_part) + 1e-4
        known = USUAL_TASTE_STD**2 / (USUAL_TASTE_STD**2 + variance)
        value, std = USUAL_TASTE_SHARE + known * (found - USUAL_TASTE_SHARE), (known * variance) ** 0.5
        value, low, high = np.clip([value, value - std, value + std], 0.0, 1.0)
        return Choice(float(value), float(low), float(high))


def _jackknife(without_part: np.ndarray) -> float:
    """A figure's variance, from what it is without each of some parts of what it is of."""
    return float((len(without_part) - 1) * without_part.var())


def _of_some_people(people: pd.Series, rows: np.ndarray, seed: int) -> np.ndarray:
    """Those of `rows` that are of people drawn at random, as many as make about [`PILOT_RATINGS`]."""
    counts = people.value_counts(sort=False)
    drawn = counts[counts > 0].sample(frac=1, random_state=seed)
    few = drawn.index[drawn.cumsum() - drawn < PILOT_RATINGS]
    return rows[people.isin(few)]
