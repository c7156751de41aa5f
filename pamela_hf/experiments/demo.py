"""The demo's first page: simulated people, what they would like, and what a head does for a newcomer.

Everything on it is simulated; no figure of it says anything about real people.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ..embeddings import load_embeddings
from ..files.writing import write_text
from ..heads.head import UserHead
from ..metrics import correlation
from ..ratings.builder import load_ratings
from ..reports.charts import columns_chart, rows_chart, series_color
from ..reports.page import Card, Picture, address, template
from ..scoring import PamelaScorer
from ..simulation.tastes import Newcomer, agreements, taste_in_words
from ..simulation.world import WorldPlan

KNOWN = 3  # people of the training who are shown: the first ones
_SHOWN = 8  # images in a row


@dataclass(frozen=True)
class Fitted:
    """A newcomer and their head.

    Args:
        newcomer: who it is.
        head: folder of the head.
        ratings: how many ratings the head was fitted on.
    """

    newcomer: Newcomer
    head: Path
    ratings: int


def write_demo_page(out: str | os.PathLike, plan: WorldPlan, usual: Fitted, own: Fitted) -> Path:
    """Writes `report.html`.

    Args:
        out: the demo's folder, with `ratings/`, `model/`, `eval/report.json` and `prompt/`.
        plan: the world of `ratings/`.
        usual: the newcomer whose taste is like most people's.
        own: the newcomer with a taste of their own; the prompt run is theirs.

    Returns:
        The page's path.
    """
    out = Path(out)
    scorer = PamelaScorer.from_pretrained(out / "model")
    report = json.loads((out / "eval" / "report.json").read_text(encoding="utf-8"))
    shown = _Unseen(out, plan, scorer, [usual, own])
    page = _PAGE.render(
        counts={"people": len(plan.people), "images": len(shown.images), "known": len(scorer.config.users)},
        right={split: cells[scorer.name]["user_pairwise_0"]["value"] for split, cells in report["splits"].items()},
        overview=_overview(out, report, scorer),
        people=[shown.person(name) for name in scorer.config.users[:KNOWN]],
        newcomers=[shown.newcomer(usual, "A usual one"), shown.newcomer(own, "One with a taste of their own")],
        prompt=_prompt_run(out),
    )
    write_text(out / "report.html", page)
    return out / "report.html"


class _Unseen:
    """The images that the model has not been trained on, scored for everyone the page shows."""

    def __init__(self, out: Path, plan: WorldPlan, scorer: PamelaScorer, fitted: Sequence[Fitted]):
        self.out, self.plan = out, plan
        self.images = [image for image in plan.images if image.part == "test"]
        self.files = [out / "ratings" / image.path for image in self.images]
        self.traits = [image.traits for image in self.images]
        names, heads = scorer.config.users[:KNOWN], [UserHead.load(one.head, scorer) for one in fitted]
        users = [*names, *heads, None]
        grid = scorer.score(self.files, [image.prompt for image in self.images], users=users).scores
        keys = [*names, *(one.newcomer.person.participant_id for one in fitted), None]
        self.scores = dict(zip(keys, np.asarray(grid).T))  # participant, or None: everyone's taste

    def places(self, who: str | None) -> np.ndarray:
        """(N,) from 1, the best."""
        places = np.empty(len(self.images), int)
        places[np.argsort(-self.scores[who], kind="stable")] = np.arange(1, len(self.images) + 1)
        return places

    def best(self, who: str | None, count: int = _SHOWN) -> np.ndarray:
        return np.argsort(self.places(who))[:count]

    def picture(self, k: int, caption: str) -> Picture:
        at = address(self.files[k], self.out)
        return Picture(at, self.images[k].prompt, caption, at)

    def person(self, name: str) -> dict[str, Any]:
        rater = next(one for one in self.plan.people if one.participant_id == name)
        scores, order = self.scores[name], self.best(name, len(self.images))
        rows = [
            (title, [self.picture(k, f"{scores[k]:.1f}") for k in chosen])
            for title, chosen in (("Most", order[:_SHOWN]), ("Least", order[-_SHOWN:]))
        ]
        alike = agreements([rater], self.plan.people, self.traits)[0]
        return {"name": name, "taste": taste_in_words(rater), "agreement": alike, "rows": rows}

    def newcomer(self, fitted: Fitted, title: str) -> dict[str, Any]:
        person, name = fitted.newcomer.person, fitted.newcomer.person.participant_id
        given = np.array([person.rate(image.prompt, image.seed) for image in self.images])
        own, everyone = self.places(name), self.places(None)
        first = [self.picture(k, f"theirs: {own[k]}, rated {given[k]}") for k in self.best(None)]
        theirs = [self.picture(k, f"everyone's: {everyone[k]}, rated {given[k]}") for k in self.best(name)]
        rows = [
            ("The first eight of everyone's ranking, with their place in this newcomer's", first),
            ("The first eight of this newcomer's ranking, by their head, with their place in everyone's", theirs),
        ]
        fits = [
            (words, _cell(correlation(rankdata(self.scores[who]), rankdata(given))), series_color(k))
            for words, who, k in (("by their head", name, 0), ("by everyone's taste", None, 1))
        ]
        levels = [(f"{level}", self.scores[name][given == level]) for level in range(1, 6)]
        cards = [
            Card(
                "Whose ranking is it?",
                f"Rank correlation with the ratings that this newcomer gives all {len(given)} images, none of which "
                "the head was fitted on. 1 is their very order.",
                rows_chart("rank correlation with their ratings", fits, 0.0, "bar", (0.0, 1.0)),
            ),
            Card(
                "Predicted against given ratings",
                "What the head predicts of the images that this newcomer rates 1, 2, … 5: the middle half as a box, "
                "the median as a bar, all but the outer tenths as a line.",
                columns_chart("predicted by given rating", levels, (1, 5), ("rating given", "rating predicted")),
            ),
        ]
        return {
            "title": title,
            "name": name,
            "taste": taste_in_words(person),
            "agreement": fitted.newcomer.agreement,
            "ratings": fitted.ratings,
            "alike": float(correlation(rankdata(self.scores[name]), rankdata(self.scores[None]))),
            "rows": rows,
            "cards": cards,
        }


def _cell(value: float) -> dict[str, float | None]:
    return {"value": float(value) if np.isfinite(value) else None, "ci_low": None, "ci_high": None}


def _overview(out: Path, report: Mapping[str, Any], scorer: PamelaScorer) -> list[Card]:
    """Predicted against given ratings of known and of new people."""
    data = load_ratings(out / "ratings")
    embeddings, cards = load_embeddings(data.embeddings), []
    for split, who in (("test_seen", "people it knows"), ("test_unseen", "people it has never met")):
        table = data.splits[split].reset_index(drop=True)
        predicted, given = np.asarray(scorer.predict(table, embeddings).scores), table.score.to_numpy()
        levels = [(f"{level}", predicted[given == level]) for level in range(1, 6)]
        text = f"{len(table):,} ratings by {table.participant_id.nunique()} people, of images the model has not seen."
        chart = columns_chart(f"{split}: predicted by given", levels, (1, 5), ("rating given", "rating predicted"))
        cards.append(Card(f"Predicted against given: {who}", text, chart))
    controls = {"": "knowing who is asked", "@no_user": "not knowing it", "@wrong_user": "given another's name"}
    found = report["splits"]["test_seen"]
    rows = [
        (label, found[scorer.name + control]["user_srocc"], series_color(k))
        for k, (control, label) in enumerate(controls.items())
        if scorer.name + control in found
    ]
    text = "Rank correlation with people's own ratings, the mean over the people it knows, with the 95 % interval."
    return [*cards, Card("What knowing the person is worth", text, rows_chart("user_srocc", rows, 0.0, "bar"))]


def _prompt_run(out: Path) -> dict[str, Any]:
    """Of the prompt run, the images before and after."""
    found = json.loads((out / "prompt" / "result.json").read_text(encoding="utf-8"))
    sides = []
    for title, side in (("Before", found["unoptimized"]), ("After", found["best"])):
        at = [address(out / "prompt" / image, out) for image in side["images"]]
        sides.append((title, side, [Picture(one, side["prompt"], "", one) for one in at]))
    return {"sides": sides, "tried": len(found["best_by_iteration"]) - 1}


_PAGE = template("""\
{% extends "frame.html" %}{% import "kit.html" as kit %}
{% block title %}pamela_hf: the demo{% endblock %}
{% block content %}
{{ kit.heading("What would each of them like best?", true) }}
<p class="note">Everything here is simulated: the people are formulas, the images procedural drawings. It shows that
the parts work, and nothing about anyone's real taste.</p>
<p>{{ counts.people }} simulated people rated drawings. A reward model learned from {{ counts.known }} of them what each
one likes. Below it scores {{ counts.images }} drawings that it has never seen.</p>
<p class="lead">Of two drawings that somebody rated differently it names the one they prefer
{{ (100 * right.test_seen) | number(0) }} % of the time if it knows them, and
{{ (100 * right.test_unseen) | number(0) }} % if it has never met them. A coin would be right half the time.</p>
<p>→ <a href="eval/report.html">How far to trust it: the evaluation, person by person</a></p>
{{ kit.cards(overview) }}

