"""Images to ask people about, prepared once: questions for many people without running the base for each.

[`pamela_hf.heads.head.UserHead.suggest`] does the same for one head and images that are new each time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..embeddings import Embeddings
from ..scoring import PamelaScorer
from .answers import collect
from .fitting import Posterior
from .head import UserHead, prior_of
from .suggest import Suggestion, design_features, suggest_images


class QuestionPool:
    """Images with what the base says of them around everyone's taste.

    Args:
        scorer: the base.
        images: N different images, as in [`pamela_hf.heads.head.UserHead.fit`].
        embeddings: features, if images are given as ids; default: none.
        prompts: image → what it was made from; default: none.
        demographics: of the people who will be asked, if heads are fitted with them; default: none.

    Raises:
        ValueError: no images, one that is there twice, or one that cannot be read or has no features.
    """

    def __init__(
        self,
        scorer: PamelaScorer,
        images: Sequence[Any],
        *,
        embeddings: Embeddings | None = None,
        prompts: Mapping[Any, str] | None = None,
        demographics: Mapping[str, Any] | None = None,
    ):
        if not len(images):
            raise ValueError("images is empty; give at least one to ask about.")
        rated = [(image, None) for image in images]
        answered = collect(scorer, rated, (), (), embeddings=embeddings, prompts=prompts, only_images=True)
        if len(answered.keys) != len(images):
            raise ValueError(f"images names {len(images) - len(answered.keys)} images twice. Name each once.")
        self.scorer, self.prior = scorer, prior_of(scorer.model)
        self._answers = answered.linearized(scorer, demographics, self.prior)
        self._cutpoints = answered.cutpoints
        self._features = design_features(self._answers, self.prior, answered.image_embeds)

    def __len__(self) -> int:
        return len(self._answers.utility)

    def suggest(
        self, head: UserHead | None, n: int = 10, rated: Sequence[int] = (), among: Sequence[int] | None = None
    ) -> Suggestion:
        """Which images to ask about next: with those that the person has answered, they stand for all of the pool.

        Args:
            head: of the person; `None`: nothing is known of them yet.
            n: how many images to suggest, at most; default: 10.
            rated: indices of the images that the person has answered; default: none.
            among: indices of the images to choose from, as long as one of them is not answered; default: all.

        Raises:
            HeadError: a head of another base.
        """
        belief = Posterior(np.zeros(len(self.prior)), self.prior)
        if head is not None:
            head.check_fits(self.scorer)
            covariance = head.covariance
            covariance = np.diag(head.row_std.astype(np.float64) ** 2) if covariance is None else covariance
            belief = Posterior(head.row.astype(np.float64), covariance)
        rated = np.asarray(rated, int)
        fresh = np.setdiff1d(np.arange(len(self)), rated)
        if not len(fresh):
            return Suggestion([], 0.0, True, "All of these images are rated already.")
        if among is not None and len(some := np.intersect1d(fresh, among)):
            fresh = some
        return suggest_images(self._answers, belief, self._cutpoints, n, self._features, fresh, rated)
