"""How much of a prompt is in an image, by the reward's own encoder: what keeps an optimizer from pleasing a person with
images of something else."""

import torch.nn.functional as F
from torch import Tensor

UNRELATED_PROMPTS = (
    "a photo", "a painting", "a dog", "a cup of coffee", "a crowded street", "a mountain lake", "a woman's face",
    "an old car", "a bowl of fruit", "a tall building", "abstract shapes", "a football player", "a boat at sea",
    "a flower", "a kitchen", "the night sky",
)  # fmt: skip
"""What images are compared with, too, to see how much more they are like the prompt than like anything."""


def encoder_adherence(image_embeds: Tensor, prompt_embeds: Tensor, unrelated_embeds: Tensor) -> Tensor:
    """How much more images are like their prompts than like anything.

    Cosine similarity of each image and its prompt, less the image's mean similarity to unrelated texts: 0 means that
    the image has no more to do with the prompt than with them, whatever the encoder's similarities are like (SigLIP's
    lie around .1, CLIP's around .3), so that a share of it can be asked for.

    Args:
        image_embeds: `(B, D)` the encoder's features of images.
        prompt_embeds: `(B, D)` of their prompts, or `(1, D)` of one for all.
        unrelated_embeds: `(U, D)` of [`UNRELATED_PROMPTS`].

    Returns:
        `(B,)`, differences of cosines, higher = more of the prompt.
    """
    images, prompts, unrelated = (
        F.normalize(embeds.to(image_embeds.device).float(), dim=-1)
        for embeds in (image_embeds, prompt_embeds, unrelated_embeds)
    )
    return (images * prompts).sum(-1) - (images @ unrelated.T).mean(-1)
