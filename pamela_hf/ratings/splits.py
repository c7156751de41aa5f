"""Divides ratings that come without splits so that nothing of val and test is in training."""

import hashlib
import logging
from typing import Any

import pandas as pd

from .table import RatingError

logger = logging.getLogger(__name__)


def split_ratings(
    table: pd.DataFrame,
    *,
    seed: int = 0,
    val: float = 0.1,
    test: float = 0.2,
    unseen: float = 0.25,
    groups: dict[str, Any] | None = None,
) -> dict[str, pd.DataFrame]:
    """Divides ratings that come without splits so that nothing of val and test is in training.

    Images (whole near-duplicate groups of them) are dealt to train, val and test; participants to seen,
    val and test. A seen participant's ratings go by their image: train, val_seen, test_seen. An unseen
    participant's ratings of train images are support_unseen, for few-shot fitting; those of val images by a
    val participant are val_unseen, of test images by a test participant test_unseen. What an unseen val
    participant says of test images, and the reverse, belongs nowhere: it would tie the choices made on val to
    test; the number of rows left out is logged. Dealing goes by a hash of (seed, id): the same ratings give
    the same splits on any machine, and one more image or participant moves few of the others.

    Args:
        table: columns `RATING_COLUMNS`, as in :class:`RatingData`.
        seed: of the deal.
        val, test: share of the images, 0..1, val + test < 1.
        unseen: share of the participants that training never meets, 0 ≤ unseen < 1 (0: none); they are
            val and test participants in the ratio val : test. Rounded, so that one person alone is seen.
        groups: image_id → near-duplicate group; images left out are groups of their own. See
            :func:`pamela_hf.ratings.near_duplicates.near_duplicate_groups`.

    Returns:
        split → its rows in the table's order; splits without a row are left out.

    Raises:
        RatingError: shares out of range, or too few images to leave any for training.
    """
    if not (0 <= val and 0 <= test and val + test < 1 and 0 <= unseen < 1):
        raise RatingError(
            f"val={val}, test={test}, unseen={unseen}: shares in 0..1 are needed, val + test < 1 and "
            "unseen < 1. The defaults are val=.1, test=.2, unseen=.25."
        )
    images = table.image_id.unique().tolist()
    members: dict[Any, list[str]] = {}
    for image in images:
        members.setdefault(("group", groups[image]) if groups and image in groups else ("image", image), []).append(
            image
        )
    # A group is known by its first member's id, so that renumbering the groups changes nothing.
    order = sorted((sorted(of_group) for of_group in members.values()), key=lambda ids: _deal(seed, "image", ids[0]))
    part_of_image: dict[str, str] = {}
    wanted = {"test": round(test * len(images)), "val": round(val * len(images))}
    for part in ("test", "val"):
        taken = 0
        while order and taken < wanted[part]:
            ids = order.pop()
            taken += len(ids)
            part_of_image |= dict.fromkeys(ids, part)
    if not order:
        raise RatingError(
            f"{len(images)} images in {len(members)} near-duplicate groups are too few to split with "
            f"val={val}, test={test}. Rate more images, or keep all for training (val=0, test=0)."
        )
    people = sorted(table.participant_id.unique().tolist(), key=lambda person: _deal(seed, "participant", person))
    held_out = round(unseen * len(people)) if val + test > 0 else 0
    val_people = round(held_out * val / (val + test)) if held_out else 0
    role = dict.fromkeys(people[:val_people], "val") | dict.fromkeys(people[val_people:held_out], "test")
    image_parts = table.image_id.map(lambda image: part_of_image.get(image, "train")).astype(str)
    roles = table.participant_id.map(lambda person: role.get(person, "seen")).astype(str)
    seen, of_train = roles == "seen", image_parts == "train"
    chosen = {
        "train": seen & of_train,
        "val_seen": seen & (image_parts == "val"),
        "val_unseen": (roles == "val") & (image_parts == "val"),
        "test_seen": seen & (image_parts == "test"),
        "test_unseen": (roles == "test") & (image_parts == "test"),
        "support_unseen": ~seen & of_train,
    }
    splits = {split: table[rows].reset_index(drop=True) for split, rows in chosen.items() if rows.any()}
    if left := len(table) - sum(len(rows) for rows in splits.values()):
        logger.info(
            "split_ratings: %d of %d ratings are in no split (unseen participants of val on images of test, "
            "and the reverse).",
            left,
            len(table),
        )
    return splits


def _deal(seed: int, kind: str, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{kind}\0{name}".encode(), digest_size=16).digest()
