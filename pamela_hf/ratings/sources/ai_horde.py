"""AI Horde ratings: images of DiffusionDB rated from 1 to 10 by users of the AI Horde, known by a hash.

Obtain it from https://huggingface.co/datasets/Haidra-Org/AI-Horde-Ratings (CC-BY-SA-4.0); the images are DiffusionDB's
(https://huggingface.co/datasets/poloclub/diffusiondb).

Format: the dataset card, section Structure; the image's column as its public clients read it
(``hord_score_df[["id", "user_id"]]``)::

    diffusiondb_export.parquet      one row a rating: id (UUID of the image, DiffusionDB's file name without suffix),
                                    user_id (hashed), rating 1–10, artifacts 0–5 (5: ruined) or null, trusted (bool),
                                    kudos (-50: an anonymous rating), account_age, client_agent, …

Anonymous ratings share one id without being one person's, so they are left out. Some users rate an image again; set
such rows aside with ``--quarantine FILE``. ``score=artifacts`` reads the other scale, on which more is worse.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..table import UNSPLIT, RatingError, RatingSource, RawRow, Release, digest_files, integer_levels
from ._images import ImageFolder
from ._parquet import has_columns, parquet_files, parquet_rows
from ._tables import embeddings_beside

logger = logging.getLogger(__name__)

COLUMNS = ("id", "user_id", "rating", "artifacts", "trusted", "kudos")
ENDS = {"rating": (1, 10), "artifacts": (0, 5)}
ANONYMOUS = -50  # the kudos of whoever rates without an account
RELEASE = Release(
    license="cc-by-sa-4.0",
    url="https://huggingface.co/datasets/Haidra-Org/AI-Horde-Ratings",
    citation="AI Horde community, AI Horde Aesthetic and Artifact Ratings",
)


def matches(path: Path) -> bool:
    """A folder, or a file, of Parquet with the export's columns."""
    files = parquet_files(path)
    return bool(files) and has_columns(files[0], COLUMNS)


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    images: str | Path | None = None,
    embeddings: str | Path | None = None,
    score: str = "rating",
    trusted: bool | str = False,
) -> RatingSource:
    """Opens the export.

    Args:
        path: the Parquet file, or its folder.
        rating_min: lower end of another rating scale; default: that of `score`.
        rating_max: upper end of another rating scale; default: that of `score`.
        images: folder of DiffusionDB's images, at whatever depth; default: `path` if it is a folder with images.
        embeddings: file of the images' features; default: embeddings.safetensors beside the Parquet file.
        score: ``rating`` (how pleasing, 1 to 10) or ``artifacts`` (how disturbed, 0 to 5: more is worse).
        trusted: only ratings of users whom the Horde trusts.

    Raises:
        RatingError: an unknown `score` or value of `trusted`, `images` is not a folder, or not such a file.
    """
    if score not in ENDS:
        raise RatingError(f"score is {score!r}; it is one of {', '.join(ENDS)}.")
    if str(trusted).lower() not in ("true", "false", "yes", "no"):
        raise RatingError(f"trusted is {trusted!r}; it is yes or no.")
    only_trusted = str(trusted).lower() in ("true", "yes")
    files = parquet_files(path)
    store = ImageFolder(Path(images), "images") if images is not None else None
    ends = ENDS[score] if rating_min is None else (rating_min, rating_max)
    return RatingSource(
        name="ai_horde" if score == "rating" else f"ai_horde_{score}",
        rows={UNSPLIT: lambda: _rows(files, score, only_trusted)},
        digest=lambda with_images: f"{digest_files(files)}{score}{only_trusted}"
        + (store.digest(content=with_images) if store is not None else ""),
        labels={"participant_id": "user_id", "image_id": "id", "score": score},
        level_values=integer_levels(*ends),
        locate=store.locate if store is not None else None,
        open_image=store,
        embeddings=embeddings_beside(path, embeddings),
        release=RELEASE,
    )


def _rows(files: list[Path], score: str, only_trusted: bool) -> Iterator[RawRow]:
    anonymous = distrusted = 0
    for file in files:
        label = str(file)
        for number, (image, user, rating, artifacts, trusted, kudos) in parquet_rows(file, COLUMNS):
            value = rating if score == "rating" else artifacts
            if kudos == ANONYMOUS:
                anonymous += 1
            elif only_trusted and not trusted:
                distrusted += 1
            elif score == "rating" or value is not None:
                row: dict[Any, Any] = {"participant_id": user, "image_id": image, "score": value}
                yield label, number, row
    if anonymous or distrusted:
        logger.warning("%s: left out are %d anonymous ratings, and %d of users who are not trusted.",
                       files[0], anonymous, distrusted)  # fmt: skip
