"""Aesthetic Predictor v2.5: a linear head on SigLIP so400m image features, meant for illustrations as well as photos.

discus0434, *aesthetic-predictor-v2-5*, 2024. The score is meant as 1..10 ("5.5 and more is great"), which nothing
enforces; higher is better; the prompt does not matter. The authors' package (PyPI: aesthetic-predictor-v2-5) asks for
torchvision and subclasses `SiglipVisionModel`; here the features come from that class, and the head, linear layers
with dropout between them, from the authors' file. Their code and weights are AGPL-3.0: mind what that asks of whoever
serves them. They publish no example value.
"""

from typing import Any

import pandas as pd
from transformers import SiglipVisionModel

from ..embeddings import Embeddings
from ..ratings.table import RatingData
from ._encoders import encoder_or_cache, load_head
from ._pixels import Origin, variant_name
from .laion_aesthetics import HeadScorer

ORIGIN = Origin(
    weights="google/siglip-so400m-patch14-384",
    revision="9fdffc58afc957d1a03a25b10dba0329ab15c2a3",
    licence="AGPL-3.0 (head); SigLIP: Apache-2.0",
    gpu_gb=5,
)
HEAD = (
    "https://github.com/discus0434/aesthetic-predictor-v2-5/raw/"
    "3125a9e1f275092432ffc336f2908eda812c373c/models/aesthetic_predictor_v2_5.pth"
)
PLACES = (0, 2, 4, 6, 8)


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
        encoder: Hub id or folder of the SigLIP that the head was trained on; default: `ORIGIN.weights`.
        data: the ratings, with their images; default: none.

    Raises:
        ValueError: ratings without images, a head of another kind. OSError: the weights cannot be loaded.
    """
    name = variant_name(__name__, variant)
    head = load_head("aesthetic_predictor", variant or HEAD, PLACES, ORIGIN.licence)
    tower = encoder_or_cache(name, encoder, ORIGIN, embeddings, data, SiglipVisionModel)
    return HeadScorer(name, head, *tower, weights=encoder, origin=ORIGIN)
