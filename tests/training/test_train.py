import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import in_parallel, killed
from safetensors.torch import load_file
from toys import TINY_MODEL, write_ratings
from transformers import AutoModel, AutoProcessor

from pamela_hf.embeddings import EmbeddingError
from pamela_hf.metrics import user_metrics
from pamela_hf.scoring import PamelaScorer, encode_ratings
from pamela_hf.training.batches import TrainingRatings, epoch_batches, make_batch
from pamela_hf.training.checkpoints import CheckpointError, latest_checkpoint
from pamela_hf.training.config import TrainingConfig
from pamela_hf.training.run import Run, build_config
from pamela_hf.training.train import load_sources, train

ROOT = Path(__file__).parents[2]


def small_config(**changes) -> TrainingConfig:
    values = {
        "epochs": 2, "users_per_batch": 4, "images_per_user": 8, "learning_rate": 1e-2, "row_prior_std": 0.15,
        "model": TINY_MODEL,
    }  # fmt: skip
    return TrainingConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def sources(ratings_folder):
    return load_sources([ratings_folder])


def test_it_learns_each_persons_taste(trained_folder, sources):
    data, embeddings = sources
    scorer = PamelaScorer.from_pretrained(trained_folder, device="cpu")
    table = data.splits["test_seen"]

    def srocc(ratings) -> float:
        predicted = scorer.predict(ratings, embeddings)
        return user_metrics(predicted.scores, table["score"].to_numpy(), table["participant_id"].astype(str)).mean(
            "user_srocc"
        )

    right, generic = srocc(table), srocc(table.assign(participant_id=None))
    assert right > 0.5
    assert right > generic + 0.1


def test_output_loads_and_has_what_the_contract_names(trained_folder):
    model = AutoModel.from_pretrained(trained_folder)
    assert model.config.base_identity == model.compute_base_identity()
    assert AutoProcessor.from_pretrained(trained_folder).config.users == model.config.users
    config = json.loads((trained_folder / "config.json").read_text())
    assert config["auto_map"]["AutoModel"] == "modeling_pamela.PamelaRewardModel"
    lines = [json.loads(line) for line in (trained_folder / "metrics.jsonl").read_text().splitlines()]
    assert any("val_seen/user_srocc" in line for line in lines) and any("loss" in line for line in lines)
    assert (trained_folder / "checkpoints").is_dir() and not list(trained_folder.glob(".*part"))


def test_vocabularies_come_from_train_alone(sources):
    config = build_config(small_config(), *sources)
    assert config.users == sorted(sources[0].splits["train"]["participant_id"].astype(str).unique())
    assert config.rating_scales == {"toy": [1, 2, 3, 4, 5]}
    assert "nationality" not in config.demographics  # one value tells nothing
    without = small_config(without=["user", "demographics", "metadata", "prompt", "multiplicative"])
    bare = build_config(without, *sources)
    assert (bare.users, bare.demographics, bare.metadata) == ([], {}, {})
    assert (bare.text_embed_dim, bare.interaction_rank) == (0, 0)


@pytest.mark.parametrize("without", [[], ["user"]])  # people are compared with themselves, known to the model or not
def test_an_epoch_holds_each_rating_once_and_several_images_of_each_of_its_people(sources, without):
    data, embeddings = sources
    config = small_config(without=without)
    arrays = encode_ratings(data.splits["train"], build_config(config, data, embeddings), embeddings)
    batches = epoch_batches(arrays, config, epoch=0)
    seen = np.concatenate([part for parts in batches for part in parts])
    assert sorted(seen) == list(range(len(arrays)))
    for parts in batches:
        assert len(parts) <= 4
        for part in parts:
            assert data.splits["train"]["participant_id"].iloc[part].nunique() == 1 and 2 <= len(part) <= 8
    again = epoch_batches(arrays, config, epoch=0)
    assert all(np.array_equal(a, b) for x, y in zip(batches, again) for a, b in zip(x, y))
    assert not np.array_equal(batches[0][0], epoch_batches(arrays, config, epoch=1)[0][0])


