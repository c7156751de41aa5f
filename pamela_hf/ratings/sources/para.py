"""PARA: 31,220 photos rated by 438 identified people on nine levels, 1 to 5 in steps of .5.

Obtain it from https://cv-datasets.institutecv.com/#/data-sets, for research and learning only: the licence in the
release forbids any commercial use and passing the data on. Cite Yang et al., *Personalized Image Aesthetics Assessment
with Rich Attributes*, CVPR 2022.

Format: described in the release's own README.md, columns by their names as its public clients read them
(https://github.com/lwchen6309/aesthetics_transfer_learning, PARA_PIAA_dataloader.py and PARA_dataloader.py)::

    annotation/PARA-Images.csv      one row a rating: sessionId, imageName, userId, aestheticScore, … semantic
    annotation/PARA-UserInfo.csv    userId, age (an interval), gender, EducationalLevel, …
    annotation/PARA-GiaaTrain.csv, PARA-GiaaTest.csv    sessionId, imageName of the images of each split
    imgs/<sessionId>/<imageName>

The score read is ``aestheticScore``; ``semantic``, the scene category, becomes ``group``. Splits: the release's own
division of the images gives train and test_seen. The protocol for new people holds 40 of them out; the release names
none, so give their ids with ``test_users=FILE`` (one a line): their ratings of test images become test_unseen, those
of training images support_unseen.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..table import UNSPLIT, RatingError, RatingSource, RawRow, Release, integer_levels
from ._files import Files
from ._tables import divided, read_ids, table_rows, table_source

RATINGS = "annotation/PARA-Images.csv"
PEOPLE = "annotation/PARA-UserInfo.csv"
IMAGES = {"train": "annotation/PARA-GiaaTrain.csv", "test": "annotation/PARA-GiaaTest.csv"}
COLUMNS = {"sessionId": "session", "imageName": "image", "userId": "participant_id", "aestheticScore": "score"}
LEVELS = tuple(1 + step / 2 for step in range(9))
RELEASE = Release(
    license="other",
    url="https://cv-datasets.institutecv.com/#/data-sets",
    citation="Yang et al., Personalized Image Aesthetics Assessment with Rich Attributes, CVPR 2022",
)


def matches(path: Path) -> bool:
    """A folder with ``annotation/PARA-Images.csv``."""
    return (path / RATINGS).is_file()


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    test_users: str | Path | None = None,
) -> RatingSource:
    """Opens the release; without its two split files the ratings come unsplit.

    Args:
        path: the folder of ``annotation/`` and ``imgs/``.
        rating_min: lower end of another scale, of whole numbers; default: 1 to 5 in steps of .5.
        rating_max: upper end of that scale; given with `rating_min`.
        test_users: text file of the userIds to hold out, one a line.

    Raises:
        RatingError: no images, no user file, a needed column is missing, or `test_users` without the split files.
    """
    files = Files(path)
    if not files.names("imgs"):
        raise RatingError(f"{path}: no imgs/ beside annotation/. Unpack the images there.")
    people = {
        row["participant_id"]: {"age_binned": row["interval"], "gender": row["gender"]}
        for _, _, row in table_rows(
            path / PEOPLE, {"userId": "participant_id", "age": "interval", "gender": "gender"}, numbers=()
        )
    }

    def read() -> Iterator[RawRow]:
        for file, number, row in table_rows(path / RATINGS, COLUMNS):
            out: dict[Any, Any] = {key: row[key] for key in (None, "participant_id", "score") if key in row}
            if row.get("session") and row.get("image"):
                out["image_id"] = f"{row['session']}/{row['image']}"
            yield file, number, out | {"group": row.get("semantic")} | people.get(row.get("participant_id"), {})

    found = {split: path / name for split, name in IMAGES.items() if (path / name).is_file()}
    held_out = read_ids(test_users, "test_users") if test_users is not None else frozenset()
    if len(found) == 2:
        part_of = {
            f"{row['session']}/{row['image']}": part
            for part, file in found.items()
            for _, _, row in table_rows(file, {"sessionId": "session", "imageName": "image"}, numbers=())
        }

        def split_of(row: dict[Any, Any]) -> str | None:
            part = part_of.get(row.get("image_id"))
            if row.get("participant_id") in held_out:
                return {"train": "support_unseen", "test": "test_unseen"}.get(part)
            return {"train": "train", "test": "test_seen"}.get(part)

        unseen = ("test_unseen", "support_unseen") if held_out else ()
        rows = divided(read, split_of, ("train", "test_seen", *unseen))
    elif held_out:
        raise RatingError(f"{path}: test_users needs {' and '.join(IMAGES.values())}. Download them again.")
    else:
        rows = {UNSPLIT: read}
    return table_source(
        "para", rows, [path / RATINGS, path / PEOPLE, *found.values()], files, "imgs",
        labels={"score": "aestheticScore", "participant_id": "userId", "image_id": "sessionId/imageName"},
        level_values=LEVELS if rating_min is None else integer_levels(rating_min, rating_max), release=RELEASE,
    )  # fmt: skip
