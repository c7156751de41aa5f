"""What sources made of CSV tables and image folders have in common."""

import logging
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ...files.csv import open_table, read_number
from ..table import RatingError, RatingSource, RawRow, Release, digest_files
from ._files import Files, inner_path

logger = logging.getLogger(__name__)


def table_rows(path: Path, needed: Mapping[str, str], numbers: Container[str] = ("score", "age")) -> Iterator[RawRow]:
    """Rows of a release's CSV file, which is UTF-8 or else Latin-1, as dicts with columns renamed.

    Args:
        path: the file.
        needed: name in the file → name in the dict; other columns keep their names, in lower case.
        numbers: columns (by their names in the dict) whose texts become numbers where they are such.

    Raises:
        RatingError: no header with the needed columns, text that is not CSV, or no row.
    """
    label, found = str(path), False
    for number, cells in open_table(path, tuple(needed), error=RatingError, fallback="latin-1").rows():
        row: dict[Any, Any] = {needed.get(name, name): cell or None for name, cell in cells.items()}
        for column in numbers:
            if (value := read_number(row.get(column))) is not None:
                row[column] = value
        found = True
        yield label, number, row
    if not found:
        raise RatingError(f"{label}: holds no rows below its header; at least one rating is needed.")


def read_ids(path: str | Path, option: str) -> frozenset[str]:
    """The ids in a text file, one a line.

    Raises:
        RatingError: no such file, or no id in it; `option` is what the message calls it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RatingError(
            f"{option}={str(path)!r} cannot be read ({error}). Give a text file with one id a line."
        ) from None
    if not (ids := frozenset(line.strip() for line in lines if line.strip())):
        raise RatingError(f"{option}={str(path)!r} holds no id. Give a text file with one id a line.")
    return ids


def divided(
    read: Callable[[], Iterator[RawRow]], split_of: Callable[[dict[Any, Any]], str | None], splits: tuple[str, ...]
) -> dict[str, Callable[[], Iterator[RawRow]]]:
    """`RatingSource.rows` of ratings that lie in one file: each split reads it and takes its own.

    `split_of` a row is None where the release puts its image into no split: such rows are left out, and a warning
    says how many.
    """

    def of(split: str) -> Iterator[RawRow]:
        left_out = 0
        for item in read():
            its_split = split_of(item[2])
            left_out += its_split is None
            if its_split == split:
                yield item
        if left_out and split == splits[0]:
            logger.warning("%d ratings of images that are in no split of the release are left out.", left_out)

    return {split: (lambda split=split: of(split)) for split in splits}


def image_locator(files: Files, folder: str) -> Callable[[str, str | None], str]:
    """`RatingSource.locate` for images whose path (else id) is relative to `folder` of `files`."""

    def locate(image_id: str, image_path: str | None) -> str:
        inside = inner_path(f"{folder}/{image_path or image_id}" if folder else image_path or image_id)
        if not files.has(inside):
            raise ValueError(f"there is no image {files.label(inside)}; set the row aside with --quarantine")
        return inside

    return locate


def table_source(
    name: str,
    rows: dict[str, Callable[[], Iterator[RawRow]]],
    tables: list[Path],
    files: Files,
    folder: str,
    *,
    labels: dict[str, str],
    level_values: tuple[float, ...] | None,
    slider: bool = False,
    release: Release | None = None,
) -> RatingSource:
    """A source of CSV `tables` (hashed whole) and of images in `folder` of `files`."""

    def digest(with_images: bool) -> str:
        return digest_files(tables) + files.digest(files.names(folder), content=with_images)

    def open_image(inside: str) -> BinaryIO:
        return files.open(inside)

    return RatingSource(
        name=name,
        rows=rows,
        digest=digest,
        labels=labels,
        level_values=level_values,
        slider=slider,
        locate=image_locator(files, folder),
        open_image=open_image,
        release=release,
    )


def embeddings_beside(path: Path, embeddings: str | Path | None) -> Path | None:
    """The features' file named, or else the one beside the ratings, if there is one.

    Args:
        path: file or folder of the ratings.
        embeddings: the file; None: embeddings.safetensors in the folder.

    Raises:
        RatingError: a file was named, and there is none.
    """
    if embeddings is not None:
        if not Path(embeddings).is_file():
            raise RatingError(f"embeddings={str(embeddings)!r} is not a file. Give an embeddings.safetensors.")
        return Path(embeddings)
    beside = (path if path.is_dir() else path.parent) / "embeddings.safetensors"
    return beside if beside.is_file() else None
