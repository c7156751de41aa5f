"""HPS v2.1: how people choose between images of one prompt, a CLIP ViT-H/14 tuned on HPD v2.

Wu et al., *Human Preference Score v2*, 2023 (arXiv 2306.09341); v2.1 is its 2024 checkpoint. The score is the cosine
between image and prompt, -1..1 (the authors' tables show it times 100, about 14..33), higher is better. Only images of
one prompt were meant to be compared. The authors publish no example value.

Runs through open_clip rather than the authors' package `hpsv2` 1.2.0, which pins pytest and protobuf, lacks its
tokenizer's vocabulary and loads the weights anew at every call. It is a fork of open_clip: the same network and
tokenizer, and images scaled by their longer side and padded with black, as here. It scales tensors where open_clip
scales pictures, so that pixels differ by rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from huggingface_hub import hf_hub_download
from PIL import Image

from ..embeddings import Embeddings
from ..encoder import default_device
from ..ratings.table import RatingData
from ._pixels import Origin, PixelScorer, images_of, loading, required_package, variant_name

ORIGIN = Origin(
    weights="xswu/HPSv2",
    revision="697403c78157020a1ae59d23f111aa58ced35b0a",
    licence="Apache-2.0",
    gpu_gb=5,
    package="open_clip_torch",
    extra="hpsv2",
)
FILE = "HPS_v2.1_compressed.pt"
ARCHITECTURE = "ViT-H-14"


class HPSv2(PixelScorer):
    """See the module. `model`, `preprocess`, `tokenizer`: as open_clip makes them."""

    origin = ORIGIN
    score_range = (-1.0, 1.0)

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        preprocess: Callable[[Image.Image], torch.Tensor],
        tokenizer: Callable[[list[str]], torch.Tensor],
        open_image: Callable[[str], Image.Image] | None,
        weights: str | None = None,
    ):
        super().__init__(name, open_image, weights)
        self.model, self.preprocess, self.tokenizer = model, preprocess, tokenizer

    @torch.inference_mode()
    def score_images(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        device = next(self.model.parameters()).device
        pixels = torch.stack([self.preprocess(image) for image in images]).to(device)
        image_features = self.model.encode_image(pixels, normalize=True)
        text_features = self.model.encode_text(self.tokenizer(list(prompts)).to(device), normalize=True)
        return (image_features * text_features).sum(-1).float().cpu().numpy()


def load(name: str, checkpoint: str, architecture: str = ARCHITECTURE) -> tuple[torch.nn.Module, Any, Any]:
    """Network, preprocessing and tokenizer of a checkpoint file. Raises RuntimeError without open_clip."""
    open_clip = required_package("open_clip", name, ORIGIN)
    model, preprocess = open_clip.create_model_from_pretrained(
        architecture, pretrained=checkpoint, device=default_device(), image_resize_mode="longest"
    )
    return model.eval(), preprocess, open_clip.get_tokenizer(architecture)


def fit(
    train: pd.DataFrame,
    embeddings: Embeddings,
    *,
    seed: int = 0,
    variant: str | None = None,
    data: RatingData | None = None,
    **context: Any,
) -> HPSv2:
    """Loads the weights; `train` and `seed` change nothing.

    Args:
        variant: a checkpoint file instead of the Hub's; default: the Hub's.
        data: the ratings, with their images.

    Raises:
        ValueError: ratings without images. OSError: the weights cannot be loaded. RuntimeError: open_clip is missing.
    """
    name = variant_name(__name__, variant)
    open_image = images_of(data, name)
    required_package("open_clip", name, ORIGIN)  # before the download
    how = f"Where the Hub is reachable: hf download {ORIGIN.weights} {FILE}; or name the file: hpsv2:FILE."
    with loading(name, f"{ORIGIN.weights}/{FILE}", ORIGIN.revision, ORIGIN.licence, how):
        checkpoint = variant or hf_hub_download(ORIGIN.weights, FILE, revision=ORIGIN.revision)
        return HPSv2(name, *load(name, checkpoint), open_image, variant)
