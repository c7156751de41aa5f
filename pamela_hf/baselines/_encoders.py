"""What rivals share that are a function of a dual encoder's features: cached features serve where they are its own."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import PreTrainedModel
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # see model/encoder_pamela.py

from ..embeddings import Embeddings
from ..encoder import FrozenEncoder, default_device, in_halves
from ..model.encoder_pamela import no_adapter
from ..ratings.table import RatingData
from ..scoring import Predictions
from ._pixels import Origin, PixelScorer, images_of, loading, variant_name


class EncoderScorer(PixelScorer):
    """A score computed from pooled features of images and prompts.

    Args:
        name: as reports call it.
        encoder: makes the features; `None` where the cached ones are this encoder's, and are read instead.
        open_image: image_id → RGB image; `None` (the default) where features are cached.
        weights: as in [`PixelScorer`].
    """

    def __init__(
        self,
        name: str,
        encoder: "FrozenEncoder | VisionTower | None",
        open_image: Callable[[str], Image.Image] | None = None,
        weights: str | None = None,
    ):
        super().__init__(name, open_image, weights)
        self.encoder = encoder

    @abstractmethod
    def score_features(self, image_embeds: np.ndarray, text_embeds: np.ndarray | None) -> np.ndarray:
        """Scores `(B,)` of features `(B, D)` of images and `(B, D)` of their prompts (None: `uses_prompt` is False)."""

    def score_images(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        text = self.encoder.embed_prompts(prompts) if self.uses_prompt else None
        return self.score_features(self.encoder.embed_images(images), text)

    def predict(self, ratings: pd.DataFrame, embeddings: Embeddings) -> Predictions:
        """As any rival that scores pixels; from cached features where they are this encoder's."""
        if self.encoder is not None:
            return super().predict(ratings, embeddings)
        ids = [image_id for image_id, _ in self.pairs(ratings)]
        codes, distinct = pd.factorize(pd.Series(ids))
        rows = embeddings.rows(distinct)
        text = embeddings.text_embeds[rows] if self.uses_prompt else None
        return Predictions(self.score_features(embeddings.image_embeds[rows], text)[codes])


class VisionTower:
    """The image half of a dual encoder, without its text half and tokenizer.

    Args:
        kind: a transformers class whose output has `image_embeds` or `pooler_output`.
    """

    def __init__(self, kind: type[PreTrainedModel], weights: str, revision: str | None):
        options = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
        options["adapter_kwargs"] = no_adapter(weights)
        model, found = kind.from_pretrained(weights, revision=revision, **options)
        if found["missing_keys"]:  # transformers would fill them with random numbers
            raise OSError(f"{weights} lacks {min(found['missing_keys'])} of {kind.__name__}; it is another encoder.")
        self.model = model.to(default_device()).eval()
        self.image_processor = AutoImageProcessor.from_pretrained(
            weights, revision=revision, backend="pil", trust_remote_code=False
        )

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """`(B, D)` float32 of RGB images; smaller batches where memory runs out."""
        return in_halves(self._embed_images, images, np.concatenate)

    @torch.inference_mode()
    def _embed_images(self, images: list[Image.Image]) -> np.ndarray:
        output = self.model(**self.image_processor(list(images), return_tensors="pt").to(self.model.device))
        features = getattr(output, "image_embeds", None)
        return (output.pooler_output if features is None else features).float().cpu().numpy()


def load_encoder(
    name: str, weights: str, origin: Origin, kind: type[PreTrainedModel] | None = None
) -> FrozenEncoder | VisionTower:
    """The encoder of a Hub id or folder, or its image half as `kind`.

    Raises:
        OSError: it cannot be loaded; names id, revision and licence.
    """
    revision = _revision(weights, origin)
    how = f"Where the Hub is reachable: hf download {weights}; or name a folder that holds them."
    with loading(name, weights, revision, origin.licence, how):
        return VisionTower(kind, weights, revision) if kind else FrozenEncoder(weights, revision)


def encoder_or_cache(
    name: str,
    weights: str,
    origin: Origin,
    embeddings: Embeddings,
    data: RatingData | None,
    kind: type[PreTrainedModel] | None = None,
) -> tuple[FrozenEncoder | VisionTower | None, Callable[[str], Image.Image] | None]:
    """What an `EncoderScorer` needs: nothing where the cached features were made by `weights`, else encoder and images.

    A Hub id's features are known by id and revision; a folder's by a hash over its weights and its preprocessing, which
    takes the whole encoder (`kind` None).

    Raises:
        ValueError: the ratings have no images, and they are needed. OSError: the weights cannot be loaded.
    """
    revision = _revision(weights, origin)
    if embeddings.backbone == weights and (None in (revision, embeddings.revision) or revision == embeddings.revision):
        return None, None
    may_be_cached = kind is None and Path(weights).is_dir()
    open_image = None if may_be_cached else images_of(data, name)  # refuses before gigabytes are loaded
    encoder = load_encoder(name, weights, origin, kind)
    if may_be_cached:
        made_by = (embeddings.backbone, embeddings.revision, embeddings.preprocessing)
        if made_by == (encoder.name, encoder.revision, encoder.preprocessing):
            return None, None
        open_image = images_of(data, name)
    return encoder, open_image


