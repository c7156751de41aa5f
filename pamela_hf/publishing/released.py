"""Who is public already: the participants of a public dataset on the Hub, as it was at one commit.

What files are called and what a card or a configuration says of its ratings decides nothing: it only names the place
where this looks, as anybody could, without an access token. Everybody else gets a pseudonym.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..hub.transfer import HubError, pull_folder
from ..ratings.table import RatingData, Release

COMMIT = re.compile(r"[0-9a-f]{40}")
ANSWERS = {
    "ratings": ("participant_id", "image_id", "score"),
    "choices": ("participant_id", "preferred_id", "other_id", "tie"),
}
"""Folder of a prepared dataset → what makes one of its answers, who gave it first."""


@dataclass(frozen=True)
class Released:
    """Participants of a published dataset.

    Attributes:
        people: their ids.
        answers: a hash of each rating and choice, see [`answer_hash`].
    """

    people: frozenset[str] = frozenset()
    answers: frozenset[bytes] = field(default=frozenset(), repr=False)


def answer_hash(*values: Any) -> bytes:
    """First 16 bytes of the sha256 over who rated which image how (the score as float32), or who chose which of two."""
    texts = (
        str(bool(value)) if isinstance(value, (bool, np.bool_)) else
        repr(float(np.float32(value))) if isinstance(value, (float, np.floating)) else str(value)
        for value in values
    )  # fmt: skip
    return hashlib.sha256("\0".join(texts).encode("utf-8", "backslashreplace")).digest()[:16]


def look_up(release: Release) -> Released:
    """The participants and their answers of a release's dataset on the Hub, at its commit, as everybody may read them.

    Returns:
        Nobody where `release` names no dataset or no commit of 40 digits.

    Raises:
        HubError: the dataset is not public, has no ratings or choices at that commit, or the Hub is out of reach.
    """
    if not release.dataset or not COMMIT.fullmatch(release.revision or ""):
        return Released()
    allow = [f"{kind}/*.parquet" for kind in ANSWERS]
    folder = pull_folder(release.dataset, "dataset", revision=release.revision, allow=allow, token=False)
    people: set[str] = set()
    answers: set[bytes] = set()
    for kind, columns in ANSWERS.items():
        for file in sorted((folder / kind).glob("*.parquet")):
            for row in _rows(file, columns):
                people.add(row[0])
                answers.add(answer_hash(*row))
    return Released(frozenset(people), frozenset(answers))


def _rows(file: Path, columns: tuple[str, ...]) -> Iterator[tuple]:
    try:
        for batch in pq.ParquetFile(file).iter_batches(10_000, columns=list(columns)):
            yield from zip(*(batch.column(name).to_pylist() for name in columns))
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise HubError(
            f"{file.name} of the release cannot be read ({str(error)[:100]}). Push with --keep-ids and the licence if "
            "its participants are yours to name."
        ) from None


def released_users(users: Iterable[str], releases: Mapping[str, Released]) -> set[str]:
    """The `users` whose ids are public: those of a release, behind its prefix (`source/`, or "" for a single source).
    A model holds no ratings to compare, so ids decide."""
    return {
        user
        for prefix, release in releases.items()
        for user in users
        if user.startswith(prefix) and user.removeprefix(prefix) in release.people
    }


def released_participants(ratings: RatingData, release: Released) -> set[str]:
    """The participants whose every rating and choice here is theirs in the release too: the same name is not yet the
    same person."""
    checked: dict[str, bool] = {}
    for kind, tables in (("ratings", ratings.splits), ("choices", ratings.choices)):
        for table in tables.values():
            columns = (table[c] if c in ("score", "tie") else table[c].astype(str) for c in ANSWERS[kind])
            for row in zip(*columns):
                if checked.get(row[0], True):
                    checked[row[0]] = answer_hash(*row) in release.answers
    return {participant for participant, same in checked.items() if same}
