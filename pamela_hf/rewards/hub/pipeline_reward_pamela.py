"""The reward as a transformers pipeline: an image in, how much a person will like it out."""

from typing import Any

import torch
from PIL import Image, ImageOps
from transformers import AutoProcessor, Pipeline
from transformers.image_utils import load_image

TASK = "personal-image-reward"


class PersonalImageRewardPipeline(Pipeline):
    """Predicted ratings of images.

    ```python
    rate = pipeline(task="personal-image-reward", model="owner/model", trust_remote_code=True)
    rate("photo.jpg", user="p0001")  # {"score": 3.4, "std": 0.9}
    ```

    Where pamela_hf is installed, `import pamela_hf.rewards.hub` registers the task, and no remote code is needed.

    Args of a call:
        images: a path, an address, a PIL image, or a list of these.
        user: a participant of the training, or a head (anything with a `row`); default: everyone's taste.
        prompt: what the images were made from.
        scale: rating scale of the score; default: the model's.
    """

    _load_processor = False
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False

    def __init__(self, model: Any, processor: Any = None, **kwargs: Any):
        kwargs = {key: value for key, value in kwargs.items() if key not in ("tokenizer", "image_processor")}
        super().__init__(model=model, **kwargs)
        if processor is None:
            processor = AutoProcessor.from_pretrained(model.name_or_path, config=model.config, trust_remote_code=True)
        self.reward_processor = processor

    def _sanitize_parameters(self, user: Any = None, prompt: Any = None, scale: Any = None, **kwargs: Any) -> Any:
        if kwargs:
            raise ValueError(f"{next(iter(kwargs))}= is not an argument of {TASK}; it takes user, prompt, scale.")
        return {"user": user, "prompt": prompt, "scale": scale}, {}, {}

    def preprocess(self, image: Any, user: Any = None, prompt: Any = None, scale: Any = None) -> dict[str, Any]:
        image = image if isinstance(image, Image.Image) else load_image(image)
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright.convert("RGBA"))
        row = getattr(user, "row", None)
        inputs = self.reward_processor(
            images=[upright.convert("RGB")], prompts=prompt, user=None if row is not None else user, scale=scale
        )
        inputs = dict(inputs)
        if row is not None:
            if user.base_identity != self.model.base_identity():
                raise ValueError(f"Head {user.name!r} belongs to another base. Load the one it was fitted on.")
            inputs.pop("user_ids")
            inputs["user_embeds"] = torch.as_tensor(row)[None]
        return inputs

    def _forward(self, inputs: dict[str, Any]) -> Any:
        return self.model(**inputs)

    def postprocess(self, output: Any) -> dict[str, float]:
        return {"score": float(output.scores[0]), "std": float(output.std[0])}
