"""What one person would like best among many images, without scoring all of them.

A person becomes a vector: ridge regression of the model's utilities on the features of a sample of the index, then once
more on the sample and the best candidates found with it, weighed by how near they are to the top, where the order is
asked for (of a blank base utilities are linear, and so both are exact). The images with the largest inner product with
it are candidates; the whole model scores these, so what comes out is the model's own order of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..scoring import PamelaScorer, scoring_mode
from .index import Filter, ImageIndex, IndexedImages

SAMPLE = 4096
"""Images that people's vectors are fitted to: several times as many as there are features."""
SCORED = 1000
"""Candidates that the model scores, where no more than 100 images are asked for; else ten times as many as those."""
FETCHED = 2
"""Candidates fetched for each that is scored: those of the approximate search, put in order by exact products. Fetching
costs more than looking into clusters: with half as many of twice the clusters a search finds more in less time."""
ABOUT = 0.01
"""Part of the images that count as being about a text."""
_RIDGE = 1e-4  # of the features' mean variance: keeps directions out in which the sample hardly differs
_TOP = 0.98  # quantile of the sample's utilities around which the second fit looks


class PersonalSearch:
    """Searches an index for people.

    Args:
        index: the images.
        scorer: the reward model; its encoder made the index's features.
        sample: images that people's vectors are fitted to; default 4096.

    Raises:
        EmbeddingError: another encoder made the features.

    Example:

    ```python
    search = PersonalSearch(ImageIndex("photos.index"), PamelaScorer.from_pretrained("runs/demo/model"))
    search.best("p0001", k=100)
    ```
    """

    def __init__(self, index: ImageIndex, scorer: PamelaScorer, sample: int = SAMPLE):
        index.check_model(scorer.config)
        self.index, self.scorer = index, scorer
        self._sample = index.sample(sample)
        self._vectors: dict[bytes, np.ndarray] = {}

    def best(
        self,
        user: Any = None,
        k: int = 100,
        *,
        query: str | np.ndarray | None = None,
        where: Filter | None = None,
        demographics: Any = None,
        scale: str | None = None,
    ) -> pd.DataFrame:
        """The k images that a person would like best.

        Args:
            user: a trained participant or a head; `None` = everyone's taste.
            k: how many images, at least 1; fewer if there are fewer.
            query: a text: only the hundredth of the images (at least `10 k`) that are nearest to it count. Or its
                features `(D,)`, where the encoder gives those of images and texts in one space.
            where: which images count, see [`ImageIndex.nearest`].
            demographics: of the person, see [`pamela_hf.model.processing_pamela.PamelaProcessor`].
            scale: rating scale of the scores; default: the model's.

        Returns:
            Table with columns `image`, `score` (expected rating), `std` (of that rating, in rating units), with a
            query also `similarity` (cosine), then the index's fields; best first.

        Raises:
            ValueError: an unknown user, field or scale; a head of another base; a filter that cannot be used.
        """
        people = None if demographics is None else [demographics]
        return self.best_for([user], k, query=query, where=where, demographics=people, scale=scale)[0]

    def best_for(
        self,
        users: Sequence[Any],
        k: int = 100,
        *,
        query: str | np.ndarray | None = None,
        where: Filter | None = None,
        demographics: Sequence[Any] | None = None,
        scale: str | None = None,
    ) -> list[pd.DataFrame]:
        """The same for U people at once, a table each; `demographics`: one for all or U of them."""
        if k < 1:
            raise ValueError(f"k={k} must be at least 1.")
        people = self.scorer.encode_people(len(users), list(users), demographics)
        scale_id = self.scorer.processor.scale_id(scale)
        direction = None if query is None else self._direction(query)
        self._learn(people)
        scored = max(SCORED, 10 * k)
        about = None
        if direction is not None:
            about = self.index.nearest(direction, max(10 * k, round(ABOUT * len(self.index))), where)
        tables = []
        for person in range(len(users)):
            one = {name: value[person : person + 1] for name, value in people.items()}
            vector = self._vectors[_key(one)]
            found = self.index.nearest(vector, FETCHED * scored, where) if about is None else about
            found = _closest(found, vector, scored)
            tables.append(self._table(found, one, scale_id, k, direction))
        return tables

    def _table(
        self, found: IndexedImages, person: dict[str, torch.Tensor], scale: int, k: int, direction: np.ndarray | None
    ) -> pd.DataFrame:
        """The k best of some candidates, as the model scores them."""
        _, score, std = self._score(found, person, scale)
        order = np.argsort(-score[:, 0], kind="stable")[:k]
        best = found.take(order)
        columns = {"image": best.names, "score": score[order, 0], "std": std[order, 0]}
        if direction is not None:
            columns["similarity"] = best.vectors[:, : len(direction)] @ direction
        return pd.concat([pd.DataFrame(columns), best.metadata.reset_index(drop=True)], axis=1)

    def _learn(self, people: dict[str, torch.Tensor]) -> None:
        """Fits the vectors of people who have none yet."""
        number = len(next(iter(people.values())))
        keys = [_key({name: value[i : i + 1] for name, value in people.items()}) for i in range(number)]
        new = sorted({key: i for i, key in enumerate(keys) if key not in self._vectors}.values())
        if not new:
            return
        theirs = {name: value[new] for name, value in people.items()}
        utilities = self._score(self._sample, theirs)[0]
        for column, person in enumerate(new):
            first = _linear_fit(self._sample.vectors, utilities[:, column])
            near = _closest(self.index.nearest(first, FETCHED * SCORED), first, SCORED)
            one = {name: value[person : person + 1] for name, value in people.items()}
            known = np.concatenate([utilities[:, column], self._score(near, one)[0][:, 0]])
            vectors = np.concatenate([self._sample.vectors, near.vectors])
            spread = max(float(utilities[:, column].std()), 1e-12)
            above = (known - np.quantile(utilities[:, column], _TOP)) / spread
            weight = 1e-3 + 1 / (1 + np.exp(-(6 * above).clip(-50, 50)))
            self._vectors[keys[person]] = _linear_fit(vectors, known, weight)

    def _score(
        self, images: IndexedImages, people: dict[str, torch.Tensor], scale: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Utilities, scores and standard deviations, each `(N, U)`."""
        image, text = images.features(self.index.width)
        if text is not None and text.shape[1] != self.scorer.config.text_embed_dim:
            text = None
        model = self.scorer.model
        with scoring_mode(model):
            out = model.score_matrix(
                image_embeds=torch.from_numpy(image),
                text_embeds=None if text is None else torch.from_numpy(text),
                metadata_ids=self._metadata_ids(images),
                scale=scale,
                **people,
            )
        return tuple(value.float().cpu().numpy() for value in (out.utility, out.scores, out.std))

    def _metadata_ids(self, images: IndexedImages) -> torch.Tensor:
        processor = self.scorer.processor
        ids = torch.zeros(len(images), len(self.scorer.config.metadata), dtype=torch.long)
        for column, field in enumerate(self.scorer.config.metadata):
            if field in images.metadata.columns:
                codes, values = pd.factorize(images.metadata[field])
                known = [processor.field_id("metadata", field, value) for value in values]
                ids[:, column] = torch.tensor([*known, 0])[codes]  # code -1 is a missing value
        return ids

    def _direction(self, query: str | np.ndarray) -> np.ndarray:
        """A text's features, or given ones, of unit length `(D,)`."""
        if isinstance(query, str):
            if not query.strip():
                raise ValueError("query is empty; describe what the images should show, or leave it out.")
            query = self.scorer.encoder.embed_prompts([query])[0]
        query = np.asarray(query, np.float32).ravel()
        if len(query) != self.index.width:
            raise ValueError(
                f"query has {len(query)} features and the images have {self.index.width}: this encoder does not give "
                "texts and images in one space. Search without a query."
            )
        return query / max(float(np.linalg.norm(query)), 1e-12)


def _key(person: dict[str, torch.Tensor]) -> bytes:
    """What tells one person's inputs from another's."""
    return b"".join(value.cpu().numpy().tobytes() for _, value in sorted(person.items()))


def _closest(images: IndexedImages, vector: np.ndarray, n: int) -> IndexedImages:
    """The n images with the largest inner product."""
    if len(images) <= n:
        return images
    return images.take(np.argpartition(-(images.vectors @ vector), n)[:n])


def _linear_fit(vectors: np.ndarray, values: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """`(K,)` ridge coefficients of values `(n,)` on vectors `(n, K)`, each weighed by `weight (n,)`."""
    weight = np.ones(len(values)) if weight is None else weight
    weight = weight / weight.sum()
    x = vectors.astype(np.float64) - weight @ vectors
    normal = x.T @ (weight[:, None] * x)
    normal += np.eye(len(normal)) * (_RIDGE * np.trace(normal) / len(normal) + 1e-12)
    return np.linalg.solve(normal, x.T @ (weight * (values - weight @ values))).astype(np.float32)
