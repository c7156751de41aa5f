"""What one person said, from CSV files: ratings and likes, choices, and what the images were made from."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..files.csv import read_header, read_number, read_rows
from .answers import key_of
from .folder import HeadError


def read_ratings_csv(
    path: str | os.PathLike,
    images: str | os.PathLike | None = None,
    is_path: bool = True,
    fields: Iterable[str] = (),
) -> tuple[list[tuple[Any, float | bool]], dict[str, str], dict[str, dict[str, str]]]:
    """`(image, score)` pairs of a CSV (see [`pamela_hf.files.csv`]) with columns `image,score[,prompt]`, a score of
    `true` or `false` being a like; image → prompt; and image → metadata.

    Args:
        images: folder that the paths start from (default: the CSV's own); none may lead out of it.
        is_path: images are paths; False: they are ids of an embeddings file.
        fields: metadata fields, columns that the CSV may have, too.

    Raises:
        HeadError: a column that is missing, a score that is neither a number nor true or false, a path that leads out
            of the folder (with the row's number), or no row at all.
    """
    pairs: list[tuple[Any, float | bool]] = []
    prompts: dict[str, str] = {}
    metadata: dict[str, dict[str, str]] = {}
    for where, row in _csv_rows(Path(path), ("image", "score")):
        cell = row["score"]
        score = cell.lower() == "true" if cell.lower() in ("true", "false") else read_number(cell)
        if score is None:
            raise HeadError(f"{where}: score {cell!r} is no number, true or false. Correct or remove the row.")
        image = _located(row["image"], Path(path), images, where) if is_path else row["image"]
        pairs.append((image, score))
        _note_told(row, key_of(image, not is_path), fields, prompts, metadata)
    return pairs, prompts, metadata


def read_prompts_csv(
    path: str | os.PathLike,
    images: str | os.PathLike | None = None,
    is_path: bool = True,
    fields: Iterable[str] = (),
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Image → prompt and image → metadata of a CSV with columns `image` and any of `prompt` and `fields`; the rest as
    in [`read_ratings_csv`]."""
    prompts: dict[str, str] = {}
    metadata: dict[str, dict[str, str]] = {}
    told = ("prompt", *fields)
    names, _ = read_header(path, HeadError)
    if not set(told) & set(names):
        raise HeadError(f"{os.fspath(path)} has columns {names}; it needs image and any of {', '.join(told)}.")
    for where, row in _csv_rows(Path(path), ("image",)):
        image = _located(row["image"], Path(path), images, where) if is_path else row["image"]
        _note_told(row, key_of(image, not is_path), fields, prompts, metadata)
    return prompts, metadata


def _note_told(
    row: Mapping[str, str],
    key: str,
    fields: Iterable[str],
    prompts: dict[str, str],
    metadata: dict[str, dict[str, str]],
) -> None:
    """Puts a row's prompt and metadata, where there are any, beside those of other images."""
    if row.get("prompt"):
        prompts[key] = row["prompt"]
    if facts := {field: row[field] for field in fields if row.get(field)}:
        metadata[key] = facts


def read_choices_csv(
    path: str | os.PathLike, images: str | os.PathLike | None = None, is_path: bool = True
) -> list[tuple[Any, Any]]:
    """`(preferred, other)` pairs of a CSV with these columns; the rest as in [`read_ratings_csv`]."""
    rows = _csv_rows(Path(path), ("preferred", "other"))
    names = [(where, row["preferred"], row["other"]) for where, row in rows]
    if not is_path:
        return [(a, b) for _, a, b in names]
    return [tuple(_located(name, Path(path), images, where) for name in pair) for where, *pair in names]


def _csv_rows(path: Path, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    names, _ = read_header(path, HeadError)
    if not set(columns) <= set(names):
        raise HeadError(f"{path} has columns {names}; it needs {' and '.join(columns)}.")
    rows = [(f"{path}, row {number}", row) for number, row in read_rows(path, HeadError)]
    for where, row in rows:
        if None in row:
            raise HeadError(f"{where}: {row[None]} Put cells that hold a separator in quotes.")
    if not rows:
        raise HeadError(f"{path} holds no answers. Add rows below the header {','.join(columns)}.")
    return rows


def _located(name: str, path: Path, images: str | os.PathLike | None, where: str) -> Path:
    """An image's path below its folder; a link there is the owner's own doing, a name that climbs out is not."""
    folder = Path(images) if images is not None else path.parent
    inside = bool(name) and Path(os.path.abspath(folder / name)).is_relative_to(os.path.abspath(folder))
    if not name or not inside or "\0" in name:
        raise HeadError(f"{where}: image {name!r} is no path inside {folder}. Correct the row.")
    return folder / name
