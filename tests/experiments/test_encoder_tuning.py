"""Fine-tuning of an encoder's last blocks: what is trained, what is kept, the same on any number of processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from pamela_hf.encoder import FrozenEncoder, compute_embeddings
from pamela_hf.experiments.encoder_tuning import EncoderTuning, tune_encoder
from pamela_hf.files.images import ImageError
from pamela_hf.metrics import user_metrics
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.scoring import PamelaScorer
from pamela_hf.simulation.world import write_world
from pamela_hf.training.config import TrainingConfig
from pamela_hf.training.train import load_sources, train
from tests.toys import TINY_MODEL

ROOT = Path(__file__).parents[2]
CONFIG = {"blocks": 1, "epochs": 2, "batch_size": 8, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def world(siglip_encoder, tmp_path_factory) -> tuple[Path, Path]:
    """Simulated ratings with their images, and a reward trained on features of an encoder with three blocks."""
    folder = tmp_path_factory.mktemp("tuning")
    encoder, ratings, model = folder / "encoder", folder / "ratings", folder / "model"
    shutil.copytree(siglip_encoder, encoder)
    config = AutoConfig.from_pretrained(encoder)
    config.vision_config.num_hidden_layers = 3
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(encoder)
    write_world(ratings, people=12, images=160, ratings=1200, size=64, progress=False)
    data, frozen = load_ratings(ratings), FrozenEncoder(str(encoder), device="cpu")
    images = data.images()
    compute_embeddings(
        frozen, images["image_id"].astype(str).tolist(), data.open_image, images["prompt"].tolist(),
        ratings / "embeddings.safetensors", progress=False, workers=0,
    )  # fmt: skip
    small = TrainingConfig(epochs=5, users_per_batch=4, images_per_user=8, learning_rate=1e-2, model=TINY_MODEL)
    train(small, *load_sources([ratings]), model, encoder=encoder, progress=False)
    return ratings, model


@pytest.fixture(scope="module")
def by_one(world, tmp_path_factory) -> tuple[Path, list[dict]]:
    ratings, model = world
    output = tmp_path_factory.mktemp("tuned") / "encoder"
    scorer = PamelaScorer.from_pretrained(model, device="cpu")
    return output, tune_encoder(scorer, load_ratings(ratings), output, EncoderTuning(**CONFIG), progress=False)


def test_the_last_blocks_alone_are_trained_and_the_encoder_loads_like_any_other(world, by_one):
    (_, model), (output, found) = world, by_one
    before, after = AutoModel.from_pretrained(model / "encoder").state_dict(), AutoModel.from_pretrained(output)
    after = after.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = ("vision_model.encoder.layers.2.", "vision_model.post_layernorm.", "vision_model.head.")
    assert changed and all(name.startswith(trained) for name in changed)
    assert any(name.startswith(trained[0]) for name in changed)
    assert FrozenEncoder(str(output), device="cpu").embed_prompts(["a house"]).shape == (1, 32)
    losses = [line["train/loss"] for line in found[1:]]
    assert losses[1] < losses[0]
    assert [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()] == found


def test_the_first_figures_are_those_of_the_features_that_the_encoder_had_made(world, by_one):
    ratings, model = world
    data, embeddings = load_sources([ratings])
    table = data.splits["val_seen"]
    scorer = PamelaScorer.from_pretrained(model, device="cpu")
    scores = scorer.predict(table, embeddings).scores
    theirs = user_metrics(scores, table["score"].to_numpy(), table["participant_id"].astype(str)).mean("user_srocc")
    assert by_one[1][0]["val_seen/user_srocc"] == pytest.approx(theirs, abs=1e-3)
    assert by_one[1][0]["epoch"] == 0 and by_one[1][0]["val_seen/loss"] > 0


def test_two_processes_that_share_the_weights_out_train_what_one_does(world, by_one, tmp_path):
    ratings, model = world
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["scripts/tune_encoder.py", "--model", model, "--data", ratings, "--output", tmp_path / "encoder"]
    for name, value in CONFIG.items():
        command += [f"--{name.replace('_', '-')}", value]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Encoder written") == 1 and "val_seen/loss" in done.stdout
    found, wanted = (AutoModel.from_pretrained(folder).state_dict() for folder in (tmp_path / "encoder", by_one[0]))
    # a key's bias shifts all of a query's logits alike: its gradient is rounding, which AdamW makes steps of
    differing = {n: float((found[n] - wanted[n]).abs().max()) for n in wanted if not n.endswith("k_proj.bias")}
    assert max(differing.values()) <= 2e-4, sorted(differing.items(), key=lambda item: -item[1])[:5]
    log = [json.loads(line) for line in (tmp_path / "encoder" / "metrics.jsonl").read_text().splitlines()]
    for line, other in zip(log, by_one[1], strict=True):
        assert line == pytest.approx(other, abs=2e-3)


def test_an_image_that_cannot_be_read_is_left_out(world, tmp_path):
    ratings, model = world
    shutil.copytree(ratings, tmp_path / "ratings")
    data = load_ratings(tmp_path / "ratings")
    first = sorted(data.splits["train"]["image_id"].astype(str))[0]
    broken = [path for path in (tmp_path / "ratings" / "images").iterdir() if int(path.stem[-5:]) == int(first)]
    broken[0].write_bytes(b"no image")
    scorer = PamelaScorer.from_pretrained(model, device="cpu")
    alone = EncoderTuning(**{**CONFIG, "epochs": 1, "batch_size": 1})  # the one image of its batch, too
    found = tune_encoder(scorer, data, tmp_path / "encoder", alone, progress=False)
    assert np.isfinite(found[-1]["train/loss"])
    for path in (tmp_path / "ratings" / "images").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(ImageError, match="None of the images of val_seen can be read"):
        tune_encoder(scorer, data, tmp_path / "none", alone, progress=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"blocks": 4}, "blocks=4 is more than the 3 blocks"),
        ({"blocks": 0}, "blocks=0 must be a whole number"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be above 0"),
        ({"mixed_precision": "fp16"}, "mixed_precision='fp16' must be"),
    ],
)
def test_what_cannot_be_trained_is_refused(world, tmp_path, change, message):
    ratings, model = world
    scorer = PamelaScorer.from_pretrained(model, device="cpu")
    with pytest.raises(ValueError, match=message):
        tune_encoder(scorer, load_ratings(ratings), tmp_path / "out", EncoderTuning(**{**CONFIG, **change}))
    assert not (tmp_path / "out").exists()


def test_ratings_without_images_or_train_and_a_folder_that_is_used_are_refused(world, ratings_folder, tmp_path):
    ratings, model = world
    scorer, data = PamelaScorer.from_pretrained(model, device="cpu"), load_ratings(ratings)
    with pytest.raises(ValueError, match="has no images"):
        tune_encoder(scorer, load_ratings(ratings_folder), tmp_path / "out")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError):
        tune_encoder(scorer, data, tmp_path / "used", EncoderTuning(**CONFIG), progress=False)
    data.splits["val_seen"] = data.splits["val_seen"].assign(score=2.5)
    with pytest.raises(ValueError, match=r"val_seen has a rating of 2\.5"):
        tune_encoder(scorer, data, tmp_path / "out")
    data.splits["val_seen"] = data.splits["val_seen"].iloc[:0]  # nothing to judge by there
    found = tune_encoder(scorer, data, tmp_path / "out", EncoderTuning(**{**CONFIG, "epochs": 1}), progress=False)
    assert not any(name.startswith("val_seen") for name in found[0]) and "val_unseen/loss" in found[0]
    del data.splits["train"]
    with pytest.raises(ValueError, match="no train split"):
        tune_encoder(scorer, data, tmp_path / "out")
