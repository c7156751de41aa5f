"""The same arithmetic as transformers' and PyTorch's own, arranged so that CPUs do it faster."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

# gelu(x, approximate="tanh") is x · sigmoid(√(8/π) · (x + .044715 x³)) (Hendrycks & Gimpel, arXiv 1606.08415)
_LINEAR = torch.tensor((8 / torch.pi) ** 0.5)
_CUBIC = 0.044715 * (8 / torch.pi) ** 0.5
_AT_ONCE = 2**18
"""Numbers that a cache holds twice."""


def gelu_(x: Tensor, memory: Tensor) -> None:
    """`x` becomes `gelu(x, approximate="tanh")`.

    On CPUs PyTorch's own takes twice as long as this. On those that are not Intel's its tanh alone takes four times as
    long.

    Args:
        x: of any shape.
        memory: of the same shape, of any contents: it is used meanwhile.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        x.copy_(F.gelu(x, approximate="tanh"))
        return
    x.mul_(_gate(x, memory).sigmoid_())


def gelu_of_first_(both: Tensor) -> None:
    """`both[0]` becomes its GELU as by [`gelu_`] with the memory `both[1]`, in one pass less."""
    x, memory = both
    if x.device.type != "cpu" or x.dtype != torch.float32:
        gelu_(x, memory)
        return
    _gate(x, memory)
    torch.ops.aten.glu.out(both, 0, out=both[:1])


def _gate(x: Tensor, out: Tensor) -> Tensor:
    """What the sigmoid is taken of."""
    return torch.addcmul(_LINEAR, x, x, value=_CUBIC, out=out).mul_(x)


@functools.cache
def onednn_is_faster() -> bool:
    """Whether float32 products take half the time by oneDNN, which comes with PyTorch as MKL does: PyTorch leaves them
    to MKL, and that uses half the width of the vectors (AVX-512) of AMD's CPUs.

    oneDNN keeps what it makes for each number of rows: batches of 1 to 32 images take 115 MB more of the demo's encoder
    for good, where MKL takes 7."""
    known = getattr(torch.cpu, "get_capabilities", dict)()  # new in PyTorch
    wide = bool(known.get("avx512_f")) and "AMD" in known.get("cpu_name", "")
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # not public
    return wide and there and torch.backends.mkl.is_available()


class QuickLinear(nn.Linear):
    """A linear layer whose product oneDNN makes where that is faster and no gradient is wanted."""

    def forward(self, x: Tensor) -> Tensor:
        """`(…, out_features)`."""
        if onednn_is_faster() and _is_plain(self, x):
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return super().forward(x)


class QuickFeedForward(nn.Module):
    """A SigLIP's feed-forward layer, whose `gelu(approximate="tanh")` overwrites the first product unless a gradient is
    wanted: large new tensors take a CPU as long as what is done to them.

    Args:
        layer: of transformers; its linear layers `fc1` and `fc2` become this one's under the same names.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.fc1, self.fc2 = layer.fc1, layer.fc2

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        if not _is_plain(self.fc1, x) or self.fc1.bias is None:
            return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        if onednn_is_faster():
            return self.fc2(torch.ops.mkldnn._linear_pointwise(x, self.fc1.weight, self.fc1.bias, "gelu", [], "tanh"))
        inner = F.linear(x, self.fc1.weight)
        rows = inner.view(-1, inner.shape[-1])
        at_once = max(1, _AT_ONCE // rows.shape[1])
        gate = rows.new_empty(min(at_once, len(rows)), rows.shape[1])
        for part in rows.split(at_once):
            gelu_(part.add_(self.fc1.bias), gate[: len(part)])
        return self.fc2(inner)


def _is_plain(layer: nn.Module, x: Tensor) -> bool:
    """Whether `layer(x)` is no more than a float32 product on a CPU: no adapter, no gradient, no autocast."""
    wants_gradient = torch.is_grad_enabled() and (x.requires_grad or layer.weight.requires_grad)
    plain = type(layer) in (nn.Linear, QuickLinear) and x.device.type == "cpu" and x.dtype == torch.float32
    return plain and not wants_gradient and not torch.is_autocast_enabled("cpu")


def quicker(encoder: nn.Module) -> nn.Module:
    """An encoder of transformers, changed in place to do the same in less time on a CPU.

    Linear layers become [`QuickLinear`], a SigLIP's feed-forward layers [`QuickFeedForward`]. Its pooling head's
    attention gets tokens that are contiguous once they are turned, which `nn.MultiheadAttention` does; else each token
    is projected by itself.
    """
    gelu = type(ACT2FN["gelu_pytorch_tanh"])
    for module in list(encoder.modules()):
        if type(module) is nn.Linear:
            module.__class__ = QuickLinear  # its weights and hooks stay as they are
        if isinstance(module, nn.MultiheadAttention) and module.batch_first:
            module.register_forward_pre_hook(_turn)
        for name, child in list(module.named_children()):
            if type(child).__name__ in ("SiglipMLP", "Siglip2MLP") and type(child.activation_fn) is gelu:
                setattr(module, name, QuickFeedForward(child))
    return encoder


def _turn(_module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(given) < 3:  # they came by name
        return given
    query, key, value, *more = given
    turned = key.transpose(0, 1).contiguous().transpose(0, 1)
    return query, turned, turned if value is key else value, *more
