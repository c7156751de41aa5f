"""Who is public already: the participants of a public dataset on the Hub, as it was at one commit.

What files are called and what a card or a configuration says of its ratings decides nothing: it only names the place
where this looks, as anybody could, without an access token. Everybody else gets a pseudonym.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..hub.transfer import HubError, pull_folder
from ..ratings.table import RatingData, Release

COMMIT = re.compile(r"[0-9a-f]{40}")
RATINGS_OF_A_DATASET = ("ratings/*.parquet",)
_COLUMNS = ("participant_id", "image_id", "score")


@dataclass(frozen=True)
class Released:
    """Participants of a published dataset.

    Attributes:
        people: their ids.
        ratings: a hash of each rating, see [`rating_hash`].
    """

    people: frozenset[str] = frozenset()
    ratings: frozenset[bytes] = field(default=frozenset(), repr=False)


def rating_hash(participant: str, image: str, score: float) -> bytes:
    """First 16 bytes of the sha256 over who rated which image how, the score as float32."""
    text = "\0".join((participant, image, repr(float(np.float32(score)))))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:16]


def look_up(release: Release) -> Released:
    """The participants and ratings of a release's dataset on the Hub, at its commit, as everybody may read them.

    Returns:
        Nobody where `release` names no dataset or no commit of 40 digits.

    Raises:
        HubError: the dataset is not public, has no ratings at that commit, or the Hub is out of reach.
    """
    if not release.dataset or not COMMIT.fullmatch(release.revision or ""):
        return Released()
    folder = pull_folder(release.dataset, "dataset", revision=release.revision, allow=RATINGS_OF_A_DATASET, token=False)
    people: set[str] = set()
    ratings: set[bytes] = set()
    for file in sorted(folder.glob(RATINGS_OF_A_DATASET[0])):
        for participant, image, score in _rows(file):
            people.add(participant)
            ratings.add(rating_hash(participant, image, score))
    return Released(frozenset(people), frozenset(ratings))


def _rows(file: Path) -> Iterator[tuple[str, str, float]]:
    try:
        for batch in pq.ParquetFile(file).iter_batches(10_000, columns=list(_COLUMNS)):
            yield from zip(*(batch.column(name).to_pylist() for name in _COLUMNS))
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
    """The participants whose every rating here is theirs in the release too: the same name is not yet the same
    person."""
    checked: dict[str, bool] = {}
    for table in ratings.splits.values():
        for participant, image, score in zip(table.participant_id.astype(str), table.image_id.astype(str), table.score):
            if checked.get(participant, True):
                checked[participant] = rating_hash(participant, image, score) in release.ratings
    return {participant for participant, same in checked.items() if same}
