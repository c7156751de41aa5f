"""The plain reward function: `(images, prompts=None, metadata=None) -> list[float]`.

For one's own loops, and for frameworks that take any such function.
"""

from typing import Any

from ._personal import PersonalReward


def build(reward: PersonalReward) -> Any:
    """A function of images, prompts and metadata; the reward of an image that cannot be read is NaN."""

    def personal_reward(images: Any, prompts: Any = None, metadata: Any = None) -> list[float]:
        return reward(images, prompts, metadata).tolist()

    personal_reward.reward = reward
    return personal_reward
