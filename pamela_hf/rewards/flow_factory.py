"""Flow-Factory's reward: a subclass of `PointwiseRewardModel`.

Checked against X-GenGroup/Flow-Factory, src/flow_factory/rewards/abc.py and reward_processor.py at commit a0b2bc5: made
as `cls(config=…, accelerator=…)`; called with the fields in `required_fields` that it takes by name, each a list; wants
`RewardModelOutput(rewards=(B,))`. The rewards of a batch are stacked without a check, so a sample that cannot be scored
gets the lowest rating.

In a module of one's own, named as `reward_model: my_package.PamelaReward`:

```python
from pamela_hf.rewards import load_reward
PamelaReward = load_reward("flow_factory", model="runs/demo/model", user="p0001")
```

The training configuration may name another `user` for each of several rewards (`user: p0002` beside `reward_model`). To
keep the reward out of the training environment, run `pamela serve` and name Flow-Factory's own remote class with
`server_url: http://127.0.0.1:8000/users/p0001`.
"""

from typing import Any

import torch

from ._personal import PersonalReward


def build(reward: PersonalReward) -> type:
    """The class. Raises ImportError where Flow-Factory is not installed."""
    try:
        from flow_factory.rewards.abc import PointwiseRewardModel, RewardModelOutput
    except ImportError as error:
        raise ImportError(
            "The reward 'flow_factory' is a class of Flow-Factory's, which is not installed. Install it "
            "(github.com/X-GenGroup/Flow-Factory), or run `pamela serve` and use its remote reward."
        ) from error

    class PamelaReward(PointwiseRewardModel):
        """Personal taste; `user` of the reward's configuration goes before the one it was loaded for."""

        required_fields = ("prompt", "image")
        use_tensor_inputs = False

        def __init__(self, config: Any, accelerator: Any):
            super().__init__(config, accelerator)
            extra = getattr(config, "extra_kwargs", None) or {}
            user = getattr(config, "user", None) or extra.get("user")
            self.reward = PersonalReward(reward.scorer, user or reward.user, reward.options, reward.heads)
            self.model = reward.scorer.model.to(self.device)

        @torch.no_grad()
        def __call__(
            self, prompt: list[str], image: list[Any] | None = None, metadata: Any = None, **kwargs: Any
        ) -> Any:
            if image is None:
                raise ValueError("This reward scores images, and the samples have none (image=None).")
            values = self.reward.without_nan(self.reward(image, prompt, metadata))
            return RewardModelOutput(rewards=torch.tensor(values, dtype=torch.float32, device=self.device))

    return PamelaReward
