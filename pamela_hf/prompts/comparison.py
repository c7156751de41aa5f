"""The page over several prompt runs: one prompt for several people, or again and again for one."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..files.writing import write_text
from ..reports.page import template


def write_comparison(path: str | os.PathLike, summary: Mapping[str, Any], outputs: Sequence, folders: Sequence) -> None:
    """Writes the page over several runs.

    Args:
        path: `report.html` above the runs' folders.
        summary: of runs.json.
        outputs: `[person][run]`, a [`PamelaPromptOutput`] each.
        folders: `[person][run]`, each run's folder, relative to `path`.
    """
    people = []
    for p, name in enumerate(summary["people"]):
        runs = [
            {
                "folder": folder.as_posix(),
                "image": f"{folder.as_posix()}/{image_of(out, out.prompts[0])}",
                "prompt": out.prompts[0],
                "score": sum(out.scores) / len(out.scores),
                "before": sum(out.baseline_scores) / len(out.baseline_scores),
                "adherence": out.adherence,
            }
            for out, folder in zip(outputs[p], folders[p])
        ]
        people.append({"name": name, "runs": runs, "stability": summary.get("stability", {}).get(name)})
    first = outputs[0][0]
    before = f"{folders[0][0].as_posix()}/{image_of(first, first.history[0]['prompt'])}"
    page = _COMPARISON.render(
        prompt=summary["prompt"],
        people=people,
        scores=summary.get("scores"),
        before=before,
        simulated="simulated" in summary["images_by"],
    )
    write_text(path, page)


def image_of(out: Any, prompt: str) -> str:
    """The file, relative to the run's folder, of a prompt's first seed."""
    return next(row["image"] for row in out.history if row["prompt"] == prompt)


_COMPARISON = template("""\
{% extends "frame.html" %}{% import "kit.html" as kit %}
{% block title %}{{ prompt }}: several runs{% endblock %}
{% block content %}
{{ kit.heading(prompt, simulated) }}
{% if simulated %}
<p class="note">These images are procedural drawings and the people are formulas.</p>
{% endif %}
<p class="soft">{{ people | length }} {{ "people" if people | length > 1 else "person" }},
{{ people[0].runs | length }} independent run{{ "s" if people[0].runs | length > 1 }} each. Images at the first seed of
each run; a click opens the run.</p>
<div class="cards">
<figure class="card"><h3>As written</h3>
<div class="sheet one"><img src="{{ before | urlencode }}" alt="{{ prompt }}"
{% if simulated %} class="pixels"{% endif %}></div>
<figcaption>{{ prompt }}</figcaption></figure>
{% for person in people %}
<figure class="card"><h3>For {{ person.name }}</h3>
<div class="sheet{% if person.runs | length == 1 %} one{% endif %}">
{% for run in person.runs %}
<a href="{{ run.folder | urlencode }}/report.html"><img src="{{ run.image | urlencode }}" alt="{{ run.prompt }}"
title="{{ run.prompt }}"{% if simulated %} class="pixels"{% endif %}></a>
{% endfor %}
</div>
{% if person.runs | length == 1 %}
<figcaption><span class="big">{{ person.runs[0].score | number(2) }}</span>
<span class="soft">predicted; {{ person.runs[0].before | number(2) }} as written</span>
<p>{{ person.runs[0].prompt }}</p></figcaption>
{% endif %}
</figure>
{% endfor %}
</div>
{% if scores %}
<h2>How much each of them would like the others' images</h2>
<p class="soft">Predicted ratings. If taste is personal, the shaded ones, of what was made for oneself, are the highest
of their row.</p>
<div class="card scroll"><table class="wide">
<thead><tr><th>Asked</th>
{% for person in people %}<th>for {{ person.name }}</th>{% endfor %}<th>as written</th></tr></thead>
<tbody>
{% for row in scores %}
<tr><td>{{ people[loop.index0].name }}</td>
{% set asked = loop.index0 %}
{% for score in row %}<td{% if loop.index0 == asked %} class="own"{% endif %}>{{ score | number(2) }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% for person in people if person.stability %}
<h2>Do independent runs for {{ person.name }} agree?</h2>
<p>Winners of different runs are alike by {{ person.stability.winners | number(2) }} (cosine of the encoder's image
features), the unoptimized prompt at the same seeds by {{ person.stability.unoptimized | number(2) }}. Two winners share
{{ (100 * person.stability.shared) | number(0) }} % of the phrases that were added.
{% if person.stability.others is not none %}
With winners for other people they are alike by {{ person.stability.others | number(2) }} and share
{{ (100 * person.stability.shared_others) | number(0) }} %; only where runs for {{ person.name }} agree more
than that did they find a taste again rather than what everybody likes.
{% endif %}
</p>
<div class="card scroll"><table class="wide">
<thead><tr><th>Winner</th><th>Predicted rating</th><th>As written</th><th>Adherence</th></tr></thead>
<tbody>
{% for run in person.runs %}
<tr><td>{{ run.prompt }}</td><td>{{ run.score | number(2) }}</td><td>{{ run.before | number(2) }}</td>
<td>{{ run.adherence | number(3) }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="soft">Added in more than one run:
{% for phrase, count in person.stability.phrases.items() if count > 1 %}
{{ phrase }} ({{ count }}){{- ", " if not loop.last }}
{%- else %}nothing{% endfor %}.</p>
{% endfor %}
{% endblock %}
""")
