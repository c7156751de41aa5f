"""flow_grpo's reward: `f(device)` returns `_fn(images, prompts, metadata) -> (scores, {})`.

Checked against yifan123/flow_grpo, flow_grpo/rewards.py at commit ac4c86e: `multi_score` calls a factory that has a
parameter `device` with it; images are a float tensor `(N, 3, H, W)` 0–1 or a uint8 array `(N, H, W, 3)`; metadata is
one dict a sample (the dataset's JSON lines). Scores are gathered and averaged without a check, so a sample that cannot
be scored gets the lowest rating, not NaN, which would make every advantage of its group NaN.
"""

from typing import Any

import numpy as np

from ._personal import PersonalReward


def build(reward: PersonalReward) -> Any:
    """The factory, for `score_functions["pamela"] = load_reward("flow_grpo", …)` in flow_grpo's `multi_score`."""

    def pamela_score(device: Any) -> Any:
        reward.scorer.model.to(device)

        def _fn(images: Any, prompts: Any, metadata: Any) -> tuple[np.ndarray, dict[str, Any]]:
            # float outside 0–1 by rounding of the VAE is what the other rewards clip, too
            images = images.clamp(0, 1) if hasattr(images, "clamp") and images.is_floating_point() else images
            return reward.without_nan(reward(images, list(prompts), metadata or None)), {}

        return _fn

    return pamela_score
