"""A text-to-image pipeline without a diffusion model: SIMULATED images, for the offline demo and for tests.

It draws the procedural pictures of [`pamela_hf.simulation.world`]; that its prompts "work" says nothing about what
they do in a real model.
"""

import logging
from collections.abc import Sequence

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from PIL import Image

from .world import render

logger = logging.getLogger(__name__)


class SimulatedPipeline(DiffusionPipeline):
    """Procedural pictures behind the interface of a text-to-image pipeline. Nothing here is learned or real.

    Args:
        size: side of the images in pixels where neither `height` nor `width` is given.
    """

    note = "simulated by pamela_hf.simulation.world: no diffusion model, no real image"

    def __init__(self, size: int = 64):
        super().__init__()
        self.register_to_config(size=size)

    def __call__(
        self,
        prompt: str | Sequence[str],
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 1,
        guidance_scale: float = 0.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[list[Image.Image]]:
        """Draws one image a prompt.

        Args:
            prompt: one text, or several.
            height: pixels, 16..2048; default: `width`, else the pipeline's `size`.
            width: pixels, equal to `height`; default: `height`, else the pipeline's `size`.
            num_inference_steps: taken and ignored.
            guidance_scale: taken and ignored.
            generator: one for all or one each; its seed decides what a prompt leaves open. `None` = seed 0.
            output_type: only "pil".

        Raises:
            ValueError: a size that is not square, another output type, generators that don't fit the prompts.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        size = height or width or self.config.size
        if (width or size) != size:
            raise ValueError(f"height={height}, width={width}: simulated images are square.")
        if output_type != "pil":
            raise ValueError(f"output_type={output_type!r}: simulated images are 'pil' only.")
        generators = generator if isinstance(generator, (list, tuple)) else [generator] * len(prompts)
        if len(generators) != len(prompts):
            raise ValueError(f"generator has {len(generators)} entries for {len(prompts)} prompts.")
        images = [render(text, 0 if g is None else g.initial_seed(), size) for text, g in zip(prompts, generators)]
        return ImagePipelineOutput(images=images) if return_dict else (images,)
