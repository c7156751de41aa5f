"""The reward model as transformers loads it: what a saved folder carries along to the Hub.

Files here import one another by `from .name import …` and nothing else of this package: transformers copies exactly
such files beside the weights, so that `AutoModel.from_pretrained(…, trust_remote_code=True)` works without it.

configuration_pamela, modeling_pamela, processing_pamela: the three that the Auto classes know.
backbone_pamela, checkpoint_pamela, matrix_pamela, scales_pamela: parts of the model's class: its encoder, its folder,
every image for every person, rating scales and scores.
fusion_pamela: the networks.  grid_pamela: the same, faster, for grids.  features_pamela, factors_pamela: linear taste.
losses: the ordinal link, pairs.
encoder_pamela: the frozen encoder.  pixels_pamela: its preprocessing, differentiable.
weights_pamela: what weights are known by.
"""

from .configuration_pamela import PamelaConfig
from .modeling_pamela import PamelaRewardModel, PamelaRewardOutput
from .processing_pamela import PamelaProcessor

__all__ = ["PamelaConfig", "PamelaProcessor", "PamelaRewardModel", "PamelaRewardOutput"]
