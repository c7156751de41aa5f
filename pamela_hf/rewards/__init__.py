"""The reward as other people's code calls it: `load_reward("trl", model="runs/demo/model", user="p0001")`.

One adapter a file, found by its name: callable, flow_factory, flow_grpo, imscore, trl, verl. Each has a function
`build(reward, **options)` that returns what its framework calls; all of them score with one [`PersonalReward`] and
share its [`RewardOptions`]: whom to score for, on which scale, how cautiously.
serving/: the same over HTTP and MCP.  comfyui/: as nodes.  hub/: as a transformers pipeline and an endpoint.
cluster/: many images on many machines, with Ray Data.

May import: scoring, heads and all below them.
"""

import inspect
import os
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from ..exports import exports

__getattr__, _lazy = exports(
    __name__,
    _adherence=["UNRELATED_PROMPTS", "encoder_adherence"],
    _heads=["HeadFolder"],
    _personal=["PersonalReward", "RewardOptions"],
)
__all__ = [*_lazy, "available_rewards", "load_reward"]


def available_rewards() -> list[str]:
    """The names that `load_reward` knows."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("_"))


def load_reward(
    name: str,
    model: Any,
    user: Any = None,
    *,
    head: str | os.PathLike | None = None,
    heads: Any = None,
    device: Any = None,
    dtype: Any = None,
    **options: Any,
) -> Any:
    """The reward as one framework calls it.

    Args:
        name: of an adapter: "callable", "flow_factory", "flow_grpo", "imscore", "trl" or "verl".
        model: folder or Hub id of a trained model, or a [`PamelaScorer`] that is loaded already.
        user: a trained participant or a head: whom samples that name nobody are scored for; default: everyone's taste.
        head: in place of `user`: folder or Hub id of a head.
        heads: people whom samples may name beside the trained participants: name → head, or a folder that holds one
            head's folder for each.
        device: where the model runs; default: CUDA, MPS or CPU.
        dtype: in what precision; default: float32.
        options: the fields of [`RewardOptions`], and what the adapter itself takes.

    Returns:
        A function, an object or a class; each adapter's module says which, with the source it was checked against.

    Raises:
        ValueError: no adapter of that name, an option that it does not take, an unknown user, a head of another model.
        OSError: no such model.
    """
    known = available_rewards()
    if name not in known:
        raise ValueError(f"reward={name!r} does not exist; there are {', '.join(known)}. Name one of these.")
    from ._personal import PersonalReward, RewardOptions

    build = import_module(f"{__name__}.{name}").build
    own = [p.name for p in inspect.signature(build).parameters.values() if p.kind == p.KEYWORD_ONLY]
    shared = [field.name for field in fields(RewardOptions)]
    if unknown := sorted(set(options) - {*own, *shared}):
        raise ValueError(
            f"{unknown[0]}= is not an option of the reward {name!r}; it takes {', '.join([*shared, *own])}."
        )
    settings = RewardOptions(**{key: options.pop(key) for key in shared if key in options})
    reward = PersonalReward.load(model, user, settings, head=head, heads=heads, device=device, dtype=dtype)
    return build(reward, **options)
