"""LAPIS, the Leuven Art Personalized Image Set: 11,723 artworks rated on a slider from 0 to 100 by identified people.

Obtain it from its authors (https://github.com/Anne-SofieMaerten/LAPIS, on the Hub as ``asmaerten/LAPIS``); access is
granted on request, for research, under the terms agreed to there (no open licence is stated). Cite Maerten et al.,
*LAPIS: a novel dataset for personalized image aesthetic assessment*, CVPR Workshops 2025.

Layout::

    annotation/LAPIS_PIAA.csv             one row a rating: image_filename, participant_id, rating, age, nationality,
                                          demo_gender, style, genre and further columns, which are left out
    annotation/LAPIS_GIAA_{Train,Val,Test}split.csv    image_filename of the images of each split
    images/

The owners publish no description of the columns; these names are what public clients of the release read. Columns and
splits: https://github.com/lwchen6309/aesthetics_transfer_learning (by an author of the paper; ``image_filename``,
``participant_id``, ``age``, ``nationality``, ``demo_gender``) and the public loaders of ``LAPIS_PIAA.csv`` and of
``LAPIS_GIAA_*split.csv`` found under these file names on GitHub. They report 1,446 rows in which somebody rates an
image again, 36 people without demographics, and a few images whose file names were spoiled by Latin-1: set such rows
aside with ``--quarantine FILE``. The files mix UTF-8 and Latin-1.

Everybody rated images of every split, so all people are "seen": splits train, val_seen, test_seen.
"""

from collections.abc import Iterator
from pathlib import Path

from ..table import UNSPLIT, RatingError, RatingSource, RawRow, Release, integer_levels
from ._files import Files
from ._tables import divided, table_rows, table_source

RATINGS = "annotation/LAPIS_PIAA.csv"
SPLIT_FILES = {
    "train": "annotation/LAPIS_GIAA_Trainsplit.csv",
    "val_seen": "annotation/LAPIS_GIAA_Valsplit.csv",
    "test_seen": "annotation/LAPIS_GIAA_Testsplit.csv",
}
COLUMNS = {
    "image_filename": "image_id", "participant_id": "participant_id", "rating": "score", "age": "age",
    "nationality": "nationality", "demo_gender": "gender", "style": "style", "genre": "group",
}  # fmt: skip
RELEASE = Release(
    license="other",
    url="https://github.com/Anne-SofieMaerten/LAPIS",
    citation="Maerten et al., LAPIS: a novel dataset for personalized image aesthetic assessment, CVPRW 2025",
)


def matches(path: Path) -> bool:
    """A folder with ``annotation/LAPIS_PIAA.csv``."""
    return (path / RATINGS).is_file()


def open_source(path: Path, *, rating_min: float | None = None, rating_max: float | None = None) -> RatingSource:
    """Opens the release; without its three split files the ratings come unsplit.

    Raises:
        RatingError: no images, a needed column is missing, or only some of the split files are there.
    """
    files = Files(path)
    if not files.names("images"):
        raise RatingError(f"{path}: no images/ beside annotation/. Unpack the images there.")
    found = {split: path / name for split, name in SPLIT_FILES.items() if (path / name).is_file()}
    if found and len(found) < len(SPLIT_FILES):
        missing = sorted(set(SPLIT_FILES.values()) - {SPLIT_FILES[split] for split in found})
        raise RatingError(f"{path}: {', '.join(missing)} is missing beside the other splits. Download it again.")

    def read() -> Iterator[RawRow]:
        return table_rows(path / RATINGS, COLUMNS)

    rows = {UNSPLIT: read}
    if found:
        split_of = {
            row["image_id"]: split
            for split, file in found.items()
            for _, _, row in table_rows(file, {"image_filename": "image_id"})
        }
        rows = divided(read, lambda row: split_of.get(row.get("image_id")), tuple(found))
    levels = integer_levels(0 if rating_min is None else rating_min, 100 if rating_max is None else rating_max)
    labels = {column: name for name, column in COLUMNS.items()}
    return table_source(
        "lapis", rows, [path / RATINGS, *found.values()], files, "images",
        labels=labels, level_values=levels, slider=True, release=RELEASE,
    )  # fmt: skip
