"""How close an image is to its prompt in CLIP's space: what text similarity alone knows of taste.

Radford et al., *Learning Transferable Visual Models From Natural Language Supervision*, 2021 (arXiv 2103.00020).
The score is the cosine, -1..1, higher is closer. Cached features serve where they were made by the same weights, and
no image is opened then. Any `AutoModel` with image and text features may be named: `clip_similarity:ID_OR_FOLDER`.
"""

from typing import Any

import pandas as pd

from ..embeddings import Embeddings
from ..ratings.table import RatingData
from ._encoders import Similarity, fit_similarity
from ._pixels import Origin

ORIGIN = Origin(
    weights="openai/clip-vit-large-patch14",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    licence="MIT (code); the weights state none",
    gpu_gb=2,
)


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
    return fit_similarity(__name__, ORIGIN, embeddings, variant, data)
