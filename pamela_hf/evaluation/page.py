"""The evaluation report as one HTML page for somebody who has never heard of SROCC.

One file without outside references: inline SVG, light and dark by the reader's setting, all data escaped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup

from ..metrics import MARGINS, METRICS
from ..reports.charts import curves, histogram, reliability, rows_chart, series_color
from ..reports.numbers import number, signed
from ..reports.page import Card, template
from .choices import CHOICE_METRICS
from .group_charts import group_cards, group_rows
from .table import best_scorers, few_shot_notes

FEW = 6  # people; of fewer, the headline says how few and gives no verdict: their intervals come out too narrow
_ALL = 10**9  # stands for k=all, after every number
_SPLITS = {
    "seen": "people the model was trained with, rating images it has never seen",
    "unseen": "people the model has never met, rating images it has never seen",
    "val": "Choices of method and setting are made on this split.",
    "test": "Read once per claim; no choice was made on it.",
}


def render_html(report: Mapping[str, Any]) -> str:
    """The page.

    Args:
        report: what [`evaluate`] returns, with None where a number is missing.
    """
    test_first = sorted(report["splits"], key=lambda split: not split.startswith("test"))
    return _PAGE.render(
        meta=report["meta"],
        headlines=headlines(report),
        overall=_cards_on_all_splits(report),
        paper=report["paper"],
        sections=[_Section(report, split) for split in test_first],
        choices=_choice_sections(report),
        choice_metrics=CHOICE_METRICS,
        metrics=METRICS,
    )


def _choice_sections(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the page shows of each split's choices, test before val."""
    part, sections = report.get("choices"), []
    color = _colors(report)
    for split in sorted(part["splits"], key=lambda split: not split.startswith("test")) if part else ():
        scorers = part["splits"][split]
        best = {metric: best_scorers(metric, scorers, CHOICE_METRICS) for metric in CHOICE_METRICS}
        text = "How often the image that it scores higher is the one that was preferred, a tie counting ½, as the mean "
        text += "over people. On the line: as good as knowing nothing. The bar is the 95 % interval over people."
        rows = [(name, cells["accuracy"], color[name]) for name, cells in scorers.items()]
        chart = rows_chart("accuracy on choices", rows, 0.5, "dot", room=(0.45, 0.55))
        cards = [Card("Which of two images do they prefer?", text, chart)]
        pairs = [(_short_pair(pair, report["meta"]["reference"]), cells["accuracy"], "s0")
                 for pair, cells in part["differences"][split].items()]  # fmt: skip
        if pairs:
            text = "Difference in accuracy, paired over the same people. An interval clear of 0 is a real difference."
            cards.append(Card("What makes the difference", text, rows_chart("differences", pairs, 0.0, "difference")))
        role, _, kind = split.partition("_")
        sections.append({
            "split": split, "about": (_SPLITS.get(kind, ""), _SPLITS.get(role, "")), "counts": part["counts"][split],
            "cards": cards, "scorers": scorers, "best": best, "color": color,
        })  # fmt: skip
    return sections


