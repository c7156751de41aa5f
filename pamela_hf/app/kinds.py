"""Kinds of pictures, and which of them a person likes more than others do.

A kind is a value of the metadata (group, style, type) where the folder is a ratings folder's `images/`, else one of the
folder's subfolders, else pictures that look alike: clusters of their features.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..heads.head import UserHead
from ..ratings.sources import open_source
from ..ratings.table import METADATA_FIELDS, RatingError
from .base import Base

logger = logging.getLogger(__name__)

FEWEST = 5  # pictures of a kind
MOST_KINDS, MOST_CLUSTERS = 60, 10
A_CLUSTER = 25  # pictures, of small folders
AMONG = 1500  # pictures whose features are clustered, and scored for the intervals; a random sample of large folders
DRAWS = 16  # rows from a head's posterior, for how sure a difference is
Z80 = 1.2816  # standard normal quantile of an 80 % interval
EXAMPLES = 4
MOST_ROWS = 200_000  # of annotations
LOOK = "look"


@dataclass(frozen=True)
class Kind:
    """Pictures of one kind.

    Attributes:
        field: what the name is a value of: "group", "style", "type", "folder" or "look".
        name: the value; of a look its number, from "1".
        rows: rows of the features, at least [`FEWEST`].
    """

    field: str
    name: str
    rows: np.ndarray


@dataclass(frozen=True)
class Liking:
    """How much more than others a person likes a kind, beyond how much more they like pictures at all.

    Attributes:
        kind: the kind.
        more: mean difference between the person's predicted ratings and everyone's, less that of all pictures, in
            rating units. On a blank base, which knows no others: less the person's own mean.
        doubt: half the width of its 80 % interval, given the person's answers.
        examples: up to [`EXAMPLES`] rows of the features: the pictures of the kind that show it most.
    """

    kind: Kind
    more: float
    doubt: float
    examples: Sequence[int]


def kinds_of(folder: Path, base: Base) -> list[Kind]:
    """The kinds that a folder's pictures fall into; empty for a handful of pictures."""
    ids = base.embeddings.image_ids
    found = _named(_metadata(folder, base.positions)) or _named(
        {"folder": {row: id.partition("/")[0] for row, id in enumerate(ids) if "/" in id}}
    )
    if len(found) > 1:
        return found
    labels, rows = clusters(base.embeddings.image_embeds)
    kinds = [Kind(LOOK, str(number + 1), rows[labels == number]) for number in range(int(labels.max(initial=-1)) + 1)]
    return [kind for kind in kinds if len(kind.rows) >= FEWEST]


def _named(values: Mapping[str, Mapping[int, str]]) -> list[Kind]:
    """Kinds of field → row → value, the largest first."""
    rows_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for field, of_rows in values.items():
        for row, value in of_rows.items():
            rows_of[field, value].append(row)
    kinds = [Kind(*key, np.array(sorted(rows))) for key, rows in rows_of.items() if len(rows) >= FEWEST]
    return sorted(kinds, key=lambda kind: -len(kind.rows))[:MOST_KINDS]


def _metadata(folder: Path, positions: Mapping[str, int]) -> dict[str, dict[int, str]]:
    """Field → row → value, from the annotations beside a folder `images/`."""
    values: dict[str, dict[int, str]] = {field: {} for field in METADATA_FIELDS}
    if folder.resolve().name != "images" or not (folder.resolve().parent / "annotations").is_dir():
        return values
    try:
        source = open_source(folder.resolve().parent)
        for read in source.rows.values():
            for _, (_, _, row) in zip(range(MOST_ROWS), read()):
                path = row.get("image_path") if isinstance(row, dict) else None
                at = positions.get(str(path).removeprefix("images/"))
                for field in METADATA_FIELDS if at is not None else ():
                    if isinstance(row.get(field), str):
                        values[field][at] = row[field]
    except RatingError as error:
        logger.warning("No kinds from the annotations: %s", error)
    return values


def clusters(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """k-means of features `(N, D)` by cosine around their mean: `(n,)` labels from 0, and `(n,)` their rows."""
    from scipy.cluster.vq import kmeans2

    rows = np.sort(np.random.default_rng(0).permutation(len(features))[:AMONG])
    count = min(MOST_CLUSTERS, len(rows) // A_CLUSTER)
    if count < 2:
        return np.zeros(0, int), rows[:0]
    vectors = features[rows].astype(np.float64) - features[rows].mean(0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    _, labels = kmeans2(vectors, count, minit="++", rng=np.random.default_rng(0), missing="warn")
    return labels, rows


def likes_more(base: Base, head: UserHead, kinds: Sequence[Kind]) -> list[Liking]:
    """How much more this person likes each kind, the most first."""
    if not kinds:
        return []
    rng = np.random.default_rng(0)
    union = np.unique(np.concatenate([kind.rows for kind in kinds]))
    rows = np.sort(rng.permutation(union)[:AMONG])
    scores, _ = base.scores(base.embeddings.image_embeds[rows], [head, None, *drawn(head, rng)])
    difference = scores[:, 0] - scores[:, 1]
    out = []
    for kind in kinds:
        here = np.flatnonzero(np.isin(rows, kind.rows))
        if len(here) < FEWEST:
            continue
        draws = scores[:, 2:]  # everyone's taste is the same in each, so it does not move the spread
        spread = (draws[here].mean(0) - draws.mean(0)).std() if draws.size else 0.0
        more = float(difference[here].mean() - difference.mean())
        typical = here[np.argsort(-np.sign(more) * difference[here])][:EXAMPLES]
        out.append(Liking(kind, more, float(Z80 * spread), [int(row) for row in rows[typical]]))
    return sorted(out, key=lambda one: -one.more)


def drawn(head: UserHead, rng: np.random.Generator, count: int = DRAWS) -> list[UserHead]:
    """Heads whose rows are drawn from what this person's row may be; none of a head without a covariance."""
    if head.covariance is None:
        return []
    rows = rng.multivariate_normal(head.row.astype(np.float64), head.covariance, count, method="eigh")
    return [replace(head, row=row.astype(np.float32)) for row in rows]


def by_field(likings: Sequence[Liking]) -> dict[str, dict[str, Any]]:
    """Field → name → how much more, as `/api/taste` says it."""
    out: dict[str, dict[str, Any]] = {}
    for one in likings:
        out.setdefault(one.kind.field, {})[one.kind.name] = round(one.more, 2)
    return out
