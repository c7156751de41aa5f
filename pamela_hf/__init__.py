"""Personal taste in images. Importing this package registers PAMELA with the Auto classes of transformers."""

import importlib
from typing import TYPE_CHECKING

from transformers import AutoConfig, AutoModel, AutoProcessor

from .configuration_pamela import PamelaConfig
from .modeling_pamela import PamelaRewardModel, PamelaRewardOutput
from .processing_pamela import PamelaProcessor
from .version import __version__

if TYPE_CHECKING:
    from .builder import PamelaRatings, load_ratings
    from .heads import UserHead
    from .pipeline_pamela import PamelaPromptPipeline
    from .scoring import PamelaScorer

# loaded when first used, so that importing the package stays quick
_LAZY = {
    "PamelaPromptPipeline": "pipeline_pamela", "PamelaRatings": "builder", "PamelaScorer": "scoring",
    "UserHead": "heads", "load_ratings": "builder",
}  # fmt: skip

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


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
