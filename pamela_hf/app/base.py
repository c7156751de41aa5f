"""The base that heads are fitted on, and the features of the folder's pictures: read from a cache, or computed once.

With a model it is that model. Without one it is a blank base of the folder's own features, which knows nobody's taste.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..embeddings import EmbeddingError, Embeddings, load_embeddings
from ..encoder import DEFAULT_ENCODER, FrozenEncoder, compute_embeddings
from ..files.images import ImageError, open_image_checked
from ..files.writing import pamela_home, write_json
from ..model.modeling_pamela import PamelaRewardModel
from ..model.processing_pamela import PamelaProcessor
from ..scoring import PamelaScorer
from .pictures import PictureFolder


@dataclass
class Base:
    """What heads are fitted on.

    Attributes:
        scorer: the reward model with its processor.
        embeddings: features of the readable pictures, by id.
        encoder_name: Hub id or folder of what makes such features.
        blank: nobody's ratings are in the model.
        unreadable: id → why it is no usable picture.
    """

    scorer: PamelaScorer
    embeddings: Embeddings
    encoder_name: str
    blank: bool
    unreadable: dict[str, str]

    @functools.cached_property
    def encoder(self) -> FrozenEncoder:
        """Loaded when it is first needed: pictures of the folder have their features in the cache."""
        return FrozenEncoder(self.encoder_name)

    @functools.cached_property
    def positions(self) -> dict[str, int]:
        """id → row of the features."""
        return {id: row for row, id in enumerate(self.embeddings.image_ids)}

    def with_encoder(self) -> tuple[PamelaRewardModel, PamelaProcessor]:
        """Model and processor that take pictures and prompts themselves, as a prompt pipeline needs them."""
        model, processor = self.scorer.model, self.scorer.processor
        if self.blank and model.backbone is None:
            model.set_backbone(self.encoder.model)
            processor = PamelaProcessor(model.config, self.encoder.image_processor, self.encoder.tokenizer)
            self.scorer.processor = processor
        return model, processor

    def features(self, images: Sequence[Image.Image]) -> np.ndarray:
        """`(N, D)` features of pictures that are not in the folder."""
        return self.encoder.embed_images(list(images))

    @property
    def levels(self) -> list[float]:
        return [float(v) for v in self.scorer.config.rating_scales[self.scorer.config.default_scale]]

    def scores(self, image_embeds: np.ndarray, users: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Scores and std `(N, U)` of features `(N, D)` for users: heads, or `None` for everyone's taste."""
        if not len(image_embeds):
            return np.zeros((0, len(users))), np.zeros((0, len(users)))
        found = self.scorer.score(image_embeds=torch.from_numpy(image_embeds), users=users, batch_size=2048)
        return found.scores, found.std


@dataclass(frozen=True)
class BaseSource:
    """Where the base comes from.

    Attributes:
        model: folder or Hub id of a trained model; `None`: a blank base.
        encoder: folder or Hub id of the image–text encoder; `None`: the model's own, else the default one.
        cache: where features are kept, an `.safetensors` file.
    """

    model: str | None
    encoder: str | None
    cache: Path

    def load(self, folder: PictureFolder, progress: Callable[[str], None]) -> Base:
        """Loads model and encoder and computes what features are missing; `progress` is told what goes on, in words.

        Raises:
            OSError: no such model or encoder. ValueError: an encoder that is not the model's.
        """
        progress("Loading the model.")
        scorer = PamelaScorer.from_pretrained(self.model) if self.model else None
        encoder = self._encoder(scorer)
        embeddings, unreadable = self._features(folder, encoder, progress)
        blank = scorer is None
        if scorer is None:
            scorer = PamelaScorer(PamelaRewardModel.blank(embeddings))
        _ = scorer.identity  # computed now rather than in the first request
        return Base(scorer, embeddings, encoder, blank, unreadable)

    def _encoder(self, scorer: PamelaScorer | None) -> str:
        if self.encoder:
            return self.encoder
        if scorer is None or not scorer.config.backbone:
            return DEFAULT_ENCODER
        own = Path(str(self.model)) / scorer.config.backbone
        return str(own) if own.is_dir() else scorer.config.backbone

    def _features(
        self, folder: PictureFolder, encoder: str, progress: Callable[[str], None]
    ) -> tuple[Embeddings, dict[str, str]]:
        """Features of the readable pictures. Files that are as they were when the cache was written are not opened."""
        made_of = {"encoder": encoder, "pictures": [[p.id, p.size, p.changed] for p in folder.pictures]}
        index = self.cache.with_name(self.cache.name + ".json")
        try:
            known = json.loads(index.read_text(encoding="utf-8"))
            if known["made_of"] == made_of:
                return load_embeddings(self.cache), known["unreadable"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no cache, or a damaged one: it is written anew below
        unreadable: dict[str, str] = {}
        ids = []
        for number, picture in enumerate(folder.pictures):
            if number % 200 == 0:
                progress(f"Looking at picture {number:,} of {len(folder):,}.")
            try:
                open_image_checked(picture.path, name=picture.id)
                ids.append(picture.id)
            except ImageError as error:
                unreadable[picture.id] = str(error)
        if not ids:
            raise ValueError(f"--images {folder.folder}: none of {len(folder)} images can be read.")
        progress(f"Computing the features of {len(ids):,} pictures, once.")
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        embeddings = self._compute(encoder, folder, ids)
        write_json(index, {"made_of": made_of, "unreadable": unreadable})
        return embeddings, unreadable

    def _compute(self, name: str, folder: PictureFolder, ids: list[str]) -> Embeddings:
        encoder, by_id = FrozenEncoder(name), folder.by_id

        def compute() -> Embeddings:
            nothing = [None] * len(ids)
            return compute_embeddings(encoder, ids, lambda id: by_id[id].path, nothing, self.cache, progress=False)

        try:
            return compute()
        except EmbeddingError:  # another encoder's, or damaged: it is a cache
            self.cache.unlink(missing_ok=True)
            return compute()


def default_store(images: str | os.PathLike) -> Path:
    """Where a folder's answers are kept unless --store says otherwise: found again wherever the app is started from,
    and nothing is written into the folder itself."""
    folder = Path(images).resolve()
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    return pamela_home() / "app" / f"{folder.name or 'pictures'}-{digest}.db"
