"""Batches of training: several ratings of each of their people, the same whatever the number of processes."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..scoring import RatingArrays
from .config import TrainingConfig


def epoch_batches(arrays: RatingArrays, config: TrainingConfig, epoch: int) -> list[list[np.ndarray]]:
    """One epoch: steps, each a list of up to `users_per_batch` index arrays, each some ratings of one person.

    Every rating occurs once. A person's ratings are cut into nearly equal parts of at most `images_per_user`.
    """
    rng = np.random.default_rng([config.seed, epoch])
    people = np.stack([arrays.people, arrays.scale_ids], 1)
    order = rng.permutation(len(arrays))
    _, person = np.unique(people[order], axis=0, return_inverse=True)
    order = order[np.argsort(person, kind="stable")]
    parts: list[np.ndarray] = []
    for ratings in np.split(order, np.cumsum(np.bincount(person))[:-1]):
        parts += np.array_split(ratings, math.ceil(len(ratings) / config.images_per_user))
    parts = [parts[i] for i in rng.permutation(len(parts))]
    return [parts[i : i + config.users_per_batch] for i in range(0, len(parts), config.users_per_batch)]


def row_penalty(arrays: RatingArrays, prior_std: float | None) -> np.ndarray | None:
    """`(n,)` factor of the squared row in each rating's loss: the log-density of N(0, prior_std²), shared out among a
    person's ratings; `None` without a prior."""
    if prior_std is None:
        return None
    counts = np.bincount(arrays.user_ids)[arrays.user_ids]
    return ((arrays.user_ids > 0) / (2 * prior_std**2 * counts)).astype(np.float32)


@dataclass
class TrainingRatings:
    """The n ratings of training with what each counts: `weights (n,)` in the loss, and `penalty (n,)` of the squared
    row of who gave it (see [`row_penalty`]), or `None`."""

    arrays: RatingArrays
    weights: np.ndarray
    penalty: np.ndarray | None


def make_batch(
    ratings: TrainingRatings,
    parts: list[np.ndarray],
    config: TrainingConfig,
    place: tuple[int, int],
    rank: int = 0,
    world: int = 1,
) -> dict[str, Any]:
    """One process's share of a step's batch, with the whole batch's loss normalizers.

    Every rating is there twice, asked of the person it is of and, at weight `user_dropout`, of an unknown one: the
    expectation over dropping the user at random, without its noise.

    Args:
        ratings: all of them.
        parts: the step's, as [`epoch_batches`] gives them.
        config: dropout rates and seed.
        place: epoch and step within it; random choices depend on nothing else.
        rank: of this process.
        world: number of processes.

    Returns:
        Arguments of the model's `forward`, but `image_rows` (rows of the features, to which `image_index` refers) in
        place of features.
    """
    arrays, penalty = ratings.arrays, ratings.penalty
    rng = np.random.default_rng([config.seed, *place])
    share = config.user_dropout if arrays.user_ids.any() else 0.0
    copies = [(True, 1 - share)] + [(False, share)] * (share > 0)
    keep_user = np.repeat([known for known, _ in copies], len(parts))
    at = np.tile(np.concatenate(parts), len(copies))
    weights = np.repeat(np.float32([weight for _, weight in copies]), len(at) // len(copies)) * ratings.weights[at]
    parts = parts * len(copies)
    part_of = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    keep_demographics = rng.random((len(parts), arrays.demographic_ids.shape[1])) >= config.demographics_dropout
    keep_metadata = rng.random((len(at), arrays.metadata_ids.shape[1])) >= config.metadata_dropout
    keep_prompt = rng.random(len(at)) >= config.prompt_dropout
    # the whole batch's weight of pairs rated differently, which each process can count for itself
    pairs = 0.0
    for i in range(len(parts)):
        labels, w = arrays.labels[parts[i]], weights[part_of == i]
        pairs += float(((labels[:, None] > labels[None, :]) * w[:, None]).sum())
    normalizers = torch.tensor(float(weights.sum())), torch.tensor(pairs)
    mine = part_of % world == rank
    at, part_of, weights = at[mine], part_of[mine], weights[mine]
    rows, index = np.unique(arrays.image_rows[at], return_inverse=True)
    return {
        "image_rows": torch.from_numpy(rows),
        "image_index": torch.from_numpy(index),
        "user_ids": torch.from_numpy(arrays.user_ids[at] * keep_user[part_of]),
        "demographic_ids": torch.from_numpy(arrays.demographic_ids[at] * keep_demographics[part_of]),
        "metadata_ids": torch.from_numpy(arrays.metadata_ids[at] * keep_metadata[mine]),
        "prompt_mask": torch.from_numpy(keep_prompt[mine]),
        "scale_ids": torch.from_numpy(arrays.scale_ids[at]),
        "labels": torch.from_numpy(arrays.labels[at]),
        "group_ids": torch.from_numpy(part_of),
        "weights": torch.from_numpy(weights),
        "row_penalty": torch.from_numpy(penalty[at] * keep_user[part_of]) if penalty is not None else None,
        "loss_normalizers": normalizers,
    }
