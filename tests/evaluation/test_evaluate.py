"""The report: controls, differences, few-shot results, and what is refused; at the end a real model."""

import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pamela_hf.evaluation import evaluate as evaluation
from pamela_hf.evaluation.evaluate import evaluate, with_wrong_user, without_user
from pamela_hf.evaluation.page import render_html
from pamela_hf.evaluation.table import metric_table
from pamela_hf.experiments.ablation_page import shown_metrics
from pamela_hf.metrics import METRICS, Metric, judge
from pamela_hf.reports import files as report_files
from pamela_hf.reports.files import write_report
from pamela_hf.scoring import Predictions

ROOT = Path(__file__).parents[2]


@dataclass
class Oracle:
    """Knows what `people` said of each image, and says the mean where it does not know who is asked."""

    data: object
    name: str = "pamela"
    personal: bool = True
    higher_is_better: bool = True
    score_range: tuple | None = (1.0, 5.0)
    asked: list = field(default_factory=list)

    def predict(self, ratings, embeddings):
        self.asked.append(ratings)
        known = pd.concat(self.data.splits.values())
        mean = known.groupby("image_id", observed=True).score.mean()
        said = {(p, i): s for p, i, s in zip(known.participant_id, known.image_id, known.score)}
        seen = set(self.data.splits["train"].participant_id)
        return Predictions(
            np.array(
                [
                    said[p, i] if self.personal and p in seen else mean[i]
                    for p, i in zip(ratings.participant_id, ratings.image_id)
                ]
            )
        )


@pytest.fixture(scope="module")
def report(data, features):
    consensus = Oracle(data, name="consensus", personal=False)
    reversed_ranks = Oracle(data, name="<i>last</i>", personal=False, higher_is_better=False, score_range=None)
    return evaluate([Oracle(data), consensus, reversed_ranks], data, features, bootstrap=60, seed=1)


def cells(report, split, metric):
    return {name: scorer[metric]["value"] for name, scorer in report["splits"][split].items()}


def test_contract_names(report):
    assert set(report["splits"]) == {"val_seen", "val_unseen", "test_seen", "test_unseen"}
    assert set(report["splits"]["test_seen"]) == {
        "pamela", "pamela@no_user", "pamela@wrong_user", "consensus", "<i>last</i>",
    }  # fmt: skip
    assert set(report["splits"]["test_unseen"]) == {"pamela", "pamela@k=0", "consensus", "<i>last</i>"}
    for scorer in report["splits"]["test_seen"].values():
        assert list(scorer) == list(METRICS)
        assert all(set(cell) == {"value", "ci_low", "ci_high", "n_users"} for cell in scorer.values())


def test_a_metric_added_to_the_table_alone_is_everywhere(data, features, tmp_path, monkeypatch):
    def miss(person):
        return float(np.abs(person.predictions - person.ratings).max())

    def raters(table, weights):
        return float(table.shape[0]), weights.sum(1), np.ones(table.shape[0], bool)

    monkeypatch.setitem(METRICS, "miss", Metric("The largest error.", "miss", best=0.0, of_person=miss,
                                                in_differences=True, in_ablation=True))  # fmt: skip
    monkeypatch.setitem(METRICS, "raters", Metric("How many people there are.", "raters", best=1.0, of_people=raters))
    found = evaluate([Oracle(data), Oracle(data, name="mean", personal=False)], data, features, bootstrap=20)
    stored, page = write_report(found, tmp_path, render_html)
    own, mean = (json.loads(stored.read_text())["splits"]["test_seen"][name] for name in ("pamela", "mean"))
    people = data.splits["test_seen"].participant_id.nunique()
    assert own["miss"]["value"] == 0 < mean["miss"]["ci_low"] and own["raters"]["value"] == people
    assert "The largest error." in page.read_text() and "How many people there are." in page.read_text()
    console = metric_table(found)
    compared = sum(bool(pairs) for pairs in found["differences"].values())
    assert console.count("  miss") == len(found["splits"]) + compared
    row = next(line for line in console.partition("test_seen:")[2].splitlines() if line.startswith("pamela  "))
    assert row.split()[1 + list(METRICS).index("miss")] == ".000*"  # lower is better
    assert "miss" in shown_metrics()


