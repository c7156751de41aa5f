"""The paper's figures: beside its own ratings, and beside nobody else's."""

from dataclasses import replace

import pytest

from pamela_hf.evaluation import paper
from pamela_hf.evaluation.paper import HELD_OUT, RELEASED_MEANS, RELEASED_RATINGS, is_papers_release, paper_table
from pamela_hf.metrics import METRICS
from pamela_hf.ratings.builder import load_ratings


@pytest.fixture
def release(ratings_folder, monkeypatch):
    """Toy ratings, taken for the release."""
    data = load_ratings(ratings_folder)
    train = data.splits["train"]
    means = {("type", kind): float(train.score[train.type == kind].mean()) for kind in ("Art", "Photorealism")}
    monkeypatch.setattr(paper, "RELEASED_MEANS", means)
    monkeypatch.setattr(paper, "RELEASED_RATINGS", {split: len(table) for split, table in data.splits.items()})
    return data


def test_the_release_is_known_by_what_it_holds(release):
    assert is_papers_release(release)
    assert is_papers_release(replace(release, name="my_copy"))
    train = release.splits["train"]
    other = train.assign(score=train.score.where(train.index != 0, 6 - train.score))
    assert other.score[0] != train.score[0]
    assert not is_papers_release(replace(release, splits=release.splits | {"train": other}))
    fewer = {split: table for split, table in release.splits.items() if split != "val_unseen"}
    assert not is_papers_release(replace(release, splits=fewer))


def test_a_layout_a_name_and_a_size_are_not_the_release(ratings_folder):
    data = replace(load_ratings(ratings_folder), name="pamela")
    assert not is_papers_release(data)
    same_size = {
        split: data.splits["train"].iloc[[0] * n].reset_index(drop=True) for split, n in RELEASED_RATINGS.items()
    }
    assert not is_papers_release(replace(data, splits=same_size))


def test_the_known_means_are_those_of_the_whole():
    """17,698 and 32,524 ratings: the published aggregates agree with each other."""
    assert RELEASED_RATINGS["train"] == 17_698 + 32_524
    assert sum(RELEASED_RATINGS.values()) == 69_904
    assert len(RELEASED_MEANS) == 16


def report_of(*scorers):
    cell = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n_users": 30}
    cells = dict.fromkeys(METRICS, cell)
    return {
        "splits": {"test_seen": {"pamela": cells}, "test_unseen": dict.fromkeys(scorers, cells)},
        "gap": {"test": {"pamela": {"user_srocc": cell}}},
        "meta": {"reference": "pamela"},
    }


def test_methods_of_the_paper_are_matched_by_name_and_missing_ones_added():
    table = paper_table(report_of("pamela", "pamela@k=0", "consensus"), True)
    rows = {row["method"] or row["scorer"]: row for row in table["held_out"]}
    assert list(rows) == ["PAMELA", "consensus", *list(HELD_OUT)[1:]]
    assert rows["PAMELA"]["paper"]["user_srocc"] == 0.4514 and rows["PAMELA"]["ours"]["user_srocc"]["value"] == 0.5
    assert rows["consensus"]["paper"] is None and rows["HPSv3"]["ours"] is None
    assert [row["paper"] for row in table["claims"]] == [0.61, 0.55, 0.06]


def test_other_ratings_get_the_form_without_the_figures():
    table = paper_table(report_of("pamela"), False)
    assert [row["scorer"] for row in table["held_out"]] == ["pamela"]
    assert all(row["paper"] is None for row in table["held_out"] + table["claims"])
    assert paper_table({"splits": {}, "gap": {}, "meta": {"reference": "pamela"}}, False)["held_out"] == []
