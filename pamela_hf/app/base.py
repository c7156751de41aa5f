"""The base that heads are fitted on, and the features of the folder's pictures: read from a cache, or computed once.

With a model it is that model. Without one it is a blank base of the folder's own features, which knows nobody's taste.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..embeddings import EmbeddingError, Embeddings
from ..files.config import read_json
from ..files.writing import pamela_home
from ..folder_cache import EncoderSource, embed_files
from .pictures import PictureFolder

if TYPE_CHECKING:  # PyTorch and transformers come with them, and are imported where they are used
    from ..model.modeling_pamela import PamelaRewardModel
    from ..model.processing_pamela import PamelaProcessor
    from ..scoring import PamelaScorer

BLANK_ROWS = 5_000  # pictures that a blank base is made from
BLANK_LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)  # its rating scale
CONFIG_NAME = "config.json"


@dataclass
class Base:
    """What heads are fitted on.

    Attributes:
        scorer: the reward model with its processor.
        embeddings: features of the readable pictures, by id.
        encoder_source: what makes such features, loaded when it is first needed.
        blank: nobody's ratings are in the model.
        unreadable: id → why it is not a usable picture.
        hashes: id → difference hash, to know near-duplicates by.
    """

    scorer: "PamelaScorer"
    embeddings: Embeddings
    encoder_source: EncoderSource
    blank: bool
    unreadable: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, int] = field(default_factory=dict)

    @functools.cached_property
    def positions(self) -> dict[str, int]:
        """id → row of the features."""
        return {id: row for row, id in enumerate(self.embeddings.image_ids)}

    def with_encoder(self) -> "tuple[PamelaRewardModel, PamelaProcessor]":
        """Model and processor that take pictures and prompts themselves, as a prompt pipeline needs them."""
        from ..model.processing_pamela import PamelaProcessor

        model, processor = self.scorer.model, self.scorer.processor
        if self.blank and model.backbone is None:
            encoder = self.encoder_source.encoder
            model.set_backbone(encoder.model)
            processor = PamelaProcessor(model.config, encoder.image_processor, encoder.tokenizer)
            self.scorer.processor = processor
        return model, processor

    def features(self, images: Sequence[Image.Image]) -> np.ndarray:
        """`(N, D)` features of pictures that are not in the folder."""
        return self.encoder_source.encoder.embed_images(list(images))

    @property
    def levels(self) -> list[float]:
        return [float(v) for v in self.scorer.config.rating_scales[self.scorer.config.default_scale]]

    def scores(self, image_embeds: np.ndarray, users: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Scores and std `(N, U)` of features `(N, D)` for users: heads, or `None` for everyone's taste."""
        import torch

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

    @functools.cached_property
    def levels(self) -> list[float] | None:
        """The rating scale, read without loading the model; `None`: only the loaded model can say it, such as one on
        the Hub."""
        if self.model is None:
            return list(BLANK_LEVELS)
        try:
            about = read_json((Path(self.model) / CONFIG_NAME).read_bytes(), max_bytes=64 << 20)
            return [float(level) for level in about["rating_scales"][about["default_scale"]]]
        except (OSError, ValueError, KeyError, TypeError):  # loading the model says what is wrong with it
            return None

    def load(self, folder: PictureFolder, progress: Callable[[str], None]) -> Base:
        """Loads model and encoder and computes what features are missing; `progress` gets what goes on, in words.

        Raises:
            OSError: no such model or encoder. ValueError: an encoder that is not the model's.
        """
        from ..model.modeling_pamela import PamelaRewardModel
        from ..scoring import PamelaScorer

        progress("Loading the model.")
        scorer = PamelaScorer.from_pretrained(self.model) if self.model else None
        encoder = EncoderSource(self._encoder(scorer))
        progress(f"Reading the features of {len(folder):,} pictures; what is new is computed, once.")
        files = {picture.id: picture.path for picture in folder.pictures}
        try:
            found = embed_files(files, self.cache, encoder, progress=False)
        except EmbeddingError:  # another encoder's, or damaged: it is a cache
            self.cache.unlink(missing_ok=True)
            found = embed_files(files, self.cache, encoder, progress=False)
        blank = scorer is None
        if scorer is None:
            scorer = PamelaScorer(PamelaRewardModel.blank(some(found.embeddings)))
        _ = scorer.identity  # computed now rather than in the first request
        return Base(scorer, found.embeddings, encoder, blank, found.skipped, found.hashes)

    def _encoder(self, scorer: "PamelaScorer | None") -> str:
        from ..encoder import DEFAULT_ENCODER

        if self.encoder:
            return self.encoder
        if scorer is None or not scorer.config.backbone:
            return DEFAULT_ENCODER
        own = Path(str(self.model)) / scorer.config.backbone
        return str(own) if own.is_dir() else scorer.config.backbone


def some(embeddings: Embeddings) -> Embeddings:
    """At most [`BLANK_ROWS`] of the features, by chance: more change a blank base's axes little, and take memory."""
    if len(embeddings) <= BLANK_ROWS:
        return embeddings
    rows = np.sort(np.random.default_rng(0).permutation(len(embeddings))[:BLANK_ROWS])
    return embeddings.subset([embeddings.image_ids[row] for row in rows])


def features_file(store: Path) -> Path:
    """Where the features of a store's pictures are kept."""
    return store.with_suffix(".embeddings.safetensors")


def default_store(images: str | os.PathLike) -> Path:
    """Where a folder's answers are kept unless --store says otherwise: found again wherever the app is started from,
    and nothing is written into the folder itself."""
    folder = Path(images).resolve()
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    return pamela_home() / "app" / f"{folder.name or 'pictures'}-{digest}.db"
