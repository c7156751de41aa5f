"""The layout of the PAMELA release: ``annotations/<prefix>_<split>.json`` and ``images/``, in a folder or a zip.

Each annotation file is one JSON list of rows with the keys of `COLUMNS`. Files ``<prefix>_choices_<split>.json`` beside
them, or in their place, hold choices, rows with the keys of `CHOICE_KEYS`; the release itself has none. With an
``embeddings.safetensors`` beside ``annotations/`` (header metadata ``image_ids``), ``images/`` may be missing.
"""

import codecs
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ..table import (
    IMAGE_COLUMNS,
    SIDES,
    SPLITS,
    RatingError,
    RatingSource,
    RawRow,
    Release,
    digest_files,
    integer_levels,
)
from ._files import Files, embedded_ids, inner_path

COLUMNS = {
    "participant_id": "participant_id",
    "image_id": "image_id",
    "image_path": "image_path",
    "original_score": "score",
    "image_metadata.prompt": "prompt",
    "image_metadata.group": "group",
    "image_metadata.style": "style",
    "image_metadata.type": "type",
    "user_demographics.age": "age",
    "user_demographics.age_binned": "age_binned",
    "user_demographics.gender": "gender",
    "user_demographics.nationality": "nationality",
}
"""Key of a row, nested keys after a dot → column."""

CHOICE_KEYS = {
    "participant_id": "participant_id",
    "preferred_id": "preferred_id",
    "preferred_path": "preferred_path",
    "other_id": "other_id",
    "other_path": "other_path",
    "tie": "tie",
    "prompt": "prompt",
    **{f"{side}_metadata.{fact}": f"{side}_{fact}" for side in SIDES for fact in IMAGE_COLUMNS[1:]},
    **{key: column for key, column in COLUMNS.items() if key.startswith("user_demographics.")},
}
"""The same of a choice; ``prompt`` is what both images were made from."""

PAMELA = Release(
    license="cc-by-4.0",
    url="https://huggingface.co/datasets/bethgelab/PAMELA",
    citation="Maerten et al., Personalizing Text-to-Image Generation to Individual Taste, arXiv 2604.07427",
)
NESTED = ("image_metadata", "user_demographics", *(f"{side}_metadata" for side in SIDES))
_AFTER_VALUE = frozenset(", ]\t\n\r")
CHUNK = 1 << 18  # bytes read at a time
MAX_ROW = 1 << 20  # characters of one row; a longer one is not a rating


def matches(path: Path) -> bool:
    """A folder (or one just above it) with ``annotations/``, or any zip."""
    return path.suffix.lower() == ".zip" or (path.is_dir() and bool(Files(path).folders_with("annotations")))


def open_source(path: Path, *, rating_min: float | None = None, rating_max: float | None = None) -> RatingSource:
    """Opens a folder or zip in the released layout; see the module and :class:`RatingSource`.

    Raises:
        RatingError: no or several ``annotations/``, an annotation file of an unknown split or none at all,
            two files for one split, neither images nor embeddings, an unsafe archive.
    """
    files = Files(path)
    roots = files.folders_with("annotations")
    if len(roots) != 1:
        raise RatingError(
            f"{path}: {len(roots)} folders named annotations {roots}; exactly one is needed, at the top or one level "
            "below, with files <prefix>_<split>.json."
        )
    root = roots[0] + "/" if roots[0] else ""
    by_split, choices, prefixes = _annotation_files(files, root)

    embeddings = None if files.is_zip else path / root / "embeddings.safetensors"
    embedded: set[str] | None = None
    if embeddings is not None and embeddings.is_file():
        embedded = embedded_ids(embeddings)
    else:
        embeddings = None
    images = files.names(root + "images")
    if not images and embeddings is None:
        raise RatingError(
            f"{path}: neither {root}images/ nor {root}embeddings.safetensors is there; ratings need one of them. "
            "Unpack the images beside annotations/."
        )

    def locate(image_id: str, image_path: str | None) -> str | None:
        if not images:
            if image_id not in embedded:
                raise ValueError(
                    f"image {image_id!r} is not among the image_ids of {embeddings}, and there is no images/."
                )
            return None
        if image_path is None:
            raise ValueError(
                f"image_path is missing for image {image_id!r}; its file is needed, relative to the folder of images/."
            )
        inside = root + inner_path(image_path)
        if not files.has(inside):
            raise ValueError(f"image_path is {image_path!r}, and there is no file {files.label(inside)}.")
        return inside

    def digest(with_images: bool) -> str:
        annotations = files.digest(sorted([*by_split.values(), *choices.values()]))
        pictures = files.digest(images, content=with_images)
        vectors = digest_files([embeddings], content=False) if embeddings is not None else ""
        return f"{annotations}-{pictures}-{vectors}"

    prefix = re.sub(r"[^\w.-]", "_", min(prefixes)) if len(prefixes) == 1 else ""
    return RatingSource(
        name=prefix or re.sub(r"[^\w.-]", "_", path.resolve().stem) or "ratings",
        rows={split: partial(_rows, files, by_split[split], COLUMNS) for split in SPLITS if split in by_split},
        choices={split: partial(_rows, files, choices[split], CHOICE_KEYS) for split in SPLITS if split in choices},
        digest=digest,
        labels={column: key for key, column in {**CHOICE_KEYS, **COLUMNS}.items()},
        level_values=integer_levels(rating_min, rating_max) if rating_min is not None else None,
        locate=locate,
        open_image=files.open if images else None,
        embeddings=embeddings,
        # the layout serves anyone's ratings; only the release itself bears this prefix
        release=PAMELA if prefix == "pamela" else None,
    )


