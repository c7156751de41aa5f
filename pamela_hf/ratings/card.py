"""README.md of a prepared ratings folder: the YAML that `load_dataset` and [`load_ratings`] read, and a page."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from huggingface_hub import DatasetCardData

from ..hub.cards import DATASET_TEMPLATE, license_fields, render_card
from .builder import CHOICE_FEATURES, IMAGE_FEATURES, IMAGE_SPLIT, RATING_FEATURES
from .table import RatingData, digest_files

MOST_COLUMNS = 11  # of a histogram; finer scales are shown in ten bins
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
RELEASE_LANGUAGE = "en"  # of the prompts and the metadata of every release that is known here


def ratings_card(
    ratings: RatingData,
    folder: Path,
    *,
    repo_id: str | None = None,
    license: str | None = None,
    pseudonymous: bool = False,
    without_demographics: bool = False,
) -> str:
    """The card of a folder that holds `ratings/*.parquet`, `choices/*.parquet` or both, and `images/*.parquet`.

    Args:
        ratings: what the folder holds.
        folder: where these files lie.
        repo_id: where it will lie on the Hub; None: it is not published yet.
        license: as the Hub writes it; default: that of the release, none for one's own ratings.
        pseudonymous: whether the participants bear pseudonyms.
        without_demographics: whether their age, gender and nationality were left out.
    """
    answers = [*ratings.splits.values(), *ratings.choices.values()]
    people = {person for table in answers for person in table.participant_id.unique()}
    choice_counts = {
        split: {
            "choices": len(table),
            "ties": int(table.tie.sum()),
            "people": table.participant_id.nunique(),
            "images": len(pd.unique(np.concatenate([table.preferred_id, table.other_id]))),
        }
        for split, table in ratings.choices.items()
    }
    counts = {
        split: {"people": table.participant_id.nunique(), "images": table.image_id.nunique()}
        for split, table in ratings.splits.items()
    }
    return render_card(
        DATASET_TEMPLATE,
        ratings_metadata(ratings, folder, license, repo_id),
        name=ratings.name,
        repo_id=repo_id,
        splits={split: len(table) for split, table in ratings.splits.items()},
        counts=counts,
        choices=choice_counts,
        n_choices=sum(map(len, ratings.choices.values())),
        n_ratings=sum(map(len, ratings.splits.values())),
        n_images=sum(pq.read_metadata(file).num_rows for file in (folder / "images").iterdir()),
        n_participants=len(people),
        scales=ratings.level_values,
        histograms=[_histogram(ratings, scale) for scale in ratings.level_values],
        has_images=ratings.open_image is not None,
        has_embeddings=ratings.embeddings is not None,
        release=ratings.releases.get(""),
        license=license,
        pseudonymous=pseudonymous,
        without_demographics=without_demographics,
    )


def ratings_metadata(ratings: RatingData, folder: Path, license: str | None, repo_id: str | None) -> DatasetCardData:
    """The YAML: configs and their features for `load_dataset`, scales and release for [`load_ratings`], and what the
    Hub shows and filters by. The arguments are those of [`ratings_card`]."""
    configs, infos = _configs(ratings, folder)
    answers = [*ratings.splits.values(), *ratings.choices.values()]
    count = sum(map(len, answers))
    release = ratings.releases.get("")
    prompted = any(table.prompt.notna().any() for table in answers)
    license = license or (release.license if release else None)
    page = f"https://huggingface.co/datasets/{repo_id}" if repo_id else ""
    data = DatasetCardData(
        pretty_name=f"{ratings.name} ratings",
        **(license_fields(license, page, release.known() if release else None) if license else {}),
        language=RELEASE_LANGUAGE if release else None,
        task_categories=["image-classification", *(["text-to-image"] if prompted else [])],
        tags=["pamela", "personalization", "image-preference"],
        annotations_creators=["crowdsourced"],
        size_categories=[next((name for limit, name in SIZES if count < limit), "1M<n<10M")],
        source_datasets=["extended" if release else "original"],
        configs=configs,
        rating_source=ratings.name,
        rating_scales={scale: [int(x) if x % 1 == 0 else x for x in v] for scale, v in ratings.level_values.items()},
        **({"rating_release": release.known()} if release else {}),
    )
    datasets.info.DatasetInfosDict(infos).to_dataset_card_data(data)
    return data


def _configs(ratings: RatingData, folder: Path) -> tuple[list[dict[str, Any]], dict[str, datasets.DatasetInfo]]:
    """`configs` and `dataset_info` of the configurations that have rows; the first is the default."""
    configs, infos = [], {}
    for config, features, splits in (
        ("ratings", RATING_FEATURES, {split: f"{split}-*.parquet" for split in ratings.splits}),
        ("choices", CHOICE_FEATURES, {split: f"{split}-*.parquet" for split in ratings.choices}),
        ("images", IMAGE_FEATURES, {IMAGE_SPLIT: "all-*.parquet"}),
    ):
        if not splits:
            continue
        files = {split: sorted((folder / config).glob(glob)) for split, glob in splits.items()}
        everything = [file for of_split in files.values() for file in of_split]
        configs.append(
            {
                "config_name": config,
                **({} if configs else {"default": True}),
                # datasets caches a local folder by what its YAML says, never looking at the data files' content or
                # time: only a hash that stands in the YAML makes it read a folder anew that was prepared again
                "description": f"content sha256 {digest_files(everything)}",
                "data_files": [{"split": split, "path": f"{config}/{glob}"} for split, glob in splits.items()],
            }
        )
        infos[config] = datasets.DatasetInfo(
            config_name=config,
            features=features,
            splits=datasets.SplitDict(
                {split: datasets.SplitInfo(split, *_size(of_split)) for split, of_split in files.items()}
            ),
            download_size=sum(file.stat().st_size for file in everything),
            dataset_size=sum(_size(of_split)[0] for of_split in files.values()),
        )
    return configs, infos


def _size(files: Iterable[Path]) -> tuple[int, int]:
    """(bytes uncompressed, rows) of Parquet files."""
    bytes_, rows = 0, 0
    for file in files:
        metadata = pq.read_metadata(file)
        bytes_ += sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        rows += metadata.num_rows
    return bytes_, rows


def _histogram(ratings: RatingData, scale: str) -> dict[str, Any]:
    """Shares of a scale's levels in each split, in ten bins where there are too many levels for columns."""
    levels = np.array(ratings.level_values[scale])
    if len(levels) <= MOST_COLUMNS:
        edges = np.append(levels, np.inf)
        labels = [f"{level:g}" for level in levels]
    else:
        edges = np.linspace(levels[0], levels[-1], 11)
        labels = [f"{low:g}–{high:g}" for low, high in pairwise(edges)]
    rows = []
    for split, table in ratings.splits.items():
        scores = table.score[table.rating_scale == scale].to_numpy()
        if len(scores):
            shares = np.histogram(scores, edges)[0] / len(scores)
            rows.append({"split": split, "mean": float(scores.mean()), "shares": shares.tolist()})
    return {"scale": scale, "labels": labels, "rows": rows}
