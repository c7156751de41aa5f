"""The frozen encoder as it is loaded: the same features as transformers' own model gives, in less time."""

import copy

import pytest
import torch
from transformers import AutoModel

from pamela_hf.model import encoder_pamela, quick_pamela
from pamela_hf.model.encoder_pamela import encode_images, images_at_once, load_encoder
from pamela_hf.model.quick_pamela import QuickFeedForward, QuickLinear
from tests.toys import save_tiny_encoder


@pytest.fixture(params=["mkl", "onednn"])
def products(request, monkeypatch) -> str:
    """Whose float32 products are taken, whatever this machine's CPU is."""
    if request.param == "onednn" and not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch comes without oneDNN")
    monkeypatch.setattr(quick_pamela, "onednn_is_faster", lambda: request.param == "onednn")
    return request.param


def pixels(family: str, n: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    if family == "siglip":
        return {"pixel_values": torch.randn(n, 3, 16, 16)}
    shapes = torch.tensor([[4, 4], [2, 4]])[torch.arange(n) % 2]
    mask = (torch.arange(16) < shapes.prod(1, keepdim=True)).int()
    return {"pixel_values": torch.randn(n, 16, 48), "pixel_attention_mask": mask, "spatial_shapes": shapes}


@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_a_loaded_encoder_gives_the_features_of_transformers_own(tmp_path, monkeypatch, family, products):
    folder = str(save_tiny_encoder(tmp_path, family))
    own, loaded = AutoModel.from_pretrained(folder).eval(), load_encoder(folder).eval()
    quick = [m for m in loaded.modules() if isinstance(m, QuickFeedForward)]
    assert len(quick) == 3  # of both towers' layers, and of the pooling head
    assert sum(isinstance(m, QuickLinear) for m in loaded.modules()) == sum(
        type(m) is torch.nn.Linear for m in own.modules()
    )
    assert loaded.state_dict().keys() == own.state_dict().keys()
    inputs = pixels(family, 5)
    with torch.no_grad():
        theirs = own.get_image_features(**inputs).pooler_output
        ours = encode_images(loaded, **inputs)
        passes = []
        loaded.vision_model.register_forward_pre_hook(
            lambda _, args, kwargs: passes.append(len(kwargs["pixel_values"])), with_kwargs=True
        )
        monkeypatch.setattr(encoder_pamela, "CPU_PASS_BYTES", 2 * 16 * 48 * 4)  # two images' 16 tokens of 48 numbers
        in_parts = encode_images(loaded, **inputs)
    assert passes == [2, 2, 1]
    for found in (ours, in_parts):
        torch.testing.assert_close(found, theirs, rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_pixels_through_a_loaded_encoder(tmp_path, products):
    folder = str(save_tiny_encoder(tmp_path, "siglip"))
    found = []
    for encoder in (AutoModel.from_pretrained(folder).eval(), load_encoder(folder).eval()):
        inputs = {name: value.requires_grad_() for name, value in pixels("siglip", 3).items()}
        encode_images(encoder, **inputs).square().sum().backward()
        found.append(inputs["pixel_values"].grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    assert found[0].abs().max() > 0


@pytest.mark.parametrize(
    "shape, images",
    [
        ((64, 3, 224, 224), 8),  # of SigLIP2 base: 2.4 MB an image
        ((64, 196, 768), 8),
        ((64, 3, 1024, 1024), 1),  # one never goes in parts
    ],
)
def test_a_pass_on_a_cpu_holds_twenty_megabytes(shape, images):
    from transformers import SiglipConfig

    config = SiglipConfig(vision_config={"intermediate_size": 3072, "patch_size": 16})
    assert images_at_once(torch.empty(shape, device="cpu"), config) == images
    assert images_at_once(torch.empty(shape, device="meta"), config) == 64  # elsewhere all at once


def test_a_feed_forward_layer_of_many_numbers_is_transformers(products):
    from transformers import SiglipVisionConfig
    from transformers.models.siglip.modeling_siglip import SiglipMLP

    torch.manual_seed(0)
    layer = SiglipMLP(SiglipVisionConfig(hidden_size=32, intermediate_size=512)).requires_grad_(False)
    x = 20 * torch.randn(3, 400, 32)  # 1,200 rows: more than two parts of a cache's size
    torch.testing.assert_close(QuickFeedForward(layer)(x), layer(x), rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(QuickFeedForward(layer)(x), layer(x))
    assert torch.equal(QuickFeedForward(layer.bfloat16())(x.bfloat16()), layer(x.bfloat16()))


def test_a_quick_linear_layer_is_pytorchs(products):
    for bias in (True, False):
        layer = torch.nn.Linear(48, 7, bias=bias).requires_grad_(False)
        quick = quick_pamela.quicker(torch.nn.Sequential(copy.deepcopy(layer)))
        for shape in ((48,), (5, 48), (0, 48), (2, 3, 48)):
            x = torch.randn(shape)
            with torch.profiler.profile() as profile:
                found = quick(x)
            ops = {event.key for event in profile.key_averages()}
            assert ("mkldnn::_linear_pointwise" in ops) == (products == "onednn")
            torch.testing.assert_close(found, layer(x), rtol=1e-5, atol=1e-6)
            turned = torch.randn(shape[::-1]).T if len(shape) == 2 else x  # not contiguous
            torch.testing.assert_close(quick(turned), layer(turned), rtol=1e-5, atol=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(quick(x), layer(x))
        x.requires_grad_()
        assert torch.equal(torch.autograd.grad(quick(x).sum(), x)[0], torch.autograd.grad(layer(x).sum(), x)[0])
