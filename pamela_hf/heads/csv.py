"""What one person answered, from tables: ratings and likes, choices, and what the images were made from.

What a table may look like, and what its columns may be called: [`pamela_hf.files.csv`].
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..files.csv import Row, Table, open_table, read_number
from ..files.folders import NameFinder
from .answers import key_of
from .folder import HeadError


def read_ratings_csv(
    path: str | os.PathLike,
    images: str | os.PathLike | None = None,
    is_path: bool = True,
    fields: Iterable[str] = (),
    participant: str | None = None,
) -> tuple[list[tuple[Any, float | bool]], dict[str, str], dict[str, dict[str, str]]]:
    """`(image, score)` pairs of a table with columns `image,score[,participant][,prompt]`, a score of `true` or `false`
    being a like; image → prompt; and image → metadata.

    Args:
        path: the CSV file or workbook.
        images: folder that the paths start from (default: the table's own); none may lead out of it.
        is_path: images are paths; False: they are ids of an embeddings file.
        fields: metadata fields, columns that the table may have, too.
        participant: whose rows are read; default: the table's only participant, or all rows where it names none.

    Raises:
        HeadError: a column that is missing, rows of several participants, a score that is neither a number nor true or
            false, a path that leads out of the folder (with the row's number), or no row at all.
    """
    pairs: list[tuple[Any, float | bool]] = []
    prompts: dict[str, str] = {}
    metadata: dict[str, dict[str, str]] = {}
    table = open_table(path, ("image", "score"), ("participant", "prompt", *fields), HeadError)
    finder = _finder(path, images) if is_path else None
    for where, row in _rows(table, participant):
        score = read_score(row["score"])
        if score is None:
            what = f"score {row['score']!r} is not a number, true or false"
            raise HeadError(f"{where}: {what}. Correct or remove the row.")
        image = _located(row["image"], finder, where)
        pairs.append((image, score))
        _note_facts(row, key_of(image, not is_path), fields, prompts, metadata)
    return pairs, prompts, metadata


def read_prompts_csv(
    path: str | os.PathLike,
    images: str | os.PathLike | None = None,
    is_path: bool = True,
    fields: Iterable[str] = (),
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Image → prompt and image → metadata of a table with columns `image` and any of `prompt` and `fields`; the rest as
    in [`read_ratings_csv`]."""
    prompts: dict[str, str] = {}
    metadata: dict[str, dict[str, str]] = {}
    facts = ("prompt", *fields)
    table = open_table(path, [("image", fact) for fact in facts], facts, HeadError)
    finder = _finder(path, images) if is_path else None
    for where, row in _rows(table, None):
        image = _located(row["image"], finder, where)
        _note_facts(row, key_of(image, not is_path), fields, prompts, metadata)
    return prompts, metadata


def read_choices_csv(
    path: str | os.PathLike,
    images: str | os.PathLike | None = None,
    is_path: bool = True,
    participant: str | None = None,
) -> list[tuple[Any, Any]]:
    """`(preferred, other)` pairs of a table with these columns; the rest as in [`read_ratings_csv`]."""
    table = open_table(path, ("preferred", "other"), ("participant", "prompt"), HeadError)
    finder = _finder(path, images) if is_path else None
    return [
        tuple(_located(row[side], finder, where) for side in ("preferred", "other"))
        for where, row in _rows(table, participant)
    ]


def read_score(cell: Any) -> float | bool | None:
    """The rating or like that a cell says; None if it says neither."""
    if isinstance(cell, str) and cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    return bool(cell) if isinstance(cell, bool) else read_number(cell)


def _finder(path: str | os.PathLike, images: str | os.PathLike | None) -> NameFinder:
    return NameFinder(images if images is not None else Path(path).parent)


def _note_facts(
    row: Row, key: str, fields: Iterable[str], prompts: dict[str, str], metadata: dict[str, dict[str, str]]
) -> None:
    """Puts a row's prompt and metadata, where there are any, beside those of other images."""
    if row.get("prompt"):
        prompts[key] = row["prompt"]
    if facts := {field: row[field] for field in fields if row.get(field)}:
        metadata[key] = facts


def _rows(table: Table, participant: str | None) -> list[tuple[str, Row]]:
    """The rows of one participant, with what messages call them."""
    rows = [(table.where(number), row) for number, row in table.rows()]
    for where, row in rows:
        if None in row:
            raise HeadError(f"{where}: {row[None]} Put cells that hold a separator in quotes.")
    if "participant" in table.names:
        rows = _of_one_participant(rows, table, participant)
    elif participant is not None:
        raise HeadError(f"{table.label} has no column participant to find {participant!r} in. Leave the choice out.")
    if not rows:
        raise HeadError(
            f"{table.label} holds no answers. Add rows below the header {','.join(map(table.called, table.names))}."
        )
    return rows


def _of_one_participant(rows: list[tuple[str, Row]], table: Table, participant: str | None) -> list[tuple[str, Row]]:
    """The rows of `participant`, or of the only one there is.

    Raises:
        HeadError: rows of several people, one of whom has to be chosen, or none of this participant.
    """
    people = sorted({str(row["participant"]) for _, row in rows})
    if participant is not None:
        if participant not in people:
            raise HeadError(f"{table.label} has no row of participant {participant!r}; it has {', '.join(people[:8])}.")
        return [(where, row) for where, row in rows if str(row["participant"]) == participant]
    if len(people) > 1:
        shown = ", ".join(repr(person) for person in people[:8]) + (", …" if len(people) > 8 else "")
        raise HeadError(
            f"{table.label} holds answers of {len(people)} participants ({shown}), and a head is one person's. Choose "
            f"whose with --user NAME (participant=NAME), or remove the column {table.called('participant')} if all "
            "are the same person."
        )
    return rows


def _located(name: Any, finder: NameFinder | None, where: str) -> Any:
    """An image's path below its folder; a link there is the owner's own doing, a name that climbs out is not."""
    if finder is None:
        return str(name)
    try:
        return finder.folder / finder.find(str(name))
    except ValueError as error:
        raise HeadError(f"{where}: image {error}. Correct the row.") from None
