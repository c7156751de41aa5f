"""Divides answers that come without splits so that nothing of val and test is in training."""

import hashlib
import logging
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .table import RatingError

logger = logging.getLogger(__name__)

# Images that were compared stay together, unless that makes a group larger than this share of all images: then groups
# would decide what the shares of val and test are.
LARGEST_GROUP = 0.05
NOT_DEALT, VAL, TEST, BETWEEN = range(4)  # train and seen people; between: a choice between two parts


def split_ratings(
    table: pd.DataFrame,
    *,
    seed: int = 0,
    val: float = 0.1,
    test: float = 0.2,
    unseen: float = 0.25,
    groups: dict[str, Any] | None = None,
) -> dict[str, pd.DataFrame]:
    """The ratings' part of [`split_answers`], where there are no choices.

    Args:
        table: columns `RATING_COLUMNS`, as in :class:`RatingData`.
        seed: seed of the deal, as there; default 0.
        val: share of the images dealt to val, as there; default 0.1.
        test: share of the images dealt to test, as there; default 0.2.
        unseen: share of the participants that training never meets, as there; default 0.25.
        groups: image_id → near-duplicate group, as there.

    Returns:
        split → its rows in the table's order; splits without a row are left out.

    Raises:
        RatingError: as there.
    """
    return split_answers(table, None, seed=seed, val=val, test=test, unseen=unseen, groups=groups)[0]


