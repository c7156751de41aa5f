"""Inference Endpoints' handler of this model: scores of images for people.

POST `{"inputs": {"images": [base64 or data URL], "prompts": [text], "users": [name or null]}}`, or `{"inputs": base64}`
for one image and everyone's taste; the answer is `{"scores": [[…]], "std": [[…]], "users": […], "errors": {}}`, a row
for each image and a column for each user.
"""

import base64
import binascii
import io
from typing import Any

import torch
from PIL import Image, ImageOps
from transformers import AutoModel, AutoProcessor

MAX_IMAGES = 64
MAX_PIXELS = 64_000_000


class EndpointHandler:
    """Made once with the repository's folder, then called with each request."""

    def __init__(self, path: str = ""):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = AutoModel.from_pretrained(path, trust_remote_code=True).to(device).eval()
        self.processor = AutoProcessor.from_pretrained(path, config=self.model.config, trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Answers a request; what is wrong with it as a whole is `{"error": …}`."""
        inputs = data.get("inputs", data) if isinstance(data, dict) else data
        inputs = inputs if isinstance(inputs, dict) else {"images": inputs}
        images = inputs.get("images")
        images = [images] if isinstance(images, (str, Image.Image)) else images
        users = inputs.get("users") or [None]
        users = [users] if isinstance(users, str) else users
        if not isinstance(images, list) or not 1 <= len(images) <= MAX_IMAGES:
            return {"error": f"images must be a list of 1 to {MAX_IMAGES} base64 texts or data URLs."}
        prompts = inputs.get("prompts")
        prompts = [prompts] * len(images) if prompts is None or isinstance(prompts, str) else prompts
        if len(prompts) != len(images):
            return {"error": f"prompts has {len(prompts)} entries for {len(images)} images; give one, or one each."}
        pictures, errors = {}, {}
        for i, image in enumerate(images):
            try:
                pictures[i] = image if isinstance(image, Image.Image) else decode(image)
            except ValueError as error:
                errors[str(i)] = str(error)
        scores: list[Any] = [[None] * len(users) for _ in images]
        std = [list(row) for row in scores]
        try:
            people = self.processor.encode_people(len(users), users)
            if pictures:
                found = self.score(list(pictures.values()), [prompts[i] for i in pictures], people)
                for row, i in enumerate(pictures):
                    scores[i], std[i] = found.scores[row].tolist(), found.std[row].tolist()
        except ValueError as error:
            return {"error": str(error)}
        return {"scores": scores, "std": std, "users": users, "errors": errors}

    def score(self, pictures: list[Image.Image], prompts: list[str | None], people: dict[str, Any]) -> Any:
        """The model's output for every picture and person."""
        inputs = dict(self.processor(images=pictures, prompts=prompts))
        for name in ("user_ids", "demographic_ids", "scale_ids"):
            inputs.pop(name, None)
        return self.model.score_matrix(**inputs, **people)


def decode(image: Any) -> Image.Image:
    """An upright RGB image from base64 or a data URL. Raises ValueError for anything else."""
    if not isinstance(image, str):
        raise ValueError(f"An image is a {type(image).__name__}; send base64 or a data URL.")
    text = image.partition(",")[2] if image.startswith("data:image/") else image
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG", "JPEG", "WEBP"))
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"{picture.width} × {picture.height} pixels; at most {MAX_PIXELS} are allowed.")
        picture = ImageOps.exif_transpose(picture)
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"No PNG, JPEG or WebP image in base64 ({str(error)[:80]}).") from None
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")