def _annotation_files(files: Files, root: str) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """Split → file of ratings, split → file of choices, and the files' prefixes."""
    ratings: dict[str, str] = {}
    choices: dict[str, str] = {}
    prefixes = set()
    for name in files.names(root + "annotations"):
        file = name.rpartition("/")[2]
        if file.startswith(".") or not file.endswith(".json"):
            continue
        of_choices = re.fullmatch(rf"(?:(.*)_)?choices_({'|'.join(SPLITS)})\.json", file)
        parts = of_choices or re.fullmatch(rf"(.*)_({'|'.join(SPLITS)})\.json", file)
        if parts is None:
            raise RatingError(
                f"{files.label(name)}: names no known split; <prefix>_<split>.json is needed with one of "
                f"{', '.join(SPLITS)}. Rename the file or move it elsewhere."
            )
        prefix, split = parts.groups(default="")
        by_split = choices if of_choices else ratings
        if split in by_split:
            raise RatingError(f"{files.label(name)}: split {split} is also in {by_split[split]}. Keep one of them.")
        by_split[split] = name
        prefixes.add(prefix)
    if not prefixes:
        raise RatingError(
            f"{files.label(root + 'annotations')}: no file <prefix>_<split>.json; splits: {', '.join(SPLITS)}."
        )
    return ratings, choices, prefixes


def _rows(files: Files, name: str, columns: Mapping[str, str]) -> Iterator[RawRow]:
    label, number = files.label(name), 0
    with files.open(name) as stream:
        for number, row in read_json_list(stream, label):
            yield label, number, _flat(row, columns) if isinstance(row, dict) else row
    if not number:
        raise RatingError(f"{label}: holds no rows; at least one is needed. Remove the file if there are none.")


def _flat(row: dict, columns: Mapping[str, str]) -> dict[str, Any]:
    """The row by column name; keys that are not columns keep theirs, dotted."""
    flat: dict[Any, Any] = {}
    for key, value in row.items():
        if key in NESTED and isinstance(value, dict):
            for inner, inner_value in value.items():
                dotted = f"{key}.{inner}"
                flat[columns.get(dotted, dotted)] = inner_value
        elif key in NESTED and value is not None:
            flat[None] = f"{key} is {str(value)[:80]!r}; an object with keys is needed."
        elif key in columns:
            flat[columns[key]] = value
        elif key not in NESTED:
            flat[f"{key} (top level)" if key in columns.values() else key] = value
    return flat


def read_json_list(stream: BinaryIO, label: str, max_row: int = MAX_ROW) -> Iterator[tuple[int, Any]]:
    """(row number from 1, value) of each element of a JSON list, of at most `max_row` characters, a chunk at a time.

    Raises:
        RatingError: the file, named by `label`, is not a JSON list, is cut off, or is not UTF-8.
    """
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    scan = json.JSONDecoder().raw_decode
    skip = re.compile(r"[ \t\n\r]*").match
    buffer, place, row, ended = "", 0, 0, False

    def broken(problem: str) -> RatingError:
        where = f"row {row + 1}" if row else "the beginning"
        return RatingError(
            f"{label}: {problem} at {where}; one JSON list of rating rows is needed. Download or write the file again."
        )

    def more() -> None:
        nonlocal buffer, place, ended
        try:
            data = stream.read(CHUNK)
            text = decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise broken(f"not UTF-8 text ({error.reason})") from None
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise broken(f"unreadable ({error})") from error
        buffer, place, ended = buffer[place:] + text, 0, not data

    def next_letter() -> str:
        nonlocal place
        while True:
            place = skip(buffer, place).end()
            if place < len(buffer) or ended:
                return buffer[place : place + 1]
            more()

    if (letter := next_letter()) != "[":
        raise broken("empty file" if not letter else f"found {letter!r} instead of '['")
    place += 1
    if next_letter() == "]":
        place += 1
    else:
        while True:
            next_letter()
            while True:
                try:
                    value, end = scan(buffer, place)
                except (ValueError, RecursionError) as error:  # ValueError: also a number of 5,000 digits
                    if ended or len(buffer) - place > max_row or not isinstance(error, json.JSONDecodeError):
                        cut = ended and len(buffer) - place <= max_row
                        raise broken(f"{'cut off or broken' if cut else 'broken'} JSON ({str(error)[:100]})") from None
                else:
                    # What ends with the buffer, or before a '.', may be a number that goes on.
                    if ended or buffer[end : end + 1] in _AFTER_VALUE or len(buffer) - place > max_row:
                        break
                more()
            row, place = row + 1, end
            yield row, value
            letter = next_letter()
            place += 1
            if letter == "]":
                break
            if letter != ",":
                raise broken(f"found {letter or 'the end of the file'!r} instead of ',' or ']'")
    if letter := next_letter():
        raise broken(f"found {letter!r} after the list")
