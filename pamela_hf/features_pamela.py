"""What the encoder's features go through before the networks: a common scale, principal axes, linear taste."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_pamela import PamelaConfig


class PamelaFeatures(nn.Module):
    """Standardized features of images and prompts, and `read`ings of them: directions along which utility is linear.

    The first `personal_axes` readings are principal axes of the joint features (image and prompt, the prompt with
    `text_share` of the variance), weighed by each person's row. The last is everyone's taste in closed form: ridge
    regression of the images' mean standardized ratings on the first `linear_axes` principal axes. It knows no
    interactions, so it errs elsewhere than the fusion networks do, which is what averaging the two lives from.
    """

    def __init__(self, config: PamelaConfig):
        super().__init__()
        self.config = config
        self.dims = {
            name: dim for name, dim in (("image", config.image_embed_dim), ("text", config.text_embed_dim)) if dim
        }
        for name, dim in self.dims.items():
            self.register_buffer(f"{name}_mean", torch.zeros(dim))
            self.register_buffer(f"{name}_scale", torch.ones(()))
            self.register_buffer(f"{name}_readings", torch.zeros(dim, config.personal_axes + 1))
        self.register_buffer("linear_offset", torch.zeros(()))

    def standardize(self, name: str, value: Tensor) -> Tensor:
        """Features `(N, D)` of "image" or "text" as the networks take them."""
        mean, scale = getattr(self, f"{name}_mean"), getattr(self, f"{name}_scale")
        value = value.to(mean.device, torch.float32)
        value = F.normalize(value, dim=-1) if self.config.normalize_embeds else value
        return ((value - mean) / scale).to(mean.dtype)

    def read(self, image: Tensor, text: Tensor | None, has_prompt: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Readings `(N, personal_axes + 1)` of standardized images, and what their prompts add, if any."""
        seen = image @ self.image_readings
        return seen, None if text is None else (text @ self.text_readings) * has_prompt.unsqueeze(-1)

    @torch.no_grad()
    def fit(
        self,
        image_embeds: Tensor,
        text_embeds: Tensor | None = None,
        targets: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        """Fits all of it to the training images, `(N, D)` and `(N, Dt)` (a text row of zeros = no prompt).

        Args:
            targets: `(N,)` what people think of each image on average, any unit. weights: `(N,)` number of its raters.
        """
        given = {"image": image_embeds, "text": text_embeds}
        given = {name: given[name].float() for name in self.dims if given[name] is not None}
        shares = {"image": 1 - self.config.text_share if "text" in given else 1.0, "text": self.config.text_share}
        parts = {}
        for name, value in given.items():
            there = value.any(dim=-1, keepdim=True)
            known = value[there.squeeze(-1)]
            known = F.normalize(known, dim=-1) if self.config.normalize_embeds else known
            mean = known.mean(0)
            getattr(self, f"{name}_mean").copy_(mean)
            # one scale for all dimensions, so that their relative weight stays the encoder's
            getattr(self, f"{name}_scale").copy_((known - mean).square().mean().sqrt().clamp_min(1e-12))
            weight = (shares[name] / self.dims[name]) ** 0.5  # the joint features' mean squared length is 1
            parts[name] = (self.standardize(name, value).float() * there.to(self.linear_offset.device), weight)
        joint = torch.cat([part * weight for part, weight in parts.values()], dim=1)
        mean = joint.mean(0)
        axes = torch.linalg.svd(joint - mean, full_matrices=False).Vh.T
        readings = joint.new_zeros(joint.shape[1], self.config.personal_axes + 1)
        personal = axes[:, : self.config.personal_axes]
        readings[:, : personal.shape[1]] = personal
        if targets is not None and self.config.linear_share:
            readings[:, -1] = self._ridge(joint - mean, axes[:, : self.config.linear_axes], targets, weights)
        for (name, (_, weight)), part in zip(parts.items(), readings.split([self.dims[n] for n in parts])):
            getattr(self, f"{name}_readings").copy_(part * weight)

    def _ridge(self, centred: Tensor, axes: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Weights `(D + Dt,)` of the joint features."""
        z, y = centred.double() @ axes.double(), targets.to(centred.device).double()
        w = torch.ones_like(y) if weights is None else weights.to(centred.device).double()
        w = w / w.mean()
        normal = z.T @ (w[:, None] * z) + self.config.linear_penalty * torch.eye(z.shape[1], device=z.device).double()
        return (axes.double() @ torch.linalg.solve(normal, z.T @ (w * (y - (w * y).mean())))).float()

    @torch.no_grad()
    def match_linear(self, linear: Tensor, utility: Tensor) -> None:
        """Rescales and shifts the last reading so that its values, `linear (N,)` of the training images, have the mean
        and spread of what the networks say of the same images, `utility (N,)`."""
        gain = (utility.std() / linear.std().clamp_min(1e-12)).nan_to_num(0.0)
        for name in self.dims:
            getattr(self, f"{name}_readings")[:, -1] *= gain
        self.linear_offset.copy_(utility.mean() - gain * linear.mean())
