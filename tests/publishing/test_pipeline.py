"""A pushed `PamelaPromptPipeline`, as strangers find it with diffusers: with the package and without it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from pushes import CLI, PEOPLE, assert_absent
from tiny_pipelines import tiny_chat_model, tiny_chat_tokenizer, tiny_klein
from toys import with_encoder

from pamela_hf.hub.transfer import HubError
from pamela_hf.prompts.pipeline_pamela import PamelaPromptPipeline
from pamela_hf.publishing.pipeline import TEMPLATES, push_pipeline
from pamela_hf.publishing.pseudonyms import Pseudonyms
from pamela_hf.scoring import PamelaScorer
from pamela_hf.simulation.pipeline import SimulatedPipeline

SMALL = {"num_iterations": 1, "num_candidates": 2, "adherence_floor": 0.0, "refiner": "vocabulary"}
KLEIN = {"height": 32, "width": 32, "num_inference_steps": 1, "max_sequence_length": 64}
RUN = """
def run(pipe, user, **options):
    pipe.set_progress_bar_config(disable=True)
    out = pipe("a cottage by the sea", user=user, **options)
    return {"module": type(pipe).__module__, "prompts": out.prompts, "scores": out.scores,
            "renderer": type(pipe.pipeline).__name__, "chat": pipe.refiner_model is not None}
"""
# without `import pamela_hf`, whether or not it is installed
STRANGER = f"""{RUN}
import importlib, json, sys
from diffusers import DiffusionPipeline
for repo, revision, user, options in json.loads(sys.argv[1]):
    pipe = DiffusionPipeline.from_pretrained(repo, revision=revision, trust_remote_code=True)
    print(json.dumps(run(pipe, user, **options)))
    copy = type(pipe).__module__.split(".")[0]  # what saves a head there needs its card
    assert "one person's taste" in importlib.import_module(copy + ".hub.cards").card_template("model_card/head.md")
try:
    DiffusionPipeline.from_pretrained(repo)
    print("RAN ITS CODE UNASKED")
except ValueError as error:
    print("trust_remote_code=True" in str(error))
"""
FRIEND = f"""{RUN}
import json, re, sys
from diffusers import DiffusionPipeline
from huggingface_hub import hf_hub_download
from pamela_hf.prompts.pipeline_pamela import PamelaPromptPipeline
for repo, revision, user, options in json.loads(sys.argv[1]):
    print(json.dumps(run(PamelaPromptPipeline.from_pretrained(repo, revision=revision), user, **options)))
print(json.dumps(run(DiffusionPipeline.from_pretrained(repo, trust_remote_code=True), user, **options)))
blocks = re.findall(r"```python\\n(.*?)```", open(hf_hub_download(repo, "README.md")).read(), re.S)
for block in blocks:
    exec(block.replace("num_iterations=3, num_candidates=8", "num_iterations=1, num_candidates=1, height=32"))