def headlines(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What the figures say, as (sentence, comparisons) for people never met and for known ones, test before val."""
    found = []
    for kind, people in (("unseen", "On people it has never met"), ("seen", "On people it was trained with")):
        split = next((f"{part}_{kind}" for part in ("test", "val") if f"{part}_{kind}" in report["splits"]), None)
        if split is not None and (sentence := _headline(_Section(report, split), people)):
            found.append((sentence, _comparisons(_Section(report, split))))
    return found


def _headline(section: "_Section", people: str) -> str | None:
    own = section.scorers[section.name]
    plain, clear = (own[f"user_pairwise_{margin}"]["value"] for margin in (0, 2))
    if plain is None:
        return None
    if (judged := own["user_pairwise_0"]["n_users"]) < FEW:
        people += f" (only {judged} {'person' if judged == 1 else 'people'} judged)"
    text = f"{people}, {section.name} ranks two images as they would {100 * plain:.0f} % of the time"
    text += "." if clear is None else f"; {100 * clear:.0f} % where their two ratings are more than 2 levels apart."
    return f"{text} ({section.split})"


def _comparisons(section: "_Section") -> list[str]:
    """A sentence each on the best rival, on the controls, on diverging pairs and on the probabilities."""
    report, split, name, scorers = section.report, section.split, section.name, section.scorers
    differences, details = report["differences"][split], []
    compared = {n: differences.get(f"{name} - {n}", {}).get("user_srocc") for n in scorers if "@" not in n}
    rivals = [rival for rival, cell in compared.items() if cell and cell["value"] is not None]
    if rivals:
        best = max(rivals, key=lambda rival: scorers[rival]["user_srocc"]["value"])
        rank = f"{best}, the best of {len(rivals)} rivals" if len(rivals) > 1 else best
        details.append(f"Compared with {rank}: {_verdict(compared[best])}.")
    for control, words in (("no_user", "not knowing who is asked"), ("wrong_user", "being given another's name")):
        cell = differences.get(f"{name} - {name}@{control}", {}).get("user_srocc")
        if cell and cell["value"] is not None:
            details.append(f"Compared with {words}: {_verdict(cell)}.")
    right, share = scorers[name]["diverging"], report["diverging"].get(split)
    if share and share["value"] is not None and right["value"] is not None:
        details.append(
            f"Of the image pairs that two people both have a preference in, {100 * share['value']:.0f} % divide "
            f"them; there it is right {100 * right['value']:.1f} % of the time{_between(right, 100, 1)}. Knowing "
            "only averages gives 50 %."
        )
    if found := report["calibration"].get(split, {}).get(name):
        details.append(
            f"Its probabilities are off by {100 * found['error']:.1f} points of 100 on average; "
            f"{100 * scorers[name]['coverage_80']['value']:.0f} % of ratings lie inside its 80 % intervals."
        )
    return details


def _between(cell: Mapping[str, Any], factor: float = 1, digits: int = 3) -> str:
    """The interval in brackets, if there is one."""
    if cell["ci_low"] is None:
        return ""
    return f" ({number(factor * cell['ci_low'], digits)} to {number(factor * cell['ci_high'], digits)})"


def _verdict(cell: Mapping[str, Any]) -> str:
    value, low, high = (cell[key] for key in ("value", "ci_low", "ci_high"))
    if cell["n_users"] < FEW:
        return f"{signed(value)} rank correlation, of too few people to tell"
    if low is None:
        return f"{signed(value)} rank correlation"
    clear = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return f"{clear}, {signed(value)} rank correlation (95 % interval {signed(low)} to {signed(high)})"


def _colors(report: Mapping[str, Any]) -> dict[str, str]:
    """One colour per scorer through all splits; a rival's controls take a paler one of its own."""
    known, color = {"": series_color(0), "no_user": series_color(1), "wrong_user": series_color(2)}, {}
    judged = [*report["splits"].values(), *((report.get("choices") or {}).get("splits") or {}).values()]
    for scorers in judged:
        for name in scorers:
            base, _, control = name.partition("@")
            if base == report["meta"]["reference"]:
                color[name] = known.get(control, f"{series_color(0)} pale")
                continue
            if base not in color:
                rivals = sum("@" not in other and other != report["meta"]["reference"] for other in color)
                color[base] = series_color(len(known) + rivals)
            color[name] = f"{color[base]} pale" if control else color[base]
    return color


def _second_ratings(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The metrics of second ratings, where there are enough of them."""
    ceiling = report["noise_ceiling"]
    return ceiling["metrics"] if ceiling and ceiling["metrics"]["user_srocc"]["value"] is not None else None


def _cards_on_all_splits(report: Mapping[str, Any]) -> list[Card]:
    """The gap between known and new people, and the noise ceiling."""
    cards, color, meta = [], _colors(report), report["meta"]
    for part, gaps in sorted(report["gap"].items()):  # test before val
        cells = [(name, cell["user_srocc"], color[name]) for name, cell in gaps.items()]
        if all(cell["value"] is None for _, cell, _ in cells):
            continue
        own = gaps.get(meta["reference"], {}).get("user_srocc", {"value": None})
        text = "user_srocc of people it was trained with minus that of people never met, each resampled on their own. "
        if own["value"] is not None:
            text += f"{meta['reference']}: {signed(own['value'])}{_between(own)}. "
        text += "A scorer that knows nobody shows how much is due to who these people are."
        cards.append(Card(f"Known against new people ({part})", text, rows_chart("gap", cells, 0.0, "difference")))
        break
    if again := _second_ratings(report):
        cell, ratings = again["user_srocc"], report["noise_ceiling"]["ratings"]
        text = f"{cell['n_users']} people rated images a second time ({ratings:,} ratings). Their second ratings rank "
        text += f"the images as their first did with {number(cell['value'])}{_between(cell)}: a score that close knows "
        text += "them about as well as they do. Pairs in the same order, by how far apart they were:"
        cards.append(Card("How well do people agree with themselves?", text, _margins([(None, again, "s0")])))
    return cards


def _margins(series: Sequence[tuple[str | None, Mapping[str, Any], str]]) -> Markup:
    """Pairwise accuracy by margin, of (name, cells by metric, color)."""
    lines = [(name, [cells[f"user_pairwise_{m}"] for m in MARGINS], color) for name, cells, color in series]
    names = ["any", *(f"> {m}" for m in MARGINS[1:])]
    return curves("pairwise accuracy by margin", lines, names, "levels between the two ratings", [0.5])


@dataclass(frozen=True)
class _Section:
    """What the page shows of one split."""

    report: Mapping[str, Any]
    split: str

    @cached_property
    def scorers(self) -> Mapping[str, Any]:
        return self.report["splits"][self.split]

    @cached_property
    def name(self) -> str:
        """The scorer that the section is about."""
        reference = self.report["meta"]["reference"]
        return reference if reference in self.scorers else next(iter(self.scorers))

    @cached_property
    def color(self) -> dict[str, str]:
        return _colors(self.report)

    @cached_property
    def on_a_part(self) -> Mapping[str, Any]:
        """Few-shot results judged on other people and images than the rest."""
        return self.report.get("few_shot", {}).get(self.split, {})

    @cached_property
    def shown(self) -> list[str]:
        """Scorers with a bar of their own. `NAME@k=0` repeats NAME: it is a point of the few-shot curve; nor does a bar
        stand beside the others that was judged on other people and images."""
        return [name for name in self.scorers if not name.endswith("@k=0") and name not in self.on_a_part]

    @property
    def open(self) -> bool:
        return self.split.startswith("test") or not any(other.startswith("test") for other in self.report["splits"])

    @property
    def about(self) -> tuple[str, str]:
        """Who is judged, and what the split is for."""
        role, _, kind = self.split.partition("_")
        return _SPLITS.get(kind, ""), _SPLITS.get(role, "")

    @property
    def counts(self) -> Mapping[str, Any]:
        return self.report["meta"]["counts"][self.split]

    @property
    def notes(self) -> list[str]:
        return few_shot_notes(self.report, self.split)

    @cached_property
    def groups(self) -> Mapping[str, Any] | None:
        return self.report["groups"].get(self.split)

    @property
    def group_rows(self) -> list[dict[str, Any]]:
        return group_rows(self.groups) if self.groups else []

    @property
    def table(self) -> list[tuple[str, list[tuple[Mapping[str, Any], bool]]]]:
        """(metric, [(cell, is it the best) per scorer])."""
        whole = {name: cells for name, cells in self.scorers.items() if name not in self.on_a_part}
        best = {metric: best_scorers(metric, whole) for metric in METRICS}
        return [(m, [(cells[m], name in best[m]) for name, cells in self.scorers.items()]) for m in METRICS]

    def rows(self, metric: str) -> list[tuple[str, Mapping[str, Any], str]]:
        return [(name, self.scorers[name][metric], self.color[name]) for name in self.shown]

    @property
    def cards(self) -> list[Card]:
        cards = self._ranking() + self._differences() + self._calibration() + self._few_shot()
        if self.groups and self.name in self.groups["everyone"]["scorers"]:
            cards += group_cards(self.groups, self.name)
        return cards

    def _ranking(self) -> list[Card]:
        ranks = self.rows("user_srocc")
        if again := _second_ratings(self.report):
            ranks.append(("their second rating", again["user_srocc"], "ceiling"))
        return [
            Card(
                "How well each person's ranking is predicted",
                "user_srocc, the mean over people: 1 is their very order. The line is the 95 % interval over people.",
                rows_chart("user_srocc by scorer", ranks, 0.0, "bar"),
            ),
            Card(
                "The clearer the preference, the surer the prediction",
                "Share of image pairs ordered as the person did, by how far apart their two ratings are.",
                _margins([(n, self.scorers[n], self.color[n]) for n in self.shown if "@k=" not in n]),
            ),
        ]

    def _differences(self) -> list[Card]:
        cards = []
        pairs = [
            (_short_pair(pair, self.name), cells["user_srocc"], "s0")
            for pair, cells in self.report["differences"].get(self.split, {}).items()
            # one alone is a point of the few-shot curve, if that is of everybody; two had the same ratings
            if pair.count("@k=") != 1 or pair.partition(" - ")[2] in self.on_a_part
        ]
        if pairs:
            text = "Difference in user_srocc, paired over the same people. An interval clear of 0 is a real difference."
            chart = rows_chart("paired differences", pairs, 0.0, "difference")
            cards.append(Card("What makes the difference", text, chart))
        if values := self.report["per_user"].get(self.split, {}).get(self.name, {}).get("user_srocc"):
            share = sum(value > 0 for value in values) / len(values)
            text = f"{self.name}'s user_srocc person by person: {100 * share:.0f} % of {len(values)} are above 0."
            chart = histogram(values, "people by user_srocc", "user_srocc of one person")
            cards.append(Card("People differ in how predictable they are", text, chart))
        share = self.report["diverging"].get(self.split)
        if share and share["value"] is not None:
            text = f"{100 * share['value']:.0f} %{_between(share, 100, 0)} of the image pairs that two people both "
            text += f"have a preference in are ordered oppositely ({share['n_pairs']:,}). How often each of the two is "
            text += "predicted right there; knowing only averages gives .5."
            chart = rows_chart("diverging", self.rows("diverging"), 0.5, "dot", room=(0.48, 0.52))
            cards.append(Card("Where tastes differ", text, chart))
        return cards

    def _calibration(self) -> list[Card]:
        """Of scorers that give probabilities."""
        cards = []
        if covered := [row for row in self.rows("coverage_80") if row[1]["value"] is not None]:
            text = "Share of ratings inside the predicted 80 % interval. On the line is right, left of it too sure."
            chart = rows_chart("coverage_80", covered, 0.8, "dot", room=(0.75, 0.85))
            cards.append(Card("Does it know how sure it may be?", text, chart))
        found = self.report["calibration"].get(self.split, {})
        plain = [(n, found[n], self.color[n]) for n in self.shown if n in found and "@" not in n]
        if not plain:
            return cards
        off = ", ".join(f"{n} {100 * one['error']:.1f}" for n, one, _ in plain)
        text = "How often was a rating at least that high when 10, 30, 90 % was predicted? The diagonal is right. "
        text += f"Off on average, in points of 100: {off}."
        chart = reliability([(n, one["reliability"], color) for n, one, color in plain])
        cards.append(Card("Does 70 % mean 70 %?", text, chart))
        text = "Where ratings fall in what was predicted, by tenths. Flat at .10 is right; high at both ends: too "
        text += "sure; high in the middle: too unsure; higher on the left: scores too high."
        if self.name in found:
            text += f" {self.name}: {_shape(found[self.name]['pit'])}."
        tenths = [f"{k / 10:.1f}".removeprefix("0") for k in range(1, 11)]
        series = [(n, one["pit"], color) for n, one, color in plain]
        axis = "predicted P(rating this or lower), up to"
        chart = curves("PIT histogram", series, tenths, axis, [0, 0.1], target=True)
        return [*cards, Card("Too sure, too high, too low?", text, chart)]

    def _few_shot(self) -> list[Card]:
        def by_count(scorers: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
            own = {name: cells for name, cells in scorers.items() if name.startswith(f"{self.name}@k=")}
            return {_k(name): cells["user_srocc"] for name, cells in own.items()}

        given, none_given = by_count(self.scorers), by_count(self.on_a_part)
        if len(given) < 2 or all(cell["value"] is None for cell in given.values()):
            return []
        text, counts = "user_srocc by how many of their own ratings a new person gave first.", sorted(given)
        series = [("so many given" if none_given else None, [given[k] for k in counts], series_color(0))]
        if none_given:
            text += " What is given is not judged, so people and images differ from step to step: the grey line is the"
            text += " same ones with none given."
            # where people and images are everybody's, k = 0 is judged on the same
            same = [none_given.get(k, given[counts[0]]) for k in counts]
            series.append(("the same, none given", same, series_color(1)))
        names = [str(k) if k < _ALL else "all" for k in counts]
        chart = curves("user_srocc by k", series, names, "ratings of their own")
        return [Card("Getting to know somebody new", text, chart)]


def _shape(pit: Sequence[Mapping[str, float]]) -> str:
    """A PIT histogram in words; differences of up to a tenth of the even share are ignored."""
    values = [cell["value"] for cell in pit]
    ends, left = (values[0] + values[-1]) / 2, sum(values[:5])
    sure = "too sure" if ends > 0.11 else "too unsure" if ends < 0.09 else "about as sure as it may be"
    high = ", scores too high" if left > 0.55 else ", scores too low" if left < 0.45 else ""
    return sure + high


def _short_pair(pair: str, name: str) -> str:
    """`pamela - pamela@no_user` as `pamela − @no_user`: the label has little room."""
    first, _, second = pair.partition(" - ")
    return f"{first.replace(f'{name}@', '@')} − {second.replace(f'{name}@', '@')}"


def _k(scorer: str) -> int:
    count = scorer.rpartition("@k=")[2]
    return int(count) if count.isdigit() else _ALL


_PAGE = template("""\
{% extends "frame.html" %}{% import "kit.html" as kit %}
{% block title %}{{ meta.reference }} on {{ meta.data }}: how well are personal ratings predicted?{% endblock %}
{% block content %}
{% set judged = "choices" if choices and not sections else "ratings" %}
{{ kit.heading("How well are people's own " ~ judged ~ " predicted?", meta.simulated) }}
<p class="soft">{{ judged | capitalize }}: {{ meta.data }}. Everything is judged person by person, then averaged over
people.</p>
{% if meta.simulated %}
<p class="note">The people and images of this report are simulated: it shows that the parts work, not how well real
taste is predicted.</p>
{% endif %}
{% for text, details in headlines %}
<p class="lead">{{ text }}</p>
<ul>{% for detail in details %}<li>{{ detail }}</li>{% endfor %}</ul>
{% endfor %}
{{ kit.cards(overall) }}
{% if paper.held_out %}
<div class="card scroll"><h3>In the form of the paper's table: people never met (test_unseen)</h3>
<p>{% if paper.same_ratings %}These are the paper's own ratings: its figures stand beside ours.{% else %}
The paper's own figures are not shown beside these: the ratings are others.{% endif %}</p>
<table class="wide"><thead><tr><th>Method</th>
{% for metric in ("SROCC", "PLCC", "pairs ordered right") %}<th>{{ metric }}</th>
{% if paper.same_ratings %}<th>the paper's</th>{% endif %}{% endfor %}</tr></thead><tbody>
{% for row in paper.held_out %}
<tr><th>{{ row.scorer or row.method }}{% if row.scorer and row.paper %}<small>{{ row.method }}</small>{% endif %}</th>
{% for metric in paper.columns %}
{% if row.ours %}<td>{{ kit.cell(row.ours[metric], 4) }}</td>{% else %}<td>–</td>{% endif %}
{% if paper.same_ratings %}<td>{{ row.paper[metric] | number(4) if row.paper else "–" }}</td>{% endif %}
{% endfor %}</tr>
{% endfor %}
</tbody></table>
<table class="wide"><tbody>
{% for row in paper.claims %}
<tr><th>{{ row.claim }}</th><td>{% if row.ours %}{{ kit.cell(row.ours) }}{% else %}–{% endif %}</td>
{% if paper.same_ratings %}<td>{{ row.paper | number(2) }}<small>the paper's</small></td>{% endif %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% for section in sections %}
<details class="split"{% if section.open %} open{% endif %}>
<summary><h2>{{ section.split }}</h2> {{ section.about[0] }}</summary>
<p class="soft">{{ section.counts.ratings | count }} ratings of {{ section.counts.images | count }} images by
{{ section.counts.participants | count }} people; left out of the per-person means:
{{ section.counts.left_out.few_ratings }} with fewer than 6 ratings,
{{ section.counts.left_out.constant_ratings }} who rated everything alike. {{ section.about[1] }}</p>
{% for note in section.notes %}<p class="soft">{{ note }}</p>
{% endfor %}
{{ kit.cards(section.cards) }}
<div class="card scroll"><table class="wide">
<thead><tr><th>Every metric, with its 95 % interval over people</th>
{% for scorer in section.scorers %}<th><span class="key {{ section.color[scorer] }}"></span>{{ scorer }}</th>
{% endfor %}</tr>
</thead>
<tbody>
{% for metric, cells in section.table %}
<tr><th>{{ metric }}<small>{{ metrics[metric].meaning }}</small></th>
{% for one, best in cells %}
<td{% if best %} class="best"{% endif %}>{{ kit.cell(one) }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% if section.groups %}
<details class="card scroll">
<summary>Every group, with counts: user_srocc and bias (predicted minus given rating)</summary>
<table class="wide"><thead><tr><th>Group</th><th>people</th><th>ratings</th><th>images</th>
{% for scorer in section.groups.everyone.scorers %}
<th><span class="key {{ section.color[scorer] }}"></span>{{ scorer }}<small>user_srocc</small></th>
<th><small>bias</small></th>
{% endfor %}</tr></thead><tbody>
{% for row in section.group_rows %}
<tr><th>{{ row.value }}<small>{{ row.field }}{% if row.people is none %} · fewer than 5 people: not shown
{% elif row.few %} · few people{% endif %}</small></th>
<td>{{ row.people | count }}</td><td>{{ row.ratings | count }}</td><td>{{ row.images | count }}</td>
{% for one in row.cells %}<td>{% if one and one.value is not none %}{{ kit.cell(one) }}{% else %}–{% endif %}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></details>
{% endif %}
</details>
{% endfor %}
{% for section in choices %}
<details class="split" open>
<summary><h2>{{ section.split }}: choices</h2> {{ section.about[0] }}</summary>
<p class="soft">{{ section.counts.choices | count }} choices ({{ section.counts.ties | count }} ties) between
{{ section.counts.images | count }} images by {{ section.counts.participants | count }} people.
{{ section.about[1] }}</p>
{{ kit.cards(section.cards) }}
<div class="card scroll"><table class="wide">
<thead><tr><th>On choices, with its 95 % interval over people</th>
{% for scorer in section.scorers %}<th><span class="key {{ section.color[scorer] }}"></span>{{ scorer }}</th>
{% endfor %}</tr></thead><tbody>
{% for metric, about in choice_metrics.items() %}
<tr><th>{{ metric }}<small>{{ about.meaning }}</small></th>
{% for scorer, cells in section.scorers.items() %}
<td{% if scorer in section.best[metric] %} class="best"{% endif %}>{{ kit.cell(cells[metric]) }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
</details>
{% endfor %}
<footer class="soft">
<p><b>Scorers.</b> {% for name, about in meta.scorers.items() %}
{{ name }}: {{ "personal" if about.personal else "the same for everybody" }}{% if about.identity %},
identity {{ about.identity }}{% endif %}. {% endfor %}
<b>@no_user</b>: of the person it knows nothing but the demographics. <b>@wrong_user</b>: it is given somebody else's
name. <b>@k=20</b>: a new person whose first 20 ratings it has seen; <b>@k=0</b> is a new person as such.</p>
<p>Underlined: best of its row. Intervals: {{ meta.bootstrap | count }} bootstrap draws of people.
Seed {{ meta.seed }}, pamela_hf {{ meta.version }}.</p>
</footer>
{% endblock %}
""")