def test_processes_share_a_batch_without_loss(sources):
    data, embeddings = sources
    config = small_config()
    arrays = encode_ratings(data.splits["train"], build_config(config, data, embeddings), embeddings)
    weights = np.ones(len(arrays), np.float32)
    parts = epoch_batches(arrays, config, 0)[0]
    whole = make_batch(TrainingRatings(arrays, weights, None), parts, config, (0, 0))
    shares = [make_batch(TrainingRatings(arrays, weights, None), parts, config, (0, 0), rank, 3) for rank in range(3)]
    for name in ("labels", "user_ids", "demographic_ids", "prompt_mask"):
        together = torch.cat([s[name] for s in shares])
        assert sorted(together.flatten().tolist()) == sorted(whole[name].flatten().tolist()), name
    assert all(s["loss_normalizers"] == whole["loss_normalizers"] for s in shares)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_the_same_seed_gives_the_same_model_and_another_another(sources, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(small_config(epochs=1, seed=seed), *sources, tmp_path / name, progress=False)
    assert_same(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))
    assert not torch.equal(*(weights_of(tmp_path / n)["members.0.head.weight"] for n in "ac"))


COMMAND = [
    "scripts/train.py", "epochs=6", "users_per_batch=2", "images_per_user=6", "checkpoint_every=3",
    *(f"model.{k}={v}" for k, v in TINY_MODEL.items()),
]  # fmt: skip
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def run_until_killed(command: list[str], checkpoints: Path, at_least: int) -> None:
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if len(list(checkpoints.glob("step-*"))) >= 1 and max(map(_number, checkpoints.glob("step-*"))) >= at_least:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"


def _number(path: Path) -> int:
    return int(path.name.split("-")[1])


def test_killed_and_resumed_gives_the_weights_of_an_uninterrupted_run(ratings_folder, tmp_path):
    command = [*COMMAND, "--data", str(ratings_folder), "--output"]
    subprocess.run([sys.executable, *command, str(tmp_path / "whole")], cwd=ROOT, env=ONE_THREAD, check=True)
    killed = tmp_path / "killed"
    run_until_killed([*command, str(killed)], killed / "checkpoints", at_least=6)
    assert not (killed / "config.json").exists()  # what is not finished does not look finished
    with pytest.raises(ValueError, match="Unrecognized model"):
        AutoModel.from_pretrained(killed)
    again = subprocess.run(
        [sys.executable, *command, str(killed)], cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True
    )
    assert again.returncode != 0 and "--resume" in again.stderr
    subprocess.run([sys.executable, *command, str(killed), "--resume"], cwd=ROOT, env=ONE_THREAD, check=True)
    assert_same(weights_of(killed), weights_of(tmp_path / "whole"))
    logs = [(tmp_path / n / "metrics.jsonl").read_text() for n in ("whole", "killed")]
    assert logs[0] == logs[1]


SIXTY_STEPS = {"epochs": 3, "users_per_batch": 2, "images_per_user": 6, "checkpoint_every": 5}


