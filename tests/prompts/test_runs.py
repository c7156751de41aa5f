"""Several people, independent runs, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipelines import PROMPT, SMALL, tiny_chat_model, tiny_chat_tokenizer

from pamela_hf.prompts.output import PamelaPromptOutput
from pamela_hf.prompts.runs import optimize_prompt, stability


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
    with pytest.raises(ValueError, match="user='nobody' is not among"):  # before ann's images are rendered
        optimize_prompt(pipe, PROMPT, ["ann", "nobody"], tmp_path / "x", **SMALL)
    assert not (tmp_path / "x").exists()
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
    from pamela_hf.prompts.runs import _folder

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
        (["--device", "tpu"], "device='tpu' is not available"),
        (["dtype=floaty"], "dtype='floaty' does not exist; there are float32"),
        (["dtype=load"], "dtype='load' does not exist"),
        (["user=X"], "user='X' is not a key; give it as --user"),
        (["return_dict=false"], "return_dict=False can be given in Python only"),
        (["runs=x"], "runs='x', seed=3 must be integers"),
        (["demographics=young"], "demographics='young' must be fields with their values"),
        (["demographics={shoe: 44}"], "demographics: 'shoe' is not a field of this model"),
        (["judge=5"], "judge=5 must be a text"),
        (["num_seeds=[1"], r"'num_seeds=\[1' is not YAML: .*expected"),
        (["--refiner", "endpoint", "--refiner-url", "notaurl"], "base_url='notaurl'"),
        (["colour=red"], "'colour' is an argument neither"),
        (["nonsense"], "'nonsense' is not of the form"),
    ]:
        with pytest.raises(SystemExit, match=message):
            main([*command, *change])
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="error: device='cuda' is not available"):
            main([*command, "--device", "cuda"])
    main([*command, "seed=5"])  # the flag wins
    with pytest.raises(SystemExit, match="seed was 3, now 5"):
        main([*(part for part in command if part not in ("--seed", "3")), "seed=5"])
    config = tmp_path / "c.yaml"
    config.write_text(
        f"pipeline: procedural\nreward: {reward_folder}\nnum_iterations: 1\nnum_candidates: 2\ntolerance: 1e-3\n"
    )
    options = ["--config", str(config), "--prompt", PROMPT, "--device", "cpu", "--output", str(tmp_path / "two")]
    main(["optimize-prompt", *options, "--user", "ann", "--user", "bob"])
    assert (tmp_path / "two" / "01_bob" / "report.html").exists()
    assert json.loads((tmp_path / "two" / "00_ann" / "run.json").read_text())["tolerance"] == 0.001


def test_the_flux2_configuration_is_read():
    from pamela_hf.prompts.loading import load_options

    file = Path(__file__).parents[2] / "scripts" / "configs" / "flux2_llama.yaml"
    setup, options = load_options(file, ["num_seeds=1"], {"reward": "x", "device": None})
    assert setup["pipeline"] == "black-forest-labs/FLUX.2-dev" and setup["reward"] == "x"
    assert setup["refiner_model"] == "meta-llama/Llama-3.1-8B-Instruct" and setup["offload"] == "model"
    assert options["num_seeds"] == 1 and options["num_inference_steps"] > 1


def test_what_flags_make_pointless_in_a_configuration_is_dropped(reward_folder, tmp_path):
    from pamela_hf.cli import main
    from pamela_hf.prompts.loading import load_options

    file = Path(__file__).parents[2] / "scripts" / "configs" / "flux2_llama.yaml"
    main(["optimize-prompt", "--config", str(file), "--pipeline", "procedural", "--refiner", "vocabulary",
          "--reward", reward_folder, "--prompt", PROMPT, "--output", str(tmp_path / "run"), "height=64", "width=64",
          "num_iterations=1", "num_candidates=2", "num_seeds=1"])  # fmt: skip
    assert (tmp_path / "run" / "report.html").exists()
    moved, _ = load_options(file, [], {"reward": "x", "refiner": "endpoint", "refiner_url": "http://127.0.0.1:8000/v1"})
    assert moved["refiner_model"] == "meta-llama/Llama-3.1-8B-Instruct"  # the same model, elsewhere
    typed, _ = load_options(file, ["refiner_model=y"], {"reward": "x", "refiner": "vocabulary"})
    assert typed["refiner_model"] == "y"  # somebody means something by it: refused later
    own = tmp_path / "own.yaml"
    own.write_text("pipeline: procedural\nreward: x\nrefiner_url: http://127.0.0.1:8000/v1\n")
    assert load_options(own, [], {"dtype": "float16"})[0]["refiner_url"]  # no flag's doing: refused later


def test_a_chat_model_that_is_a_pickle_is_not_opened(reward_folder, tmp_path):
    from pamela_hf.prompts.loading import load_prompt_pipeline

    tokenizer = tiny_chat_tokenizer()
    model = tiny_chat_model(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    options = {"refiner": "transformers_chat", "refiner_model": str(tmp_path), "device": "cpu"}
    with pytest.raises(OSError, match="safetensors"):
        load_prompt_pipeline("procedural", reward_folder, **options)
    model.save_pretrained(tmp_path)
    assert load_prompt_pipeline("procedural", reward_folder, **options)[0].refiner_model is not None
