"""Batches of training: several answers of each of their people, the same whatever the number of processes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..model.losses import ChoiceTargets
from ..scoring import ChoiceArrays, RatingArrays
from .config import TrainingConfig


def epoch_batches(
    arrays: RatingArrays, config: TrainingConfig, epoch: int, choices: ChoiceArrays | None = None
) -> list[list[np.ndarray]]:
    """One epoch: steps, each a list of up to `users_per_batch` index arrays, each some answers of one person.

    Every answer occurs once; choices are numbered on from the ratings. A person's ratings on a scale are cut into
    nearly equal parts of at most `images_per_user`, choices into parts of half as many.
    """
    rng = np.random.default_rng([config.seed, epoch])
    parts = []
    if len(arrays):
        people = np.stack([arrays.people, arrays.scale_ids], 1)
        parts += _parts(people, config.images_per_user, rng)
    if choices is not None and len(choices):
        of_two = max(1, config.images_per_user // 2)
        parts += [len(arrays) + part for part in _parts(choices.people[:, None], of_two, rng)]
    parts = [parts[i] for i in rng.permutation(len(parts))]
    return [parts[i : i + config.users_per_batch] for i in range(0, len(parts), config.users_per_batch)]


def _parts(people: np.ndarray, most: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Answers in random order, by whose they are, in nearly equal parts of at most `most`."""
    order = rng.permutation(len(people))
    _, person = np.unique(people[order], axis=0, return_inverse=True)
    person = person.reshape(-1)  # numpy 2.0.0 gives (n, 1)
    order = order[np.argsort(person, kind="stable")]
    parts: list[np.ndarray] = []
    for answers in np.split(order, np.cumsum(np.bincount(person))[:-1]):
        parts += np.array_split(answers, math.ceil(len(answers) / most))
    return parts


def row_penalty(user_ids: np.ndarray, prior_std: float | None) -> np.ndarray | None:
    """`(n,)` factor of the squared row in each answer's loss: the log-density of N(0, prior_std²), shared out among a
    person's answers; `None` without a prior.

    Args:
        user_ids: `(n,)` whose answers they are; 0 = nobody's, without a row.
        prior_std: of the rows.
    """
    if prior_std is None:
        return None
    counts = np.bincount(user_ids)[user_ids]
    return ((user_ids > 0) / (2 * prior_std**2 * counts)).astype(np.float32)


@dataclass
class TrainingRatings:
    """The n ratings and m choices of training with what each counts.

    Attributes:
        arrays: the ratings.
        weights: `(n + m,)` weight of each answer in the loss, ratings first.
        penalty: `(n + m,)` of the squared row of who gave it (see [`row_penalty`]), or `None`.
        choices: the choices, or `None`.
    """

    arrays: RatingArrays
    weights: np.ndarray
    penalty: np.ndarray | None
    choices: ChoiceArrays | None = None

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the features `(I,)` of all images that somebody rated or compared, ascending, and their metadata
        `(I, M)`."""
        rows, first = np.unique(self._image_rows.reshape(-1), return_index=True)
        return rows, self._metadata_ids[first // 2, first % 2]

    def _joined(self, name: str) -> np.ndarray:
        parts = [getattr(self.arrays, name)] + ([] if self.choices is None else [getattr(self.choices, name)])
        return np.concatenate(parts)

    @cached_property
    def user_ids(self) -> np.ndarray:
        return self._joined("user_ids")

    @cached_property
    def demographic_ids(self) -> np.ndarray:
        return self._joined("demographic_ids")

    @cached_property
    def _image_rows(self) -> np.ndarray:
        """`(n + m, 2)`: a rating's image twice, a choice's two."""
        return self._two_sided("image_rows")

    @cached_property
    def _metadata_ids(self) -> np.ndarray:
        return self._two_sided("metadata_ids")

    def _two_sided(self, name: str) -> np.ndarray:
        once = getattr(self.arrays, name)
        both = np.stack([once, once], 1)
        return both if self.choices is None else np.concatenate([both, getattr(self.choices, name)])

    def rows(self, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The scored rows of `answers (a,)`, one for a rating and two for a choice: which answer each is of, `(b,)`,
        its image and metadata; and `(c, 2)` the rows of each choice."""
        of_two = answers >= len(self.arrays)
        item = np.repeat(np.arange(len(answers)), np.where(of_two, 2, 1))
        side = np.zeros(len(item), np.int64)
        second = np.cumsum(np.where(of_two, 2, 1))[of_two] - 1
        side[second] = 1
        pairs = np.stack([second - 1, second], 1)
        at = answers[item]
        return item, self._image_rows[at, side], self._metadata_ids[at, side], pairs


