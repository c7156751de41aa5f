"""The prompt pipeline with real classes: a tiny FLUX.2 Klein, the procedural pipeline, a tiny reward and encoder."""

import json
import math
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import PROMPT, SMALL, around, tiny_chat_model, tiny_chat_tokenizer, tiny_klein
from toys import OLD_TRANSFORMERS
from tqdm.auto import tqdm

from pamela_hf.heads.head import UserHead
from pamela_hf.prompts.pipeline_pamela import PamelaPromptPipeline, _stable_text
from pamela_hf.prompts.run_folder import TraceError, read_trace
from pamela_hf.scoring import PamelaScorer
from pamela_hf.simulation.pipeline import SimulatedPipeline


# -- the whole of it ---------------------------------------------------------------------------------------------------
def test_flux2_klein_end_to_end(reward_folder, tmp_path):
    pipe = around(tiny_klein(), reward_folder)
    seen = []
    forward = pipe.pipeline.transformer.forward
    pipe.pipeline.transformer.forward = lambda *a, **k: seen.append(k["hidden_states"].shape) or forward(*a, **k)
    size = {"height": 32, "width": 48, "num_inference_steps": 2, "guidance_scale": 1.0, "max_sequence_length": 64}
    out = pipe(PROMPT, "ann", **SMALL, **size, num_seeds=2, output=tmp_path / "run")
    assert len(out.history) == 14 and len(seen) == 14 * 2  # steps of every image
    assert [image.size for image in out.images + out.baseline_images] == [(48, 32)] * 4
    assert out.scores == [r["score"] for r in out.history if r["prompt"] == out.prompts[0]]
    assert np.mean(out.scores) >= np.mean(out.baseline_scores)
    alone = pipe.pipeline(prompt=PROMPT, generator=torch.Generator().manual_seed(0), **size).images[0]
    assert np.array_equal(np.asarray(alone), np.asarray(out.baseline_images[0]))  # same seed, same image as without us
    assert len(read_trace(tmp_path / "run")) == 14


def test_different_people_get_different_prompts(pipe):
    found = {user: pipe(PROMPT, user, num_iterations=3, num_candidates=8, adherence_floor=0).prompts[0] for user in
             ("ann", "bob", None)}  # fmt: skip
    assert len(set(found.values())) > 1


def test_round_trip_and_from_pipe(reward_folder, tmp_path):
    tokenizer = tiny_chat_tokenizer()
    chat = {"refiner_model": tiny_chat_model(tokenizer), "refiner_tokenizer": tokenizer}
    pipe = around(tiny_klein(), reward_folder, **chat)
    pipe.save_pretrained(tmp_path / "pipe")
    assert not [p for p in (tmp_path / "pipe").rglob("*") if p.suffix in (".bin", ".pkl", ".pt")]
    back = PamelaPromptPipeline.from_pretrained(tmp_path / "pipe")
    back.set_progress_bar_config(disable=True)
    assert set(back.components) == {"pipeline", "reward_model", "processor", "refiner_model", "refiner_tokenizer"}
    call = {
        **SMALL,
        "num_inference_steps": 1,
        "height": 32,
        "width": 32,
        "max_sequence_length": 64,
        "refiner": "vocabulary",
    }
    one, two = pipe(PROMPT, "ann", **call), back(PROMPT, "ann", **call)
    assert one.prompts == two.prompts
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-5)

    half = PamelaPromptPipeline.from_pretrained(tmp_path / "pipe", dtype=torch.bfloat16)
    assert half.pipeline.transformer.dtype == half.refiner_model.dtype == half.reward_model.dtype == torch.bfloat16
    half.to(torch.float32)
    assert half.pipeline.vae.dtype == half.reward_model.dtype == torch.float32
    mixed = PamelaPromptPipeline.from_pretrained(tmp_path / "pipe", dtype={"pipeline": torch.bfloat16})
    assert mixed.pipeline.transformer.dtype == torch.bfloat16 and mixed.reward_model.dtype == torch.float32

    same = PamelaPromptPipeline.from_pipe(pipe, refiner_model=None, refiner_tokenizer=None)
    assert same.pipeline is pipe.pipeline and same.refiner_model is None
    new = PamelaPromptPipeline.from_pipe(pipe.pipeline, reward_model=pipe.reward_model, processor=pipe.processor)
    assert new.pipeline is pipe.pipeline and new.pipeline.transformer.dtype == torch.float32


