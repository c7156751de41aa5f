"""Q-Align (OneAlign): a 7 B vision–language model asked to rate an image, its answer read as a number.

Wu et al., *Q-Align: Teaching LMMs for Visual Scoring via Discrete Text-Defined Levels*, ICML 2024 (arXiv 2312.17090).
It is asked for the image's aesthetics; `qalign:quality` asks for its quality. The score is the mean of five levels,
1..5, higher is better; they are levels of its annotators' scale, not of the people's who are asked here. No prompt is
read. Example on its model card: `fig/singapore_flyer.jpg` of github.com/Q-Future/Q-Align, quality, 1.911.

Runs through pyiqa, whose port of the network works with transformers 5; the remote code in `q-future/one-align`
itself asks for transformers 4.36 and fails here. pyiqa reads the newest commit of the weights.
"""

from typing import Any

import pandas as pd

from ..data import RatingData
from ..embeddings import Embeddings
from ._pixels import Origin, images_of, variant_name
from .pyiqa import PyIQA, load_metric

ORIGIN = Origin(
    weights="q-future/one-align",
    revision=None,
    licence="MIT (weights, as stated for q-align-aesthetic); pyiqa: PolyForm-Noncommercial-1.0.0",
    gpu_gb=18,
    package="pyiqa",
    extra="pyiqa",
)
TASKS = ("aesthetics", "quality")  # the words of its question, as it was trained


def fit(
    train: pd.DataFrame,
    embeddings: Embeddings,
    *,
    seed: int = 0,
    variant: str | None = None,
    data: RatingData | None = None,
    **context: Any,
) -> PyIQA:
    """Loads the weights; `train` and `seed` change nothing.

    Args:
        variant: "aesthetics" (default) or "quality". data: the ratings, with their images.

    Raises:
        ValueError: ratings without images, another task. RuntimeError: pyiqa is missing. OSError: no weights.
    """
    if variant not in (None, *TASKS):
        raise ValueError(f"qalign:{variant}: Q-Align is asked for one of {', '.join(TASKS)}.")
    name = variant_name(__name__, variant)
    open_image = images_of(data, name)
    return PyIQA(name, load_metric("qalign", name, ORIGIN), open_image, ORIGIN, task_=variant or TASKS[0])
