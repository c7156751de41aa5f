"""Q-Align (OneAlign): a 7 B vision–language model asked to rate an image, its answer read as a number.

Wu et al., *Q-Align: Teaching LMMs for Visual Scoring via Discrete Text-Defined Levels*, ICML 2024 (arXiv 2312.17090).
It is asked for the image's aesthetics. The score is the mean of five levels, 1..5, higher is better; they are levels of
its annotators' scale, not of the people's who are asked here. No prompt is read. Example on its model card:
`fig/singapore_flyer.jpg` of github.com/Q-Future/Q-Align, asked for quality, 1.911.

Runs the code in the weights' own repository, at a fixed commit, which asks for transformers 4.36.1: in an environment
of its own, whose Python is named as `qalign:ENV/bin/python`. How that environment resolves was not tried.
"""

from typing import Any

import pandas as pd

from ..embeddings import Embeddings
from ..ratings.table import RatingData
from ._isolated import IsolatedScorer
from ._pixels import Origin, images_of

ORIGIN = Origin(
    weights="q-future/one-align",
    revision="dcc603b95aa0ebd82afa696d4a1e20d11fc80ddb",
    licence="MIT (code)",
    gpu_gb=18,
    package="transformers==4.36.1",
)
INSTALL = "transformers==4.36.1 torch pillow accelerate sentencepiece protobuf icecream"
TASKS = ("aesthetics", "quality")  # the words of its question, as it was trained


class QAlign(IsolatedScorer):
    """See the module."""

    uses_prompt = False
    score_range = (1.0, 5.0)


def fit(
    train: pd.DataFrame,
    embeddings: Embeddings,
    *,
    seed: int = 0,
    variant: str | None = None,
    task: str = "aesthetics",
    data: RatingData | None = None,
    **context: Any,
) -> QAlign:
    """Starts the environment's Python, which loads the weights; `train` and `seed` change nothing.

    Args:
        variant: the Python of an environment that has what the weights' code needs.
        task: "aesthetics" (default) or "quality".
        data: the ratings, with their images.

    Raises:
        ValueError: ratings without images, another task. RuntimeError: no such Python, no packages, no weights there.
    """
    if task not in TASKS:
        raise ValueError(f"task={task!r}: Q-Align is asked for one of {', '.join(TASKS)}.")
    return QAlign("qalign", ORIGIN, variant, images_of(data, "qalign"), INSTALL, task)
