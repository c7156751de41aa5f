"""FLICKR-AES: 40,000 photos rated 1 to 5 by 210 identified workers.

Obtain it from its authors, https://github.com/alanspike/personalizedImageAesthetics (a shared folder; the photos are
under Creative Commons licences of their own, the ratings carry no stated licence). Cite Ren et al., *Personalized Image
Aesthetics*, ICCV 2017.

Format: the authors' README names the files, public clients read their columns (such as
https://github.com/search?q=FLICKR-AES_image_labeled_by_each_worker.csv&type=code)::

    FLICKR-AES_image_labeled_by_each_worker.csv    worker, imagePair, score (with a space before the latter names)
    40K/<imagePair>

The protocol holds 37 workers out and fits each from 10 or 100 ratings (``evaluate --few-shot 10,100``); the images they
rated are in nobody's training data. The release does not name them: give their ids with
``test_workers=FILE`` (one a line). Then their ratings are test_unseen, other people's ratings of the same images
test_seen, all others train. Without it the ratings come unsplit.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..table import UNSPLIT, RatingError, RatingSource, RawRow, Release, integer_levels
from ._files import Files
from ._tables import divided, read_ids, table_rows, table_source

RATINGS = "FLICKR-AES_image_labeled_by_each_worker.csv"
IMAGES = "40K"
COLUMNS = {"worker": "participant_id", "imagePair": "image_id", "score": "score"}
RELEASE = Release(
    license="other",
    url="https://github.com/alanspike/personalizedImageAesthetics",
    citation="Ren et al., Personalized Image Aesthetics, ICCV 2017",
)


def matches(path: Path) -> bool:
    """A folder with the workers' CSV file."""
    return (path / RATINGS).is_file()


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    test_workers: str | Path | None = None,
) -> RatingSource:
    """Opens the release.

    Args:
        path: the folder of the CSV file and ``40K/``.
        rating_min: lowest rating of another scale; default: 1.
        rating_max: highest rating of another scale; default: 5.
        test_workers: text file of the workers to hold out, one a line.

    Raises:
        RatingError: no images, a needed column is missing, or held-out workers who rated nothing.
    """
    files = Files(path)
    if not files.names(IMAGES):
        raise RatingError(f"{path}: no {IMAGES}/ beside {RATINGS}. Unpack the images there.")

    def read() -> Iterator[RawRow]:
        return table_rows(path / RATINGS, COLUMNS)

    rows = {UNSPLIT: read}
    if test_workers is not None:
        held_out = read_ids(test_workers, "test_workers")
        tested = {row.get("image_id") for _, _, row in read() if row.get("participant_id") in held_out}
        if not tested:
            raise RatingError(f"test_workers={str(test_workers)!r}: none of them is among the workers of {RATINGS}.")

        def split_of(row: dict[Any, Any]) -> str:
            if row.get("participant_id") in held_out:
                return "test_unseen"
            return "test_seen" if row.get("image_id") in tested else "train"

        seen = ("test_seen",) if any(split_of(row) == "test_seen" for _, _, row in read()) else ()
        rows = divided(read, split_of, ("train", *seen, "test_unseen"))
    levels = integer_levels(1 if rating_min is None else rating_min, 5 if rating_max is None else rating_max)
    return table_source(
        "flickr_aes", rows, [path / RATINGS], files, IMAGES,
        labels={column: name for name, column in COLUMNS.items()}, level_values=levels, release=RELEASE,
    )  # fmt: skip
