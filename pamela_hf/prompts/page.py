"""The page of a prompt run: how the images got better for one person, by which words, and at what cost in likeness.

One HTML file beside the run's images.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

from ..files.writing import write_text
from ..refiners import prompt_key, prompt_parts
from ..reports.prompt_frame import ENVIRONMENT
from .charts import adherence_chart, descent, effects_chart, rounds_chart, tree_chart
from .search import SearchResult


def write_report(
    path: str | os.PathLike, arguments: Mapping[str, Any], result: SearchResult, summary: Mapping[str, Any]
) -> None:
    """Writes the page of one run.

    Args:
        path: `report.html` in the run's folder. arguments: of run.json. summary: of result.json.
    """
    best, baseline = result.best, result.baseline
    rank = sorted((c for c in result.candidates if c.eligible), key=lambda c: -c.score)
    charts = [
        (
            "Round by round",
            "Each dot is a prompt of that round: black as it was written, dark blue the winner. The line is the "
            "best so far, its band the reward's uncertainty. Hollow dots were not allowed to win.",
            rounds_chart(result, summary["score_range"]),
        ),
        (
            "Liked more, and still the same picture?",
            "Predicted rating against adherence to the prompt as it was written. Left of the dashed line nothing may "
            "win.",
            adherence_chart(result),
        ),
        (
            "Where the winner comes from",
            "Every prompt to the right of the one it was made from, each round's best on top; in colour, the winner's "
            "ancestors.",
            tree_chart(result),
        ),
    ]
    words = word_effects(result)
    if words:
        text = "Mean predicted rating of the prompts with a word or phrase, less that of the prompts without it."
        charts.append(("What worked, what did not", text, effects_chart(words)))
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
        charts=charts,
        top=rank[:10],
        barred=sum(not c.eligible for c in result.candidates),
        tried=len(result.candidates),
        simulated="simulated" in summary["images_by"],
    )
    write_text(path, page)


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


_PAGE = ENVIRONMENT.from_string("""\
{% extends frame %}
{% block title %}{{ arguments.prompt }} for {{ summary.user or "everyone" }}{% endblock %}
{% block content %}
<h1 class="prompt">{{ arguments.prompt }}, for {{ summary.user or "everyone" }}
{% if simulated %}<span class="badge">simulated</span>{% endif %}</h1>
{% if simulated %}
<p class="soft">These images are procedural drawings and the people are formulas: the page shows that the search works,
not what anyone likes.</p>
{% endif %}
{% if unchanged %}
<p class="lead">Of {{ tried - 1 }} variants none scored higher than the prompt as it was written.</p>
{% else %}
<p class="lead">Predicted rating {{ baseline.score | number }} → {{ best.score | number }}
({{ (best.score - baseline.score) | signed }} on a scale of {{ summary.score_range[0] | number(0) }} to
{{ summary.score_range[1] | number(0) }}), from {{ summary.rendered }} images.</p>
{% endif %}
{% if summary.best.judge and none not in summary.best.judge + summary.unoptimized.judge %}
<p>The held-out judge, which the search never saw, gives the winner
{{ (summary.best.judge | sum / summary.best.judge | length) | number }} and the unoptimized prompt
{{ (summary.unoptimized.judge | sum / summary.unoptimized.judge | length) | number }}.</p>
{% endif %}
<div class="pair">
{% for title, side, candidate in [("Before", summary.unoptimized, baseline), ("After", summary.best, best)] %}
<figure class="card">
<h3>{{ title }}</h3>
<div class="sheet{% if side.images | length == 1 %} one{% endif %}">
{% for image in side.images %}
<img src="{{ image }}" alt="{{ side.prompt }}"
title="seed {{ arguments.seed + loop.index0 }}: {{ candidate.scores[loop.index0] | number }}">
{% endfor %}
</div>
<figcaption><span class="big">{{ candidate.score | number }}</span> <span class="soft">predicted rating{% if
side.images | length > 1 %}, mean of {{ side.images | length }} seeds{% endif %} (± {{ candidate.std | number }}: how
unsure the reward is) · adherence {{ candidate.adherence | number(3) }}</span>
{% if title == "Before" %}
<p class="prompt">{{ side.prompt }}</p>
{% else %}
<p class="prompt">{% for part in stayed %}{{ part }}{{ ", " if not loop.last }}{% endfor %}{{ ", " if stayed and came }}
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
<div class="cards">
{% for title, text, chart in charts %}
<div class="card"><h3>{{ title }}</h3><p>{{ text }}</p>{{ chart }}</div>
{% endfor %}
</div>
{% if path | length > 1 %}
<h2>From the first prompt to the winner</h2>
<ol start="0">
{% for candidate in path %}
<li class="prompt">{{ candidate.prompt }} <span class="soft">{{ candidate.score | number }}</span></li>
{% endfor %}
</ol>
{% endif %}
<h2>The ten best</h2>
<div class="card scroll"><table>
<thead><tr><th>Prompt</th><th>Predicted rating</th><th>± std</th><th>Adherence</th><th>Round</th></tr></thead>
<tbody>
{% for candidate in top %}
<tr><td>{{ candidate.prompt }}</td><td>{{ candidate.score | number }}</td><td>{{ candidate.std | number }}</td>
<td>{{ candidate.adherence | number(3) }}</td><td>{{ candidate.iteration }}</td></tr>
{% endfor %}
</tbody></table></div>
<footer class="soft">
<p>{{ tried }} prompts tried, {{ barred }} of them barred from winning: adherence below
{{ summary.adherence_floor | number(3) }} ({{ (100 * arguments.adherence_floor) | number(0) }} % of the unoptimized
images'), a blank image, or no finite score. Stopped by: {{ summary.stopped }}. Strategy
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
