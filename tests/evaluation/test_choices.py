"""Choices in the evaluation's report: right values, controls, rivals, and their place on the page and the console."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from choice_world import choice_world
from toys import TINY_MODEL

from pamela_hf.evaluation.choices import CHOICE_METRICS
from pamela_hf.evaluation.evaluate import evaluate, run
from pamela_hf.evaluation.table import metric_table
from pamela_hf.ratings.preparation import write_answers
from pamela_hf.scoring import Predictions
from pamela_hf.training.config import TrainingConfig
from pamela_hf.training.train import train


@pytest.fixture(scope="module")
def world():
    return choice_world(people=12, images=80, per_person=40, width=6)


class Fixed:
    """Gives each image the number that ends its id; knows nobody."""

    name, personal, score_range, higher_is_better = "fixed", False, None, True

    def predict(self, ratings, embeddings):
        return Predictions(ratings["image_id"].astype(str).str[1:].astype(float).to_numpy())


class Foreseeing:
    """Is sure of the first image for one person, and without a clue for everybody else."""

    name, personal, score_range, higher_is_better = "foreseeing", True, None, True

    def predict(self, ratings, embeddings):
        return Predictions(np.zeros(len(ratings)))

    def predict_choices(self, choices, embeddings):
        known = (choices["participant_id"] == "a").to_numpy()[:, None]
        return np.where(known, [0.9, 0.05, 0.05], [0.4, 0.2, 0.4])


def choices_of(rows):
    columns = ("participant_id", "preferred_id", "other_id", "tie")
    table = pd.DataFrame(rows, columns=columns)
    missing = ("prompt", "age", "age_binned", "gender", "nationality")
    facts = [f"{side}_{fact}" for side in ("preferred", "other") for fact in ("prompt", "group", "style", "type")]
    return table.assign(**dict.fromkeys((*missing, *facts))).astype(
        {"participant_id": "category", "preferred_id": "category", "other_id": "category"}
    )


def report_of(scorers, table, world, split="val_seen"):
    data = dataclasses.replace(world.choices, choices={split: table})
    return evaluate(scorers, data, world.embeddings, bootstrap=50, reference=scorers[0].name)["choices"]


def test_accuracy_is_a_mean_over_people_and_a_tie_is_half(world):
    table = choices_of([("a", "i0002", "i0001", False), ("a", "i0003", "i0001", False), ("a", "i0000", "i0001", False),
                        ("b", "i0001", "i0002", True), ("b", "i0001", "i0005", False)])  # fmt: skip
    part = report_of([Fixed()], table, world)
    cell = part["splits"]["val_seen"]["fixed"]["accuracy"]
    assert cell["value"] == pytest.approx((2 / 3 + 0.25) / 2) and cell["n_users"] == 2
    assert cell["ci_low"] <= cell["value"] <= cell["ci_high"]
    assert np.isnan(part["splits"]["val_seen"]["fixed"]["log_loss"]["value"])  # it gives no probabilities
    assert part["counts"]["val_seen"] == {"choices": 5, "ties": 1, "participants": 2, "images": 5}


def test_lower_is_better_where_a_scorer_says_so(world):
    table = choices_of([("a", "i0001", "i0002", False)])
    scorer = Fixed()
    scorer.higher_is_better = False
    assert report_of([scorer], table, world)["splits"]["val_seen"]["fixed"]["accuracy"]["value"] == 1.0


def test_log_loss_and_controls(world):
    table = choices_of([("a", "i0001", "i0002", False), ("b", "i0001", "i0002", False), ("b", "i0003", "i0002", True)])
    part = report_of([Foreseeing()], table, world)
    found = part["splits"]["val_seen"]
    assert found["foreseeing"]["accuracy"]["value"] == pytest.approx((1 + 0.5) / 2)
    expected = (-np.log(0.9) + (-np.log(0.4) - np.log(0.2)) / 2) / 2
    assert found["foreseeing"]["log_loss"]["value"] == pytest.approx(expected)
    # nobody's choices: .5 everywhere; with the names swapped, a's are foreseen as b's and the reverse
    assert found["foreseeing@no_user"]["accuracy"]["value"] == 0.5
    assert found["foreseeing@wrong_user"]["accuracy"]["value"] == pytest.approx((0.5 + 0.75) / 2)
    pair = part["differences"]["val_seen"]["foreseeing - foreseeing@no_user"]["accuracy"]
    assert pair["value"] == pytest.approx(0.25)
    assert "foreseeing@no_user" not in report_of([Foreseeing()], table, world, "val_unseen")["splits"]["val_unseen"]


def test_a_prediction_that_is_not_finite_is_named(world):
    class Broken(Fixed):
        def predict(self, ratings, embeddings):
            return Predictions(np.full(len(ratings), np.nan))

    with pytest.raises(ValueError, match=r"'fixed' predicted no finite number in 1 of 1 choices, .*'i0001'"):
        report_of([Broken()], choices_of([("a", "i0001", "i0002", False)]), world)


@pytest.fixture(scope="module", params=["choices", "both"])
def folder(request, world, tmp_path_factory):
    """A prepared folder of choices, or of both, and a model trained on it."""
    folder = tmp_path_factory.mktemp(request.param)
    data = getattr(world, request.param)
    (folder / "data").mkdir()
    write_answers(data, folder / "data")
    world.embeddings.save(folder / "data" / "embeddings.safetensors")
    config = TrainingConfig(epochs=3, users_per_batch=4, images_per_user=8, learning_rate=1e-2, model=TINY_MODEL)
    train(config, data, world.embeddings, folder / "model", progress=False)
    return folder


def test_the_report_of_a_model_on_a_folder(folder):
    baselines = ["consensus"] if folder.name.startswith("choices") else ["user_ridge"]
    report = run(folder / "model", folder / "data", folder / "eval", baselines=baselines, bootstrap=50)
    part = json.loads((folder / "eval" / "report.json").read_text())["choices"]
    scorers = part["splits"]["val_seen"]
    assert {"pamela", "pamela@no_user", "pamela@wrong_user", baselines[0]} <= set(scorers)
    assert scorers["pamela"]["accuracy"]["value"] > scorers["pamela@wrong_user"]["accuracy"]["value"]
    assert scorers["pamela"]["accuracy"]["value"] > 0.6 and scorers["pamela"]["log_loss"]["value"] < np.log(3)
    assert set(part["splits"]) == {"val_seen", "val_unseen"}
    assert f"pamela - {baselines[0]}" in part["differences"]["val_seen"]
    page, console = (folder / "eval" / "report.html").read_text(), metric_table(report)
    assert "val_seen: choices" in page and "Which of two images do they prefer?" in page
    assert "choices (" in console and "Δ pamela - pamela@no_user  accuracy" in console
    for metric in CHOICE_METRICS.values():
        assert metric.heading in console
    assert bool(report["splits"]) == (not folder.name.startswith("choices"))


def test_a_baseline_that_needs_ratings_says_so(folder):
    if not folder.name.startswith("choices"):
        pytest.skip("has ratings")
    with pytest.raises(ValueError, match=r"baselines=\['ridge'\] are fitted on ratings of the train split"):
        run(folder / "model", folder / "data", folder / "eval2", baselines=["ridge"])


def test_ratings_alone_have_no_such_part(world):
    report = evaluate([Fixed()], world.ratings, world.embeddings, bootstrap=5, reference="fixed")
    assert report["choices"] is None and " choices (" not in metric_table(report)
