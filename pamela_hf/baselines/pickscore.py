"""PickScore: how well an image answers its prompt, by the choices people made in the Pick-a-Pic app.

Kirstain et al., *Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation*, 2023
(arXiv 2305.01569). A CLIP ViT-H/14 model; the score is the cosine between image and prompt, times the model's learned
temperature (`exp(logit_scale)`, as in the authors' example), higher is better. Scores of different prompts
were not trained to be compared. The image processor and tokenizer are those in the weights' own repository; the
authors' example takes those of `laion/CLIP-ViT-H-14-laion2B-s32B-b79K`. They publish no example value.
"""

from typing import Any

import numpy as np
import pandas as pd

from ..embeddings import Embeddings
from ..ratings.table import RatingData
from ._encoders import Similarity, load_encoder
from ._pixels import Origin, images_of, variant_name

ORIGIN = Origin(
    weights="yuvalkirstain/PickScore_v1",
    revision="a4e4367c6dfa7288a00c550414478f865b875800",
    licence="none stated with code or weights",
    gpu_gb=5,
)


class PickScore(Similarity):
    """Scores lie within ± exp(logit_scale), which is about ±100; real ones mostly within 15..27."""

    origin = ORIGIN

    @property
    def score_range(self) -> tuple[float, float]:
        scale = float(self.encoder.model.logit_scale.exp())
        return -scale, scale

    def score_features(self, image_embeds: np.ndarray, text_embeds: np.ndarray | None) -> np.ndarray:
        return self.score_range[1] * super().score_features(image_embeds, text_embeds)


def fit(
    train: pd.DataFrame,
    embeddings: Embeddings,
    *,
    seed: int = 0,
    variant: str | None = None,
    data: RatingData | None = None,
    **context: Any,
) -> PickScore:
    """Loads the weights; `train` and `seed` change nothing.

    Args:
        variant: Hub id or folder of other weights of this kind; default: the published ones.
        data: the ratings, with their images.

    Raises:
        ValueError: ratings without images. OSError: the weights cannot be loaded.
    """
    name = variant_name(__name__, variant)
    open_image = images_of(data, name)
    return PickScore(name, load_encoder(name, variant or ORIGIN.weights, ORIGIN), open_image, variant)
