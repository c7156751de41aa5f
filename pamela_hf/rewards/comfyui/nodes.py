"""What each node takes, gives and does; both of ComfyUI's node APIs are made from this table.

An IMAGE is a float tensor `(B, H, W, C)`, 0–1 (Comfy-Org/ComfyUI, comfy_api/latest/_io.py at commit a125cd8).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

REWARD, PERSON = "PAMELA_REWARD", "PAMELA_PERSON"  # types of this pack's own connections


@dataclass(frozen=True)
class Port:
    """One input or output.

    Attributes:
        name: of the input; of an output its caption.
        type: ComfyUI's: IMAGE, STRING, INT, FLOAT, or one of this pack's own.
        options: of an input: default, min, max, multiline, tooltip.
        optional: an input that need not be connected.
        is_list: an output of several values, each of which the next node gets in turn.
    """

    name: str
    type: str
    options: dict[str, Any] = field(default_factory=dict)
    optional: bool = False
    is_list: bool = False


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        id: ComfyUI's key of the node.
        title: what users see.
        about: a sentence for users.
        inputs: the node's input ports.
        outputs: the node's output ports.
        run: inputs by name → a tuple of outputs.
        takes_lists: `run` gets a list for each input, of all that a list output before it made.
    """

    id: str
    title: str
    about: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    run: Callable[..., tuple[Any, ...]]
    takes_lists: bool = False


def load_reward_node(model: str, user: str = "") -> tuple[Any, ...]:
    from ...scoring import PamelaScorer
    from .._personal import PersonalReward

    reward = PersonalReward(PamelaScorer.from_pretrained(model.strip()), user.strip() or None)
    return reward, reward.user


def load_head_node(reward: Any, head: str) -> tuple[Any, ...]:
    from ...heads.head import UserHead

    return (UserHead.from_pretrained(head.strip(), reward.scorer),)


def score_node(reward: Any, images: torch.Tensor, prompt: str = "", person: Any = None) -> tuple[Any, ...]:
    scores, std = _scores(reward, [images], [prompt], person)
    lines = [f"{score:.3f} ± {deviation:.3f}" for score, deviation in zip(scores, std)]
    return scores.tolist(), std.tolist(), "\n".join(lines)


def pick_best_node(
    reward: list[Any],
    images: list[torch.Tensor],
    k: list[int],
    prompts: list[str] | None = None,
    person: list[Any] | None = None,
) -> tuple[Any, ...]:
    prompts = prompts or [""]
    prompts = prompts * len(images) if len(prompts) == 1 else prompts
    if len(prompts) != len(images):
        raise ValueError(f"{len(prompts)} prompts for {len(images)} batches of images: connect one, or one for each.")
    scores, _ = _scores(reward[0], images, prompts, person[0] if person else None)
    pictures = [(picture, text) for batch, text in zip(images, prompts) for picture in batch]
    order = np.argsort(-scores, kind="stable")[: k[0]]
    chosen = [pictures[i] for i in order]
    largest = [max(picture.shape[side] for picture, _ in chosen) for side in (0, 1)]
    if any(list(picture.shape[:2]) != largest for picture, _ in chosen):
        raise ValueError("The best images have several sizes, and a batch has one. Draw them all in one size.")
    best = torch.stack([picture[..., :3] for picture, _ in chosen])
    return best, scores[order].tolist(), [text for _, text in chosen]


def prompt_variants_node(prompt: str, n: int, seed: int) -> tuple[Any, ...]:
    from ...refiners import Trial, load_refiner

    history = [Trial(prompt, None, 0, float("nan"), float("nan"))]
    found = load_refiner("vocabulary").propose(prompt, history, n, np.random.default_rng(seed))
    return ([prompt, *found],)


def _scores(reward: Any, batches: list[torch.Tensor], prompts: list[str], person: Any) -> tuple[np.ndarray, np.ndarray]:
    from ...files.images import open_image

    pictures = [open_image(picture) for batch in batches for picture in batch]
    texts = [text.strip() or None for batch, text in zip(batches, prompts) for _ in batch]
    person = reward.person(person) if person is not None else reward.user
    return tuple(reward.scorer.score(pictures, texts, user=person))


_MODEL = {"default": "", "tooltip": "folder or Hub id of a trained model"}
_USER = {"default": "", "tooltip": "a participant it was trained on; empty: everyone's taste"}
_PERSON = Port("person", PERSON, {"tooltip": "from Load head; none: the reward's own user"}, optional=True)

NODES = (
    Node(
        "PamelaLoadReward", "Load reward (PAMELA)", "Loads a model of personal taste.",
        (Port("model", "STRING", _MODEL), Port("user", "STRING", _USER, optional=True)),
        (Port("reward", REWARD), Port("person", PERSON)),
        load_reward_node,
    ),
    Node(
        "PamelaLoadHead", "Load head (PAMELA)", "Loads the taste of one person, fitted on top of a reward.",
        (Port("reward", REWARD), Port("head", "STRING", {"default": "", "tooltip": "folder or Hub id of a head"})),
        (Port("person", PERSON),),
        load_head_node,
    ),
    Node(
        "PamelaScore", "Score images (PAMELA)", "How much a person will like each image: predicted rating ± doubt.",
        (
            Port("reward", REWARD), Port("images", "IMAGE"),
            Port("prompt", "STRING", {"default": "", "multiline": True}, optional=True), _PERSON,
        ),
        (Port("scores", "FLOAT", is_list=True), Port("std", "FLOAT", is_list=True), Port("text", "STRING")),
        score_node,
    ),
    Node(
        "PamelaPickBest", "Pick best images (PAMELA)", "The k images that a person will like best, best first.",
        (
            Port("reward", REWARD), Port("images", "IMAGE"), Port("k", "INT", {"default": 4, "min": 1, "max": 4096}),
            Port("prompts", "STRING", {"default": "", "multiline": True}, optional=True), _PERSON,
        ),
        (Port("images", "IMAGE"), Port("scores", "FLOAT", is_list=True), Port("prompts", "STRING", is_list=True)),
        pick_best_node,
        takes_lists=True,
    ),
    Node(
        "PamelaPromptVariants", "Prompt for me: variants (PAMELA)",
        "Writes variants of a prompt. Draw them all and connect images and prompts to Pick best images: what comes out "
        "is the prompt for this person.",
        (
            Port("prompt", "STRING", {"default": "", "multiline": True}),
            Port("n", "INT", {"default": 8, "min": 1, "max": 256}),
            Port("seed", "INT", {"default": 0, "min": 0, "max": 2**31 - 1}),
        ),
        (Port("prompts", "STRING", is_list=True),),
        prompt_variants_node,
    ),
)  # fmt: skip
