"""The page of a prompt run: how the images got better for one person, by which words, and at what cost in likeness.

One HTML file beside the run's images.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..files.writing import write_text
from ..refiners import prompt_key, prompt_parts
from ..reports.charts import effects_chart
from ..reports.page import Card, template
from .charts import adherence_chart, descent, rounds_chart, tree_chart
from .search import SearchResult


def write_report(
    path: str | os.PathLike, arguments: Mapping[str, Any], result: SearchResult, summary: Mapping[str, Any]
) -> None:
    """Writes the page of one run.

    Args:
        path: `report.html` in the run's folder.
        arguments: of run.json.
        result: of the search.
        summary: of result.json.
    """
    best, baseline = result.best, result.baseline
    rank = sorted((c for c in result.candidates if c.eligible), key=lambda c: -c.score)
    page = _PAGE.render(
        arguments=arguments,
        summary=summary,
        best=best,
        baseline=baseline,
        unchanged=best is baseline,
        came=[p for p in prompt_parts(best.prompt) if prompt_key(p) not in _keys(baseline.prompt)],
        stayed=[p for p in prompt_parts(best.prompt) if prompt_key(p) in _keys(baseline.prompt)],
        went=[p for p in prompt_parts(baseline.prompt) if prompt_key(p) not in _keys(best.prompt)],
        path=descent(result),
        cards=_cards(result, summary["score_range"]),
        top=rank[:10],
        barred=sum(not c.eligible for c in result.candidates),
        tried=len(result.candidates),
        simulated="simulated" in summary["images_by"],
    )
    write_text(path, page)


def _cards(result: SearchResult, score_range: Sequence[float]) -> list[Card]:
    cards = [
        Card(
            "Round by round",
            "Each dot is a prompt of that round: black (white on a dark page) as it was written, the large blue "
            "one the winner. The line is the best so far, its band the reward's uncertainty. Hollow dots may not win.",
            rounds_chart(result, score_range),
        ),
        Card(
            "Liked more, and still the same picture?",
            "Predicted rating against adherence to the prompt as it was written. What lies left of the dashed line may "
            "not win.",
            adherence_chart(result),
        ),
        Card(
            "Where the winner comes from",
            "Every prompt to the right of the one it was made from, each round's best on top; in colour, the winner's "
            "ancestors.",
            tree_chart(result),
        ),
    ]
    if words := word_effects(result):
        text = "Mean predicted rating of the prompts with a word or phrase, less that of the prompts without it."
        bars = [(word, effect, f"in {prompts} prompts") for word, effect, prompts in words]
        cards.append(Card("What worked, what did not", text, effects_chart("effect of words", bars)))
    return cards


def _keys(prompt: str) -> set[str]:
    return {prompt_key(part) for part in prompt_parts(prompt)}


def word_effects(result: SearchResult, count: int = 7) -> list[tuple[str, float, int]]:
    """`(phrase, effect, prompts that have it)`: the `count` best and worst phrases that came in at least twice."""
    scored = [c for c in result.candidates if math.isfinite(c.score)]
    original = _keys(result.baseline.prompt)
    having: dict[str, list[float]] = {}
    for candidate in scored:
        for key in {part.casefold() for part in prompt_parts(candidate.prompt) if prompt_key(part) not in original}:
            having.setdefault(key, []).append(candidate.score)
    total, n = sum(c.score for c in scored), len(scored)
    effects = [
        (word, sum(v) / len(v) - (total - sum(v)) / (n - len(v)), len(v))
        for word, v in having.items()
        if 2 <= len(v) < n
    ]
    effects.sort(key=lambda e: -e[1])
    return effects if len(effects) <= 2 * count else effects[:count] + effects[-count:]


_PAGE = template("""\
{% extends "frame.html" %}{% import "kit.html" as kit %}
{% block title %}{{ arguments.prompt }} for {{ summary.user or "everyone" }}{% endblock %}
{% block content %}
{{ kit.heading(arguments.prompt ~ ", for " ~ (summary.user or "everyone"), simulated) }}
{% if simulated %}
<p class="note">These images are procedural drawings and the people are formulas: the page shows that the search works,
not what anyone likes.</p>
{% endif %}
{% if unchanged %}
<p class="lead">Of {{ tried - 1 }} variants none scored higher than the prompt as it was written.</p>
{% else %}
<p class="lead">Predicted rating {{ baseline.score | number(2) }} → {{ best.score | number(2) }}
({{ (best.score - baseline.score) | signed(2) }} on a scale of {{ summary.score_range[0] | number(0) }} to
{{ summary.score_range[1] | number(0) }}), from {{ summary.rendered }} images.</p>
{% endif %}
{% if summary.best.judge and none not in summary.best.judge + summary.unoptimized.judge %}
<p>The held-out judge, which the search never saw, gives the winner
{{ (summary.best.judge | sum / summary.best.judge | length) | number(2) }} and the unoptimized prompt
{{ (summary.unoptimized.judge | sum / summary.unoptimized.judge | length) | number(2) }}.</p>
{% endif %}
<div class="pair">
{% for title, side, candidate in [("Before", summary.unoptimized, baseline), ("After", summary.best, best)] %}
<figure class="card">
<h3>{{ title }}</h3>
<div class="sheet {{ {1: "one", 2: "two", 4: "two"}.get(side.images | length, "") }}">
{% for image in side.images %}
<img src="{{ image | urlencode }}" alt="{{ side.prompt }}"{% if simulated %} class="pixels"{% endif %}
title="seed {{ arguments.seed + loop.index0 }}: {{ candidate.scores[loop.index0] | number(2) }}">
{% endfor %}
</div>
<figcaption><span class="big">{{ candidate.score | number(2) }}</span> <span class="soft">predicted rating{% if
side.images | length > 1 %}, mean of {{ side.images | length }} seeds{% endif %} (± {{ candidate.std | number(2) }}: how
unsure the reward is) · adherence {{ candidate.adherence | number(3) }}</span>
{% if title == "Before" %}
<p>{{ side.prompt }}</p>
{% else %}
<p>{% for part in stayed %}{{ part }}{{ ", " if not loop.last }}{% endfor %}{{ ", " if stayed and came }}
{% for part in came %}<span class="came">{{ part }}</span>{{ " " if not loop.last }}{% endfor %}
{% for part in went %} <span class="went">{{ part }}</span>{% endfor %}</p>
{% endif %}
</figcaption>
</figure>
{% endfor %}
</div>
<p class="soft">The same seed{{ "s" if arguments.num_seeds > 1 }} before and after, as for every prompt tried. Green:
words that came{% if went %}; struck out: words that went{% endif %}. Adherence: how much more an image is like the
prompt as it was written than like unrelated texts{% if summary.adherence_floor is not none %}; a winner needs at least
{{ summary.adherence_floor | number(3) }}{% endif %}.</p>
{{ kit.cards(cards) }}
{% if path | length > 1 %}
<h2>From the first prompt to the winner</h2>
<ol start="0">
{% for candidate in path %}
<li>{{ candidate.prompt }} <span class="soft">{{ candidate.score | number(2) }}</span></li>
{% endfor %}
</ol>
{% endif %}
<h2>The ten best</h2>
<div class="card scroll"><table class="wide">
<thead><tr><th>Prompt</th><th>Predicted rating</th><th>± std</th><th>Adherence</th><th>Round</th></tr></thead>
<tbody>
{% for candidate in top %}
<tr><td>{{ candidate.prompt }}</td><td>{{ candidate.score | number(2) }}</td><td>{{ candidate.std | number(2) }}</td>
<td>{{ candidate.adherence | number(3) }}</td><td>{{ candidate.iteration }}</td></tr>
{% endfor %}
</tbody></table></div>
<footer class="soft">
<p>{{ tried }} prompts tried, {{ barred }} of them barred from winning: adherence below
{{ summary.adherence_floor | number(3) }} ({{ (100 * arguments.adherence_floor) | number(0) }} % of the unoptimized
images'), a blank image, or a score that is not finite. Stopped by: {{ summary.stopped }}. Strategy
{{ arguments.strategy }}; refiner
{{ arguments.refiner }}{% if summary.written_by_vocabulary and arguments.refiner != "vocabulary" %} (which left
{{ summary.written_by_vocabulary }} of {{ tried - 1 }} prompts to the vocabulary){% endif %};
images by {{ summary.images_by }}; seed {{ arguments.seed }}.</p>
<p>A predicted rating is the reward model's opinion, and the search looks for what the reward likes: trust it as far as
its evaluation, the judge and your eyes allow. The refiner was shown prompts and predicted ratings, never who they are
for.</p>
</footer>
{% endblock %}
""")
