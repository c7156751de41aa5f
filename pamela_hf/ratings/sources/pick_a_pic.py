"""Pick-a-Pic v1 and v2: half a million and a million choices between two generated images, by identified people.

Obtain it from https://huggingface.co/datasets/yuvalkirstain/pickapic_v1 or …/pickapic_v2, or without the images
(``…_no_images``, some 200 MB). Cite Kirstain et al., *Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image
Generation*, NeurIPS 2023.

Format: the releases' own dataset cards (``dataset_info``), and the authors' client
(https://github.com/yuvalkirstain/PickScore)::

    data/<split>-*.parquet      train, validation, test; validation_unique and test_unique repeat some of their rows
        user_id int64, caption, image_0_uid, image_1_uid, jpg_0, jpg_1 (the files' bytes; not in …_no_images),
        label_0, label_1 (1 preferred, 0 not, .5 each a tie), has_label, are_different, …

Rows without a label, or of one image twice, are left out; the number is logged. The release divides by prompt: images
of validation and test are in no other split. Their people are "seen" if they are in train, so ``validation`` gives
val_seen and val_unseen, ``test`` test_seen and test_unseen. Where there is but one split it is divided anew.

Images are read from the Parquet files, or from ``images=FOLDER`` where files are called by their uid.
"""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ..table import UNSPLIT, RatingError, RatingSource, RawRow, Release, digest_files
from ._images import ImageFolder, ParquetImages
from ._parquet import has_columns, parquet_files, parquet_rows
from ._tables import embeddings_beside

logger = logging.getLogger(__name__)

COLUMNS = ("user_id", "caption", "image_0_uid", "image_1_uid", "label_0", "label_1", "has_label")
SPLITS = {"train": "train", "validation": "val", "test": "test"}
REPEATED = ("validation_unique", "test_unique")
RELEASE = Release(
    license="other",
    url="https://huggingface.co/datasets/yuvalkirstain/pickapic_v2",
    citation="Kirstain et al., Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation, "
    "NeurIPS 2023",
)


def matches(path: Path) -> bool:
    """A folder, or a file, of Parquet with the release's columns."""
    files = parquet_files(path)
    return bool(files) and has_columns(files[0], COLUMNS)


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    images: str | Path | None = None,
    embeddings: str | Path | None = None,
) -> RatingSource:
    """Opens the release, whole or in part.

    Args:
        path: the folder of the Parquet files, the one above it, or one file.
        rating_min: not used, choices have no scale.
        rating_max: not used, choices have no scale.
        images: folder of the images, called ``<uid>.jpg`` or the like; default: those in the Parquet files.
        embeddings: file of the images' features; default: embeddings.safetensors in `path`.

    Raises:
        RatingError: no Parquet file with the release's columns, one of an unknown split, or `images` is not a folder.
    """
    by_split = _by_split(path)
    files = [file for of_split in by_split.values() for file in of_split]
    stored = all(has_columns(file, ("jpg_0", "jpg_1")) for file in files)
    store: Any = None
    if images is not None:
        store = ImageFolder(Path(images), "images")
    elif stored:
        store = ParquetImages(files, {"image_0_uid": "jpg_0", "image_1_uid": "jpg_1"})
    if set(by_split) > {"train"} and "train" in by_split:
        known = {str(user) for file in by_split["train"] for _, (user,) in parquet_rows(file, ("user_id",))}
        readers = {"train": partial(_rows, by_split["train"], None, True)}
        for part in ("validation", "test"):
            for seen, suffix in ((True, "seen"), (False, "unseen")):
                if part in by_split and _any_of(by_split[part], known, seen):
                    readers[f"{SPLITS[part]}_{suffix}"] = partial(_rows, by_split[part], known, seen)
    else:
        readers = {UNSPLIT: partial(_rows, files, None, True)}
    return RatingSource(
        name="pick_a_pic",
        rows={},
        choices=readers,
        digest=lambda with_images: digest_files(files, content=with_images),
        labels={"participant_id": "user_id", "prompt": "caption"},
        locate=store.locate if store is not None else None,
        open_image=store,
        embeddings=embeddings_beside(path, embeddings),
        release=RELEASE,
    )


def _by_split(path: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in parquet_files(path):
        split = file.name.split("-")[0].removesuffix(".parquet")
        if split in REPEATED:
            continue
        if split not in SPLITS:
            if path.is_dir():
                raise RatingError(f"{file}: names no split of the release ({', '.join(SPLITS)}). Move it elsewhere.")
            split = "train"
        found.setdefault(split, []).append(file)
    if not found:
        raise RatingError(f"{path}: no Parquet file of the release; <split>-*.parquet is needed, here or in data/.")
    return {split: found[split] for split in SPLITS if split in found}


def _any_of(files: list[Path], known: set[str], seen: bool) -> bool:
    return any((str(row[0]) in known) == seen for file in files for _, row in parquet_rows(file, ("user_id",)))


def _rows(files: list[Path], known: set[str] | None, seen: bool) -> Iterator[RawRow]:
    """Choices of the files; with `known` people, of these (`seen`) or of all others."""
    left_out = 0
    for file in files:
        label = str(file)
        for number, (user, caption, first, second, label_0, label_1, labelled) in parquet_rows(file, COLUMNS):
            if known is not None and (str(user) in known) != seen:
                continue
            if not labelled or first == second:
                left_out += 1
                continue
            preferred, other = (first, second) if (label_0 or 0) >= (label_1 or 0) else (second, first)
            row: dict[Any, Any] = {
                "participant_id": user,
                "preferred_id": preferred,
                "other_id": other,
                "tie": label_0 == label_1,
                "prompt": caption,
            }
            if (label_0, label_1) not in ((1, 0), (0, 1), (0.5, 0.5)):
                row[None] = f"label_0 is {label_0!r}, label_1 {label_1!r}; 1 and 0, 0 and 1, or .5 each are allowed."
            yield label, number, row
    if left_out:
        logger.warning("%s: %d rows without a label, or of one image twice, are left out.", files[0].parent, left_out)
