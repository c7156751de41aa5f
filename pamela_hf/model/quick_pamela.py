"""The same arithmetic as transformers' and PyTorch's own, arranged so that CPUs do it faster."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

# the polynomial in the tanh: √(2/π) · (x + .044715 x³) (Hendrycks & Gimpel, arXiv 1606.08415)
_LINEAR = torch.tensor((2 / torch.pi) ** 0.5)
_CUBIC = 0.044715 * (2 / torch.pi) ** 0.5
_AT_ONCE = 2**18
"""Numbers that a cache holds twice."""


def double_gelu_(x: Tensor, gate: Tensor) -> None:
    """`x` becomes `2 · gelu(x, approximate="tanh")`.

    PyTorch's own takes three times as long as its parts on CPUs, whose tanh is vectorized.

    Args:
        x: of any shape.
        gate: of the same shape, of any contents: memory that is used meanwhile.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        x.copy_(F.gelu(x, approximate="tanh")).mul_(2)
        return
    torch.addcmul(_LINEAR, x, x, value=_CUBIC, out=gate)
    x.addcmul_(x, gate.mul_(x).tanh_())


class QuickGeluTanh(nn.Module):
    """`gelu(approximate="tanh")` of a feed-forward layer, whose first product it overwrites unless a gradient is
    wanted: large new tensors take a CPU as long as what is done to them."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        wants_gradient = torch.is_grad_enabled() and x.requires_grad
        if x.device.type != "cpu" or x.dtype != torch.float32 or wants_gradient or not x.is_contiguous():
            return F.gelu(x, approximate="tanh")
        gate = x.new_empty(min(_AT_ONCE, x.numel()))
        for part in x.view(-1).split(_AT_ONCE):
            double_gelu_(part, gate[: len(part)])
            part.mul_(0.5)
        return x


def quicker(encoder: nn.Module) -> nn.Module:
    """An encoder of transformers, changed in place to do the same in less time on a CPU.

    Its feed-forward layers take [`QuickGeluTanh`]. Its pooling head's attention gets tokens that are contiguous once
    they are turned, which `nn.MultiheadAttention` does: else their projection is a small product for each token.
    """
    gelu = type(ACT2FN["gelu_pytorch_tanh"])
    for module in encoder.modules():
        if isinstance(module, nn.MultiheadAttention) and module.batch_first:
            module.register_forward_pre_hook(_turn)
        elif hasattr(module, "fc1") and type(getattr(module, "activation_fn", None)) is gelu:
            module.activation_fn = QuickGeluTanh()
    return encoder


def _turn(_module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(given) < 3:  # they came by name
        return given
    query, key, value, *more = given
    turned = key.transpose(0, 1).contiguous().transpose(0, 1)
    return query, turned, turned if value is key else value, *more
