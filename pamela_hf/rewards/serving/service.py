"""`ScoringService`: scores of images for people, asked by many at a time and answered in as few forwards as it can."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ...scoring import Head
from .._batching import Batcher
from .._features import encode_distinct
from .._personal import PersonalReward
from .metrics import Metrics


@dataclass(frozen=True)
class ServiceLimits:
    """What a server takes before it says no.

    Attributes:
        max_batch: images of one forward.
        max_images: images of one request.
        max_users: people of one request.
        max_body_bytes: of one request.
        max_requests: requests under way; one more is answered with 429.
        max_waiting: images that wait for a forward; a request with more than there is room for is answered with 429.
    """

    max_batch: int = 32
    max_images: int = 256
    max_users: int = 256
    max_body_bytes: int = 64 << 20
    max_requests: int = 128
    max_waiting: int = 1024

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1.")
        if self.max_waiting < self.max_images:
            raise ValueError(
                f"max_waiting={self.max_waiting} would refuse every request of max_images={self.max_images}; raise it."
            )


@dataclass(frozen=True)
class Question:
    """One image, ready for the encoder, and whom it is scored for."""

    pixels: dict[str, torch.Tensor]
    prompt: str | None
    people: tuple[str | Head | None, ...]
    rewarded: bool = False  # by the reward's options, rather than plain scores


class ScoringService:
    """Answers questions from any number of threads with one model.

    Args:
        reward: model, heads, and whom to score for where nobody is named; its options are for `/compute`.
        limits: [`ServiceLimits`].
    """

    def __init__(self, reward: PersonalReward, limits: ServiceLimits | None = None):
        self.reward, self.limits = reward, limits or ServiceLimits()
        self.metrics = Metrics()
        self._batcher = Batcher(self._answer, self.limits.max_batch, self.limits.max_waiting)

    @property
    def waiting(self) -> int:
        """Images that wait or are being scored."""
        return self._batcher.waiting

    def warm_up(self) -> None:
        """Loads the encoder, so that the first request does not wait for it."""
        _ = self.reward.scorer.encoder

    def close(self) -> None:
        """Answers what is waiting, then takes nothing more."""
        self._batcher.close()

    def people(self, names: Sequence[str | None]) -> tuple[str | Head | None, ...]:
        """The people of these names. Raises ValueError for one that nobody has."""
        people = tuple(self.reward.person(name) for name in names)
        self.reward.scorer.encode_people(len(people), list(people))
        return people

    def prepare(self, picture: Image.Image) -> dict[str, torch.Tensor]:
        """A picture as the encoder takes it. Done by the thread that asks, while the model is busy with others."""
        return self.reward.scorer.encoder.prepare_images([picture])

    def ask(self, questions: Sequence[Question]) -> "Future[list[np.ndarray]]":
        """Hands in at least one question.

        Returns:
            A future of an array for each: `(2, U)`, scores and standard deviations for its people, or `(1, 1)`, the
            reward, of one that is `rewarded`.

        Raises:
            Busy: too much is waiting.
        """
        asked = self._batcher.submit(*questions)
        if len(questions) > 1:
            return asked
        alone: Future = Future()

        def pass_on(done: Future) -> None:
            error = done.exception()
            alone.set_exception(error) if error is not None else alone.set_result([done.result()])

        asked.add_done_callback(pass_on)
        return alone

    def _answer(self, questions: list[Question]) -> list[np.ndarray]:
        scorer = self.reward.scorer
        self.metrics.batch(len(questions))
        features = scorer.encoder.encode_prepared([question.pixels for question in questions])
        answers: list[np.ndarray] = [np.empty(0)] * len(questions)
        rewarded = [i for i, question in enumerate(questions) if question.rewarded]
        if rewarded:
            texts, people = zip(*((questions[i].prompt, questions[i].people[0]) for i in rewarded))
            for i, value in zip(rewarded, self.reward.of_features(features[rewarded], texts, list(people))):
                answers[i] = np.array([[value]])
        plain = [i for i, question in enumerate(questions) if not question.rewarded]
        if plain:
            owners = [i for i in plain for _ in questions[i].people]
            texts = [question.prompt for question in questions]
            text_embeds = encode_distinct(scorer, texts) if any(texts) and scorer.config.text_embed_dim else None
            scores, std = scorer.score(
                image_embeds=features[owners],
                text_embeds=text_embeds[owners] if text_embeds is not None else None,
                user=[person for i in plain for person in questions[i].people],
                scale=self.reward.options.scale,
                batch_size=4096,
            )
            start = 0
            for i in plain:
                end = start + len(questions[i].people)
                answers[i] = np.stack([scores[start:end], std[start:end]])
                start = end
        return answers
