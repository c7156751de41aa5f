"""What the personal rivals have in common as scorers: people, their use of the scale, and meeting new ones."""

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from ..embeddings import Embeddings
from ..scoring import Predictions
from ._levels import normal_predictions
from ._ratings import Inputs, RatingMatrix, ScaleUse, shares


@dataclass
class PersonalScorer(ABC):
    """A scorer that knows people by their ratings; subclasses say how much each likes an image.

    Attributes:
        line: slope and spread of people's standardized ratings over held-out predictions.
        people: participant_id → row of what is known of them.
        use_of: `(3, U)` mean and spread of these people's ratings, and the mean's variance, see [`ScaleUse`].
    """

    inputs: Inputs
    use: ScaleUse
    line: tuple[float, float]
    level_values: dict[str, np.ndarray]
    people: dict[str, int]
    use_of: np.ndarray

    name: ClassVar[str]
    personal: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = True

    @property
    def score_range(self) -> tuple[float, float]:
        """Lowest and highest level of the first rating scale."""
        levels = next(iter(self.level_values.values()))
        return float(levels[0]), float(levels[-1])

    def liking(self, x: np.ndarray, image: np.ndarray, person: np.ndarray, ratings: pd.DataFrame) -> np.ndarray:
        """`(n,)` standardized liking. x: `(m, D)` features; image, person: `(n,)` rows of x and of the people, -1 for
        somebody unknown; ratings: the table asked about. Only a subclass with a `predict` of its own has none."""
        raise NotImplementedError(f"{type(self).__name__} has neither a liking nor a predict of its own.")

    @abstractmethod
    def fit_people(self, x: np.ndarray, ratings: RatingMatrix, table: pd.DataFrame) -> dict[str, object]:
        """The fields that hold what is known of people, from their own ratings of images with features x `(I, D)`."""

    def predict(self, ratings: pd.DataFrame, embeddings: Embeddings) -> Predictions:
        """A normal distribution around the person's liking, cut into the levels of each row's rating scale.

        Raises:
            ValueError: a rating scale that train did not have. EmbeddingError: an image without features.
        """
        image, ids = pd.factorize(ratings["image_id"].astype(str))
        person = self._rows(ratings)
        slope, spread = self.line
        z = slope * self.liking(self.inputs(embeddings, ids), image, person, ratings)
        unknown = np.array(self.use.of(np.zeros(0), np.zeros(0, np.int64), 1))
        mean, own, uncertain = np.hstack([self.use_of, unknown])[:, person]
        scales = ratings["rating_scale"].astype(str).to_numpy()
        ends = {scale: (values[0], values[-1] - values[0]) for scale, values in self.level_values.items()}
        low, span = np.array([ends.get(scale, (np.nan, np.nan)) for scale in scales]).reshape(-1, 2).T
        std = np.sqrt((own * spread) ** 2 + uncertain)
        return normal_predictions(low + span * (mean + own * z), span * std, scales, self.level_values)

    def adapt(self, support: pd.DataFrame, embeddings: Embeddings) -> "PersonalScorer":
        """This scorer for the people of `support`, each known by their ratings there, and for no others.

        Nothing else is learned from them: features, penalties and what people share stay as train left them.
        """
        ratings = RatingMatrix.of(support, self.level_values, self.use)
        x = self.inputs(embeddings, ratings.image_ids)
        known = known_people(support, ratings)
        return dataclasses.replace(self, **known, **self.fit_people(x, ratings, support))

    def _rows(self, ratings: pd.DataFrame) -> np.ndarray:
        codes, names = pd.factorize(ratings["participant_id"])
        return np.append([self.people.get(str(name), -1) for name in names], -1).astype(np.int64)[codes]


def known_people(table: pd.DataFrame, ratings: RatingMatrix) -> dict[str, object]:
    """`people` and `use_of` of a table of ratings."""
    people = {name: row for row, name in enumerate(ratings.participants)}
    codes = table["participant_id"].astype(str).map(people).to_numpy()
    return {"people": people, "use_of": np.array(ratings.use.of(shares(table, ratings.levels), codes, len(people)))}
