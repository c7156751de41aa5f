"""Ratings collected with Label Studio: its exports JSON, JSON-MIN and CSV.

Label Studio is Apache-2.0; the ratings are yours. Formats: https://labelstud.io/guide/task_format.html and
https://labelstud.io/guide/export.html; of the controls https://labelstud.io/tags/rating.html and
https://labelstud.io/tags/number.html; of JSON-MIN and CSV the exporter itself,
https://github.com/HumanSignal/label-studio-converter (``converter.py``, ``exports/csv2.py``)::

    JSON      [{"id", "data": {"image": URL or path, "prompt": …},
                "annotations": [{"completed_by": user id, "was_cancelled": false, "updated_at": …,
                                 "result": [{"from_name": control, "type": "rating", "value": {"rating": 4}}]}]}]
    JSON-MIN  [{"id", "image": …, "prompt": …, control: [{"rating": 4}], "annotator": user id, "annotation_id", …}]
    CSV       the same as columns, a control's cell holding JSON; annotator may be an e-mail address

Read are the controls Rating and Number (``{"number": 3.5}``). Annotations that were cancelled (skipped) do not count;
of several by one person in a task the latest counts. Of an image's URL or path the file's name is looked for in
``images=FOLDER``, with and without the eight hexadecimal digits that an upload puts before it
(``8e6a2a7c-photo.jpg``); of local storage (``/data/local-files/?d=…``) the path after ``d=``. Nothing is downloaded. Of
``completed_by`` only the number is kept: some exports add name and e-mail address. One's own raters: published under
pseudonyms only.

Pairwise (https://labelstud.io/tags/pairwise.html) says which of two images is preferred, ``{"selected": "left"}`` or
``"right"``, ``to_name`` naming the two objects. Its choices are read where an export has no ratings, or where
``control=`` names it. An export does not say which of the task's data an object shows: its images are those under the
keys that ``to_name`` names, else under ``image1`` and ``image2``, else under ``left_key=``, ``right_key=``.
"""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ...files.csv import open_table
from ...files.folders import NameFinder
from ..table import UNSPLIT, RatingError, RatingSource, RawRow, digest_files, integer_levels
from ._files import Files, inner_path
from ._label_studio_pairs import choice_row, keys_of
from .pamela import read_json_list

logger = logging.getLogger(__name__)

CONTROLS = ("rating", "number")


_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)", re.ASCII)  # what an upload puts before a file's name
_MIN_KEYS = ("annotation_id", "annotator")


def matches(path: Path) -> bool:
    """A file whose name ends in .json, or a CSV file with the exporter's columns."""
    return path.is_file() and (path.suffix.lower() == ".json" or is_csv_export(path))


def is_csv_export(path: Path) -> bool:
    """Whether a CSV file has the columns that only Label Studio's export writes."""
    if path.suffix.lower() not in (".csv", ".tsv"):
        return False
    try:
        with open(path, "rb") as stream:
            header = stream.readline(1 << 16).decode("utf-8-sig").lower()
    except (OSError, UnicodeDecodeError):
        return False
    return all(re.search(rf"\b{key}\b", header) for key in (*_MIN_KEYS, "lead_time"))


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    images: str | Path | None = None,
    control: str | None = None,
    image_key: str = "image",
    left_key: str | None = None,
    right_key: str | None = None,
) -> RatingSource:
    """Opens an export.

    Args:
        path: the JSON or CSV file.
        rating_min: lower end of the rating scale, which an export does not say; default: the smallest rating in it.
        rating_max: upper end of the rating scale, which an export does not say; default: the largest rating in it.
        images: folder of the image files; default: the file's own.
        control: name of the control to read; default: the only one of type Rating or Number, else the only Pairwise.
        image_key: which of a task's data is the image.
        left_key: which of a Pairwise task's data is the image on the left; give both keys or neither.
        right_key: which of a Pairwise task's data is the image on the right; give both keys or neither.

    Raises:
        RatingError: `images` is not a folder, the file is not an export, or it has no or several such controls.
    """
    folder = Path(images) if images is not None else path.parent
    if not folder.is_dir():
        raise RatingError(f"images={str(images)!r} is not a folder. Give the folder of the image files.")
    if (left_key is None) != (right_key is None):
        raise RatingError(f"left_key={left_key!r}, right_key={right_key!r}: give both, or neither.")
    keys = (left_key, right_key) if left_key is not None else None
    finder = _Finder(folder)
    control, pairwise = _chosen_control(path, control, image_key)

    def read_choices() -> Iterator[RawRow]:
        for number, task in _tasks(path, image_key):
            yield from ((str(path), number, row) for row in _choices(task, control, keys, finder))

    def read() -> Iterator[RawRow]:
        replaced = 0
        for number, task in _tasks(path, image_key):
            rows, older = _rows(task, control, image_key, finder)
            replaced += older
            yield from ((str(path), number, row) for row in rows)
        if replaced:
            logger.warning("%s: %d annotations were replaced by a later one of the same person.", path, replaced)

    def names() -> list[str]:
        answers = (read_choices if pairwise else read)()
        rows = (row for _, _, row in answers if isinstance(row, dict) and None not in row)
        found = {row.get(column) for row in rows for column in ("image_id", "preferred_id", "other_id")}
        return sorted(name for name in found if name and finder.files.has(name))

    def locate(image_id: str, image_path: str | None) -> str:
        if not finder.files.has(image_id):
            label = finder.files.label(image_id)
            raise ValueError(f"there is no image {label}; name its folder: images=FOLDER (--images).")
        return image_id

    return RatingSource(
        name=re.sub(r"[^\w.-]", "_", path.stem) or "label_studio",
        rows={} if pairwise else {UNSPLIT: read},
        choices={UNSPLIT: read_choices} if pairwise else {},
        digest=lambda with_images: digest_files([path]) + finder.files.digest(names(), content=with_images),
        labels={"score": control, "participant_id": "completed_by", "image_id": f"data.{image_key}"},
        level_values=integer_levels(rating_min, rating_max) if rating_min is not None else None,
        locate=locate,
        open_image=finder.files.open,
    )