def split_answers(
    ratings: pd.DataFrame | None,
    choices: pd.DataFrame | None,
    *,
    seed: int = 0,
    val: float = 0.1,
    test: float = 0.2,
    unseen: float = 0.25,
    groups: Mapping[str, Any] | None = None,
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Divides answers that come without splits so that nothing of val and test is in training.

    Images (whole near-duplicate groups of them) are dealt to train, val and test; participants to seen,
    val and test. A seen participant's answers go by their image: train, val_seen, test_seen. An unseen
    participant's answers about train images are support_unseen, for few-shot fitting; those about val images by a
    val participant are val_unseen, about test images by a test participant test_unseen. What an unseen val
    participant says of test images, and the reverse, belongs nowhere: it would tie the choices made on val to
    test; the number of rows left out is logged. Dealing goes by a hash of (seed, id): the same answers give
    the same splits on any machine, and one more image or participant moves few of the others.

    A choice belongs to a part if both of its images do. So images that were compared with each other, directly or
    through others, are dealt together, as those that were made from one prompt mostly are. Where that would tie more
    than a twentieth of all images, they are dealt one by one, and choices between parts belong nowhere.

    Args:
        ratings: columns `RATING_COLUMNS`, as in :class:`RatingData`; None: there are none.
        choices: columns `CHOICE_COLUMNS`; None: there are none.
        seed: seed of the deal, default 0.
        val: share of the images dealt to val, 0..1, default 0.1; val + test < 1.
        test: share of the images dealt to test, 0..1, default 0.2; val + test < 1.
        unseen: share of the participants that training never meets, 0 ≤ unseen < 1 (0: none); they are
            val and test participants in the ratio val : test. Rounded, so that one person alone is seen.
        groups: image_id → near-duplicate group; images left out are groups of their own. See
            :func:`pamela_hf.ratings.near_duplicates.near_duplicate_groups`.

    Returns:
        Of ratings and of choices: split → its rows in the table's order; splits without a row are left out.

    Raises:
        RatingError: shares out of range, or too few images to leave any for training.
    """
    if not (0 <= val and 0 <= test and val + test < 1 and 0 <= unseen < 1):
        raise RatingError(
            f"val={val}, test={test}, unseen={unseen}: shares in 0..1 are needed, val + test < 1 and "
            "unseen < 1. The defaults are val=.1, test=.2, unseen=.25."
        )
    columns = [] if ratings is None else [ratings.image_id]
    columns += [] if choices is None else [choices.preferred_id, choices.other_id]
    images = list(dict.fromkeys(image for column in columns for image in column.unique()))
    people = {person for table in (ratings, choices) if table is not None for person in table.participant_id.unique()}
    members: dict[Hashable, list[str]] = {}
    for image, group in zip(images, _groups(images, groups or {}, choices)):
        members.setdefault(group, []).append(image)
    division = _Division(
        _deal_images(members, len(images), seed, val, test), _deal_people(sorted(people), seed, val, test, unseen)
    )
    return (
        {} if ratings is None else division.of(ratings, [ratings.image_id], "ratings"),
        {} if choices is None else division.of(choices, [choices.preferred_id, choices.other_id], "choices"),
    )


@dataclass(frozen=True)
class _Division:
    """image_id → val or test, the others being of train; participant_id → val or test, the others being seen."""

    part_of_image: Mapping[str, str]
    role: Mapping[str, str]

    def of(self, table: pd.DataFrame, images: list[pd.Series], what: str) -> dict[str, pd.DataFrame]:
        """Split → rows of the table about `images`, one column of them or two that have to be of one part."""
        part, *others = (_dealt(column, self.part_of_image) for column in images)
        for other in others:
            part = np.where(part == other, part, BETWEEN)
        role = _dealt(table.participant_id, self.role)
        seen = role == NOT_DEALT
        chosen = {
            "train": seen & (part == NOT_DEALT),
            "val_seen": seen & (part == VAL),
            "val_unseen": (role == VAL) & (part == VAL),
            "test_seen": seen & (part == TEST),
            "test_unseen": (role == TEST) & (part == TEST),
            "support_unseen": ~seen & (part == NOT_DEALT),
        }
        splits = {split: table[rows].reset_index(drop=True) for split, rows in chosen.items() if rows.any()}
        if left := len(table) - sum(len(rows) for rows in splits.values()):
            between = "" if len(images) == 1 else "; choices between images of two parts"
            logger.info(
                "%d of %d %s are in no split (unseen participants of val on images of test, and the reverse%s).",
                left,
                len(table),
                what,
                between,
            )
        return splits


def _dealt(column: pd.Series, parts: Mapping[str, str]) -> np.ndarray:
    """What the ids of a column were dealt to, `(N,)` int8: a byte a row, however long the ids are."""
    codes, ids = pd.factorize(column)
    return np.array([{"val": VAL, "test": TEST}.get(parts.get(id), NOT_DEALT) for id in ids], np.int8)[codes]


def _groups(images: list[str], groups: Mapping[str, Any], choices: pd.DataFrame | None) -> list[Hashable]:
    """Of each image the group that it is dealt with."""
    alone: list[Hashable] = [("group", groups[image]) if image in groups else ("image", image) for image in images]
    if choices is None or not len(choices):
        return alone
    from scipy.sparse import coo_array  # here: importing it takes longer than most loads of ratings
    from scipy.sparse.csgraph import connected_components

    place = {image: i for i, image in enumerate(images)}
    number = pd.factorize(pd.Series(alone, dtype=object))[0]
    pairs = [number[choices[side].map(place).astype(np.int64)] for side in ("preferred_id", "other_id")]
    graph = coo_array((np.ones(len(choices), bool), tuple(pairs)), shape=(number.max() + 1,) * 2)
    tied = connected_components(graph, directed=False)[1][number]
    if np.bincount(tied).max() > max(LARGEST_GROUP * len(images), 2):
        return alone
    return tied.tolist()


def _deal_images(
    members: Mapping[Hashable, list[str]], count: int, seed: int, val: float, test: float
) -> dict[str, str]:
    # A group is known by its first member's id, so that renumbering the groups changes nothing.
    order = sorted((sorted(of_group) for of_group in members.values()), key=lambda ids: _deal(seed, "image", ids[0]))
    part_of_image: dict[str, str] = {}
    wanted = {"test": round(test * count), "val": round(val * count)}
    for part in ("test", "val"):
        taken = 0
        while order and taken < wanted[part]:
            ids = order.pop()
            taken += len(ids)
            part_of_image |= dict.fromkeys(ids, part)
    if not order:
        raise RatingError(
            f"{count} images in {len(members)} groups that belong together are too few to split with "
            f"val={val}, test={test}. Rate more images, or keep all for training (val=0, test=0)."
        )
    return part_of_image


def _deal_people(people: Iterable[str], seed: int, val: float, test: float, unseen: float) -> dict[str, str]:
    order = sorted(people, key=lambda person: _deal(seed, "participant", person))
    held_out = round(unseen * len(order)) if val + test > 0 else 0
    val_people = round(held_out * val / (val + test)) if held_out else 0
    return dict.fromkeys(order[:val_people], "val") | dict.fromkeys(order[val_people:held_out], "test")


def _deal(seed: int, kind: str, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{kind}\0{name}".encode(), digest_size=16).digest()
