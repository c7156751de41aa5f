"""Training with choices: what is learned from them, alone and beside ratings, by any number of processes."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from choice_world import choice_world, mean_accuracy
from safetensors.torch import load_file
from toys import TINY_MODEL
from transformers import AutoModel

from pamela_hf.ratings.preparation import write_answers
from pamela_hf.ratings.table import join_ratings
from pamela_hf.scoring import PamelaScorer, choice_credit, encode_choices
from pamela_hf.training.batches import epoch_batches, make_batch
from pamela_hf.training.choice_scores import choice_scores
from pamela_hf.training.config import TrainingConfig
from pamela_hf.training.run import build_config, start, training_answers
from pamela_hf.training.train import train

ROOT = Path(__file__).parents[2]


def small_config(**changes) -> TrainingConfig:
    values = {
        "epochs": 4, "users_per_batch": 4, "images_per_user": 8, "learning_rate": 1e-2, "user_learning_rate": 5e-2,
        "row_prior_std": 1.0, "model": TINY_MODEL,
    }  # fmt: skip
    return TrainingConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def world():
    return choice_world(people=12, images=80, per_person=60, width=6)


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("choices") / "model"
    train(small_config(epochs=10), world.choices, world.embeddings, folder, progress=False)
    return folder


def accuracy(scorer, choices, embeddings, asked=None) -> float:
    """`asked`: the same choices, edited."""
    probs = scorer.predict_choices(choices if asked is None else asked, embeddings)
    return mean_accuracy(choice_credit(probs, choices.tie.to_numpy()), choices)


def test_taste_is_learned_from_choices_alone(trained, world):
    scorer = PamelaScorer.from_pretrained(trained, device="cpu")
    table = world.choices.choices["val_seen"]
    right = accuracy(scorer, table, world.embeddings)
    nobody = accuracy(scorer, table, world.embeddings, table.assign(participant_id=None))
    assert right > 0.68 and right > nobody + 0.02
    assert scorer.config.choices and scorer.config.rating_scales == {"toy": [1, 2, 3, 4, 5]}
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "val_seen/choice_accuracy" in line][-1]
    assert last["val_seen/choice_accuracy"] == pytest.approx(right, abs=1e-6) and "val_seen/user_srocc" not in last


def test_ties_are_as_likely_as_they_were(trained, world):
    scorer = PamelaScorer.from_pretrained(trained, device="cpu")
    table = world.choices.choices["val_seen"]
    probs = scorer.predict_choices(table, world.embeddings)
    assert probs.sum(1) == pytest.approx(1) and probs[:, 1].mean() == pytest.approx(table.tie.mean(), abs=0.06)
    swapped = table.rename(columns={"preferred_id": "other_id", "other_id": "preferred_id"})
    assert scorer.predict_choices(swapped, world.embeddings)[:, ::-1] == pytest.approx(probs, abs=1e-5)


def test_scores_and_heads_work_on_a_base_of_choices_alone(trained, world):
    scorer = PamelaScorer.from_pretrained(trained, device="cpu")
    embeds = torch.from_numpy(world.embeddings.image_embeds)
    out = scorer.score(image_embeds=embeds, users=["p000", "p001"])
    assert np.isfinite(out.scores).all() and ((out.scores >= 1) & (out.scores <= 5)).all()
    assert AutoModel.from_pretrained(trained).choice_link.shape == (2,)
    from pamela_hf.heads import UserHead

    table = world.both.choices["val_unseen"]
    mine = table[table.participant_id == table.participant_id.iloc[0]]
    pairs = list(zip(mine.preferred_id, mine.other_id))
    head = UserHead.fit(scorer, name="newcomer", choices=pairs, embeddings=world.embeddings)
    assert np.isfinite(head.row).all() and np.abs(head.row).max() > 0


def test_ratings_and_choices_together_know_more_than_either(world, tmp_path):
    table, found = world.both.choices["val_seen"], {}
    for name in ("ratings", "choices", "both"):
        model = train(small_config(), getattr(world, name), world.embeddings, tmp_path / name, progress=False)
        assert model.config.choices == (name != "ratings")
        found[name] = accuracy(PamelaScorer(model), table, world.embeddings)
    assert found["both"] > min(found["ratings"], found["choices"])
    assert abs(found["ratings"] - found["choices"]) < 0.05


def test_ratings_alone_train_the_very_model_that_they_did(world, tmp_path):
    """A table without choices leaves no trace: no tensor of choices, and the same batches."""
    model = train(small_config(epochs=1), world.ratings, world.embeddings, tmp_path / "m", progress=False)
    assert "choice_link" not in model.state_dict() and not model.config.choices


def prepared(world, config=None):
    config = config or small_config()
    model_config = build_config(config, world.both, world.embeddings)
    return config, training_answers(config, world.both, model_config, world.embeddings)


def test_an_epoch_holds_each_answer_once_and_parts_are_one_persons(world):
    config, answers = prepared(world)
    batches = epoch_batches(answers.arrays, config, 0, answers.choices)
    seen = np.concatenate([part for parts in batches for part in parts])
    n = len(answers.arrays)
    assert sorted(seen) == list(range(n + len(answers.choices)))
    for part in (part for parts in batches for part in parts):
        assert (part < n).all() or (part >= n).all()
        assert len(np.unique(answers.user_ids[part])) == 1 and len(part) <= (8 if part[0] < n else 4)


def test_processes_share_a_batch_of_both_without_loss(world):
    config, answers = prepared(world)
    mixed = next(parts for parts in epoch_batches(answers.arrays, config, 0, answers.choices)
                 if len({bool(p[0] < len(answers.arrays)) for p in parts}) == 2)  # fmt: skip
    whole = make_batch(answers, mixed, config, (0, 0))
    shares = [make_batch(answers, mixed, config, (0, 0), rank, 3) for rank in range(3)]
    assert all(s["loss_normalizers"] == whole["loss_normalizers"] for s in shares)
    assert sum(len(s["choices"].pairs) for s in shares) == len(whole["choices"].pairs) > 0
    torch.manual_seed(0)
    from pamela_hf import PamelaRewardModel

    model = PamelaRewardModel(build_config(config, world.both, world.embeddings)).eval()
    image = torch.from_numpy(world.embeddings.image_embeds)

    def loss(batch) -> float:
        batch = {k: v for k, v in batch.items() if v is not None}
        rows = batch.pop("image_rows")
        return float(model(image[rows], **batch, pairwise_weight=0.2).loss.detach())

    assert sum(map(loss, shares)) == pytest.approx(loss(whole), rel=1e-5)


def test_a_choice_loses_what_is_unknown_of_both_images_together(world):
    config, answers = prepared(world, small_config(prompt_dropout=0.5, user_dropout=0.0))
    parts = epoch_batches(answers.arrays, config, 0, answers.choices)[0]
    batch = make_batch(answers, parts, config, (0, 0))
    first, second = batch["choices"].pairs.T
    assert torch.equal(batch["prompt_mask"][first], batch["prompt_mask"][second])
    assert torch.equal(batch["user_ids"][first], batch["user_ids"][second])
    assert not batch["weights"][first].any() and not batch["prompt_mask"].all() and batch["prompt_mask"].any()


def test_killed_between_checkpoints_and_resumed_gives_the_same_weights(world, tmp_path, monkeypatch):
    config = small_config(epochs=2, checkpoint_every=3)
    train(config, world.both, world.embeddings, tmp_path / "whole", progress=False)
    from pamela_hf.training import run as training

    steps, clean = [], training.make_batch

    def stopping(*args, **kwargs):
        steps.append(1)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return clean(*args, **kwargs)

    monkeypatch.setattr(training, "make_batch", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(config, world.both, world.embeddings, tmp_path / "killed", progress=False)
    monkeypatch.setattr(training, "make_batch", clean)
    train(config, world.both, world.embeddings, tmp_path / "killed", resume=True, progress=False)
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys() and [k for k in whole if not torch.equal(whole[k], killed[k])] == []


def test_each_source_has_its_weight(world, tmp_path):
    other = dataclasses.replace(world.choices, name="other")
    joined = join_ratings([world.both, other])
    from pamela_hf.embeddings import join_embeddings

    embeddings = join_embeddings({"toy": world.embeddings, "other": world.embeddings})
    config = small_config(source_weights={"other": 0.25}, choice_weight=2.0)
    answers = training_answers(config, joined, build_config(config, joined, embeddings), embeddings)
    n, m = len(answers.arrays), len(world.both.choices["train"])
    assert set(answers.weights[:n]) == {1.0} and set(answers.weights[n : n + m]) == {2.0}
    assert set(answers.weights[n + m :]) == {0.5}
    with pytest.raises(ValueError, match=r"source_weights names 'nobody'; the sources are \['toy', 'other'\]"):
        train(small_config(source_weights={"nobody": 1.0}), joined, embeddings, tmp_path / "m", progress=False)


def test_no_answers_to_learn_from(world, tmp_path):
    nothing = dataclasses.replace(world.choices, choices={"val_seen": world.choices.choices["val_seen"]})
    with pytest.raises(ValueError, match=r"has no train split \(it has \['val_seen'\]\)"):
        train(small_config(), nothing, world.embeddings, tmp_path / "m", progress=False)


def test_the_command_trains_a_prepared_folder_of_choices(world, tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir()
    write_answers(world.choices, folder)
    world.embeddings.save(folder / "embeddings.safetensors")
    tiny = [f"model.{k}={v}" for k, v in TINY_MODEL.items()]
    command = [sys.executable, "scripts/train.py", "--data", folder, "--output", tmp_path / "m", "epochs=1", *tiny]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "m" / "config.json").is_file()


def test_choice_scores_point_along_each_persons_taste():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 5))
    tastes = np.array([[2.0, 0, 0, 0, 0], [-2.0, 0, 0, 0, 0]])
    pairs, people = rng.integers(0, 300, (4000, 2)), rng.integers(0, 2, 4000)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    people = people[: len(pairs)]
    utility = (features @ tastes.T).T
    margin = utility[people, pairs[:, 0]] - utility[people, pairs[:, 1]] + rng.logistic(size=len(pairs))
    pairs[margin < 0] = pairs[margin < 0][:, ::-1]
    scores = choice_scores(features, pairs, np.zeros(len(pairs), bool), people)
    for person, taste in enumerate(tastes):
        of = scores.person == person
        slope = np.linalg.lstsq(features[scores.image[of]], scores.value[of], rcond=None)[0]
        assert np.sign(slope[0]) == np.sign(taste[0]) and abs(slope[0]) > 4 * np.abs(slope[1:]).max()
    ties = choice_scores(features, pairs, np.ones(len(pairs), bool), people)
    assert np.abs(ties.value).max() < 1e-6  # nothing is better than anything


def test_unknown_people_and_images_are_named(world):
    config = build_config(small_config(), world.both, world.embeddings)
    table = world.both.choices["val_unseen"]
    assert not encode_choices(table, config, world.embeddings).user_ids.any()
    with pytest.raises(ValueError, match="1 images have no embedding, such as 'nowhere'"):
        encode_choices(table.assign(other_id=pd.Categorical(["nowhere"] * len(table))), config, world.embeddings)


def test_every_parameter_of_choices_moves(world, tmp_path):
    from accelerate import Accelerator

    run = start(small_config(), world.both, world.embeddings, Accelerator(), tmp_path, keep_backbone=False)
    before = run.model.choice_link.detach().clone()
    for step, parts in enumerate(epoch_batches(run.ratings.arrays, run.config, 0, run.ratings.choices)[:3]):
        run.take_step(parts, 0, step)
    assert (run.model.choice_link != before).all()
