"""EVA, Explainable Visual Aesthetics: 4,070 photographs (of AVA) with some 33 votes each, from 0 to 10, by known users.

Obtain it from https://github.com/kang-gnak/eva-dataset. The votes are the authors'; the photographs come from
dpchallenge.com by way of AVA, and their copyright stays with the photographers. Cite Kang, Valenzise and Dufaux, *EVA:
An Explainable Visual Aesthetics Dataset*, ATQAM/MAST 2020.

Format: the release's README::

    data/votes_filtered.csv            delimiter "=": image_id (without .jpg), user_id, score (0–10), difficulty,
                                       visual, composition, quality, semantic (1–4), vote_time, …
    data/users.csv                     delimiter "=": id, age (the year of birth), region (a code), gender_id (1 male,
                                       2 female), photographic_level_id, eyecheck
    data/region_index.csv              delimiter "=": code, region; no header is described
    data/image_content_category.csv    delimiter ",": image id, category 1–6
    images/                            the photographs, <image_id>.jpg, some in folders of their own

The region becomes ``nationality``, the category ``group``, the year of birth a decade in ``age_binned`` ("born 1980s":
in what year somebody voted is not published). Votes come without splits.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...files.csv import open_table, read_number
from ..table import UNSPLIT, RatingError, RatingSource, RawRow, Release, digest_files, integer_levels
from ._images import ImageFolder
from ._tables import embeddings_beside

VOTES = "data/votes_filtered.csv"
USERS = "data/users.csv"
REGIONS = "data/region_index.csv"
CATEGORIES = "data/image_content_category.csv"
GENDERS = {"1": "male", "2": "female"}
# names of the six categories as https://github.com/kang-gnak/eva-dataset's paper gives them
CATEGORY_NAMES = {
    "1": "animals", "2": "architectures and city scenes", "3": "human", "4": "natural and rural scenes",
    "5": "still life", "6": "other",
}  # fmt: skip
RELEASE = Release(
    license="other",
    url="https://github.com/kang-gnak/eva-dataset",
    citation="Kang, Valenzise and Dufaux, EVA: An Explainable Visual Aesthetics Dataset, ATQAM/MAST 2020",
)


def matches(path: Path) -> bool:
    """A folder with ``data/votes_filtered.csv``."""
    return (path / VOTES).is_file()


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    images: str | Path | None = None,
    embeddings: str | Path | None = None,
) -> RatingSource:
    """Opens the release.

    Args:
        path: the repository's folder.
        rating_min: lowest level of another scale, together with `rating_max`; default: 0.
        rating_max: highest level of another scale, together with `rating_min`; default: 10.
        images: folder of the photographs; default: ``images/`` in `path`, or no images if there is none.
        embeddings: file of the images' features; default: embeddings.safetensors in `path`.

    Raises:
        RatingError: a table that is missing or lacks a column, or `images` is not a folder.
    """
    folder = Path(images) if images is not None else path / "images"
    store = ImageFolder(folder, "images") if images is not None or folder.is_dir() else None
    ends = (0, 10) if rating_min is None else (rating_min, rating_max)
    tables = [path / name for name in (VOTES, USERS, REGIONS, CATEGORIES) if (path / name).is_file()]
    _opened_votes(path)

    def digest(with_images: bool) -> str:
        return digest_files(tables) + (store.digest(content=with_images) if store is not None else "")

    return RatingSource(
        name="eva",
        rows={UNSPLIT: lambda: _rows(path)},
        digest=digest,
        labels={"participant_id": "user_id"},
        level_values=integer_levels(*ends),
        locate=store.locate if store is not None else None,
        open_image=store,
        embeddings=embeddings_beside(path, embeddings),
        release=RELEASE,
    )


def _opened_votes(path: Path) -> Any:
    return open_table(path / VOTES, ("image", "participant", "score"), error=RatingError)


def _rows(path: Path) -> Iterator[RawRow]:
    people, categories = _people(path), _categories(path)
    label = str(path / VOTES)
    for number, cells in _opened_votes(path).rows():
        score = read_number(cells["score"])
        row: dict[Any, Any] = {
            "participant_id": cells["participant"],
            "image_id": cells["image"],
            "score": cells["score"] if score is None else score,
            "group": categories.get(cells["image"]),
            **people.get(cells["participant"], {}),
        }
        if None in cells:
            row[None] = cells[None]
        yield label, number, row


def _people(path: Path) -> dict[str, dict[str, str | None]]:
    """User → demographics, as far as the tables are there."""
    if not (path / USERS).is_file():
        return {}
    regions = dict(_pairs(path / REGIONS, "="))
    people = {}
    for _, cells in open_table(path / USERS, ("id",), ("age", "gender_id", "region"), RatingError).rows():
        born = read_number(cells.get("age", ""))
        region = cells.get("region", "")
        people[cells["id"]] = {
            "age_binned": f"born {int(born) // 10 * 10}s" if born is not None and 1900 <= born <= 2020 else None,
            "gender": GENDERS.get(cells.get("gender_id", "")),
            "nationality": regions.get(region, region) or None,
        }
    return people


def _categories(path: Path) -> dict[str, str]:
    return {image: CATEGORY_NAMES[kind] for image, kind in _pairs(path / CATEGORIES, ",") if kind in CATEGORY_NAMES}


def _pairs(file: Path, separator: str) -> Iterator[tuple[str, str]]:
    """The first two fields of each line, quotes taken off; of a file that is missing nothing."""
    if not file.is_file():
        return
    with open(file, encoding="utf-8-sig", errors="replace") as lines:
        for line in lines:
            fields = [field.strip().strip('"') for field in line.rstrip("\r\n").split(separator)]
            if len(fields) >= 2:
                yield fields[0], fields[1]