def make_batch(
    ratings: TrainingRatings,
    parts: Sequence[np.ndarray],
    config: TrainingConfig,
    place: tuple[int, int],
    rank: int = 0,
    world: int = 1,
) -> dict[str, Any]:
    """One process's share of a step's batch, with the whole batch's loss normalizers.

    Every answer is there twice, asked of the person it is of and, at weight `user_dropout`, of an unknown one: the
    expectation over dropping the user at random, without its noise.

    Args:
        ratings: all of them, with the choices.
        parts: the step's, as [`epoch_batches`] gives them.
        config: dropout rates and seed.
        place: epoch and step within it; random choices depend on nothing else.
        rank: of this process.
        world: number of processes.

    Returns:
        Arguments of the model's `forward`, but `image_rows` (rows of the features, to which `image_index` refers) in
        place of features. A choice is two scored rows that have no rating; `choices` says which.
    """
    arrays, n = ratings.arrays, len(ratings.arrays)
    rng = np.random.default_rng([config.seed, *place])
    share = config.user_dropout if ratings.user_ids.any() else 0.0
    copies = [(True, 1 - share)] + [(False, share)] * (share > 0)
    keep_user = np.repeat([known for known, _ in copies], len(parts))
    at = np.tile(np.concatenate(parts), len(copies))
    weights = np.repeat(np.float32([weight for _, weight in copies]), len(at) // len(copies)) * ratings.weights[at]
    parts = list(parts) * len(copies)
    part_of = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    keep_demographics = rng.random((len(parts), ratings.demographic_ids.shape[1])) >= config.demographics_dropout
    keep_metadata = rng.random((len(at), ratings._metadata_ids.shape[-1])) >= config.metadata_dropout
    keep_prompt = rng.random(len(at)) >= config.prompt_dropout
    # the whole batch's weight of pairs rated differently, which each process can count for itself
    pairs = 0.0
    for i in range(len(parts)):
        if parts[i][0] < n:
            labels, w = arrays.labels[parts[i]], weights[part_of == i]
            pairs += float(((labels[:, None] > labels[None, :]) * w[:, None]).sum())
    normalizers = torch.tensor(float(weights.sum())), torch.tensor(pairs)
    mine = np.flatnonzero(part_of % world == rank)
    at, weights, part_of = at[mine], weights[mine], part_of[mine]
    penalty = None if ratings.penalty is None else ratings.penalty[at] * keep_user[part_of]
    # both images of a choice lose their prompts and metadata together
    item, image_rows, metadata_ids, choice_rows = ratings.rows(at)
    rated, answer, part = at[item] < n, at[item], part_of[item]
    rating = np.where(rated, answer, 0)
    rows, index = np.unique(image_rows, return_inverse=True)
    batch = {
        "image_rows": torch.from_numpy(rows),
        "image_index": torch.from_numpy(index),
        "user_ids": torch.from_numpy(ratings.user_ids[answer] * keep_user[part]),
        "demographic_ids": torch.from_numpy(ratings.demographic_ids[answer] * keep_demographics[part]),
        "metadata_ids": torch.from_numpy(metadata_ids * keep_metadata[mine[item]]),
        "prompt_mask": torch.from_numpy(keep_prompt[mine[item]]),
        "scale_ids": torch.from_numpy(np.where(rated, arrays.scale_ids[rating], 0) if n else np.zeros_like(answer)),
        "labels": torch.from_numpy(np.where(rated, arrays.labels[rating], 0) if n else np.zeros_like(answer)),
        "group_ids": torch.from_numpy(part),
        "weights": torch.from_numpy((weights[item] * rated).astype(np.float32)),
        "row_penalty": torch.from_numpy(penalty[item]) if penalty is not None else None,
        "loss_normalizers": normalizers,
    }
    if ratings.choices is not None:
        chosen = np.flatnonzero(at >= n)
        batch["choices"] = ChoiceTargets(
            pairs=torch.from_numpy(choice_rows),
            ties=torch.from_numpy(ratings.choices.ties[at[chosen] - n]),
            weights=torch.from_numpy(weights[chosen]),
            row_penalty=torch.from_numpy(penalty[chosen]) if penalty is not None else None,
            total=normalizers[0],
        )
    return batch
