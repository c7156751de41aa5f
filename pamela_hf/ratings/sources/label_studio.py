"""Ratings collected with Label Studio: its JSON export (not JSON-MIN).

Label Studio is Apache-2.0; the ratings are yours. Format: https://labelstud.io/guide/task_format.html, and of the
controls https://labelstud.io/tags/rating.html and https://labelstud.io/tags/number.html::

    [{"id", "data": {"image": URL or path, "prompt": …},
      "annotations": [{"completed_by": user id, "was_cancelled": false,
                       "result": [{"from_name": control, "type": "rating", "value": {"rating": 4}}]}]}]

Read are the controls Rating and Number (``{"number": 3.5}``). Of an image's URL or path the file's name is looked for
in ``images=FOLDER``; of local storage (``/data/local-files/?d=…``) the path after ``d=``. Nothing is downloaded. Of
``completed_by`` only the number is kept: some exports add name and e-mail address. One's own raters: published under
pseudonyms only.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ..table import UNSPLIT, RatingError, RatingSource, RawRow, digest_files, integer_levels
from ._files import Files, inner_path
from .pamela import read_json_list

CONTROLS = ("rating", "number")


def matches(path: Path) -> bool:
    """A file whose name ends in .json."""
    return path.is_file() and path.suffix.lower() == ".json"


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    images: str | Path | None = None,
    control: str | None = None,
    image_key: str = "image",
) -> RatingSource:
    """Opens an export.

    Args:
        path: the JSON file.
        rating_min, rating_max: ends of the rating scale, which an export does not say; default: the smallest and
            largest rating in it.
        images: folder of the image files; default: the file's own.
        control: name of the control to read; default: the only one of type Rating or Number.
        image_key: which of a task's data is the image.

    Raises:
        RatingError: `images` is no folder, the file is no JSON list, or it has no or several such controls.
    """
    folder = Path(images) if images is not None else path.parent
    if not folder.is_dir():
        raise RatingError(f"images={str(images)!r} is no folder. Give the folder of the image files.")
    files = Files(folder)
    controls = sorted({str(result.get("from_name")) for _, task in _tasks(path) for _, result in _results(task)})
    if control is None and len(controls) == 1:
        control = controls[0]
    if control not in controls:
        raise RatingError(f"{path}: control={control!r}; its ratings are named {controls}. Say which: control=NAME.")

    def read() -> Iterator[RawRow]:
        for number, task in _tasks(path):
            yield from ((str(path), number, row) for row in _rows(task, control, image_key))

    def names() -> list[str]:
        rows = (row for _, task in _tasks(path) if isinstance(task, dict) for row in _rows(task, control, image_key))
        return sorted(name for name in {row["image_id"] for row in rows if None not in row} if files.has(name))

    def locate(image_id: str, image_path: str | None) -> str:
        if not files.has(image_id):
            raise ValueError(f"there is no image {files.label(image_id)}; name its folder: images=FOLDER (--images).")
        return image_id

    return RatingSource(
        name=re.sub(r"[^\w.-]", "_", path.stem) or "label_studio",
        rows={UNSPLIT: read},
        digest=lambda with_images: digest_files([path]) + files.digest(names(), content=with_images),
        labels={"score": control, "participant_id": "completed_by", "image_id": f"data.{image_key}"},
        level_values=integer_levels(rating_min, rating_max) if rating_min is not None else None,
        locate=locate,
        open_image=files.open,
    )


def image_name(reference: str) -> str:
    """The name below the images' folder that a URL or path of an image stands for.

    Raises:
        ValueError: it leads out of the folder.
    """
    parts = urlsplit(reference)
    if local := parse_qs(parts.query).get("d"):
        return inner_path(local[0].lstrip("/"))
    if parts.scheme or reference.startswith("/"):
        return inner_path(unquote(parts.path).rpartition("/")[2])
    return inner_path(unquote(reference))


def _tasks(path: Path) -> Iterator[tuple[int, Any]]:
    with open(path, "rb") as stream:
        yield from read_json_list(stream, str(path))


def _results(task: Any) -> Iterator[tuple[dict, dict]]:
    """(annotation, result) of each rating in a task; what was skipped is left out."""
    annotations = task.get("annotations") if isinstance(task, dict) else None
    for annotation in annotations if isinstance(annotations, list) else []:
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            for result in annotation.get("result") or []:
                if isinstance(result, dict) and result.get("type") in CONTROLS:
                    yield annotation, result


def _rows(task: Any, control: str, image_key: str) -> Iterator[Any]:
    if not isinstance(task, dict):
        yield task
        return
    data = task.get("data") if isinstance(task.get("data"), dict) else {}
    problem, image_id = None, None
    try:
        image_id = image_name(data[image_key])
    except (KeyError, TypeError, AttributeError):
        problem = f"data.{image_key} is missing; the image's URL or path is needed. Name its key: image_key=…"
    except ValueError as error:
        problem = f"data.{image_key}: {error}"
    for annotation, result in _results(task):
        if result.get("from_name") != control:
            continue
        who, value = annotation.get("completed_by"), result.get("value")
        row: dict[Any, Any] = {
            "participant_id": who.get("id") if isinstance(who, dict) else who,
            "image_id": image_id,
            "prompt": data.get("prompt"),
            "score": value.get(result["type"]) if isinstance(value, dict) else value,
        }
        yield row if problem is None else {**row, None: problem}