class _Finder:
    """The images' folder, in which a name is found with or without the upload's prefix."""

    def __init__(self, folder: Path):
        self.files = Files(folder)
        self._names = NameFinder(folder)

    def find(self, reference: str) -> str:
        """Raises ValueError if the reference leads out of the folder."""
        name = self._names.find(image_name(reference))
        if not self.files.has(name):
            folder, _, last = name.rpartition("/")
            plain = self._names.find("/".join(filter(None, [folder, _UPLOAD.sub("", last, count=1)])))
            if self.files.has(plain):
                return plain
        return name


def _chosen_control(path: Path, control: str | None, image_key: str) -> tuple[str, bool]:
    """The control to read, and whether it is a Pairwise."""
    controls: dict[str, bool] = {}
    for _, task in _tasks(path, image_key):
        controls |= {name: kind == "pairwise" for name, kind in _values(task)}
    if control in controls:
        return control, controls[control]
    for pairwise in (False, True):
        names = [name for name, is_pairwise in controls.items() if is_pairwise == pairwise]
        if control is None and len(names) == 1:
            return names[0], pairwise
        if names:
            break
    what = "choices" if controls and all(controls.values()) else "ratings"
    raise RatingError(
        f"{path}: control={control!r}; its {what} are named {sorted(controls)[:20]}. Say which: control=NAME."
    )


def image_name(reference: str) -> str:
    """The name below the images' folder that a URL or path of an image stands for.

    Raises:
        ValueError: it leads out of the folder.
    """
    reference = reference.replace("\\", "/")  # Windows'
    parts = urlsplit(reference)
    if local := parse_qs(parts.query).get("d"):
        return inner_path(local[0].lstrip("/"))
    if parts.scheme or reference.startswith("/"):
        return inner_path(unquote(parts.path).rpartition("/")[2])
    return inner_path(unquote(reference))


def _tasks(path: Path, image_key: str) -> Iterator[tuple[int, Any]]:
    """(number, task of JSON or row of JSON-MIN and CSV)."""
    if path.suffix.lower() == ".json":
        with open(path, "rb") as stream:
            yield from read_json_list(stream, str(path))
        return
    table = open_table(path, ("annotator",), error=RatingError)
    for number, row in table.rows():
        problem = row.pop(None, None)
        task: dict[Any, Any] = {key: _json_cell(cell) for key, cell in row.items() if cell != ""}
        task |= {key: "" for key in _MIN_KEYS if key not in task}  # marks it as a row of JSON-MIN
        if image_key.lower() in row:
            task[image_key] = row[image_key.lower()]
        yield number, task if problem is None else {**task, None: problem}


def _json_cell(cell: str) -> Any:
    """What a control's cell holds; any other cell as it is."""
    if cell.startswith("[{") and len(cell) < 10_000:
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell


def _is_minimal(task: Any) -> bool:
    return isinstance(task, dict) and "annotations" not in task and any(key in task for key in _MIN_KEYS)


def _annotations(task: Any) -> list[tuple[dict, list]]:
    """(annotation, its results) of a task of JSON, those left out that were cancelled.

    Raises:
        ValueError: the task has another form.
    """
    annotations = task.get("annotations")
    if not isinstance(annotations, list):
        raise ValueError(
            f"annotations is {str(annotations)[:60]!r}; a list is needed. Export as JSON, JSON-MIN or CSV."
        )
    found = []
    for annotation in annotations:
        if not isinstance(annotation, dict):
            raise ValueError(f"an annotation is {str(annotation)[:60]!r}; an object is needed.")
        if annotation.get("was_cancelled"):
            continue
        results = annotation.get("result")
        if results is not None and not isinstance(results, list):
            raise ValueError(f"result is {str(results)[:60]!r}; a list is needed.")
        for result in results or []:
            if not isinstance(result, dict) or not isinstance(result.get("type"), str):
                raise ValueError(f"a result is {str(result)[:60]!r}; an object whose type is text is needed.")
        found.append((annotation, results or []))
    return found