<h2>Three people it knows</h2>
<p class="soft">The first three of the training. Beneath each drawing the rating, 1 to 5, that the model predicts.</p>
{% for person in people %}
<div class="card block">
<h3>{{ person.name }}</h3>
<p>{{ person.taste }} Rank correlation of their simulated taste with everyone's:
{{ person.agreement | number(2) }}.</p>
{% for title, pictures in person.rows %}
<h4>{{ title }}</h4>{{ kit.sheet(pictures, "eight", pixels=true) }}
{% endfor %}
</div>
{% endfor %}

<h2>Two newcomers, whom it has never met</h2>
<p>A newcomer rates a few drawings, and a <i>head</i> is fitted: one row of numbers, which is all that is personal. Of a
hundred simulated newcomers, ordered by how far their simulated taste agrees with everyone's, these are the one in the
middle and the last one. They were chosen by that alone, before any model saw them.</p>
{% for one in newcomers %}
<div class="card block">
<h3>{{ one.title }} <span class="soft">({{ one.name }})</span></h3>
<p>{{ one.taste }} Rank correlation of their simulated taste with everyone's: {{ one.agreement | number(2) }}; of their
head's ranking, from {{ one.ratings }} ratings, with everyone's: {{ one.alike | number(2) }}.</p>
{% for title, pictures in one.rows %}
<h4>{{ title }}</h4>{{ kit.sheet(pictures, "eight", pixels=true) }}
{% endfor %}
{{ kit.cards(one.cards) }}
</div>
{% endfor %}
<p class="soft">Places are among {{ counts.images }} drawings. The rating beneath each is the one that the newcomer
gives it, which neither ranking has seen.</p>

<h2>A prompt, rewritten for the newcomer with a taste of their own</h2>
<p>Variants of a prompt are written, drawn and scored for one person, {{ prompt.tried }} rounds long; the same seeds
before and after.</p>
<div class="pair">
{% for title, side, pictures in prompt.sides %}
<div class="card"><h3>{{ title }}</h3>{{ kit.sheet(pictures, "two", pixels=true) }}
<p><span class="big">{{ side.score | number(2) }}</span> predicted rating</p><p>{{ side.prompt }}</p></div>
{% endfor %}
</div>
<p>→ <a href="prompt/report.html">The whole run: which words helped, and at what cost in likeness</a></p>
<footer class="soft"><p>Made by <code>make demo</code>. Beside this page: <code>ratings/</code>, <code>model/</code>,
<code>eval/</code>, <code>head/</code> (the newcomer with a taste of their own), <code>usual_head/</code>,
<code>prompt/</code>.</p></footer>
{% endblock %}
""")
