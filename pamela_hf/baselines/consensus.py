"""The same network, trained the same way, without the user: it distinguishes people by their demographics at most.

What the personal model gains over it is worth a person's ratings. Its training configuration is the judged model's own
(`training_config.yaml` in the model's folder), or the default where there is none.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from ..embeddings import Embeddings
from ..ratings.table import RatingData
from ..scoring import PamelaScorer
from ..training.config import TrainingConfig
from ..training.train import train as train_reward

FITS_CHOICES = True  # it needs no ratings


class ConsensusScorer(PamelaScorer):
    """A reward without participants."""

    personal = False


def fit(
    train: pd.DataFrame | None, embeddings: Embeddings, *, seed: int = 0, data: RatingData, **context: Any
) -> ConsensusScorer:
    """Trains on `train`, and on the choices of the same split; takes as long as the model itself did.

    Args:
        data: the ratings and choices that `train` is a split of. context: `model_dir`, the judged model's folder.
    """
    path = Path(context.get("model_dir") or "") / "training_config.yaml"
    config = TrainingConfig.read(path if path.is_file() else None)
    without = sorted({*config.without, "user"})
    config = dataclasses.replace(config, without=without, seed=seed, log_with=None, early_stopping=None)
    choices = {split: table for split, table in data.choices.items() if split == "train"}
    alone = dataclasses.replace(data, splits={} if train is None else {"train": train}, choices=choices)
    with tempfile.TemporaryDirectory() as folder:
        model = train_reward(config, alone, embeddings, Path(folder) / "consensus")
    return ConsensusScorer(model, name="consensus")