def test_controls_show_what_the_person_is_worth(report):
    value = cells(report, "test_seen", "user_srocc")
    assert value["pamela"] == pytest.approx(1.0)
    assert value["pamela"] > value["pamela@no_user"] > value["pamela@wrong_user"]
    assert value["pamela@no_user"] == value["consensus"]
    worth = report["differences"]["test_seen"]["pamela - pamela@no_user"]["user_srocc"]
    assert worth["value"] == pytest.approx(value["pamela"] - value["pamela@no_user"])
    assert 0 < worth["ci_low"] <= worth["value"] <= worth["ci_high"]
    same = report["differences"]["test_seen"]["pamela@no_user - pamela@wrong_user"]["user_srocc"]
    assert same["value"] > 0 and same["n_users"] == 7


def test_the_unknown_are_the_same_at_k_0(report):
    assert report["splits"]["val_unseen"]["pamela@k=0"] == report["splits"]["val_unseen"]["pamela"]
    assert "pamela - pamela@k=0" not in report["differences"]["val_unseen"]


def test_controls_edit_the_id_and_nothing_else(data):
    ratings = data.splits["val_seen"]
    people = sorted(ratings.participant_id.unique())
    swapped, nobody = with_wrong_user(ratings), without_user(ratings)
    place = {person: k for k, person in enumerate(people)}
    n = len(people)
    assert n % 2 == 1
    for before, after in zip(ratings.participant_id, swapped.participant_id):
        assert after == people[(place[before] + n // 2) % n] != before
    assert nobody.participant_id.isna().all()
    for edited in (swapped, nobody):
        assert edited.participant_id.dtype == ratings.participant_id.dtype
        pd.testing.assert_frame_equal(edited.drop(columns="participant_id"), ratings.drop(columns="participant_id"))


def test_two_people_are_swapped_and_one_alone_has_no_wrong_user(data, features):
    ratings = data.splits["val_seen"]
    two = ratings[ratings.participant_id.isin(["p01", "p03"])]
    assert set(zip(two.participant_id, with_wrong_user(two).participant_id)) == {("p01", "p03"), ("p03", "p01")}
    alone = replace(data, splits=data.splits | {"val_seen": ratings[ratings.participant_id == "p01"]})
    report = evaluate([Oracle(data)], alone, features, splits=["val_seen"], bootstrap=0)
    assert set(report["splits"]["val_seen"]) == {"pamela", "pamela@no_user"}


def test_controls_are_judged_against_who_really_rated(data, features):
    oracle = Oracle(data)
    evaluate([oracle], data, features, splits=["val_seen"], bootstrap=0)
    real, nobody, wrong = oracle.asked
    pd.testing.assert_frame_equal(real, data.splits["val_seen"].reset_index(drop=True))
    assert nobody.participant_id.isna().all() and (wrong.participant_id != real.participant_id).all()


def test_values_are_those_of_the_metrics(report, data):
    ratings = data.splits["val_seen"]
    mean = pd.concat(data.splits.values()).groupby("image_id", observed=True).score.mean()
    expected, _ = judge(
        ratings.image_id.map(mean).astype(float),
        ratings.score,
        ratings.participant_id,
        ratings.image_id,
        bootstrap=60,
        seed=1,
    )
    for metric in set(METRICS) - {"coverage_80"}:
        assert report["splits"]["val_seen"]["consensus"][metric] == expected[metric].as_dict()


def test_a_score_that_falls_with_liking_is_turned_round_and_has_no_rmse(report):
    value = cells(report, "test_seen", "user_srocc")
    assert value["<i>last</i>"] == pytest.approx(-value["consensus"])
    assert np.isnan(cells(report, "test_seen", "rmse")["<i>last</i>"])
    assert cells(report, "test_seen", "rmse")["consensus"] > 0


def test_the_report_names_nobody(report, data):
    text = json.dumps(report_files._without_nan(report))
    people = pd.concat(data.splits.values()).participant_id.unique()
    assert not any(f'"{person}"' in text for person in people)
    values = report["per_user"]["val_seen"]["consensus"]["user_srocc"]
    assert values == sorted(values) and len(values) == 7


def test_few_shot_results_stand_beside_and_average_their_draws(data, features):
    def few_shot(scorer, split, ratings):
        assert split == "val_unseen"
        halves = [np.flatnonzero(np.arange(len(ratings)) % 2 == k) for k in (0, 1)]
        everything = np.arange(len(ratings))
        exact = Predictions(ratings.score.to_numpy())
        opposite = Predictions(-ratings.score.to_numpy())
        return {
            "k=5": [(everything, exact), (everything, opposite)],
            "k=10": [(rows, Predictions(ratings.score.to_numpy()[rows])) for rows in halves],
        }

    report = evaluate([Oracle(data)], data, features, splits=["val_unseen"], few_shot=few_shot, bootstrap=20)
    value = cells(report, "val_unseen", "user_srocc")
    assert list(value) == ["pamela", "pamela@k=0", "pamela@k=5", "pamela@k=10"]
    assert value["pamela@k=5"] == pytest.approx(0.0) and value["pamela@k=10"] == pytest.approx(1.0)


def test_few_shot_is_compared_on_the_same_people_and_ratings(data, features):
    """Ratings are set aside to be given, and who has too few drops out: k=0 over everybody is another sample."""

    def few_shot(scorer, split, ratings):
        kept = [np.flatnonzero((ratings.participant_id != "p01") & (np.arange(len(ratings)) % 3 != k)) for k in (0, 1)]
        return {"k=5": [(rows, Predictions(ratings.score.to_numpy()[rows])) for rows in kept]}

    class Average(Oracle):
        def predict(self, ratings, embeddings):
            return Predictions(ratings.image_id.map(mean).to_numpy(float))

    mean = pd.concat(data.splits.values()).groupby("image_id", observed=True).score.mean()
    seen = data.splits["val_seen"]
    oracle, consensus = Average(data), Average(data, name="consensus")
    unseen = replace(data, splits=data.splits | {"val_unseen": seen})
    report = evaluate([oracle, consensus], unseen, features, splits=["val_unseen"], few_shot=few_shot, bootstrap=20)
    told, wanted = report["splits"]["val_unseen"]["pamela@k=5"], []
    table = seen.reset_index(drop=True)
    for rows, _ in few_shot(oracle, "val_unseen", table)["k=5"]:
        part = table.iloc[rows]
        scores = oracle.predict(part.reset_index(drop=True), features).scores
        judged, _ = judge(scores, part.score, part.participant_id, part.image_id, bootstrap=0)
        wanted.append(judged["user_srocc"].value)
    untold = report["few_shot"]["val_unseen"]["pamela@k=5"]
    difference = report["differences"]["val_unseen"]["pamela - pamela@k=5"]
    for cell in (told, untold, difference):
        assert cell["user_srocc"]["n_users"] == 6
    assert untold["user_srocc"]["value"] == pytest.approx(np.mean(wanted))
    assert difference["user_srocc"]["value"] == pytest.approx(np.mean(wanted) - told["user_srocc"]["value"])
    page, text = render_html(report_files._without_nan(report)), metric_table(report)
    assert "the same, none given" in page and "pamela@k=5, consensus@k=5: judged on other people" in page
    assert "pamela@k=5, consensus@k=5: judged on other people" in text
    starred = [line.split()[0] for line in text.splitlines() if "*" in line.split("best;")[0]]
    assert starred and not any("@k=5" in name for name in starred)

    everybody = {"k=5": [(np.arange(len(table)), Predictions(table.score.to_numpy()))]}
    report = evaluate([oracle], unseen, features, splits=["val_unseen"], few_shot=lambda *_: everybody, bootstrap=0)
    assert report["few_shot"]["val_unseen"] == {}
    assert "the same, none given" not in render_html(report_files._without_nan(report))


def test_numbers_of_ratings_that_nobody_has_are_named(trained_folder, ratings_folder, tmp_path):
    report = evaluation.run(trained_folder, ratings_folder, tmp_path, splits=["val_unseen"], few_shot=[2, 500], draws=1)
    assert "pamela@k=500" not in report["splits"]["val_unseen"]
    people = report["meta"]["counts"]["val_unseen"]["participants"]
    assert report["meta"]["few_shot"]["left_out"]["val_unseen"] == {"k=2": 0, "k=500": people}
    for told in (metric_table(report), (tmp_path / "report.html").read_text()):
        assert "Skipped, since nobody has that many ratings: k=500." in told
    assert json.loads((tmp_path / "report.json").read_text())["meta"]["few_shot"]["left_out"]["val_unseen"]["k=500"]


def test_margins_follow_the_rating_scale(data, features):
    """Half steps: a difference of one is two levels, whatever the numbers on the scale."""
    halves = {split: table.assign(score=table.score / 2) for split, table in data.splits.items()}
    half = replace(data, splits=halves, level_values={"toy": tuple(v / 2 for v in data.level_values["toy"])})
    whole, halved = (
        evaluate([Oracle(d, personal=False)], d, features, splits=["val_seen"], bootstrap=0) for d in (data, half)
    )
    for metric in ("user_pairwise_1", "user_pairwise_3"):
        assert cells(whole, "val_seen", metric) == cells(halved, "val_seen", metric)


def test_report_files_are_strict_and_whole(report, tmp_path):
    json_path, html_path = write_report(report, tmp_path / "new" / "folder", render_html)

    def refuse(token):
        raise AssertionError(token)

    read = json.loads(json_path.read_text(), parse_constant=refuse)
    assert read["splits"]["test_seen"]["consensus"]["coverage_80"] == {
        "value": None, "ci_low": None, "ci_high": None, "n_users": 0,
    }  # fmt: skip
    assert read["splits"]["test_seen"]["pamela"]["user_srocc"]["value"] == pytest.approx(1.0)
    before = json_path.read_bytes()
    write_report(report, json_path.parent, render_html)
    assert json_path.read_bytes() == before and html_path.exists()
    with pytest.raises(TypeError):
        write_report(report | {"meta": report["meta"] | {"odd": object()}}, json_path.parent, render_html)
    assert json_path.read_bytes() == before
    assert sorted(path.name for path in json_path.parent.iterdir()) == ["report.html", "report.json"]


def test_rivals_alone_make_a_report_without_the_reference(data, features, tmp_path):
    rivals = [Oracle(data, name=name, personal=False) for name in ("one", "two")]
    report = evaluate(rivals, data, features, splits=["val_seen"], bootstrap=10)
    assert report["differences"] == {"val_seen": {}}
    assert "On people it was trained with, one ranks" in write_report(report, tmp_path, render_html)[1].read_text()
    assert (
        "one - two" in evaluate(rivals, data, features, splits=["val_seen"], reference="one")["differences"]["val_seen"]
    )


def test_table_marks_the_best_of_each_column(report):
    table = metric_table(report)
    lines = {line.split()[0]: line for line in table.split("test_seen")[1].splitlines() if line.strip()}
    assert "1.000*" in lines["pamela"] and "*" not in lines["<i>last</i>"]
    assert "left out: 0 with few" in table and "–" in lines["<i>last</i>"]


def test_the_gap_compares_two_samples_of_people(report):
    assert set(report["gap"]) == {"val", "test"} and set(report["gap"]["test"]) == {
        "pamela",
        "consensus",
        "<i>last</i>",
    }
    cell, splits = report["gap"]["test"]["pamela"]["user_srocc"], report["splits"]
    seen, unseen = (splits[split]["pamela"]["user_srocc"] for split in ("test_seen", "test_unseen"))
    assert cell["value"] == pytest.approx(seen["value"] - unseen["value"])
    assert (cell["n_seen"], cell["n_unseen"]) == (seen["n_users"], unseen["n_users"]) == (7, 1)
    assert np.isnan([cell["ci_low"], cell["ci_high"]]).all()  # one person on one side says nothing about others


def test_the_gap_is_as_uncertain_as_both_samples_together():
    """Were the two drawn alike, their errors would cancel or add up."""
    rng = np.random.default_rng(0)
    ratings = np.tile([1, 2, 3, 4, 5, 3], 200)
    users = np.repeat(np.arange(200), 6)
    judged = [
        {"one": evaluation.Judged(*judge(ratings + rng.normal(0, 2, 1200), ratings, users, bootstrap=4000, seed=5))}
        for _ in range(2)
    ]
    cell = evaluation._gaps(*judged)["one"]["user_srocc"]
    spread = np.hypot(*(np.nanstd(one["one"].users.values["user_srocc"]) / np.sqrt(200) for one in judged))
    assert cell["ci_high"] - cell["ci_low"] == pytest.approx(2 * 1.96 * spread, rel=0.06)


@dataclass
class Vague:
    """Gives every level the same probability."""

    name: str = "vague"
    personal: bool = False
    higher_is_better: bool = True
    score_range: tuple | None = None

    def predict(self, ratings, embeddings):
        n = len(ratings)
        return Predictions(np.full(n, 3.0), probs=np.full((n, 5), 0.2), level_values=np.tile(np.arange(1.0, 6), (n, 1)))


def test_what_gives_probabilities_is_held_to_them(data, features):
    report = evaluate([Vague(), Oracle(data)], data, features, splits=["test_seen"], bootstrap=20)
    assert set(report["calibration"]["test_seen"]) == {"vague"}
    found = report["calibration"]["test_seen"]["vague"]
    ratings = data.splits["test_seen"].score
    for k in range(1, 5):  # "at least level k + 1" was promised in (5 - k) of 5 cases
        assert found["reliability"][10 - 2 * k]["value"] == pytest.approx((ratings > k).mean())
    assert [cell["value"] for cell in found["pit"]] == pytest.approx(
        [(ratings == level).mean() / 2 for level in range(1, 6) for _ in range(2)]
    )
    assert report["diverging"]["test_seen"]["n_pairs"] > 0


def test_groups_stand_beside_the_whole(report, data):
    groups = report["groups"]["test_seen"]
    assert set(groups["people"]) == {"age_binned", "gender", "nationality"} and set(groups["images"]) == {
        "group",
        "type",
    }
    everyone = groups["everyone"]
    assert set(everyone["scorers"]) == {"pamela", "consensus", "<i>last</i>"}
    assert everyone["people"] == 7 and everyone["ratings"] == len(data.splits["test_seen"])
    whole = report["splits"]["test_seen"]["consensus"]["user_srocc"]
    assert everyone["scorers"]["consensus"]["user_srocc"]["value"] == pytest.approx(whole["value"], abs=6e-4)
    assert "bias" in everyone["scorers"]["pamela"] and "bias" not in everyone["scorers"]["<i>last</i>"]
    assert [row["people"] for row in groups["people"]["gender"]] == [None, None]  # 3 and 4 people
    assert sum(row["ratings"] for row in groups["images"]["type"]) == everyone["ratings"]


def test_second_ratings_give_a_ceiling(report, data, features):
    assert report["noise_ceiling"] is None
    table = data.splits["test_seen"][["participant_id", "image_id", "rating_scale"]].astype(str)
    first = data.splits["test_seen"].score.to_numpy(float)
    again = table.assign(first=first, second=np.clip(first + np.arange(len(first)) % 2, 1, 5))
    ceiling = evaluate([Vague()], data, features, splits=["test_seen"], bootstrap=20, repeats=again)["noise_ceiling"]
    assert 0.8 < ceiling["metrics"]["user_srocc"]["value"] < 1 and ceiling["participants"] == 7


class Broken(Oracle):
    change = staticmethod(lambda scores: scores)

    def predict(self, ratings, embeddings):
        return Predictions(self.change(super().predict(ratings, embeddings).scores.astype(float)))


def test_bad_predictions_are_named(data, features):
    broken = Broken(data, name="rival", personal=False)
    broken.change = lambda scores: np.where(np.arange(len(scores)) == 3, np.nan, scores)
    with pytest.raises(
        ValueError, match=r"scorer 'rival' on split 'val_seen' predicted nan in 1 of \d+ rows, first row 3"
    ):
        evaluate([broken], data, features, splits=["val_seen"])
    broken.change = lambda scores: scores[:-1]
    with pytest.raises(ValueError, match=r"scorer 'rival' on split 'val_seen': scores has shape"):
        evaluate([broken], data, features, splits=["val_seen"])


def test_misnamed_and_empty_splits_are_refused(data, features):
    with pytest.raises(ValueError, match=r"splits has 'tset_seen'; the data has .*'test_seen'"):
        evaluate([Oracle(data)], data, features, splits=["tset_seen"])
    empty = replace(data, splits=data.splits | {"val_seen": data.splits["val_seen"].iloc[:0]})
    with pytest.raises(ValueError, match="'val_seen', which holds no ratings"):
        evaluate([Oracle(data)], empty, features)
    with pytest.raises(ValueError, match=r"none to evaluate; the data has .*'train'"):
        evaluate([Oracle(data)], replace(data, splits={"train": data.splits["train"]}), features)
    with pytest.raises(ValueError, match="each with a name of its own"):
        evaluate([Oracle(data), Oracle(data)], data, features)
    with pytest.raises(ValueError, match="bootstrap=-1; the number of draws"):
        evaluate([Oracle(data)], data, features, bootstrap=-1)


def test_run_judges_a_trained_model_beside_a_baseline(trained_folder, ratings_folder, tmp_path):
    command = [sys.executable, ROOT / "scripts/evaluate.py", "--model", trained_folder, "--data", ratings_folder]
    command += ["--output", tmp_path / "eval", "--baselines", "ridge", "--bootstrap", "50"]
    (tmp_path / "again.csv").write_text("participant,image,score\np00,img001,3\np00,img002,4\n")
    command += ["--repeats", tmp_path / "again.csv"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "pamela@wrong_user" in done.stdout and "report.html" in done.stdout
    report = json.loads((tmp_path / "eval" / "report.json").read_text())
    seen, unseen = report["splits"]["test_seen"], report["splits"]["test_unseen"]
    assert set(seen) == {"pamela", "pamela@no_user", "pamela@wrong_user", "ridge"}
    assert unseen["pamela"] == unseen["pamela@k=0"]
    assert report["meta"]["scorers"]["pamela"]["identity"]
    assert seen["pamela"]["coverage_80"]["value"] > 0 and seen["ridge"]["rmse"]["value"] > 0
    assert report["meta"]["simulated"] is False
    assert set(report["calibration"]["test_seen"]) == {"pamela", "pamela@no_user", "pamela@wrong_user", "ridge"}
    assert report["noise_ceiling"]["ratings"] == 2 and report["noise_ceiling"]["metrics"]["user_srocc"]["value"] is None
    assert report["paper"]["same_ratings"] is False
    assert [row["scorer"] for row in report["paper"]["held_out"]] == ["pamela", "ridge"]


def test_run_refuses_before_loading_the_model(ratings_folder, tmp_path):
    for options, message in (
        ({"baselines": ["rigde"]}, "baseline 'rigde' does not exist; there are .*ridge"),
        ({"splits": ["validation"]}, "splits has 'validation'"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation.run("no/such/model", ratings_folder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