def _values(task: Any) -> Iterator[tuple[str, str]]:
    """(control, kind of value: rating, number or pairwise) in a task; what is malformed is left to `_rows`."""
    if _is_minimal(task):
        for name, value in task.items():
            first = value[0] if isinstance(value, list) and value else value
            if isinstance(first, dict):
                yield from ((str(name), kind) for kind in CONTROLS if kind in first)
                if first.get("selected") in ("left", "right"):
                    yield str(name), "pairwise"
        return
    try:
        annotations = _annotations(task) if isinstance(task, dict) else []
    except ValueError:
        return
    for _, results in annotations:
        for result in results:
            if result["type"] in (*CONTROLS, "pairwise"):
                yield str(result.get("from_name")), result["type"]


def _choices(task: Any, control: str, keys: tuple[str, str] | None, finder: _Finder) -> list[Any]:
    """A task's choices with a Pairwise control."""
    if not isinstance(task, dict):
        return [task]
    if None in task:
        return [task]
    if _is_minimal(task):
        value = task.get(control, task.get(control.lower()))
        value = value[-1] if isinstance(value, list) and value else value
        if not value or str(task.get("was_cancelled", "")).lower() in ("true", "1"):
            return []
        selected = value.get("selected") if isinstance(value, dict) else value
        who = task.get("annotator") if task.get("annotator") != "" else None
        return [choice_row(task, who, selected, keys_of({}, task, keys), finder.find)]
    data = task.get("data")
    data = data if isinstance(data, dict) else {}
    latest: dict[str, tuple[str, dict]] = {}
    try:
        annotations = _annotations(task)
    except ValueError as error:
        return [{None: str(error)}]
    for annotation, results in annotations:
        who = _who(annotation)
        when = str(annotation.get("updated_at") or annotation.get("created_at") or "")
        for result in results:
            if result["type"] == "pairwise" and result.get("from_name") == control:
                value = result.get("value")
                selected = value.get("selected") if isinstance(value, dict) else value
                row = choice_row(data, who, selected, keys_of(result, data, keys), finder.find)
                if repr(who) not in latest or latest[repr(who)][0] <= when:
                    latest[repr(who)] = (when, row)
    return [row for _, row in latest.values()]


def _who(annotation: dict) -> Any:
    who = annotation.get("completed_by")
    return who.get("id") if isinstance(who, dict) else who


def _rows(task: Any, control: str, image_key: str, finder: _Finder) -> tuple[list[Any], int]:
    """A task's rows, and how many annotations a later one of the same person replaced."""
    if not isinstance(task, dict):
        return [task], 0
    data = task if _is_minimal(task) else task.get("data")
    data = data if isinstance(data, dict) else {}
    problem, image_id = task.get(None), None
    try:
        image_id = finder.find(data[image_key])
    except (KeyError, TypeError, AttributeError):
        problem = (
            problem or f"data.{image_key} is missing; the image's URL or path is needed. Name its key: image_key=…"
        )
    except ValueError as error:
        problem = problem or f"data.{image_key}: {error}"
    try:
        answers, older = _answers(task, control)
    except ValueError as error:
        return [{None: str(error)}], 0
    rows = []
    for who, score in answers:
        row: dict[Any, Any] = {
            "participant_id": who,
            "image_id": image_id,
            "prompt": data.get("prompt"),
            "score": score,
        }
        rows.append(row if problem is None else {**row, None: problem})
    return rows, older


def _answers(task: dict, control: str) -> tuple[list[tuple[Any, Any]], int]:
    """(who, score) of each answer to the control, and how many were replaced by a later one.

    Raises:
        ValueError: the task is malformed.
    """
    if _is_minimal(task):
        value = task.get(control, task.get(control.lower()))
        if value is None or value == [] or str(task.get("was_cancelled", "")).lower() in ("true", "1"):
            return [], 0
        value = value[-1] if isinstance(value, list) else value
        return [(task.get("annotator") if task.get("annotator") != "" else None, _score_of(value))], 0
    latest: dict[str, tuple[str, Any, Any]] = {}
    older = 0
    for annotation, results in _annotations(task):
        who = _who(annotation)
        when = str(annotation.get("updated_at") or annotation.get("created_at") or "")
        for result in results:
            if result["type"] not in CONTROLS or result.get("from_name") != control:
                continue
            before = latest.get(repr(who))
            older += before is not None
            if before is None or before[0] <= when:
                latest[repr(who)] = (when, who, _score_of(result.get("value")))
    return [(who, score) for _, who, score in latest.values()], older


def _score_of(value: Any) -> Any:
    """The number in a control's value; what has none is returned for the row's check to name."""
    if isinstance(value, dict):
        return next((value[kind] for kind in CONTROLS if kind in value), None)
    return value
