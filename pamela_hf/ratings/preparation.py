"""Checked ratings and choices as a Parquet folder that `datasets.load_dataset` reads and that can be published."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..files.images import open_image_checked
from ..files.writing import recover, replacing_folder
from .builder import (
    ANSWERS,
    CHOICE_FEATURES,
    IMAGE_FEATURES,
    RATING_FEATURES,
    file_name,
    find_source,
    image_record,
    read_source,
    rename_source,
)
from .card import ratings_card
from .near_duplicates import difference_hash, near_duplicate_groups
from .sources.prepared import write_images, write_ratings
from .splits import split_answers
from .table import SPLIT_BY, RatingData, RatingError


def prepare(
    data: str | Path,
    out: str | Path,
    *,
    source: str | None = None,
    name: str | None = None,
    rating_min: float | None = None,
    rating_max: float | None = None,
    quarantine: str | Path | None = None,
    split_by: str = "user+image",
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
    **options: Any,
) -> RatingData:
    """Writes checked ratings as a Parquet folder that `datasets.load_dataset(out)` reads as typed splits.

    `out` gets ``ratings/<split>-*.parquet`` (`RATING_FEATURES`) and ``choices/<split>-*.parquet``
    (`CHOICE_FEATURES`), whichever there are, ``images/all-*.parquet`` (`IMAGE_FEATURES`,
    the files' bytes embedded), ``README.md`` (the card), and ``embeddings.safetensors`` if the ratings came
    with one. It is written beside `out` under another name and renamed at the end: `out` is whole or absent.

    Args:
        data: the ratings and choices to read, as in [`load_ratings`].
        out: folder to write; it may not exist, or be empty.
        source: module that reads `data`, as in [`load_ratings`]; None: the one that matches.
        name: what to call these ratings, as in [`load_ratings`]; None: the source's own name.
        rating_min: lower end of the rating scale, as in [`load_ratings`]; None: the source's, else found in train.
        rating_max: upper end of the rating scale, as in [`load_ratings`]; None: the source's, else found in train.
        quarantine: file that bad rows are set aside in, as in [`load_ratings`]; None: a bad row is an error.
        split_by: how answers that come without splits are divided, see [`split_answers`]: ``user+image``
            (unseen people and unseen images), ``image`` (all people are seen) or ``none`` (all is train).
            Near-duplicate images, by pixels or else by embedding, stay together. Splits that the source has
            are kept as they are.
        seed: of that division; default: 0.
        overwrite: replace `out` if it is a prepared folder; default: False.
        progress: show progress bars; default: False.
        options: the source's own, as in [`load_ratings`].

    Returns:
        What was written.

    Raises:
        RatingError: bad ratings, or `out` exists.
        ImageError: an image that is damaged, too large or in a format that is not read; with `quarantine` its rows are
            set aside instead.
    """
    out = Path(out)
    if split_by not in SPLIT_BY:
        raise RatingError(f"split_by is {split_by!r}; allowed: {', '.join(SPLIT_BY)}.")
    recover(out)  # a killed --overwrite may have moved it aside
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not overwrite:
            raise RatingError(f"{out} exists. Give another folder, or replace it with overwrite=True (--overwrite).")
        prepared = any((out / kind).is_dir() for kind in ANSWERS)
        if not prepared or not (out / "README.md").is_file():
            raise RatingError(f"{out} is not a prepared ratings folder and will not be overwritten. Give another.")
    opened = find_source(data, source, rating_min=rating_min, rating_max=rating_max, **options)
    opened = rename_source(opened, name)
    unsplit = opened.unsplit
    opened = replace(
        opened,
        rows=_counted(opened.rows, "ratings", progress),
        choices=_counted(opened.choices, "choices", progress),
    )
    ratings = read_source(opened, quarantine=quarantine, check_images=quarantine is not None)
    if unsplit and split_by != "none":
        groups = _near_duplicates(ratings, progress)
        unseen = {} if split_by == "user+image" else {"unseen": 0.0}
        tables = ratings.splits.get("train"), ratings.choices.get("train")
        ratings.splits, ratings.choices = split_answers(*tables, seed=seed, groups=groups, **unseen)
    with replacing_folder(out, overwrite=overwrite) as staged:
        (staged / "images").mkdir()
        write_answers(ratings, staged)
        images = tqdm(_image_rows(ratings), "images", unit=" images", disable=not progress)
        write_images(images, staged / "images", IMAGE_FEATURES.arrow_schema)
        if ratings.embeddings is not None:
            shutil.copyfile(ratings.embeddings, staged / "embeddings.safetensors")
        (staged / "README.md").write_text(ratings_card(ratings, staged), encoding="utf-8")
    return ratings


def write_answers(ratings: RatingData, folder: Path) -> None:
    """Writes ``ratings/`` and ``choices/`` into a folder, whichever there are."""
    for kind, tables, features in (
        ("ratings", ratings.splits, RATING_FEATURES),
        ("choices", ratings.choices, CHOICE_FEATURES),
    ):
        for split, table in tables.items():
            (folder / kind).mkdir(exist_ok=True)
            write_ratings(table, folder / kind / f"{split}-00000-of-00001.parquet", features.arrow_schema)


def _counted(readers: Mapping[str, Callable], unit: str, progress: bool) -> dict[str, Callable]:
    """The same readers with progress bars."""
    return {
        split: (lambda read=read, split=split: tqdm(read(), split, unit=f" {unit}", disable=not progress))
        for split, read in readers.items()
    }


def _near_duplicates(ratings: RatingData, progress: bool) -> dict[str, int]:
    image_ids = ratings.images().image_id.astype(str).tolist()
    if ratings.open_image is not None:
        hashes = {}
        for image_id in tqdm(image_ids, "near-duplicates", unit=" images", disable=not progress):
            try:
                stream = ratings.open_image(image_id)
            except KeyError:
                continue  # known by its embedding only
            with stream:
                hashes[image_id] = difference_hash(open_image_checked(stream, file_name(stream, image_id)))
        return near_duplicate_groups(image_ids, hashes=hashes)
    if ratings.embeddings is None:
        return {}
    from ..embeddings import load_embeddings  # imports PyTorch

    return near_duplicate_groups(
        image_ids, embeddings=load_embeddings(ratings.embeddings).subset(image_ids).image_embeds
    )


def _image_rows(ratings: RatingData) -> Iterator[dict[str, Any]]:
    images = ratings.images().astype(object)
    for row in images.where(images.notna(), None).to_dict("records"):
        yield {**row, "image": image_record(ratings.open_image, row["image_id"])}
