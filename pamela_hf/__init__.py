"""Personal taste in images. Importing this package registers PAMELA with the Auto classes of transformers.

The data's way: ratings/ → embeddings.py (features, by encoder.py) → training/ → model/ → scoring/ → evaluation/,
heads/, prompts/. Each folder's `__init__` says what is in it and what it may import.
"""

from typing import TYPE_CHECKING

from transformers import AutoConfig, AutoModel, AutoProcessor

from .exports import exports
from .model import PamelaConfig, PamelaProcessor, PamelaRewardModel, PamelaRewardOutput
from .version import __version__

if TYPE_CHECKING:
    from .heads.head import UserHead
    from .prompts.pipeline_pamela import PamelaPromptPipeline
    from .ratings.builder import PamelaRatings, load_ratings
    from .scoring import PamelaScorer

__getattr__, _lazy = exports(
    __name__,
    **{
        "heads.head": ["UserHead"],
        "prompts.pipeline_pamela": ["PamelaPromptPipeline"],
        "ratings.builder": ["PamelaRatings", "load_ratings"],
        "scoring": ["PamelaScorer"],
    },
)

__all__ = [
    "PamelaConfig",
    "PamelaProcessor",
    "PamelaPromptPipeline",
    "PamelaRatings",
    "PamelaRewardModel",
    "PamelaRewardOutput",
    "PamelaScorer",
    "UserHead",
    "__version__",
    "load_ratings",
]

AutoConfig.register("pamela", PamelaConfig, exist_ok=True)
AutoModel.register(PamelaConfig, PamelaRewardModel, exist_ok=True)
AutoProcessor.register(PamelaConfig, PamelaProcessor, exist_ok=True)
# with these a saved folder also carries the model's own files and loads where this package is not installed
PamelaConfig.register_for_auto_class()
PamelaRewardModel.register_for_auto_class("AutoModel")
PamelaProcessor.register_for_auto_class("AutoProcessor")
