"""LAION Aesthetics v2: a linear head on CLIP ViT-L/14 image features, trained on people's ratings of images.

C. Schuhmann, *improved-aesthetic-predictor*, 2022 (the head `sac+logos+ava1-l14-linearMSE`: Simulacra Aesthetic
Captions, logos and AVA). The score is meant as a rating of 1..10, which nothing enforces; higher is better; the prompt
does not matter. The authors publish no example value. Cached features of the same CLIP serve, no image is opened then.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from transformers import CLIPVisionModelWithProjection

from ..embeddings import Embeddings
from ..ratings.table import RatingData
from ._encoders import EncoderScorer, LinearHead, VisionTower, encoder_or_cache, load_head
from ._pixels import Origin, identity_of, variant_name

ORIGIN = Origin(
    weights="openai/clip-vit-large-patch14",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    licence="Apache-2.0 (head, as its copies on the Hub state); CLIP: MIT (code), its weights state none",
    gpu_gb=2,
)
HEAD = (
    "https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/"
    "fe88a163f4661b4ddabba0751ff645e2e620746e/sac%2Blogos%2Bava1-l14-linearMSE.pth"
)
PLACES = (0, 2, 4, 6, 7)  # of the linear layers; dropout is between them


class HeadScorer(EncoderScorer):
    """An aesthetic head on an encoder's image features; it reads no prompt."""

    origin = ORIGIN
    score_range = (1.0, 10.0)
    uses_prompt = False

    def __init__(
        self,
        name: str,
        head: LinearHead,
        encoder: VisionTower | None,
        open_image: Callable[[str], Image.Image] | None = None,
        weights: str | None = None,
        origin: Origin = ORIGIN,
    ):
        self.head, self.origin = head, origin
        super().__init__(name, encoder, open_image, weights)
        self.identity = f"{identity_of(head.source, origin)} on {self.identity}"

    def score_features(self, image_embeds: np.ndarray, text_embeds: np.ndarray | None) -> np.ndarray:
        return self.head(image_embeds)


def fit(
    train: pd.DataFrame,
    embeddings: Embeddings,
    *,
    seed: int = 0,
    variant: str | None = None,
    encoder: str = ORIGIN.weights,
    data: RatingData | None = None,
    **context: Any,
) -> HeadScorer:
    """Loads head and encoder; `train` and `seed` change nothing.

    Args:
        variant: file of the head (`.pth` or `.safetensors`), instead of its authors' address.
        encoder: Hub id or folder of the CLIP that the head was trained on.
        data: the ratings, with their images.

    Raises:
        ValueError: ratings without images, a head of another kind. OSError: the weights cannot be loaded.
    """
    name = variant_name(__name__, variant)
    head = load_head("laion_aesthetics", variant or HEAD, PLACES, ORIGIN.licence)
    tower = encoder_or_cache(name, encoder, ORIGIN, embeddings, data, CLIPVisionModelWithProjection)
    return HeadScorer(name, head, *tower, weights=encoder)
