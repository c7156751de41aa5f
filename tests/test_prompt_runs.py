"""Several people, independent runs, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipelines import PROMPT, SMALL

from pamela_hf.prompt_output import PamelaPromptOutput
from pamela_hf.prompt_runs import optimize_prompt, stability


def test_several_people_and_independent_runs_are_compared(pipe, tmp_path):
    done = optimize_prompt(pipe, PROMPT, ["ann", "bob"], tmp_path / "two", **SMALL)
    assert [f.name for (f,) in done.folders] == ["00_ann", "01_bob"]
    scores = np.array(done.summary["scores"])
    assert scores.shape == (2, 3)
    for p in range(2):
        assert scores[p, p] == pytest.approx(np.mean(done.outputs[p][0].scores), abs=1e-5)
    page = (tmp_path / "two" / "report.html").read_text()
    assert "00_ann/images/" in page and "for bob" in page and '<span class="badge">simulated</span>' in page

    again = optimize_prompt(pipe, PROMPT, ["ann"], tmp_path / "five", runs=3, **SMALL)
    told = again.summary["stability"]["ann"]
    assert 0 <= told["shared"] <= 1 and -1 <= told["winners"] <= 1.001 and len(told["prompts"]) == 3
    assert told["others"] is None and told["shared_others"] is None  # nobody to compare with
    assert len({out.history[0]["seed"] for out in again.outputs[0]}) == 3
    with pytest.raises(ValueError, match="twice"):
        optimize_prompt(pipe, PROMPT, ["ann", "ann"], tmp_path / "x", **SMALL)
    with pytest.raises(ValueError, match="runs=0"):
        optimize_prompt(pipe, PROMPT, ["ann"], tmp_path / "x", runs=0)


def test_winners_found_again_stand_out_from_other_peoples(pipe):
    def win(look: str, seed: int) -> PamelaPromptOutput:
        prompt = f"{PROMPT}, {look}"
        images = [pipe.pipeline(prompt, generator=torch.Generator().manual_seed(seed)).images[0]]
        before = [pipe.pipeline(PROMPT, generator=torch.Generator().manual_seed(seed)).images[0]]
        rows = [{"prompt": PROMPT}]
        return PamelaPromptOutput(images, [prompt], [4.0], before, [3.0], rows, 1.0, 1.0, 0.0, "iterations")

    ann, bob = stability(pipe, [[win("neon, macro shot", 0) for _ in range(3)], [win("sepia", 0) for _ in range(3)]])
    assert ann["shared"] == bob["shared"] == 1 and ann["shared_others"] == bob["shared_others"] == 0
    assert ann["phrases"] == {"macro shot": 3, "neon": 3}
    assert ann["winners"] == pytest.approx(1) and ann["others"] == pytest.approx(bob["others"]) and ann["others"] < 0.99


def test_names_stay_inside_the_folder(tmp_path):
    from pamela_hf.prompt_runs import _folder

    for name in ("../../etc", "/root", "a/b", "..", "", "x" * 300, "名前", "a\0b"):
        path = _folder(tmp_path, 0, [name, "other"], 0, 2)
        assert path.resolve().is_relative_to(tmp_path) and path.parent.parent == tmp_path


def test_the_command_runs_resumes_and_refuses(reward_folder, tmp_path, capsys):
    from pamela_hf.cli import main

    command = ["optimize-prompt", "--pipeline", "procedural", "--reward", reward_folder, "--user", "ann",
               "--prompt", PROMPT,
               "--seed", "3", "--output", str(tmp_path / "run"), "--device", "cpu", "num_iterations=1",
               "num_candidates=3", "adherence_floor=0"]  # fmt: skip
    main(command)
    trace = (tmp_path / "run" / "trace.jsonl").read_bytes()
    assert "ann: predicted rating" in capsys.readouterr().out
    assert json.loads(trace.splitlines()[0])["seed"] == 3
    main(command)
    assert (tmp_path / "run" / "trace.jsonl").read_bytes() == trace
    for change, message in [
        (["num_iterations=2"], "num_iterations was 1, now 2"),
        (["--prompt", "a fox"], "prompt was 'a cottage by the sea', now 'a fox'"),
        (["--refiner", "gpt"], "'gpt' does not exist"),
        (["--refiner-model", "x"], "go with the refiners"),
        (["colour=red"], "'colour' is an argument neither"),
        (["nonsense"], "'nonsense' is not of the form"),
    ]:
        with pytest.raises(SystemExit, match=message):
            main([*command, *change])
    config = tmp_path / "c.yaml"
    config.write_text(f"pipeline: procedural\nreward: {reward_folder}\nnum_iterations: 1\nnum_candidates: 2\n")
    options = ["--config", str(config), "--prompt", PROMPT, "--device", "cpu", "--output", str(tmp_path / "two")]
    main(["optimize-prompt", *options, "--user", "ann", "--user", "bob"])
    assert (tmp_path / "two" / "01_bob" / "report.html").exists()


def test_the_flux2_configuration_is_read():
    from pamela_hf.prompt_loading import load_options

    file = Path(__file__).parent.parent / "scripts" / "configs" / "flux2_llama.yaml"
    setup, options = load_options(file, ["num_seeds=1"], {"reward": "x", "device": None})
    assert setup["pipeline"] == "black-forest-labs/FLUX.2-dev" and setup["reward"] == "x"
    assert setup["refiner_model"] == "meta-llama/Llama-3.1-8B-Instruct" and setup["offload"] == "model"
    assert options["num_seeds"] == 1 and options["num_inference_steps"] > 1
