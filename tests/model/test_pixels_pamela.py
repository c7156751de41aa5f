"""Gradients of a score to the pixels, through the frozen encoder."""

import numpy as np
import pytest
import torch
from PIL import Image
from toys import with_encoder

from pamela_hf.model.pixels_pamela import preprocess_pixels
from pamela_hf.scoring import PamelaScorer


def photographs(n: int, height: int = 60, width: int = 90) -> list[Image.Image]:
    """Smooth pictures with some detail, as photographs have."""
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8)).resize((width, height)) for _ in range(n)]
    detail = rng.normal(0, 8, (n, height, width, 3))
    return [Image.fromarray((np.asarray(s) + d).clip(0, 255).astype(np.uint8)) for s, d in zip(small, detail)]


def as_tensor(images: list[Image.Image]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 for image in images])


@pytest.fixture
def scorer(any_encoder, tmp_path) -> PamelaScorer:
    scorer = PamelaScorer.from_pretrained(with_encoder(any_encoder, tmp_path), device="cpu")
    torch.nn.init.normal_(scorer.model.user_embedding.weight[1:])
    return scorer


def test_tensors_score_as_the_pictures_they_are_of(scorer):
    images = photographs(200)
    inputs = scorer.processor.preprocess_tensor(as_tensor(images))
    with torch.no_grad():
        got = scorer.model(**inputs, user_ids=torch.ones(200, dtype=torch.long)).scores
    np.testing.assert_allclose(got, scorer.score(images, user="ann").scores, atol=0.01)


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (16, 16), (200, 300)])
@pytest.mark.parametrize("resample", [2, 3])
def test_clip_s_resize_and_crop_are_the_same(size, resample):
    from transformers import CLIPImageProcessorPil

    settings = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}, "resample": resample}
    processor, images = CLIPImageProcessorPil(**settings), photographs(2, *size)
    got = preprocess_pixels(processor, as_tensor(images))["pixel_values"]
    torch.testing.assert_close(got, processor(images, return_tensors="pt")["pixel_values"], atol=0.02, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_following_the_gradient_raises_the_score_and_trains_nothing(scorer, checkpointing):
    model = scorer.model
    if checkpointing:
        model.gradient_checkpointing_enable()
    pixels = as_tensor(photographs(2)).requires_grad_()
    user = {"user_ids": torch.tensor([1, 2])}
    before = model(**scorer.processor.preprocess_tensor(pixels), **user).scores
    start = before.detach().clone()
    for _ in range(5):
        scores = model(**scorer.processor.preprocess_tensor(pixels), **user).scores
        (gradient,) = torch.autograd.grad(scores.sum(), pixels)
        assert gradient.isfinite().all() and gradient.flatten(1).any(1).all()
        pixels = (pixels + 0.01 * gradient.sign()).clamp(0, 1).detach().requires_grad_()
    after = model(**scorer.processor.preprocess_tensor(pixels), **user).scores
    assert (after > start).all()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert not any(module.training for module in model.backbone.modules() if isinstance(module, torch.nn.Dropout))


def test_checkpointing_changes_no_gradient_and_recomputes_the_layers(scorer):
    model, pixels = scorer.model, as_tensor(photographs(2)).requires_grad_()
    calls: list[int] = []
    model.load_backbone().vision_model.encoder.layers[0].layer_norm1.register_forward_hook(lambda *_: calls.append(1))

    def gradient() -> torch.Tensor:
        scores = model(**scorer.processor.preprocess_tensor(pixels)).scores
        return torch.autograd.grad(scores.sum(), pixels)[0]

    plain = gradient()
    assert len(calls) == 1
    model.gradient_checkpointing_enable()
    model.train().eval()
    torch.testing.assert_close(gradient(), plain)
    assert len(calls) == 3
    model.gradient_checkpointing_disable()
    torch.testing.assert_close(gradient(), plain)
    assert len(calls) == 4


def test_without_a_wish_for_gradients_there_are_none(scorer):
    inputs = scorer.processor.preprocess_tensor(as_tensor(photographs(2)))
    assert not scorer.model(**inputs).scores.requires_grad


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(1, 8, 8, 3), r"float32 \(1, 8, 8, 3\); expected a float tensor \(N, 3, H, W\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 8, 8), 2.0), "values from 2 to 2; expected 0..1"),
        (torch.full((1, 3, 8, 8), torch.nan), "values from nan"),
        (np.zeros((1, 3, 8, 8)), "ndarray"),
    ],
)
def test_what_is_no_picture_is_named(scorer, pixels, message):
    with pytest.raises(ValueError, match=message):
        scorer.processor.preprocess_tensor(pixels)
