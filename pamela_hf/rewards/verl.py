"""verl's reward for images: `compute_score(data_source, solution_image, ground_truth, extra_info, **kwargs) -> dict`.

Checked against verl-project/verl-omni, verl_omni/reward_loop/reward_manager/visual.py at commit a1139ba: the manager
calls by keyword, one sample at a time from several threads; `solution_image` is a uint8 tensor `(C, H, W)` (the offline
DPO example hands over a float array `(H, W, 3)`), `ground_truth` the prompt, `extra_info` the row's dict. It wants a
finite float under "score"; further keys become metrics.

In a file of one's own, named in `reward.custom_reward_function.path`:

```python
from pamela_hf.rewards import load_reward
compute_score = load_reward("verl", model="runs/demo/model")
```
"""

import math
from collections.abc import Mapping
from typing import Any

from ._batching import Batcher
from ._personal import PersonalReward


def build(reward: PersonalReward) -> Any:
    """`compute_score`; samples that several threads hand in at a time are scored in one forward.

    Raises:
        ValueError: `standardize`, which needs whole groups where verl gives one sample at a time.
    """
    if reward.options.standardize:
        raise ValueError("standardize=True needs whole groups, and verl hands in one sample at a time. Leave it out.")

    def score(samples: list[tuple[Any, Any, Any]]) -> list[float]:
        images, prompts, metadata = (list(column) for column in zip(*samples))
        return reward(images, prompts, metadata).tolist()

    batcher = Batcher(score, max_items=reward.options.batch_size)

    def compute_score(
        data_source: Any, solution_image: Any, ground_truth: Any, extra_info: Any = None, **kwargs: Any
    ) -> dict[str, float]:
        known = extra_info if isinstance(extra_info, Mapping) else {}
        reward.scorer.encode_people(1, reward.people([known], 1))  # here, so that only this sample's caller hears of it
        prompt = ground_truth if isinstance(ground_truth, str) else known.get("prompt")
        value = batcher.submit((solution_image, prompt, known)).result()
        unusable = not math.isfinite(value)
        return {"score": reward.lowest if unusable else value, "pamela_unusable": float(unusable)}

    return compute_score
