"""The CSV of a user study, checked row by row.

One row a comparison. Columns, in either form:

| column | |
|---|---|
| participant | who chose |
| left, right, choice | conditions of the two images (self, other, none, consensus, hpsv3, …); left, right or tie |
| winner, loser, tie | another form of the same; tie (optional) is yes or no, and if yes the order means nothing |
| prompt | optional: what both images were made from |
| left_image, right_image (winner_image, loser_image) | optional: ids of the images |
| pair | optional: rows of one pair show the same two images; a second row of one person is a retest |

Or the table of choices of [`pamela_hf.ratings.table.RatingData`], as a CSV, a Parquet file or a prepared folder:
participant_id, preferred_id, other_id, tie, prompt and what is known of the two images, of which one column on each
side (preferred_type and other_type, …) says the condition.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ..files.csv import Table, open_table
from .analysis import Choices, StudyError

CHOICES = {"left": 1.0, "right": 0.0, "tie": 0.5}
TIES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}
_FORMS = (("left", "right", "choice"), ("winner", "loser", "tie"))
_TABLE = ("participant", "preferred", "other")
CONDITION = "type"  # of the table of choices: which of the images' columns says what is compared
_SHARED = ("participant", "prompt", "pair")


def read_choices(path: str | os.PathLike, ignore: Iterable[str] = (), condition: str = CONDITION) -> Choices:
    """The choices of a CSV file (see [`pamela_hf.files.csv`]) with the columns above, or of a table of choices.

    Args:
        path: the CSV file or workbook; of a table of choices also a Parquet file, or a prepared folder, of which all
            splits are read.
        ignore: columns to skip (the time, a session's id, …).
        condition: of a table of choices: which of the images' columns is the condition: prompt, group, style, type or
            any other that the table has for ``preferred_…`` and ``other_…``; ``id``: each image is its own.

    Raises:
        StudyError: an unknown or missing column, or a bad value; the message names file and row.
        OSError: there is no such file.
    """
    path, ignore = Path(path), {name.strip().lower() for name in ignore}
    if path.is_dir() or path.suffix.lower() == ".parquet":
        return _from_table(_stored(path), path, condition)
    table = _opened(path, ignore)
    if set(_TABLE) <= set(table.names):
        return _from_table(table, path, condition)
    sides = _columns(path, table.names, ignore)
    rows: dict[str, list] = {}
    pairs: dict[str, tuple[set[str], str]] = {}
    for number, cells in table.rows():
        where = f"{path}, row {number}"
        if None in cells:
            raise StudyError(f"{where}: {cells[None]} Put cells that hold a separator in quotes.")
        row = {name: value for name, value in cells.items() if name not in ignore}
        empty = [name for name, value in row.items() if not value and name != "tie"]
        if empty:
            raise StudyError(f"{where}: {empty[0]} is empty. Fill it in or take the row out.")
        a, b = sides
        if f"{a}_image" in row and row[f"{a}_image"] == row[f"{b}_image"]:
            raise StudyError(f"{where} compares image {row[f'{a}_image']!r} with itself.")
        if "pair" in row:
            shown = {row.get(f"{side}_image", row[side]) for side in sides}
            before, line = pairs.setdefault(row["pair"], (shown, where))
            if shown != before:
                message = f"{where}: pair {row['pair']!r} shows {_listed(shown)}, but {_listed(before)} in {line}."
                raise StudyError(f"{message} Give different pairs different ids.")
        fields = {"left": row[a], "right": row[b], "choice": _choice(where, row)}
        fields |= {name: row[name] for name in _SHARED if name in row}
        if f"{a}_image" in row:
            fields |= {"left_image": row[f"{a}_image"], "right_image": row[f"{b}_image"]}
        for name, value in fields.items():
            rows.setdefault(name, []).append(value)
    if not rows:
        raise StudyError(f"{path} holds no choices. Add a row for each comparison below the header.")
    return Choices(**{name: np.array(values) for name, values in rows.items()})


def _stored(path: Path) -> Table:
    """A table of choices in Parquet files."""
    files = sorted((path / "choices").glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise StudyError(f"{path} holds no choices/*.parquet. Make them with `pamela prepare-ratings`, or give a CSV.")
    try:
        frame = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    except (ValueError, OSError) as error:  # pyarrow's errors are of these kinds
        raise StudyError(f"{path}: no readable Parquet file ({error}). Prepare the choices again.") from None
    return open_table(frame, _TABLE, ("tie", "prompt"), StudyError)


def _from_table(table: Table, path: Path, condition: str) -> Choices:
    """Choices of a table of choices: the first image is the one on the left."""
    sides = ("preferred", "other") if condition == "id" else (f"preferred_{condition}", f"other_{condition}")
    if missing := [name for name in sides if name not in table.names]:
        raise StudyError(
            f"{path} has no column {missing[0]}, which would say what is compared. Name the images' column that does "
            f"with --condition: its columns are {', '.join(table.names)}; or each image itself: --condition id."
        )
    fields = ("participant", "left", "right", "choice", "left_image", "right_image")
    rows: dict[str, list] = {name: [] for name in fields}
    prompts: list[str] = []
    for number, cells in table.rows():
        where = f"{path}, row {number}"
        if None in cells:
            raise StudyError(f"{where}: {cells[None]} Put cells that hold a separator in quotes.")
        if empty := [name for name in (*_TABLE, *sides) if cells[name] == ""]:
            raise StudyError(f"{where}: {empty[0]} is empty. Fill it in, or name another column with --condition.")
        tied = TIES.get(str(cells.get("tie", "")).lower())
        if tied is None:
            raise StudyError(f"{where}: tie is {cells['tie']!r}; it is yes or no (true, false, 1, 0, empty).")
        values = (cells["participant"], *(cells[side] for side in sides), 0.5 if tied else 1.0, cells["preferred"],
                  cells["other"])  # fmt: skip
        for column, value in zip(rows.values(), values):
            column.append(value if isinstance(value, float) else str(value))
        prompts.append(str(cells.get("prompt", "")))
    if not prompts:
        raise StudyError(f"{path} holds no choices. Add a row for each comparison below the header.")
    prompt = np.array(prompts) if all(prompts) else None
    return Choices(**{name: np.array(values) for name, values in rows.items()}, prompt=prompt)


def _opened(path: Path, ignore: set[str]) -> Table:
    """The table, its columns found by their synonyms; what is wrong with a header is for `_columns` to say."""
    needed = [("participant", *_FORMS[0]), ("participant", *_FORMS[1][:2]), _TABLE]
    images = (f"{side}_image" for form in _FORMS for side in form[:2])
    optional = (*_SHARED, "tie", *images)
    return open_table(path, needed, [name for name in optional if name not in ignore], StudyError, enforce=False)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))


def _columns(path: Path, names: list[str], ignore: set[str]) -> tuple[str, str]:
    """The names of the two sides, after checking the header."""
    form = _FORMS[1] if "winner" in names or "loser" in names else _FORMS[0]
    images = [f"{side}_image" for side in form[:2]]
    allowed = [*_SHARED, *form, *images]
    for name in names:
        if name not in allowed and name not in ignore:
            close = difflib.get_close_matches(name, allowed, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise StudyError(
                f"{path}, row 1: unknown column {name!r}; {hint}Known are {', '.join(allowed)}. "
                f"Skip a column with --ignore {name or 'NAME'}."
            )
    needed = ["participant", *form[:2], *(["choice"] if form is _FORMS[0] else [])]
    needed += images if set(images) & set(names) else []
    missing = [name for name in needed if name not in names]
    if missing:
        raise StudyError(
            f"{path}, row 1: column {missing[0]!r} is missing. A study has participant and either left, right, choice "
            "or winner, loser and if need be tie; images are named on both sides or on none."
        )
    return form[:2]


def _choice(where: str, row: Mapping[str, str]) -> float:
    if "choice" in row:
        value = CHOICES.get(row["choice"].lower())
        if value is None:
            raise StudyError(f"{where}: choice is {row['choice']!r}; it is left, right or tie.")
        return value
    tied = TIES.get(row.get("tie", "").lower())
    if tied is None:
        raise StudyError(f"{where}: tie is {row['tie']!r}; it is yes or no (true, false, 1, 0, empty).")
    return 0.5 if tied else 1.0
