"""Figures by demographic group, and the card that shows them."""

import numpy as np
import pytest

from pamela_hf.builder import load_ratings
from pamela_hf.embeddings import load_embeddings
from pamela_hf.group_figures import LEAST, group_figures
from pamela_hf.pseudonyms import Pseudonyms
from pamela_hf.publishing import push_model
from pamela_hf.scoring import PamelaScorer


def test_figures_are_means_over_the_people_of_a_group(trained_folder, ratings_folder):
    ratings = load_ratings(ratings_folder)
    scorer, embeddings = PamelaScorer.from_pretrained(trained_folder), load_embeddings(ratings.embeddings)
    found = group_figures(scorer, ratings, embeddings)
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
    assert group_figures(scorer, ratings, embeddings) is None


def test_a_model_from_embeddings_gets_a_card_with_figures(trained_folder, ratings_folder, tmp_path, monkeypatch):
    from pamela_hf import publishing

    cards = []
    kept = publishing.model_card
    monkeypatch.setattr(publishing, "model_card", lambda *a, **k: cards.append(kept(*a, **k)) or cards[-1])
    home = Pseudonyms(tmp_path / "pseudonyms.json")
    result = push_model(trained_folder, "me/toy", data=ratings_folder, pseudonyms=home, dry_run=True)
    assert "checkpoints" not in " ".join(result.files) and "metrics.jsonl" not in result.files
    assert "| nationality: Belgium | 7 |" in cards[0] and "No evaluation came with this model" in cards[0]
    assert "names no encoder" in cards[0] and "p00" not in cards[0]