def _revision(weights: str, origin: Origin) -> str | None:
    return origin.revision if weights == origin.weights else None


def normalized(x: np.ndarray) -> np.ndarray:
    """Rows `(n, D)` brought to length 1, in float64."""
    x = x.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


class LinearHead:
    """A published aesthetic head: linear layers in a row, with nothing but dropout between them.

    Args:
        state: as published: `<prefix>.<place>.weight` `(out, in)` and `.bias` `(out,)`.
        places: of the linear layers within their Sequential. A variant with activations has others, and is refused.
        source: the file or address it was read from.
    """

    def __init__(self, state: dict[str, torch.Tensor], places: tuple[int, ...], source: str):
        self.source = source
        layers = {".".join(key.split(".")[-2:]): value for key, value in state.items()}
        expected = {f"{place}.{part}" for place in places for part in ("weight", "bias")}
        if set(layers) != expected:
            raise ValueError(
                f"{source} holds {sorted(layers)}, expected {sorted(expected)}. "
                "Only heads of linear layers at these places are read; heads with ReLU between them are others."
            )
        self.layers = [
            tuple(layers[f"{place}.{part}"].detach().double().cpu().numpy() for part in ("weight", "bias"))
            for place in places
        ]

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Scores `(n,)` of features `(n, D)`, which are brought to length 1 first, as both heads were trained."""
        x = normalized(features)
        if x.shape[1] != self.layers[0][0].shape[1]:
            raise ValueError(
                f"the head takes features of width {self.layers[0][0].shape[1]}, the encoder gives {x.shape[1]}; "
                "use the encoder that the head was trained on."
            )
        for weight, bias in self.layers:
            x = x @ weight.T + bias
        return x[:, 0]


def load_head(name: str, source: str, places: tuple[int, ...], licence: str) -> LinearHead:
    """The head at an address, or in a file: `.safetensors`, or a pickle of which only tensors are read.

    Raises:
        OSError: no such file, none that can be read, or an address that cannot be reached.
        ValueError: it holds another kind of head.
    """
    how = f"Download it where the net is reachable, and name the file: {name}:FILE."
    with loading(name, source, None, licence, how):
        if source.startswith("https://"):
            state = torch.hub.load_state_dict_from_url(source, map_location="cpu", weights_only=True)
        elif source.endswith(".safetensors"):
            state = load_file(source)
        else:
            state = torch.load(source, map_location="cpu", weights_only=True)
    return LinearHead(state, places, source)


class Similarity(EncoderScorer):
    """Cosine between an image's and its prompt's features, -1..1, higher is closer."""

    score_range = (-1.0, 1.0)

    def __init__(
        self,
        name: str,
        encoder: FrozenEncoder | None,
        open_image: Callable[[str], Image.Image] | None = None,
        weights: str | None = None,
        origin: Origin | None = None,
    ):
        self.origin = origin or self.origin
        super().__init__(name, encoder, open_image, weights)

    def score_features(self, image_embeds: np.ndarray, text_embeds: np.ndarray | None) -> np.ndarray:
        return (normalized(image_embeds) * normalized(text_embeds)).sum(1)


def similarity_fit(module: str, origin: Origin) -> Callable[..., Similarity]:
    """The `fit` of a text-similarity rival.

    Args:
        module: its `__name__`.
        origin: its weights, unless others are named.
    """

    def fit(
        train: pd.DataFrame,
        embeddings: Embeddings,
        *,
        seed: int = 0,
        variant: str | None = None,
        data: RatingData | None = None,
        **context: Any,
    ) -> Similarity:
        """Loads the encoder, unless the cached features are its own; `train` and `seed` change nothing.

        Args:
            variant: Hub id or folder of another encoder; default: the weights of `ORIGIN`.
            data: the ratings, with their images.

        Raises:
            ValueError: ratings without images, where features have to be made. OSError: the weights cannot be loaded.
        """
        name = variant_name(module, variant)
        encoder, open_image = encoder_or_cache(name, variant or origin.weights, origin, embeddings, data)
        return Similarity(name, encoder, open_image, variant, origin)

    return fit