def test_the_procedural_pipeline_is_saved_without_a_refiner_and_says_what_it_is(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    back = PamelaPromptPipeline.from_pretrained(tmp_path / "pipe")
    assert (
        isinstance(back.pipeline, SimulatedPipeline) and back.pipeline.config.size == 32 and back.refiner_model is None
    )
    out = back(PROMPT, **SMALL, output=tmp_path / "run")
    with Image.open(tmp_path / "run" / out.history[0]["image"]) as image:
        assert "simulated" in image.text["Source"] and image.text["prompt"] == PROMPT
    assert "simulated" in (tmp_path / "run" / "report.html").read_text()


def test_offloading_reaches_the_nested_pipeline(reward_folder):
    tokenizer = tiny_chat_tokenizer()
    chat = {"refiner_model": tiny_chat_model(tokenizer), "refiner_tokenizer": tokenizer}
    pipe = around(tiny_klein(), reward_folder, **chat)
    small = {"num_inference_steps": 1, "height": 32, "width": 32, "max_sequence_length": 64, "guidance_scale": 1.0}
    call = {**SMALL, **small, "refiner": "vocabulary"}
    plain = pipe(PROMPT, "ann", **call).scores
    pipe.enable_model_cpu_offload(device="cpu")
    assert hasattr(pipe.pipeline.transformer, "_hf_hook") and hasattr(pipe.refiner_model, "_hf_hook")
    np.testing.assert_allclose(pipe(PROMPT, "ann", **call).scores, plain, atol=1e-5)
    assert hasattr(pipe.pipeline.transformer, "_hf_hook")
    pipe.remove_all_hooks()
    assert not hasattr(pipe.pipeline.transformer, "_hf_hook")

    cpu = torch.device("cpu")
    pipe.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
    for model in (pipe.pipeline.transformer, pipe.refiner_model):
        assert any(hasattr(module, "_diffusers_hook") for module in model.modules())
    assert not any(hasattr(module, "_diffusers_hook") for module in pipe.reward_model.modules())
    np.testing.assert_allclose(pipe(PROMPT, "ann", **call).scores, plain, atol=1e-5)

    pipe = around(tiny_klein(), reward_folder)
    pipe.enable_sequential_cpu_offload(device="cpu")  # accelerate cannot run this with a CPU as the accelerator
    assert any(hasattr(module, "_hf_hook") for module in pipe.pipeline.transformer.modules())
    assert not any(hasattr(module, "_hf_hook") for module in pipe.reward_model.modules())


def test_a_batch_of_candidates_is_one_forward(pipe):
    backbone, batches = pipe.reward_model.load_backbone(), []
    forward = backbone.get_image_features
    backbone.get_image_features = lambda **k: batches.append(len(k["pixel_values"])) or forward(**k)
    pipe(PROMPT, "ann", num_iterations=2, num_candidates=5, num_seeds=2, adherence_floor=0)
    assert batches == [2, 10, 10]  # the reward and the adherence share it


def test_callback_progress_and_interrupt(pipe, capfd):
    rows = []

    def on_candidate(pipeline, index, row):
        assert pipeline is pipe and index == len(rows)
        rows.append(row)
        if len(rows) == 4:
            pipe._interrupt = True

    pipe.set_progress_bar_config(desc="candidates")
    out = pipe(PROMPT, "ann", num_iterations=50, num_candidates=3, callback_on_candidate=on_candidate)
    assert out.stopped == "interrupted" and [r["prompt"] for r in rows] == [r["prompt"] for r in out.history]
    assert len(rows) == 4 and "candidates" in capfd.readouterr().err
    assert len(pipe(PROMPT, "ann", **SMALL, return_dict=False)) >= 10


def test_scores_are_those_of_the_scorer(pipe, reward_folder, tmp_path):
    for told in ("candidate", "original", "none"):
        out = pipe(PROMPT, "bob", **SMALL, output=tmp_path / told, reward_prompt=told)
        scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
        for row in out.history:
            text = {"candidate": row["prompt"], "original": PROMPT, "none": None}[told]
            alone = scorer.score(tmp_path / told / row["image"], text, user="bob")
            assert row["score"] == pytest.approx(alone.scores[0], abs=1e-5)
            assert row["std"] == pytest.approx(alone.std[0], abs=1e-5)


def test_judge_and_adherence_are_pluggable(pipe, tmp_path):
    asked = []

    def judge(images, prompts):
        asked.append(list(prompts))
        return [float(np.asarray(image).mean()) for image in images]

    def adherence(images, prompt):
        assert prompt == PROMPT
        return [1.0 if np.asarray(image)[..., 0].mean() < 140 else 0.1 for image in images]

    out = pipe(PROMPT, "ann", num_seeds=2, num_candidates=6, adherence=adherence, judge=judge, output=tmp_path / "run",
               adherence_floor=0.5)  # fmt: skip
    assert asked == [[PROMPT] * 2, out.prompts]  # the unoptimized prompt and the winner, once, and nothing else
    assert out.judge == [float(np.asarray(image).mean()) for image in out.images]
    assert out.floor == pytest.approx(0.5 * out.baseline_adherence) and out.adherence >= out.floor
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best"]["judge"] == out.judge and result["unoptimized"]["prompt"] == PROMPT
    other = pipe(PROMPT, "ann", **SMALL, judge=pipe.scorer)
    assert len(other.judge) == 1 and math.isfinite(other.baseline_judge[0])
    with pytest.raises(ValueError, match=r"adherence= gave \[1.0\] for 2 images"):
        pipe(PROMPT, "ann", **SMALL, num_seeds=2, adherence=lambda images, prompt: [1.0])


def test_a_head_can_judge_and_a_judge_without_an_answer_is_told_apart(pipe, tmp_path):
    row = np.ones(pipe.reward_model.config.row_size, np.float32)
    head = UserHead("eve", row, pipe.reward_model.config.hidden_size, pipe.scorer.identity)
    out = pipe(PROMPT, "ann", **SMALL, judge=head)
    assert out.judge == pytest.approx(pipe.scorer.score(out.images, out.prompts, user=head).scores.tolist())

    rendered = []
    for bad in (lambda images, prompts: 3.0, lambda images, prompts: None, lambda images, prompts: [1.0, 2.0]):
        with pytest.raises(ValueError, match="judge= gave"):
            pipe(PROMPT, "ann", **SMALL, judge=bad, callback_on_candidate=lambda *row: rendered.append(row))
    assert not rendered  # told with the first image
    with pytest.raises(ValueError, match="judge=3 must be"):
        pipe(PROMPT, "ann", **SMALL, judge=3)

    def no_number(images, prompts):
        return np.full((len(images), 1), np.nan)

    pipe(PROMPT, "ann", **SMALL, judge=no_number, adherence=lambda images, p: [np.inf] * len(images), output=tmp_path)

    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    result = json.loads((tmp_path / "result.json").read_text(), parse_constant=refuse)
    assert result["best"]["judge"] == [None] and (tmp_path / "report.html").exists()


def test_text_for_the_nested_pipeline_goes_to_every_image_of_a_batch(pipe, reward_folder):
    class Texts(SimulatedPipeline):
        def __call__(self, prompt, negative_prompt=None, prompt_2=None, **kwargs):
            assert negative_prompt == ["blurry"] * len(prompt) and prompt_2 == ["photo"] * len(prompt)
            return super().__call__(prompt, **kwargs)

    told = {"negative_prompt": "blurry", "prompt_2": "photo", "render_batch_size": 3}
    assert around(Texts(size=32), reward_folder)(PROMPT, "ann", **SMALL, **told).scores == (
        pipe(PROMPT, "ann", **SMALL).scores
    )


def test_scores_on_another_scale_are_shown_on_it(reward_folder, tmp_path):
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
    scorer.model.add_rating_scale("percent", [0.0, 50.0, 100.0])
    pipe = PamelaPromptPipeline(SimulatedPipeline(size=32), scorer.model, scorer.processor)
    pipe(PROMPT, "ann", **SMALL, scale="percent", output=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["score_range"] == [0.0, 100.0]


# -- bad input ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "prompt=''"),
        ({"prompt": " ,,, "}, "prompt="),
        ({"prompt": ["a", "b"]}, "prompt="),
        ({"prompt": "half \ud800"}, "lone surrogate"),
        ({"num_candidates": 0}, "num_candidates=0"),
        ({"user": "nobody"}, "'nobody' is not among"),
        ({"user": ["ann"]}, "must be a trained participant's name"),
        ({"demographics": {"shoe": 43}}, "'shoe' is not a field"),
        ({"metadata": {"shoe": 43}}, "'shoe' is not a field"),
        ({"scale": "feet"}, "'feet' is not a rating scale"),
        ({"tolerance": "1e-3"}, "tolerance='1e-3' must be a number"),
        ({"refiner": "gpt"}, "endpoint, transformers_chat, vocabulary"),
        ({"strategy": "best"}, "greedy, beam"),
        ({"reward_prompt": "mine"}, "candidate, original, none"),
        ({"generator": [torch.Generator()]}, "one torch.Generator"),
        ({"render_batch_size": 0}, "render_batch_size=0"),
        ({"heigth": 32}, "'heigth' is an argument neither"),
        ({"output_type": "latent"}, "output_type= cannot be passed on"),
        ({"height": 8}, "size"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_rendered(pipe, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pipe(**{"prompt": PROMPT, "user": "ann", **SMALL, **arguments})


# -- runs that are cut off ---------------------------------------------------------------------------------------------
def test_a_killed_run_resumes_to_the_same_files(pipe, tmp_path):
    def files(folder: Path) -> dict[str, bytes]:
        skip = (".lock",)
        return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in skip}

    call = {"num_iterations": 3, "num_candidates": 4, "strategy": "ucb", "adherence_floor": 0}
    pipe(PROMPT, "ann", **call, output=tmp_path / "whole")
    whole, rng = files(tmp_path / "whole"), np.random.default_rng(0)
    for k in range(4):
        for _ in range(99):
            pid = os.fork()
            if not pid:
                try:
                    torch.set_num_threads(1)
                    # tqdm's own is shared with forks: killed while it holds it, a child would stop all that come after
                    tqdm.set_lock(threading.RLock())
                    pipe(PROMPT, "ann", **call, output=tmp_path / f"run{k}")
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            time.sleep(float(rng.uniform(0.01, 0.2)))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) == 0
                break
        else:
            pytest.fail("99 lives were not enough: a resumed run hangs")
        left = {name: data for name, data in files(tmp_path / f"run{k}").items() if not name.endswith(".part")}
        assert left == whole


def test_arguments_are_named_alike_in_every_process():
    first, second = (type("Callback", (), {})() for _ in range(2))
    assert _stable_text(first) == _stable_text(second) and "Callback" in _stable_text(first)
    assert _stable_text([1, 2]) != _stable_text([2, 1])


def test_resuming_renders_nothing_and_refuses_changes(pipe, tmp_path):
    run = {"user": "ann", **SMALL, "output": tmp_path / "run"}
    first = pipe(PROMPT, **run)
    pipe.pipeline.change, calls = None, []
    real = SimulatedPipeline.__call__
    try:
        SimulatedPipeline.__call__ = lambda self, *a, **k: calls.append(1) or real(self, *a, **k)
        assert pipe(PROMPT, **run).history == first.history and not calls
    finally:
        SimulatedPipeline.__call__ = real
    told = {"age": 30, "gender": "female"}
    for order in (told, dict(reversed(told.items()))):
        pipe(PROMPT, "ann", **SMALL, demographics=order, output=tmp_path / "told")
    for change, message in [
        ({"user": "bob"}, "user was 'ann', now 'bob'"),
        ({"height": 64}, "rendering was"),
        ({"generator": torch.Generator().manual_seed(7)}, "seed was 0, now 7"),
        ({"demographics": {"gender": "female"}}, "demographics was None"),
        ({"num_iterations": 3}, "num_iterations was 2, now 3"),
    ]:
        with pytest.raises(TraceError, match=message):
            pipe(PROMPT, **{**run, **change})
    with torch.no_grad():
        pipe.reward_model.user_embedding.weight[1] += 1
    with pytest.raises(TraceError, match="reward was"):
        pipe(PROMPT, **run)


def test_no_adapter_is_picked_up_from_a_pipelines_or_a_chat_models_folder(pipe, tmp_path, monkeypatch):
    """It could name any repository, which would be asked for with the caller's token."""
    from transformers import AutoModelForCausalLM

    from pamela_hf.refiners.transformers_chat import Refiner

    pipe.save_pretrained(tmp_path / "pipe")
    tokenizer = tiny_chat_tokenizer()
    for part in (tiny_chat_model(tokenizer), tokenizer):
        part.save_pretrained(tmp_path / "chat")
    asked = []
    monkeypatch.setattr("transformers.PreTrainedModel.load_adapter", lambda *a, **k: asked.append(a))
    evil = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "evil/base"})
    (tmp_path / "chat" / "adapter_config.json").write_text(evil)
    refiner = Refiner(model_id=str(tmp_path / "chat"))
    if OLD_TRANSFORMERS:  # which looks for adapters whatever it is asked
        with pytest.raises(ValueError, match=r"holds adapter_config\.json.*Remove the file, or install"):
            refiner._load()
        return
    refiner._load()
    assert refiner.model.config.name_or_path == str(tmp_path / "chat") and not asked
    AutoModelForCausalLM.from_pretrained(tmp_path / "chat")
    assert asked  # what transformers does without being told
    (tmp_path / "pipe" / "reward_model" / "adapter_config.json").write_text(evil)
    with pytest.raises(ValueError, match=r"adapter_config\.json is an adapter"):
        PamelaPromptPipeline.from_pretrained(tmp_path / "pipe")