print(len(blocks), pipe.reward_model.config.users)
"""


@pytest.fixture(scope="module")
def pipes(siglip_encoder, tmp_path_factory):
    """(saved folder, the pipeline) with a tiny FLUX.2 Klein and a chat model, and with the procedural renderer."""
    reward = Path(with_encoder(siglip_encoder, tmp_path_factory.mktemp("reward")))
    config = json.loads((reward / "config.json").read_text())
    (reward / "config.json").write_text(json.dumps({**config, "users": PEOPLE}))
    scorer = PamelaScorer.from_pretrained(reward, device="cpu")
    torch.manual_seed(3)
    torch.nn.init.normal_(scorer.model.user_embedding.weight[1:], std=2.0)
    tokenizer = tiny_chat_tokenizer()
    made = {}
    for name, parts in {
        "klein": (tiny_klein(), tiny_chat_model(tokenizer), tokenizer),
        "procedural": (SimulatedPipeline(size=32), None, None),
    }.items():
        pipe = PamelaPromptPipeline(parts[0], scorer.model, scorer.processor, *parts[1:])
        pipe.set_progress_bar_config(disable=True)
        folder = tmp_path_factory.mktemp(name)
        pipe.save_pretrained(folder)
        (folder / "notes.txt").write_text("canary-of-the-notes")
        made[name] = (folder, pipe)
    return made


def test_a_pushed_pipeline_loads_with_diffusers_in_a_strangers_process(pipes, tmp_path, fresh_process, hub_server):
    pushes = [["pipeline", str(folder), f"me/{name}"] for name, (folder, _) in pipes.items()]
    out = fresh_process(CLI, json.dumps([[*pushes[0], "--dry-run"], *pushes, *pushes]))
    assert "Nothing was sent" in out and "Left out" not in out
    names = Pseudonyms(tmp_path / "pamela" / "pseudonyms.json").assign(PEOPLE, save=False)
    expected, asked = {}, []
    for name, (_, pipe) in pipes.items():
        assert hub_server.commits(f"me/{name}") == 1  # the second push found nothing to change
        assert hub_server.repos["model", f"me/{name}"].private
        files = hub_server.files(f"me/{name}")
        assert_absent([*names, "canary-of-the-notes", str(tmp_path)], files)
        code = [file for file in files if file.startswith("_pamela_hf/")]
        assert "_pamela_hf/refiners/vocabulary.py" in code
        assert {f for f in code if not f.endswith(".py")} == {f"_pamela_hf/{template}" for template in TEMPLATES}
        assert not [file for file in files if file.endswith((".bin", ".pkl", ".txt", ".pyc"))]
        card = yaml.safe_load(files["README.md"].decode().split("---")[1])
        assert card["library_name"] == "diffusers" and card["pipeline_tag"] == "text-to-image"
        options = SMALL | (KLEIN if name == "klein" else {})
        out = pipe("a cottage by the sea", user="alice.canary", **options)
        commit = hub_server.repos["model", f"me/{name}"].head.sha
        asked.append([f"me/{name}", commit, names["alice.canary"], options])
        expected[name] = {
            "prompts": out.prompts, "renderer": type(pipe.pipeline).__name__, "chat": name == "klein",
            "scores": pytest.approx(out.scores, abs=1e-4),
        }  # fmt: skip
    stranger = fresh_process(STRANGER, json.dumps(asked), with_package=False).splitlines()
    friend = fresh_process(FRIEND, json.dumps(asked)).splitlines()
    loaded = [("pamela_hf_", line) for line in stranger[:2]] + [("pamela_hf.", line) for line in friend[:3]]
    for name, (module, line) in zip([*expected, *expected, "procedural"], loaded, strict=True):
        found = json.loads(line)
        assert found.pop("module").startswith(module) and found == expected[name]
    assert stranger[2:] == ["True"] and friend[-1] == f"2 {sorted(names.values())}"


def test_only_a_saved_pipeline_without_pickles_is_pushed(pipes, tmp_path):
    with pytest.raises(HubError, match="no PamelaPromptPipeline"):
        push_pipeline(tmp_path, "me/x", dry_run=True)
    folder, _ = pipes["klein"]
    with pytest.raises(HubError, match="no PamelaPromptPipeline"):
        push_pipeline(folder / "pipeline", "me/x", dry_run=True)
    pickle = folder / "pipeline" / "vae" / "diffusion_pytorch_model.bin"
    pickle.write_bytes(b"x")
    try:
        with pytest.raises(HubError, match="can run code"):
            push_pipeline(folder, "me/x", dry_run=True)
    finally:
        pickle.unlink()


def test_links_out_of_the_folder_are_refused(pipes, tmp_path):
    folder, _ = pipes["procedural"]
    (tmp_path / "diary.txt").write_text("canary")
    for link, target in ((folder / "pipeline" / "notes.txt", "diary.txt"), (folder / "processor" / "more", ".")):
        link.symlink_to(tmp_path / target)
        try:
            with pytest.raises(HubError, match="link out of the folder"):
                push_pipeline(folder, "me/x", dry_run=True)
        finally:
            link.unlink()


def test_names_that_the_packages_own_sources_hold_stop_no_push(pipes, tmp_path):
    """The demo's raters bear the names that docstrings use as examples."""
    folder = tmp_path / "pipe"
    shutil.copytree(pipes["procedural"][0], folder)
    config = json.loads((folder / "reward_model" / "config.json").read_text())
    users = ["simulated_0001", "simulated_0003", "zoë"]
    for place in ("reward_model", "processor"):
        (folder / place / "config.json").write_text(json.dumps({**config, "users": users}))
    home = Pseudonyms(tmp_path / "pseudonyms.json")
    result = push_pipeline(folder, "me/x", pseudonyms=home, dry_run=True)
    assert "_pamela_hf/prompts/pipeline_pamela.py" in result.files
    (folder / "pipeline" / "extra").mkdir()
    (folder / "pipeline" / "extra" / "words.txt").write_text("simulated_0003")  # any other file still may not
    with pytest.raises(HubError, match="private value"):
        push_pipeline(folder, "me/x", pseudonyms=home, dry_run=True)


def test_saved_configurations_of_the_original_stay_as_they_are(pipes, tmp_path):
    """Weights are linked into the staging folder, so nothing may be written there in place."""
    folder, _ = pipes["klein"]
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    home = Pseudonyms(tmp_path / "pseudonyms.json")
    result = push_pipeline(folder, "me/x", pseudonyms=home, dry_run=True)
    assert result.commit is None and not (tmp_path / "pseudonyms.json").exists()
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
