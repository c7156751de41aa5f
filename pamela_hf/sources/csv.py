"""Anyone's own ratings: a CSV file with the columns ``image,score[,participant][,prompt][,metadata…]``.

``image`` is a path relative to the CSV's folder (or to ``images=FOLDER``), or an id of an
``embeddings.safetensors`` in the CSV's folder (or of ``embeddings=FILE``). Metadata columns bear the names of
`RATING_COLUMNS`. UTF-8, a header line; separated by commas, semicolons or tabs. Row numbers in errors are a
spreadsheet's: the header is row 1.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..data import RATING_COLUMNS, UNSPLIT, RatingError, RatingSource, RawRow, digest_files, integer_levels
from ._files import Files, embedded_ids, inner_path

ALIASES = {"image": "image_id", "participant": "participant_id"}
NUMBER = re.compile(r"[+-]?\d{1,300}(\.\d{0,300})?([eE][+-]?\d{1,3})?", re.ASCII)


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
    _header(path)

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
            names = {row.get("image_id") for _, _, row in _rows(path, participant) if isinstance(row, dict)}
            pictures = files.digest(sorted(name for name in names if name and _is_file(files, name)))
        return f"{digest_files([path])}-{vectors_digest}-{pictures}-{participant}"

    return RatingSource(
        name=re.sub(r"[^\w.-]", "_", path.stem) or "ratings",
        rows={UNSPLIT: lambda: _rows(path, participant)},
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


def _header(path: Path) -> tuple[list[str], str]:
    """Column names of the table's and the file's own further ones, and the separator."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            line = stream.readline(1 << 16)
    except UnicodeDecodeError as error:
        raise RatingError(f"{path}: not UTF-8 text ({error.reason}). Save it as 'CSV UTF-8'.") from None
    separator = next((sign for sign in ",;\t" if sign in line), ",")
    names = [name.strip().lower() for name in next(csv.reader([line], delimiter=separator), [])]
    columns = [ALIASES.get(name, name) for name in names]
    missing = [name for name in ("image", "score") if ALIASES.get(name, name) not in columns]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if missing or doubled:
        what = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(doubled)} twice"
        raise RatingError(
            f"{path}, row 1: the header {names} {what}. Needed: image,score; possible: participant, "
            f"{', '.join(column for column in RATING_COLUMNS[2:] if column != 'score')}."
        )
    return columns, separator


def _rows(path: Path, participant: str) -> Iterator[RawRow]:
    columns, separator = _header(path)
    label = str(path)
    number, found = 0, False
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            for number, fields in enumerate(csv.reader(stream, delimiter=separator), 1):
                if number == 1 or not any(fields):
                    continue
                row: dict[Any, Any] = {"participant_id": participant}
                row |= {column: field.strip() or None for column, field in zip(columns, fields)}
                if row.get("image_id"):
                    row["image_id"] = row["image_id"].removeprefix("./")
                if len(fields) != len(columns):
                    row[None] = f"{len(fields)} fields; the header has {len(columns)}."
                for column in ("score", "age"):
                    if (text := row.get(column)) is not None and NUMBER.fullmatch(text):
                        number_ = float(text)
                        row[column] = int(number_) if number_.is_integer() else number_
                found = True
                yield label, number, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise RatingError(
            f"{label}, row {number + 1}: not readable as CSV in UTF-8 ({error}). Save it again as 'CSV UTF-8'."
        ) from None
    if not found:
        raise RatingError(f"{label}: holds no rows below its header; at least one rating is needed.")
