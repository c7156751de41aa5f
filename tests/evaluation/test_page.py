"""The page: it tells what the figures say, stands alone, and escapes what it is given."""

import copy
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pamela_hf.evaluation.page import headlines, render_html
from pamela_hf.metrics import METRICS
from pamela_hf.reports.charts import WIDTH, curves, reliability, rows_chart


def cell(value, half=0.02):
    return {"value": value, "ci_low": value - half, "ci_high": value + half, "n_users": 30}


def group(value, people, srocc, bias=0.0):
    shown = people >= 5
    figures = {"user_srocc": cell(srocc), "bias": cell(bias)} if shown else dict.fromkeys(["user_srocc", "bias"], NONE)
    figures = {metric: {**one, "n_users": people if shown else None} for metric, one in figures.items()}
    counts = dict.fromkeys(["people", "ratings", "images"], people if shown else None)
    return {"value": value, **counts, "few": people < 20, "scorers": {"pamela": figures}}


NONE = {"value": None, "ci_low": None, "ci_high": None, "n_users": None}


@pytest.fixture
def report():
    missing = {"value": None, "ci_low": None, "ci_high": None, "n_users": 0}

    def scorer(value):
        return {metric: cell(value + 0.01 * k) for k, metric in enumerate(METRICS)}

    rng = np.random.default_rng(0)
    seen = {
        "pamela": scorer(0.6),
        "pamela@no_user": scorer(0.5),
        "pamela@wrong_user": scorer(0.4),
        "<script>alert(1)</script>": scorer(0.45) | {"rmse": missing, "coverage_80": missing},
    }
    unseen = {
        "pamela": scorer(0.55),
        "pamela@k=0": scorer(0.55),
        "pamela@k=all": scorer(0.7),
        "pamela@k=20": scorer(0.6),
    }
    counts = {
        "ratings": 12345, "participants": 30, "images": 90, "left_out": {"few_ratings": 2, "constant_ratings": 1},
    }  # fmt: skip
    tenths = [k / 10 for k in range(10)]
    honest = {
        "error": 0.021,
        "reliability": [{"predicted": t + 0.05, **cell(t + 0.03), "share": 0.1} for t in tenths],
        "pit": [cell(0.13 if k in (0, 9) else 0.0925, 0.01) for k in range(10)],
    }
    groups = {
        "least": 5, "few": 20, "everyone": group("everyone", 30, 0.6),
        "people": {"age_binned": [group("20-29", 24, 0.6), group("30-39<b>", 6, 0.5), group("80-89", 2, 0)]},
        "images": {"style": [group("Pop_Art", 30, 0.6, -0.3), group("not stated", 30, 0.6)],
                   "type": [group("Art", 30, 0.6)]},
    }  # fmt: skip
    return {
        "diverging": {"test_seen": {**cell(0.28), "n_pairs": 4321}},
        "gap": {"test": {"pamela": {m: {**cell(0.05), "n_seen": 30, "n_unseen": 20} for m in METRICS}}},
        "calibration": {"test_seen": {"pamela": honest, "pamela@no_user": honest}, "test_unseen": {}},
        "groups": {"test_seen": groups},
        "noise_ceiling": None,
        "paper": {
            "same_ratings": False, "columns": ["user_srocc", "user_plcc", "user_pairwise_0"],
            "held_out": [{"scorer": "pamela", "method": "PAMELA", "ours": seen["pamela"], "paper": None}],
            "claims": [{"claim": "Diverging pairs", "ours": cell(0.61), "paper": None}],
        },
        "splits": {"test_seen": seen, "test_unseen": unseen},
        "differences": {
            "test_seen": {
                f"pamela - {name}": {m: cell(0.1) for m in METRICS} for name in list(seen)[1:]
            },
            "test_unseen": {"pamela - pamela@k=20": {m: cell(-0.05) for m in METRICS}},
        },
        "per_user": {
            split: {name: {"user_srocc": sorted(rng.uniform(-0.35, 0.9, 30))} for name in scorers}
            for split, scorers in (("test_seen", seen), ("test_unseen", unseen))
        },
        "meta": {
            "version": "0", "seed": 0, "bootstrap": 1000, "reference": "pamela", "simulated": False, "data": "R&D <b>",
            "scorers": {name: {"identity": None, "personal": True, "score_range": None} for name in list(seen)[::3]},
            "counts": {"test_seen": counts, "test_unseen": counts},
        },
    }  # fmt: skip


