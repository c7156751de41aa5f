"""The page: it tells what the figures say, stands alone, and escapes what it is given."""

import copy
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pamela_hf.metrics import METRICS
from pamela_hf.report import EXPLANATIONS, headlines, render_html


def cell(value, half=0.02):
    return {"value": value, "ci_low": value - half, "ci_high": value + half, "n_users": 30}


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
    return {
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
    assert sum(tag == "svg" for tag, _ in page.tags) == 10


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
    assert len(compared) == 3
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
    assert set(EXPLANATIONS) == set(METRICS)
    page = "".join(Balanced(render_html(report)).text)
    assert all(explanation in page for explanation in EXPLANATIONS.values())
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
    page = render_html(report)
    Balanced(page)
    assert 'class="whisker' not in page
    assert headlines(report)[1][1][0].endswith("+.100 rank correlation.")
