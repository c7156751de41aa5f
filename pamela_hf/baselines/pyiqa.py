"""Any no-reference metric of pyiqa by its name: `pyiqa:musiq`, `pyiqa:nima`, `pyiqa:topiq_iaa`, `pyiqa:qrealign`, …

C. Chen et al., *IQA-PyTorch* (github.com/chaofengc/IQA-PyTorch), which states each metric's direction and, roughly, its
range, and keeps each metric's weights. They measure quality or beauty as annotators on average saw it; no prompt is
read. The package is PolyForm-Noncommercial-1.0.0, and the metrics have licences of their own; it reads its weights as
pickles that may run code, so trust in them is trust in it. Images keep their size and are scored one at a time.
With release 0.1.16 and transformers 5.24, its port of Q-Align stops at an attribute that is gone; there is `qalign`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ..embeddings import Embeddings
from ..encoder import default_device
from ..ratings.table import RatingData
from ._pixels import Origin, PixelScorer, images_of, loading, required_package

ORIGIN = Origin(
    weights="chaofengc/IQA-PyTorch-Weights",
    revision=None,
    licence="PolyForm-Noncommercial-1.0.0 (package); each metric its own",
    gpu_gb=2,
    package="pyiqa",
    extra="pyiqa",
)
EXAMPLE = "pyiqa:musiq"
NOT_OF_ONE_IMAGE = ("fid", "sfid", "fid_dinov2", "inception_score", "clipscore")  # of sets, or with a caption


class PyIQA(PixelScorer):
    """A metric of pyiqa.

    Args:
        metric: what `pyiqa.create_metric` made: `(1, 3, H, W)` in 0..1 → a score; it knows direction and range.
    """

    origin = ORIGIN
    uses_prompt = False
    batch_size = 1

    def __init__(self, name: str, metric: Any, open_image: Callable[[str], Image.Image] | None):
        super().__init__(name, open_image, name)
        self.metric = metric
        self.higher_is_better = not metric.lower_better
        self.score_range = _range(metric.score_range)

    def score_images(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        scores = []
        for image in images:
            pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)[None]
            with torch.inference_mode():
                scores.append(float(self.metric(pixels).squeeze()))
        return np.array(scores)


def _range(text: str) -> tuple[float, float]:
    """pyiqa's "0, 100" or "~0, ~" (about 0, no upper end) as numbers."""
    low, high = (part.strip().lstrip("~") for part in text.split(","))
    return float(low or -math.inf), float(high or math.inf)


def fit(
    train: pd.DataFrame,
    embeddings: Embeddings,
    *,
    variant: str,
    seed: int = 0,
    data: RatingData | None = None,
    **context: Any,
) -> PyIQA:
    """Loads the metric; `train` and `seed` change nothing.

    Args:
        variant: the metric's name in pyiqa.
        data: the ratings, with their images.

    Raises:
        ValueError: ratings without images, no such metric. RuntimeError: pyiqa is missing. OSError: no weights.
    """
    name = f"pyiqa:{variant}"
    open_image = images_of(data, name)
    pyiqa = required_package("pyiqa", name, ORIGIN)
    there = [one for one in pyiqa.list_models(metric_mode="NR") if one not in NOT_OF_ONE_IMAGE]
    if variant not in there:
        raise ValueError(f"pyiqa has no metric {variant!r} that scores one image by itself; it has {', '.join(there)}.")
    how = f"Run this once where the net is reachable: pyiqa.create_metric({variant!r}); it keeps them in its cache."
    with loading(name, ORIGIN.weights, ORIGIN.revision, ORIGIN.licence, how):
        return PyIQA(name, pyiqa.create_metric(variant, device=default_device()), open_image)
