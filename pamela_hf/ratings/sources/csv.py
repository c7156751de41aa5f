"""Anyone's own ratings: a CSV file with the columns ``image,score[,participant][,prompt][,metadata…]``.

``image`` is a path relative to the CSV's folder (or to ``images=FOLDER``), or an id of an
``embeddings.safetensors`` in the CSV's folder (or of ``embeddings=FILE``). Metadata columns bear the names of
`RATING_COLUMNS`. What such a file may look like: :mod:`pamela_hf.files.csv`.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...files.csv import read_header, read_number, read_rows
from ..table import RATING_COLUMNS, UNSPLIT, RatingError, RatingSource, RawRow, digest_files, integer_levels
from ._files import Files, embedded_ids, inner_path

ALIASES = {"image": "image_id", "participant": "participant_id"}


def matches(path: Path) -> bool:
    """A file whose name ends in .csv or .tsv."""
    return path.is_file() and path.suffix.lower() in (".csv", ".tsv")


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    images: str | Path | None = None,
    embeddings: str | Path | None = None,
    participant: str = "me",
) -> RatingSource:
    """Opens a CSV of own ratings.

    Args:
        path: the CSV file.
        rating_min, rating_max: ends of the rating scale; None: the smallest and largest score in the file.
        images: folder that image paths are relative to; None: the CSV's own.
        embeddings: an embeddings file whose image_ids may stand in column ``image``; None: embeddings.safetensors
            in the CSV's folder if there is one.
        participant: who rated, where there is no column ``participant``.

    Raises:
        RatingError: no header with image and score, a doubled column, a folder or file that does not exist.
    """
    folder = Path(images) if images is not None else path.parent
    if not folder.is_dir():
        raise RatingError(f"images={str(images)!r} is no folder. Give the folder that the column image is relative to.")
    beside = path.parent / "embeddings.safetensors"
    vectors = Path(embeddings) if embeddings is not None else beside if beside.is_file() else None
    if vectors is not None and not vectors.is_file():
        raise RatingError(f"embeddings={str(embeddings)!r} is no file. Give an embeddings.safetensors.")
    embedded = embedded_ids(vectors) if vectors is not None else set()
    files = Files(folder)
    _check_header(path)

    def locate(image_id: str, image_path: str | None) -> str | None:
        problem = ""
        try:
            inside = inner_path(image_id)
            if files.has(inside):
                return inside
        except ValueError as error:
            problem = f" ({error})"
        if image_id in embedded:
            return None
        known = f", and no id of {vectors}" if vectors is not None else ""
        raise ValueError(
            f"image is {image_id[:200]!r}, which is no file below {folder}{known}{problem}. Paths are relative to "
            "the CSV's folder, or to images=FOLDER (--images FOLDER)."
        )

    def digest(with_images: bool) -> str:
        vectors_digest = digest_files([vectors], content=False) if vectors is not None else ""
        pictures = ""
        if with_images:
            names = {row.get("image_id") for _, _, row in _rows(path, participant, folder) if isinstance(row, dict)}
            pictures = files.digest(sorted(name for name in names if name and _is_file(files, name)))
        return f"{digest_files([path])}-{vectors_digest}-{pictures}-{participant}"

    return RatingSource(
        name=re.sub(r"[^\w.-]", "_", path.stem) or "ratings",
        rows={UNSPLIT: lambda: _rows(path, participant, folder)},
        digest=digest,
        labels={column: name for name, column in ALIASES.items()},
        level_values=integer_levels(rating_min, rating_max) if rating_min is not None else None,
        locate=locate,
        open_image=files.open,
        embeddings=vectors,
    )


def _is_file(files: Files, name: str) -> bool:
    try:
        return files.has(inner_path(name))
    except ValueError:
        return False


def _check_header(path: Path) -> None:
    names, _ = read_header(path, RatingError)
    columns = [ALIASES.get(name, name) for name in names]
    missing = [name for name in ("image", "score") if ALIASES.get(name, name) not in columns]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if missing or doubled:
        what = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(doubled)} twice"
        raise RatingError(
            f"{path}, row 1: the header {names} {what}. Needed: image,score; possible: participant, "
            f"{', '.join(column for column in RATING_COLUMNS[2:] if column != 'score')}."
        )


def _rows(path: Path, participant: str, folder: Path) -> Iterator[RawRow]:
    _check_header(path)
    label = str(path)
    number = 0
    for number, cells in read_rows(path, RatingError):
        row: dict[Any, Any] = {"participant_id": participant}
        row |= {ALIASES.get(name, name): cell or None for name, cell in cells.items()}
        if image := row.get("image_id"):
            row["image_id"] = _relative(image, folder)
        for column in ("score", "age"):
            if (text := row.get(column)) is not None and (said := read_number(text)) is not None:
                row[column] = said
        yield label, number, row
    if not number:
        raise RatingError(f"{label}: holds no rows below its header; at least one rating is needed.")


def _relative(image: str, folder: Path) -> str:
    """An image's path below `folder`, however it is written; a path that leads elsewhere stays as it is."""
    if os.path.isabs(image):
        for start in (os.path.abspath(folder), os.path.realpath(folder)):
            if (inside := os.path.normpath(image)).startswith(os.path.join(start, "")):
                return Path(os.path.relpath(inside, start)).as_posix()
    return image.removeprefix("./")
