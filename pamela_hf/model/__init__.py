"""The reward model as transformers loads it: what a saved folder carries along to the Hub.

Files here import one another by `from .name import …` and nothing else of this package: transformers copies exactly
such files beside the weights, so that `AutoModel.from_pretrained(…, trust_remote_code=True)` works without it.

configuration_pamela, modeling_pamela, processing_pamela: the three that the Auto classes know.
backbone_pamela, checkpoint_pamela, matrix_pamela, scales_pamela: parts of the model's class: its encoder, its folder,
every image for every person, rating scales and scores.
fusion_pamela: the networks.  grid_pamela: the same, faster, for grids.  features_pamela, factors_pamela: linear taste.
losses: the ordinal link, pairs.
encoder_pamela: the frozen encoder.  pixels_pamela: its preprocessing, differentiable.
quick_pamela: what CPUs do faster in other parts.
weights_pamela: what weights are known by.

Importing it registers PAMELA with the Auto classes.
"""

from transformers import AutoConfig, AutoModel, AutoProcessor

from .configuration_pamela import PamelaConfig
from .modeling_pamela import PamelaRewardModel, PamelaRewardOutput
from .processing_pamela import PamelaProcessor

__all__ = ["PamelaConfig", "PamelaProcessor", "PamelaRewardModel", "PamelaRewardOutput"]

AutoConfig.register("pamela", PamelaConfig, exist_ok=True)
AutoModel.register(PamelaConfig, PamelaRewardModel, exist_ok=True)
AutoProcessor.register(PamelaConfig, PamelaProcessor, exist_ok=True)
# with these a saved folder also carries the model's own files and loads where this package is not installed
PamelaConfig.register_for_auto_class()
PamelaRewardModel.register_for_auto_class("AutoModel")
PamelaProcessor.register_for_auto_class("AutoProcessor")
