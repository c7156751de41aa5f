"""Tables of ratings and of choices as a model's row numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..embeddings import Embeddings
from ..model.configuration_pamela import PamelaConfig


@dataclass
class RatingArrays:
    """Ratings as a model's row numbers, n of each: what training and prediction feed to the model."""

    image_rows: np.ndarray  # rows of the embeddings
    people: np.ndarray  # who rated, numbered in the order of their names, whether the model knows them or not
    user_ids: np.ndarray  # 0 = unknown
    demographic_ids: np.ndarray  # (n, F)
    metadata_ids: np.ndarray  # (n, M)
    scale_ids: np.ndarray
    labels: np.ndarray  # level indices, -1 where the rating is not a level of the scale

    def __len__(self) -> int:
        return len(self.image_rows)


def encode_ratings(ratings: pd.DataFrame, config: PamelaConfig, embeddings: Embeddings) -> RatingArrays:
    """Row numbers of a table of ratings; people and values the model does not know are row 0.

    Raises:
        ValueError: a rating scale the model does not have. EmbeddingError: an image without an embedding.
    """
    names = list(config.rating_scales)
    scale_ids = _scale_ids(ratings["rating_scale"], names)
    scores = ratings["score"].to_numpy(np.float32)
    labels = np.full(len(ratings), -1, np.int64)
    for i, values in enumerate(config.rating_scales.values()):
        levels = np.asarray(values, np.float32)
        here = np.flatnonzero(scale_ids == i)
        index = np.searchsorted(levels, scores[here]).clip(0, len(levels) - 1)
        labels[here] = np.where(levels[index] == scores[here], index, -1)
    return RatingArrays(
        image_rows=_per_category(ratings["image_id"], embeddings.rows),
        people=pd.factorize(ratings["participant_id"].astype(str), sort=True)[0],
        user_ids=_ids(ratings["participant_id"], config.users),
        demographic_ids=_field_ids(ratings, config.demographics),
        metadata_ids=_field_ids(ratings, config.metadata),
        scale_ids=scale_ids,
        labels=labels,
    )


@dataclass
class ChoiceArrays:
    """Choices as a model's row numbers, m of each; of two images the preferred one first."""

    image_rows: np.ndarray  # (m, 2) rows of the embeddings
    people: np.ndarray  # who chose, numbered in the order of their names
    user_ids: np.ndarray  # 0 = unknown
    demographic_ids: np.ndarray  # (m, F)
    metadata_ids: np.ndarray  # (m, 2, M)
    ties: np.ndarray  # bool

    def __len__(self) -> int:
        return len(self.ties)


def encode_choices(choices: pd.DataFrame, config: PamelaConfig, embeddings: Embeddings) -> ChoiceArrays:
    """Row numbers of a table of choices; people and values the model does not know are row 0.

    Raises:
        EmbeddingError: an image without an embedding.
    """
    sides = ("preferred", "other")
    return ChoiceArrays(
        image_rows=np.stack([_per_category(choices[f"{side}_id"], embeddings.rows) for side in sides], -1),
        people=pd.factorize(choices["participant_id"].astype(str), sort=True)[0],
        user_ids=_ids(choices["participant_id"], config.users),
        demographic_ids=_field_ids(choices, config.demographics),
        metadata_ids=np.stack([_field_ids(choices, config.metadata, f"{side}_") for side in sides], 1),
        ties=choices["tie"].to_numpy(bool),
    )


def _ids(column: pd.Series, vocabulary: Sequence[str]) -> np.ndarray:
    row = {value: i + 1 for i, value in enumerate(vocabulary)}
    return _per_category(column, lambda values: np.array([row.get(v, 0) for v in values], np.int64), 0)


def _field_ids(table: pd.DataFrame, vocabularies: Mapping[str, Sequence[str]], prefix: str = "") -> np.ndarray:
    """`(n, fields)` of the columns that are called as the fields, with `prefix` before them."""
    columns = [_ids(table[f"{prefix}{field}"], values) for field, values in vocabularies.items()]
    return np.stack(columns, -1) if columns else np.zeros((len(table), 0), np.int64)


def _per_category(column: pd.Series, function: Any, missing: int | None = None) -> np.ndarray:
    """`function(distinct values)` spread over a column, so that a lookup is done once for each distinct value."""
    codes, values = pd.factorize(column)
    looked_up = np.asarray(function([str(v) for v in values]), np.int64)
    if missing is None:
        return looked_up[codes]
    return np.append(looked_up, missing)[codes]  # code -1 is a missing value


def _scale_ids(column: pd.Series, names: list[str]) -> np.ndarray:
    def look_up(values: list[str]) -> list[int]:
        if unknown := [v for v in values if v not in names]:
            raise ValueError(
                f"rating_scale={unknown[0]!r} is not a scale of this model; it has {names}. Score with one of them: "
                "a table's `rating_scale` column says which scale its scores are on."
            )
        return [names.index(v) for v in values]

    return _per_category(column, look_up)
