"""Figures by demographic group, and the card that shows them."""

import json

import numpy as np
import pandas as pd
import pytest

from pamela_hf.embeddings import load_embeddings
from pamela_hf.evaluation.groups import FEW, LEAST, group_summary, group_tables
from pamela_hf.metrics import bootstrap_ci, user_metrics
from pamela_hf.publishing.pseudonyms import Pseudonyms
from pamela_hf.publishing.repositories import push_model
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.scoring import PamelaScorer


def test_figures_are_means_over_the_people_of_a_group(trained_folder, ratings_folder):
    ratings = load_ratings(ratings_folder)
    scorer, embeddings = PamelaScorer.from_pretrained(trained_folder), load_embeddings(ratings.embeddings)
    found = group_summary(scorer, ratings, embeddings)
    assert found["split"] == "test_seen" and found["least"] == LEAST
    # 7 people, all of one nationality; by gender and age there are fewer than 5, who would be pointed at
    assert [(row["field"], row["value"], row["people"]) for row in found["rows"]] == [("nationality", "Belgium", 7)]
    table = ratings.splits["test_seen"]
    scores = scorer.predict(table, embeddings).scores
    people = table.participant_id.astype(str)
    each = [np.corrcoef(np.argsort(np.argsort(scores[people == p])), table.score[people == p].rank())[0, 1]
            for p in sorted(people.unique())]  # fmt: skip
    assert float(found["rows"][0]["srocc"].split()[0]) == pytest.approx(np.mean(each), abs=1e-3)
    bias = np.mean([(scores - table.score)[people == p].mean() for p in people.unique()])
    assert float(found["rows"][0]["bias"]) == pytest.approx(bias, abs=6e-3)
    ratings.splits = {"train": ratings.splits["train"]}
    assert group_summary(scorer, ratings, embeddings) is None


def test_a_model_from_embeddings_gets_a_card_with_figures(trained_folder, ratings_folder, tmp_path, monkeypatch):
    from pamela_hf.publishing import repositories as publishing

    cards = []
    kept = publishing.model_card
    monkeypatch.setattr(publishing, "model_card", lambda *a, **k: cards.append(kept(*a, **k)) or cards[-1])
    home = Pseudonyms(tmp_path / "pseudonyms.json")
    result = push_model(trained_folder, "me/toy", data=ratings_folder, pseudonyms=home, dry_run=True)
    assert "checkpoints" not in " ".join(result.files) and "metrics.jsonl" not in result.files
    assert "| nationality: Belgium | 7 |" in cards[0] and "No evaluation came with this model" in cards[0]
    assert "names no encoder" in cards[0] and "p00" not in cards[0]


def made_up(sizes, n_images=12):
    """People by gender in these numbers, all rating all images; (table, scores)."""
    rng = np.random.default_rng(0)
    genders = [gender for gender, size in sizes.items() for _ in range(size)]
    table = pd.DataFrame(
        [
            (f"p{person:03d}", f"i{image}", gender, "Art" if image % 2 else None, float(rng.integers(1, 6)))
            for person, gender in enumerate(genders)
            for image in range(n_images)
        ],
        columns=["participant_id", "image_id", "gender", "style", "score"],
    )
    table = table.assign(age_binned=None, nationality=None, group=None, type="Photo")
    noise = rng.normal(0, 1, len(table))
    return table, table.score.to_numpy() + noise + np.where(table.gender == "male", 0.5, -0.2)


def tables_of(table, scores, **options):
    users = user_metrics(scores, table.score, table.participant_id)
    return group_tables(table, {"one": scores}, {"one": users}, **options), users


def test_bias_shows_with_its_interval():
    table, scores = made_up({"female": 30, "male": 10})
    found, users = tables_of(table, scores, bootstrap=400, seed=1)
    female, male = found["people"]["gender"]
    assert (female["value"], female["people"], female["ratings"], female["few"]) == ("female", 30, 360, False)
    assert male["people"] == 10 < FEW and male["few"]
    high, low = (row["scorers"]["one"]["bias"] for row in (male, female))
    assert high["ci_low"] > 0.2 and low["ci_high"] < 0 and high["n_users"] == 10
    srocc = female["scorers"]["one"]["user_srocc"]
    own = users.values["user_srocc"][:30]
    assert srocc["value"] == pytest.approx(own.mean(), abs=6e-4)
    # Resampling everybody and keeping the group gives the interval of resampling the group.
    np.testing.assert_allclose([srocc["ci_low"], srocc["ci_high"]], bootstrap_ci(own), atol=0.01)
    assert "age_binned" not in found["people"] and "group" not in found["images"]


def test_images_are_judged_within_their_kind():
    table, scores = made_up({"female": 6})
    found, _ = tables_of(table, scores, bootstrap=20)
    art, unstated = found["images"]["style"]
    assert (art["value"], unstated["value"], art["images"], art["people"]) == ("Art", "not stated", 6, 6)
    rows = (table["style"] == "Art").to_numpy()
    within = user_metrics(scores[rows], table.score[rows], table.participant_id[rows])
    cell = art["scorers"]["one"]["user_pairwise_0"]
    assert cell["value"] == pytest.approx(within.mean("user_pairwise_0"), abs=6e-4)
    assert found["images"]["type"][0]["scorers"] == found["everyone"]["scorers"]


@pytest.mark.parametrize("sizes, digits", [({"a": 30, "b": 1}, 2), ({"a": 30, "b": 4, "c": 3}, 3), ({"a": 30}, 3)])
def test_nobody_is_found_in_the_figures_of_a_small_group_or_of_the_rest(sizes, digits):
    table, scores = made_up(sizes)
    found, users = tables_of(table, scores, bootstrap=50)
    first, *small = found["people"]["gender"]
    for row in small:
        assert row["people"] is row["ratings"] is row["images"] is None and row["few"]
        assert all(cell["value"] is cell["n_users"] is None for cell in row["scorers"]["one"].values())
    values = [end for cell in first["scorers"]["one"].values() for end in list(cell.values())[:3]]
    assert all(round(value, digits) == value for value in values)
    assert any(round(value, digits - 1) != value for value in values)
    assert not any(person in json.dumps(found) for person in users.participants)
