"""Few-shot evaluation: what k ratings of a new person are worth, and what it is worth to choose them well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from tqdm.auto import tqdm
from transformers.utils import logging

from ..embeddings import Embeddings
from ..heads.answers import answers_of_table
from ..heads.fitting import fit_row
from ..heads.head import prior_of
from ..heads.suggest import design_features, representative
from ..metrics import MIN_RATINGS
from ..scoring import PamelaScorer, Predictions, Scorer

logger = logging.get_logger(__name__)

SELECT = ("random", "active")

Draws = Mapping[str, Sequence[tuple[np.ndarray, Predictions]]]


@dataclass
class FewShotFits:
    """Fits heads of the people of a split on k of their own ratings, as [`pamela_hf.evaluation.evaluate.FewShot`] asks.

    Ratings come from `support`; where a person has none there, k of their ratings in the split itself are set aside for
    it and the rest is judged. Demographics in the ratings are used as for everybody else in that split.

    Who has fewer than k ratings in `support`, or fewer than 6 left to judge, is left out of that k, and counted.

    Args:
        support: the `support_unseen` split, or `None`.
        embeddings: embeddings of all images.
        ks: numbers of ratings to fit on, each 0 or more.
        draws: how often the ratings are drawn anew for each k, 1 or more; default 3.
        seed: random seed of the draws, default 0.
        select: "random" (default), or "active": as [`pamela_hf.heads.UserHead.suggest`] would ask.

    Raises:
        ValueError: a k or a number of draws below 0 or 1, or an unknown way to select.
    """

    support: pd.DataFrame | None
    embeddings: Embeddings
    ks: Sequence[int]
    draws: int = 3
    select: str = "random"
    seed: int = 0
    progress: bool = True
    left_out: dict[str, dict[str, int]] = field(default_factory=dict, init=False)
    """Split → "k=10" → how many people were left out, of the splits judged so far."""

    def __post_init__(self) -> None:
        if any(k < 0 for k in self.ks) or self.draws < 1:
            raise ValueError(f"few_shot={list(self.ks)}, draws={self.draws}: give numbers of 0 or more and 1 or more.")
        if self.select not in SELECT:
            raise ValueError(f"select={self.select!r}; allowed: {', '.join(SELECT)}.")

    def __call__(self, scorer: Scorer, split: str, ratings: pd.DataFrame) -> Draws:
        """Suffix such as "k=10" → one (rows judged, predictions) per draw; k = 0 is left to the scorer itself.

        A rival with a method `adapt` (see `pamela_hf.baselines`) gets the very ratings that the model gets. Asked
        actively they would be the model's choice, not its own, so then it is left out; so is a scorer without it.
        """
        is_model = isinstance(scorer, PamelaScorer)
        if not is_model and (self.select == "active" or not hasattr(scorer, "adapt")):
            return {}
        ks = sorted({k for k in self.ks if k > 0})
        everyone = ratings["participant_id"].astype(str)
        covariance = prior_of(scorer.model) if is_model else None
        rows: dict[tuple[int, int], dict[str, np.ndarray]] = {(k, d): {} for k in ks for d in range(self.draws)}
        given: dict[tuple[int, int], list[pd.DataFrame]] = {key: [] for key in rows}
        judged: dict[tuple[int, int], list[np.ndarray]] = {key: [] for key in rows}
        by_person = {str(p): np.asarray(i) for p, i in ratings.groupby(everyone, observed=True).indices.items()}
        own_support = {}
        if self.support is not None:
            grouped = self.support.groupby(self.support["participant_id"].astype(str), observed=True)
            own_support = {str(person): table for person, table in grouped if str(person) in by_person}
        for number, (person, at) in enumerate(tqdm(by_person.items(), f"few-shot {split}", disable=not self.progress)):
            apart = person in own_support
            table = own_support[person] if apart else ratings.iloc[at]
            answers = answers_of_table(scorer, table, self.embeddings, covariance) if is_model else None
            if self.select == "active":
                at_rows = self.embeddings.rows(table["image_id"].astype(str))
                features = design_features(answers, covariance, self.embeddings.image_embeds[at_rows])
            for draw in range(self.draws):
                rng = np.random.default_rng([self.seed, draw, number])
                order = rng.permutation(len(table))
                for k in ks:
                    if len(table) < (k if apart else k + MIN_RATINGS):
                        continue
                    used = order[:k]
                    if self.select == "active":
                        # of other images each time, so that draws differ where choosing is deterministic
                        free = rng.permutation(len(order))[: max(k, int(0.9 * len(order)))]
                        used = np.array(representative(features, k, free), int)
                    kept = np.zeros(len(table), bool)
                    kept[used] = True
                    if is_model:
                        rows[k, draw][person] = fit_row(answers.subset(kept), covariance).row
                    else:
                        given[k, draw].append(table[kept])
                    judged[k, draw].append(at if apart else at[~kept])
        left = {f"k={k}": len(by_person) - len(judged[k, 0]) for k in ks}
        if self.left_out.setdefault(split, left) is left and any(left.values()):
            counts = ", ".join(f"{suffix}: {count}" for suffix, count in left.items() if count)
            logger.warning(f"{split}: people left out of few-shot for too few ratings, of {len(by_person)}: {counts}.")
        out: dict[str, list[tuple[np.ndarray, Predictions]]] = {}
        for (k, draw), people in rows.items():
            if not judged[k, draw]:
                continue
            where = np.sort(np.concatenate(judged[k, draw]))
            asked = ratings.iloc[where].reset_index(drop=True)
            if is_model:
                predicted = scorer.predict(asked, self.embeddings, rows=people)
            else:
                known = scorer.adapt(pd.concat(given[k, draw], ignore_index=True), self.embeddings)
                predicted = known.predict(asked, self.embeddings)
            out.setdefault(f"k={k}", []).append((where, predicted))
        return out
