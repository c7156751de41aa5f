"""From (prompt, seed) pairs to figures: what pipelines may return, and memory that runs out."""

import math

import numpy as np
import pytest
import torch
from diffusers import ImagePipelineOutput
from PIL import Image
from tiny_pipelines import PROMPT, SMALL, Odd, around

from pamela_hf.prompts.rendering import CandidateImages, Request
from pamela_hf.prompts.run_folder import read_trace
from pamela_hf.rewards import UNRELATED_PROMPTS
from pamela_hf.simulation.pipeline import SimulatedPipeline


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda self, out: (torch.zeros(1, 4, 8, 8),), r"returned Tensor \(\(1, 4, 8, 8\)\)"),
        (lambda self, out: ImagePipelineOutput(images=[torch.zeros(4, 8, 8)]), "where an image is needed"),
        (lambda self, out: ImagePipelineOutput(images=[]), "for 1 prompts"),
    ],
)
def test_a_pipeline_without_images_is_refused(reward_folder, change, message):
    with pytest.raises(ValueError, match=message):
        around(Odd(change), reward_folder)(PROMPT, "ann", **SMALL)


def test_arrays_are_images_too(reward_folder, pipe):
    def as_array(self, out):
        return ImagePipelineOutput(images=np.stack([np.asarray(image) for image in out.images]) / np.float32(255))

    assert around(Odd(as_array), reward_folder)(PROMPT, "ann", **SMALL).scores == pipe(PROMPT, "ann", **SMALL).scores


def test_blanked_images_never_win(reward_folder, tmp_path):
    class Flagged(ImagePipelineOutput):
        pass

    def checked(self, out):  # every second image: black, or flagged but shown
        flagged = Flagged(images=out.images)
        flagged.nsfw_content_detected = [self.calls % 2 == 0]
        if self.calls % 4 == 0:
            flagged.images = [Image.new("RGB", (32, 32))]
        return flagged

    nested = Odd(checked)
    out = around(nested, reward_folder)(PROMPT, "ann", num_candidates=8, output=tmp_path / "run", adherence_floor=0)
    rows = read_trace(tmp_path / "run")
    assert [row["score"] is None for row in rows] == [k % 2 == 1 for k in range(len(rows))]
    assert math.isfinite(out.scores[0])
    calls = nested.calls
    again = around(nested, reward_folder)(PROMPT, "ann", num_candidates=8, output=tmp_path / "run", adherence_floor=0)
    assert again.scores == out.scores and nested.calls == calls

    all_black = Odd(lambda self, out: ImagePipelineOutput(images=[Image.new("RGB", (32, 32))]))
    with pytest.raises(ValueError, match="safety checker"):
        around(all_black, reward_folder)(PROMPT, "ann", **SMALL)


def out_of_memory(position: int, batch: int, folder: str, pipe) -> None:
    """A renderer and an encoder that run out of memory when image `position` is in a batch of more than one."""
    rendered, scored = [], []

    class Tight(SimulatedPipeline):
        def __call__(self, prompt, generator=None, **kwargs):
            first = len(rendered)
            if len(prompt) > 1 and first <= position < first + len(prompt):
                raise torch.OutOfMemoryError("CUDA out of memory")
            rendered.extend(zip(prompt, (g.initial_seed() for g in generator)))
            return super().__call__(prompt, generator=generator, **kwargs)

    tight = around(Tight(size=32), folder)
    backbone = tight.reward_model.load_backbone()
    forward = backbone.get_image_features

    def features(pixel_values):
        first = len(scored)
        if len(pixel_values) > 1 and first <= position < first + len(pixel_values):
            raise torch.OutOfMemoryError("CUDA out of memory")
        scored.extend(pixel_values)
        return forward(pixel_values=pixel_values)

    backbone.get_image_features = features
    call = {"num_iterations": 2, "num_candidates": 16, "num_seeds": 2, "adherence_floor": 0, "render_batch_size": batch}
    got, expected = tight(PROMPT, "ann", **call), pipe(PROMPT, "ann", **call)
    pairs = [(row["prompt"], row["seed"]) for row in expected.history]
    assert rendered == pairs == [(row["prompt"], row["seed"]) for row in got.history] and len(scored) == len(pairs)
    np.testing.assert_allclose(
        [row["score"] for row in got.history], [row["score"] for row in expected.history], atol=1e-5
    )


@pytest.mark.parametrize("position", [0, 5, 33, 65])
def test_out_of_memory_halves_and_goes_on(position, reward_folder, pipe):
    out_of_memory(position, 8, reward_folder, pipe)


@pytest.mark.faults
@pytest.mark.parametrize("position", range(64))
def test_out_of_memory_at_64_positions(position, reward_folder, pipe):
    out_of_memory(position, 8, reward_folder, pipe)


def test_out_of_memory_for_a_single_image_is_told(reward_folder):
    def full(self, out):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        around(Odd(full), reward_folder)(PROMPT, "ann", **SMALL)


def test_a_prompt_is_encoded_once_for_all_its_seeds(pipe):
    backbone, texts = pipe.reward_model.load_backbone(), []
    forward = backbone.get_text_features
    backbone.get_text_features = lambda **k: texts.append(len(k["input_ids"])) or forward(**k)
    pipe(PROMPT, "ann", num_iterations=2, num_candidates=3, num_seeds=4)
    assert texts == [1 + len(UNRELATED_PROMPTS), 1, 3, 3]


def test_a_part_that_variants_share_is_encoded_once(pipe):
    backbone, texts = pipe.reward_model.load_backbone(), []
    forward = backbone.get_text_features
    backbone.get_text_features = lambda **k: texts.append(len(k["input_ids"])) or forward(**k)
    run = CandidateImages(pipe, Request(PROMPT, reward_prompt="none"))
    prompts = ["a fox, neon", "a fox, neon, wide shot", "wide shot, a fox"]
    features = run.text_features(prompts)
    assert texts == [3] and features.shape == (3, pipe.reward_model.config.text_embed_dim)
    np.testing.assert_allclose(features[1] - features[0], features[2] - run.text_features(["a fox"])[0], atol=1e-6)
    assert texts == [3]