def kill_and_compare(sources, tmp_path, kills: int) -> None:
    """SIGKILLs a run of 60 steps at random points after its first checkpoint, finishes it, and compares its weights and
    log with those of an uninterrupted run."""
    config = small_config(**SIXTY_STEPS)
    data, embeddings = sources
    arrays = encode_ratings(data.splits["train"], build_config(config, *sources), embeddings)
    steps = len(epoch_batches(arrays, config, 0))
    every = config.checkpoint_every
    assert steps * config.epochs >= 60
    train(config, *sources, tmp_path / "whole", progress=False)
    whole = weights_of(tmp_path / "whole")
    earlier, later = sorted(p.stat().st_mtime for p in (tmp_path / "whole" / "checkpoints").glob("step-*"))[-2:]
    log = (tmp_path / "whole" / "metrics.jsonl").read_text()

    def one(number: int) -> list[int]:
        output, rng = tmp_path / f"run{number}", np.random.default_rng(number)
        after = f"step-{rng.integers(1, steps * config.epochs // every + 1) * every:08d}"
        was_killed = killed(
            lambda: train(config, *sources, output, progress=False),
            # by its progress: on a busy machine no time that another run took tells where this one is
            lambda: any(path.name >= after for path in (output / "checkpoints").glob("step-*")),
            float(rng.uniform(0, later - earlier)),
        )
        if not was_killed:  # it was quicker than it had been: the kill came too late
            return [0, 0]
        finished = (output / "config.json").exists()
        found = latest_checkpoint(output / "checkpoints")
        killed(lambda: train(config, *sources, output, resume=True, progress=False), lambda: False, 0)
        assert_same(weights_of(output), whole)
        assert (output / "metrics.jsonl").read_text() == log
        assert not [p.name for p in (output / "checkpoints").iterdir() if not p.name.startswith("step-")]
        shutil.rmtree(output)
        return [1, 0 if finished else found.state["step"]]

    resumed_from = []
    first = 0
    while len(resumed_from) < kills and first < 3 * kills:
        results = in_parallel(lambda n, first=first: one(first + n), kills - len(resumed_from))
        first += len(results)
        resumed_from += [step for compared, step in results if compared]
    places = sorted(set(resumed_from))
    print(f"{len(resumed_from)} of {first} runs were killed; all weights are identical; resumed from steps {places}")
    assert len(resumed_from) >= kills and len(places) >= min(4, kills // 3)


def test_killed_at_random_points_gives_the_very_weights(sources, tmp_path):
    kill_and_compare(sources, tmp_path, 6)


@pytest.mark.faults
def test_two_hundred_kills_give_the_very_weights(sources, tmp_path):
    """PROMISES 1."""
    kill_and_compare(sources, tmp_path, 200)


def test_altered_checkpoints_are_refused_by_name(sources, tmp_path, caplog):
    config = small_config(epochs=1, checkpoint_every=2)
    train(config, *sources, tmp_path / "run", progress=False)
    folder = tmp_path / "run" / "checkpoints"
    newest, older = sorted(folder.glob("step-*"), reverse=True)[:2]
    assert latest_checkpoint(folder).path == newest
    refused = 0
    for file in [p for p in newest.rglob("*") if p.is_file()]:
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for damage in (None, whole[:-1], bytes(flipped)):
            if damage is None:
                file.unlink()
            else:
                file.write_bytes(damage)
            found = latest_checkpoint(folder)
            assert found.path == older, file.name
            refused += 1
        file.write_bytes(whole)
    print(f"{refused} damages of a checkpoint's files, each by itself: all refused")
    assert refused >= 15
    for path in (newest, older):
        (path / "state" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        latest_checkpoint(folder)


def test_what_a_killed_run_had_just_written_is_cleared_up(checkpoints, tmp_path):
    """Killed between the rename of a checkpoint and the removal of its staging folder: nobody writes that one again."""
    from pamela_hf.files import writing

    folder = shutil.copytree(checkpoints, tmp_path / "checkpoints")
    newest = max(path.name for path in folder.glob("step-*"))
    staging = folder / f".{newest}.part-abcdefgh"
    staging.mkdir()
    (staging / writing._LOCK).touch()
    assert latest_checkpoint(folder).path.name == newest
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_full_disk_is_one_line_and_the_last_checkpoint_is_whole(sources, tmp_path, monkeypatch):
    """As PyTorch says it: a RuntimeError about one of its own lines, on a disk without a free byte."""
    from collections import namedtuple

    from accelerate import Accelerator

    from pamela_hf.files.writing import WriteError

    saved, save_state = [], Accelerator.save_state

    def fails_later(self, place, *args, **kwargs):
        saved.append(place)
        if len(saved) == 3:
            Path(place).mkdir(parents=True)
            Path(place, "torn").write_bytes(b"x" * 100)
            raise RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 64 vs 0")
        return save_state(self, place, *args, **kwargs)

    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "save_state", fails_later)
        patch.setattr(shutil, "disk_usage", lambda path: usage(1 << 30, 1 << 30, 0))
        with pytest.raises(WriteError) as caught:
            train(small_config(epochs=3, checkpoint_every=2), *sources, tmp_path / "run", progress=False)
    said = str(caught.value)
    assert "\n" not in said and "No space left on device" in said and str(tmp_path / "run" / "checkpoints") in said
    assert "enforce fail" not in said and "another disk" in said
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["step-00000002", "step-00000004"]
    assert latest_checkpoint(folder).state["step"] == 4
    train(small_config(epochs=3, checkpoint_every=2), *sources, tmp_path / "run", resume=True, progress=False)
    assert (tmp_path / "run" / "config.json").is_file()


STATE = {"step": 26, "best": {"value": None, "epoch": -1}}
BAD_STATES = [
    "[]", "26", "null", "{}", "{", "", json.dumps({"step": 26}), json.dumps({**STATE, "step": -5}),
    json.dumps({**STATE, "step": "x"}), json.dumps({**STATE, "step": 1e12}), json.dumps({**STATE, "step": 10**12}),
    json.dumps({**STATE, "step": 26.0}), json.dumps({**STATE, "step": True}), json.dumps({**STATE, "step": 5}),
    json.dumps({**STATE, "best": None}), json.dumps({**STATE, "best": {"value": "x", "epoch": 0}}),
    json.dumps({**STATE, "best": {"value": 0.5, "epoch": 10**9}}), json.dumps({**STATE, "more": 1}),
    '{"step": 26, "step": 26, "best": {"value": null, "epoch": -1}}',
    '{"step": 26, "best": {"value": NaN, "epoch": 0}}',
    "[" * 5000, "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_STATES, ids=range(len(BAD_STATES)))
def test_a_run_that_is_none_is_refused_even_with_its_hash(checkpoints, tmp_path, text):
    folder = shutil.copytree(checkpoints, tmp_path / "checkpoints")
    newest, older = sorted(folder.glob("step-*"), reverse=True)[:2]
    assert latest_checkpoint(folder).state["step"] == 26 and newest.name == "step-00000026"
    (newest / "run.json").write_text(text)
    manifest = json.loads((newest / "manifest.json").read_text())
    manifest["run.json"] = hashlib.sha256(text.encode()).hexdigest()
    (newest / "manifest.json").write_text(json.dumps(manifest))
    assert latest_checkpoint(folder).path == older
    shutil.rmtree(older)
    for other in folder.glob("step-*"):
        if other != newest:
            shutil.rmtree(other)
    with pytest.raises(CheckpointError, match=r"run\.json is not a run's"):
        latest_checkpoint(folder)


@pytest.mark.parametrize("text", ["[]", "{", '{"run.json": 5}', '{"run.json": "x"}', "[" * 5000], ids=range(5))
def test_a_manifest_that_is_none_is_refused(checkpoints, tmp_path, text):
    folder = shutil.copytree(checkpoints, tmp_path / "checkpoints")
    newest, older = sorted(folder.glob("step-*"), reverse=True)[:2]
    (newest / "manifest.json").write_text(text)
    assert latest_checkpoint(folder).path == older


@pytest.fixture(scope="module")
def checkpoints(sources, tmp_path_factory):
    output = tmp_path_factory.mktemp("checked") / "run"
    config = small_config(epochs=3, checkpoint_every=2)
    train(config, *sources, output, progress=False)
    return output / "checkpoints"


def test_resume_refuses_another_configuration(sources, tmp_path):
    train(small_config(epochs=1), *sources, tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"another training run: learning_rate was \S+ now 0\.001; seed was 0, now 1"):
        train(small_config(epochs=1, seed=1, learning_rate=1e-3), *sources, tmp_path / "run", resume=True)
    with pytest.raises(FileExistsError, match="--resume"):
        train(small_config(epochs=1), *sources, tmp_path / "run")


def test_ratings_of_images_without_prompts_train_a_model_without_a_text_side(sources, tmp_path):
    data, embeddings = sources
    without = dataclasses.replace(embeddings, text_embeds=np.zeros_like(embeddings.text_embeds))
    model = train(small_config(epochs=1), data, without, tmp_path / "run", progress=False)
    assert model.config.text_embed_dim == 0 and all(v.isfinite().all() for v in model.state_dict().values())
    image, text = (torch.from_numpy(a) for a in (embeddings.image_embeds, embeddings.text_embeds))
    with torch.no_grad():  # a prompt, of which it knows nothing, changes nothing
        assert torch.equal(model(image_embeds=image).scores, model(image_embeds=image, text_embeds=text).scores)


def test_one_prompt_for_all_does_not_blow_up_what_others_differ_in(sources, tmp_path):
    data, embeddings = sources
    text = np.tile(embeddings.text_embeds[1], (len(embeddings), 1))
    alike = dataclasses.replace(embeddings, text_embeds=text)
    model = train(small_config(epochs=1), data, alike, tmp_path / "run", progress=False)
    image, other = (torch.from_numpy(a) for a in (embeddings.image_embeds, embeddings.text_embeds))
    someone = torch.ones(len(image), dtype=torch.long)
    with torch.no_grad():
        one, another = (model(image, t, user_ids=someone).utility for t in (torch.from_numpy(text), other))
    assert (one - another).abs().max() < 5


@pytest.mark.parametrize(("people", "images"), [(1, 2), (1, 3), (1, 5), (2, 2)])
def test_a_handful_of_ratings_train(people, images, sources, tmp_path):
    data, embeddings = sources
    table = data.splits["train"]
    few = table["participant_id"].isin([f"p{i:02d}" for i in range(people)])
    few &= table["image_id"].isin([f"img{5 * i:03d}" for i in range(1, images + 1)])
    few = dataclasses.replace(data, splits={"train": table[few].reset_index(drop=True)})
    assert len(few.splits["train"]) == people * images
    model = train(small_config(epochs=1), few, embeddings, tmp_path / "run", progress=False)
    with torch.no_grad():
        out = model(*(torch.from_numpy(a) for a in (embeddings.image_embeds, embeddings.text_embeds)))
    assert out.utility.isfinite().all() and out.utility.abs().max() < 50


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_batch(sources, tmp_path, monkeypatch):
    from pamela_hf.training import run as training

    steps = []
    clean = training.make_batch

    def poisoned(*args, **kwargs):
        batch = clean(*args, **kwargs)
        steps.append(1)
        if len(steps) == 3:
            batch["weights"] = batch["weights"] * float("nan")
        return batch

    monkeypatch.setattr(training, "make_batch", poisoned)
    states = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *a, **k: states.append(1) or step(self, *a, **k))
    with pytest.raises(FloatingPointError, match=r"nan at step 2 \(epoch 0, batch 2"):
        train(small_config(), *sources, tmp_path / "run", progress=False)
    assert len(states) == 2


def check_poisoned(sources, tmp_path, monkeypatch, positions) -> int:
    """A loss that is not finite at each of `positions`: the run stops there, naming the batch, with the weights that it
    had before that step. Returns at how many places weights were compared."""
    from pamela_hf.training import run as training

    config = small_config(epochs=1, users_per_batch=1, images_per_user=2, checkpoint_every=10**6)
    clean, take_step = training.make_batch, Run.take_step
    hashes: list[str] = []
    poison = -1

    def poisoned(*args, **kwargs):
        batch = clean(*args, **kwargs)
        if len(hashes) - 1 == poison:
            value = (float("nan"), float("inf"), -float("inf"))[poison % 3]
            batch["weights"] = batch["weights"] * value
        return batch

    def watched(self, *args):
        hashes.append(_hash_of(self.model))
        try:
            return take_step(self, *args)
        except FloatingPointError:
            hashes.append(_hash_of(self.model))
            raise

    monkeypatch.setattr(training, "make_batch", poisoned)
    monkeypatch.setattr(Run, "take_step", watched)
    train(config, *sources, tmp_path / "whole", progress=False)
    reference, compared = list(hashes), 0
    assert len(set(reference)) == len(reference) > max(positions)  # every step changes the weights
    for poison in positions:
        hashes.clear()
        with pytest.raises(FloatingPointError, match=rf"at step {poison} \(epoch 0, batch {poison};"):
            train(config, *sources, tmp_path / "run", progress=False)
        assert hashes[:-1] == reference[: poison + 1] and hashes[-1] == hashes[-2]
        shutil.rmtree(tmp_path / "run")
        compared += 1
    print(f"{compared} positions: stopped there, weights unchanged")
    return compared


def _hash_of(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def test_a_loss_that_is_not_finite_changes_no_weight(sources, tmp_path, monkeypatch):
    assert check_poisoned(sources, tmp_path, monkeypatch, (0, 1, 17, 50)) == 4


@pytest.mark.faults
def test_a_loss_that_is_not_finite_at_100_positions(sources, tmp_path, monkeypatch):
    """PROMISES 10."""
    assert check_poisoned(sources, tmp_path, monkeypatch, range(100)) == 100


def test_early_stopping_keeps_the_best_epoch(sources, tmp_path):
    config = small_config(epochs=12, learning_rate=0.02, early_stopping="val_seen/user_srocc", patience=2)
    train(config, *sources, tmp_path / "run", progress=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    watched = [line["val_seen/user_srocc"] for line in lines if "val_seen/user_srocc" in line]
    data, embeddings = sources
    table = data.splits["val_seen"]
    predicted = PamelaScorer.from_pretrained(tmp_path / "run", device="cpu").predict(table, embeddings)
    kept = user_metrics(predicted.scores, table["score"].to_numpy(), table["participant_id"].astype(str))
    assert kept.mean("user_srocc") == pytest.approx(max(watched), abs=1e-6)
    with pytest.raises(ValueError, match="'val_seen/taste' is not measured"):
        train(small_config(early_stopping="val_seen/taste"), *sources, tmp_path / "other", progress=False)


def test_an_early_stopped_run_that_is_resumed_stays_stopped(sources, tmp_path):
    """Killed after the last checkpoint and before the model was written; and resumed although it is finished."""
    data, embeddings = sources
    worse = dataclasses.replace(data, splits={s: data.splits[s] for s in ("train", "val_unseen")})
    config = small_config(epochs=12, learning_rate=0.02, early_stopping="val_unseen/user_srocc", patience=1)
    train(config, worse, embeddings, tmp_path / "run", progress=False)
    log, whole = (tmp_path / "run" / "metrics.jsonl").read_text(), weights_of(tmp_path / "run")
    assert json.loads(log.splitlines()[-1])["epoch"] < 11, "it was to stop early"
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "run" / name).unlink()
    for _ in range(2):
        train(config, worse, embeddings, tmp_path / "run", resume=True, progress=False)
        assert (tmp_path / "run" / "metrics.jsonl").read_text() == log
        assert_same(weights_of(tmp_path / "run"), whole)


def test_a_run_killed_before_its_first_checkpoint_logs_each_step_once(sources, tmp_path, monkeypatch):
    config = small_config(users_per_batch=1)
    train(config, *sources, tmp_path / "whole", progress=False)
    with monkeypatch.context() as killed:
        killed.setattr(Run, "checkpoint", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(config, *sources, tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_size
    train(config, *sources, tmp_path / "run", resume=True, progress=False)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_a_models_folder_is_left_alone_and_a_damaged_note_is_named(trained_folder, sources, tmp_path, monkeypatch):
    model = shutil.copytree(trained_folder, tmp_path / "model")
    (model / "training_config.yaml").unlink()
    for resume in (False, True):
        with pytest.raises(FileExistsError, match=r"holds 'config\.json' but no training run"):
            train(small_config(epochs=1), *sources, model, resume=resume, progress=False)
    assert_same(weights_of(model), weights_of(trained_folder))
    with monkeypatch.context() as killed:
        killed.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(small_config(epochs=1), *sources, tmp_path / "run", progress=False)
    train(small_config(epochs=1), *sources, tmp_path / "run", resume=True, progress=False)
    (tmp_path / "run" / "training_config.yaml").write_text("")
    with pytest.raises(ValueError, match=r"training_config\.yaml is damaged"):
        train(small_config(epochs=1), *sources, tmp_path / "run", resume=True, progress=False)


@pytest.mark.parametrize("changes", [{"without": ["ordinal", "pairwise", "linear"]}, {"mixed_precision": "bf16"}])
def test_variants_train(changes, sources, tmp_path):
    model = train(small_config(epochs=1, **changes), *sources, tmp_path / "run", progress=False)
    assert all(p.isfinite().all() for p in model.parameters())


def test_trackers_by_name(sources, tmp_path):
    train(small_config(epochs=1, log_with="tensorboard"), *sources, tmp_path / "run", progress=False)
    assert list((tmp_path / "run" / "pamela").rglob("events.out.tfevents*"))


def test_sources_train_jointly_each_on_its_own_scale_and_weight(ratings_folder, tmp_path):
    other = write_ratings(tmp_path / "seven", people=8, levels=7, seed=1)
    data, embeddings = load_sources([f"five={ratings_folder}", f"seven={other}"])
    config = small_config(source_weights={"seven": 0.5})
    model = train(config, data, embeddings, tmp_path / "run", progress=False)
    assert {k: len(v) for k, v in model.config.rating_scales.items()} == {"five": 5, "seven": 7}
    assert model.config.users[0] == "five/p00" and model.config.users[-1].startswith("seven/")
    predicted = PamelaScorer(model).predict(data.splits["test_seen"], embeddings)
    seven = (data.splits["test_seen"]["rating_scale"] == "seven").to_numpy()
    assert predicted.probs.shape[1] == 7 and (predicted.probs[~seven, 5:] == 0).all()
    with pytest.raises(ValueError, match="source_weights"):
        train(small_config(source_weights={"eight": 1.0}), data, embeddings, tmp_path / "no", progress=False)


def test_pixels_and_prompts_score_as_the_features_made_of_them(any_encoder, tmp_path):
    """From images through embed, train and save: scoring an image file is predicting from its row of the features."""
    from PIL import Image

    from pamela_hf.cli import main

    folder = write_ratings(tmp_path / "toy", people=8, images=30)
    (folder / "embeddings.safetensors").unlink()
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(folder / "images" / f"img{i:03d}.png")
    main(["embed", "--data", str(folder), "--encoder", str(any_encoder), "--device", "cpu"])
    data, embeddings = load_sources([folder])
    other = AutoModel.from_pretrained(shutil.copytree(any_encoder, tmp_path / "other"))
    next(other.parameters()).data.add_(0.1)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(EmbeddingError, match=r"other' did not make the features: its weights"):
        train(small_config(epochs=1), data, embeddings, tmp_path / "model", encoder=tmp_path / "other")
    train(small_config(epochs=1), data, embeddings, tmp_path / "model", encoder=any_encoder, progress=False)
    scorer = PamelaScorer.from_pretrained(tmp_path / "model", device="cpu")
    table = data.splits["test_seen"].head(12)
    from_features = scorer.predict(table, embeddings).scores
    text = [None if p != p else str(p).upper() for p in table["prompt"].astype(object)]
    from_pixels = scorer.score(
        [folder / "images" / f"{i}.png" for i in table["image_id"]],
        text,
        user=[str(p) for p in table["participant_id"]],
        demographics=[{k: row[k] for k in scorer.config.demographics} for _, row in table.iterrows()],
        metadata=[{k: row[k] for k in scorer.config.metadata} for _, row in table.iterrows()],
        batch_size=5,
    ).scores
    np.testing.assert_allclose(from_pixels, from_features, atol=1e-4)


def test_features_of_another_encoder_than_the_configurations_are_refused(sources, tmp_path):
    from dataclasses import replace

    data, embeddings = sources
    with pytest.raises(ValueError, match=r"made by 'x/y'.*encoder='x/z'"):
        train(small_config(encoder="x/z"), data, replace(embeddings, backbone="x/y"), tmp_path / "run")
    for backbone, made in (("x/y", "by 'x/y'"), (None, "elsewhere")):
        with pytest.raises(ValueError, match=rf"encoder='enc': the features were made {made}"):
            train(small_config(), data, replace(embeddings, backbone=backbone), tmp_path / "run", encoder="enc")
    assert not (tmp_path / "run").exists()


def test_missing_features_and_splits_are_named(ratings_folder, sources, tmp_path):
    bare = shutil.copytree(ratings_folder, tmp_path / "bare")
    (bare / "embeddings.safetensors").unlink()
    (bare / "images").mkdir()
    for i in range(60):
        (bare / "images" / f"img{i:03d}.png").touch()
    with pytest.raises(FileNotFoundError, match="pamela embed --data"):
        load_sources([bare])
    data, embeddings = sources
    from dataclasses import replace

    with pytest.raises(ValueError, match="no train split"):
        train(small_config(), replace(data, splits={"val_seen": data.splits["val_seen"]}), embeddings, tmp_path / "x")


def test_two_processes_train_the_same_model_as_one(ratings_folder, tmp_path):
    """With dropout and random row 0 off, the batch is the same sum whoever computes its parts."""
    off = [f"{n}_dropout=0" for n in ("user", "demographics", "metadata", "prompt")]
    off += [f"model.{n}_dropout=0.0" for n in ("image", "text", "fusion")]
    command = [*COMMAND, *off, "--data", str(ratings_folder), "--output"]
    subprocess.run([sys.executable, *command, str(tmp_path / "one")], cwd=ROOT, env=ONE_THREAD, check=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, *command, str(tmp_path / "two")], cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-4, rtol=0, msg=name)