class Balanced(HTMLParser):
    """Every tag that is opened is closed, in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def test_page_stands_alone_and_is_well_formed(report):
    page = Balanced(render_html(report))
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe")]
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & set(attrs)]
    assert "prefers-color-scheme: dark" in render_html(report)
    assert sum(tag == "svg" for tag, _ in page.tags) == 18


def test_every_string_is_escaped(report):
    text = render_html(report)
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "R&amp;D &lt;b&gt;" in text and "R&D <b>" not in text


def test_headlines_follow_the_figures(report):
    (unseen, few), (seen, compared) = headlines(report)
    assert unseen.startswith("On people it has never met, pamela ranks two images as they would 58 % of the time")
    assert "60 % where their two ratings are more than 2 levels apart" in unseen and few == []
    assert "trained with" in seen and "63 %" in seen
    assert compared[0].startswith("Compared with <script>alert(1)</script>: better, +.100 rank correlation")
    assert "28 % divide them; there it is right 67.0 % of the time (65.0 to 69.0)" in compared[3]
    assert compared[4].startswith("Its probabilities are off by 2.1 points of 100") and len(compared) == 5
    worse = copy.deepcopy(report)
    worse["differences"]["test_seen"]["pamela - pamela@no_user"]["user_srocc"] = cell(-0.1)
    worse["differences"]["test_seen"]["pamela - pamela@wrong_user"]["user_srocc"] = cell(0.01)
    _, (_, compared) = headlines(worse)
    assert ": worse, −.100" in compared[1] and "no clear difference, +.010" in compared[2]


def test_simulated_is_said_first(report):
    assert 'class="badge"' not in render_html(report)
    report["meta"]["simulated"] = True
    page = render_html(report)
    assert '<span class="badge">simulated</span>' in page and "not how well real" in page


def test_few_shot_curve_is_in_the_order_of_k(report):
    page = render_html(report)
    curve = re.search(r"<title>user_srocc by k</title>(.*?)</svg>", page).group(1)
    labels = [label for label in re.findall(r">([^<]+)</text>", curve) if label in ("0", "20", "all")]
    assert labels == ["0", "20", "all"]


def test_each_metric_is_explained_and_each_colour_is_one_scorer(report):
    page = "".join(Balanced(render_html(report)).text)
    assert all(metric.meaning in page for metric in METRICS.values())
    assert "12,345 ratings" in page
    keys = re.findall(r'class="key (s\d)"></span>([^<]+)<', render_html(report))
    assert {color for color, name in keys if name == "pamela"} == {"s0"}
    assert {color for color, name in keys if name == "pamela@wrong_user"} == {"s2"}


def test_what_is_missing_leaves_a_dash_and_no_chart(report):
    nothing = {"value": None, "ci_low": None, "ci_high": None, "n_users": 0}
    for scorers in report["splits"].values():
        for name in scorers:
            scorers[name] = dict.fromkeys(METRICS, nothing)
    report["differences"] = {split: {} for split in report["splits"]}
    report["diverging"] = {split: {**nothing, "n_pairs": 0} for split in report["splits"]}
    report |= {"gap": {}, "calibration": {}, "groups": {}}
    report["paper"]["held_out"] = []
    report["per_user"] = {split: {"pamela": {"user_srocc": []}} for split in report["splits"]}
    page = Balanced(render_html(report))
    assert headlines(report) == []
    assert "no value" in page.text and "–" in page.text


def test_without_a_bootstrap_there_are_values_and_no_whiskers(report):
    for group in (report["splits"], report["differences"]):
        for scorers in group.values():
            for metrics in scorers.values():
                for value in metrics.values():
                    value["ci_low"] = value["ci_high"] = None
    report |= {"gap": {}, "groups": {}}
    page = render_html(report)
    Balanced(page)
    assert 'class="whisker' not in page
    assert headlines(report)[1][1][0].endswith("+.100 rank correlation.")


def test_the_paper_stands_beside_its_own_ratings_alone(report):
    page = "".join(Balanced(render_html(report)).text)
    assert "the ratings are others" in page and ".4514" not in page and "HPSv3" not in page
    paper = dict.fromkeys(report["paper"]["columns"], 0.4514)
    report["paper"]["same_ratings"] = True
    report["paper"]["held_out"][0]["paper"] = paper
    report["paper"]["held_out"].append({"scorer": None, "method": "HPSv3", "ours": None, "paper": paper})
    report["paper"]["claims"][0]["paper"] = 0.61
    page = "".join(Balanced(render_html(report)).text)
    assert page.count(".4514") == 6 and "HPSv3" in page and "the ratings are others" not in page


def test_small_groups_are_named_and_their_figures_are_not(report):
    page = render_html(report)
    text = "".join(Balanced(page).text)
    assert "Fewer than 5 people, so that figures would be about persons: 80-89." in text
    assert "30-39&lt;b&gt; (6)*" in page and "20-29 (24)<" in page
    assert "clear of that: 30-39<b> (.500)" in text and "clear of 0: Pop Art (−.30)" in text
    table = text[text.index("Every group, with counts") :]
    assert "fewer than 5 people: not shown" in table and "few people" in table
    assert "By type" not in text and "By style" in text  # one kind alone compares with nothing


def test_calibration_is_said_in_words(report):
    text = "".join(Balanced(render_html(report)).text)
    assert "in points of 100: pamela 2.1" in text
    assert "pamela: too sure." in text
    for place in (0, 9):
        report["calibration"]["test_seen"]["pamela"]["pit"][place] = cell(0.1)
    report["calibration"]["test_seen"]["pamela"]["pit"][1:5] = [cell(0.14)] * 4
    text = "".join(Balanced(render_html(report)).text)
    assert "pamela: about as sure as it may be, scores too high." in text


def test_second_ratings_mark_every_ranking_and_have_a_card(report):
    assert "second rating" not in render_html(report)
    ceiling = {metric: cell(0.85) for metric in METRICS}
    report["noise_ceiling"] = {"metrics": ceiling, "ratings": 1234, "participants": 30, "images": 90}
    page = render_html(report)
    assert page.count("their second rating</text>") == 2 and "30 people rated images a second time (1,234" in page


def test_test_splits_come_first_and_validation_is_folded(report):
    page = render_html(report)
    assert page.count('<details class="split" open>') == 2
    for key in ("splits", "differences", "per_user"):
        report[key] = {"val_seen": report[key]["test_seen"], **report[key]}
    report["meta"]["counts"]["val_seen"] = report["meta"]["counts"]["test_seen"]
    page = render_html(report)
    assert page.index("<h2>test_unseen") < page.index("<h2>val_seen")
    assert page.count('<details class="split" open>') == 2 and page.count('<details class="split">') == 1


def test_empty_bins_leave_no_dot():
    bins = [{"predicted": None, **NONE, "share": 0.0}, {"predicted": 0.9, **cell(0.8), "share": 1.0}]
    assert reliability([("one", bins, "s0")]).count("<circle") == 2  # one of them in the legend


def test_ticks_of_curves_are_told_apart():
    close = [cell(0.500, 0.004), cell(0.506, 0.004), cell(0.512, 0.004)]
    ticks = re.findall(r'class="tick" text-anchor="end">([^<]*)<', curves("x", [(None, close, "s0")], "abc", "", []))
    assert len(set(ticks)) == len(ticks) > 2


def test_a_rivals_controls_take_its_own_colour(report):
    rivals = ("low_rank", "residual", "user_ridge", "matrix_factorization")
    scorers = report["splits"]["test_seen"]
    scorers |= {f"{rival}{part}": scorers["pamela"] for rival in rivals for part in ("", "@no_user", "@wrong_user")}
    colors = dict(reversed(pair) for pair in re.findall(r'class="key ([^"]+)"></span>([^<]+)<', render_html(report)))
    assert len({colors[rival] for rival in rivals}) == len(rivals)
    assert all(colors[f"{rival}@no_user"] == f"{colors[rival]} pale" for rival in rivals)


def test_of_very_few_people_the_headline_says_how_few(report):
    scorers = report["splits"]["test_seen"]["pamela"]
    for people, words in ((1, "trained with (only 1 person judged), pamela"), (5, "(only 5 people judged)")):
        scorers["user_pairwise_0"]["n_users"] = people
        assert words in headlines(report)[1][0] and "only" not in headlines(report)[0][0]
    assert "too few" not in " ".join(headlines(report)[1][1])
    for cells in report["differences"]["test_seen"].values():
        cells["user_srocc"]["n_users"] = 5
    for sentence in headlines(report)[1][1][:3]:
        assert "too few people to tell" in sentence and "clear" not in sentence


def test_the_longest_label_has_room():
    label = "@k=10 − matrix_factorization@k=10"  # as long as one is shown
    row = rows_chart("x", [(label, cell(0.1), "s0")], 0.0, "difference")
    start, shown = re.search(rf'<text x="([\d.]+)"[^>]*>({label})<', row).groups()
    value = re.search(r'<text x="([\d.]+)"[^>]*text-anchor="end">\+.100<', row)
    letter = 0.65 * 13  # px, on average, in DejaVu Sans, a wide font
    assert float(start) + letter * len(shown) < float(value.group(1)) - letter * len("+.100") <= WIDTH


def test_ticks_are_told_apart():
    chart = rows_chart("bias", [("a", cell(0.02), "s0"), ("b", cell(0.17), "s0")], 0.0, "difference", (), 2)
    ticks = re.findall(r'class="tick" text-anchor="middle">([^<]+)<', chart)
    assert len(set(ticks)) == len(ticks) > 2
