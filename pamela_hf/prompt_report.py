"""The page of a prompt run: how the images got better for one person, by which words, and at what cost in likeness.

One HTML file beside the run's images: inline SVG, light and dark by the reader's setting, no script, all text escaped
(a language model wrote most of it).
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from .prompt_search import Candidate, SearchResult
from .prompt_trace import write_whole
from .refiners import prompt_key, prompt_parts

_WIDTH = 560


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
            "Each dot is a prompt of that round; the line is the best so far, its band the reward's uncertainty. "
            "Hollow dots were not allowed to win.",
            _rounds(result),
        ),
        (
            "Liked more, and still the same picture?",
            "Predicted rating against adherence: how much more the image is like the unoptimized prompt than like "
            "unrelated ones. Left of the dashed line nothing may win.",
            _adherence(result),
        ),
        (
            "Where the winner comes from",
            "Every prompt to the right of the one it was made from, each round's best on top; in colour, the winner's "
            "ancestors.",
            _tree(result),
        ),
    ]
    words = word_effects(result)
    if words:
        text = "Mean predicted rating of the prompts with a word or phrase, less that of the prompts without it."
        charts.append(("What worked, what did not", text, _bars(words)))
    page = _PAGE.render(
        arguments=arguments,
        summary=summary,
        best=best,
        baseline=baseline,
        unchanged=best is baseline,
        came=[p for p in prompt_parts(best.prompt) if prompt_key(p) not in _keys(baseline.prompt)],
        stayed=[p for p in prompt_parts(best.prompt) if prompt_key(p) in _keys(baseline.prompt)],
        went=[p for p in prompt_parts(baseline.prompt) if prompt_key(p) not in _keys(best.prompt)],
        path=_descent(result),
        charts=charts,
        top=rank[:10],
        barred=sum(not c.eligible for c in result.candidates),
        tried=len(result.candidates),
        simulated="simulated" in summary["images_by"],
        css=Markup(CSS),
    )
    write_whole(Path(path), page)


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


def _descent(result: SearchResult) -> list[Candidate]:
    """The unoptimized prompt … the winner, each made from the one before."""
    of = {c.prompt: c for c in reversed(result.candidates)}
    path = [result.best]
    while path[-1].parent is not None and path[-1].parent in of and len(path) <= len(result.candidates):
        path.append(of[path[-1].parent])
    return path[::-1]


# -- charts ------------------------------------------------------------------------------------------------------------
def number(value: float | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    return ("+" if value is not None and value > 0 else "") + number(value, digits)


def _svg(label: str, height: float, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"<title>{escape(label)}</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, words: Any, css: str = "tick", anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def _dot(x: float, y: float, radius: float, css: str, candidate: Candidate) -> str:
    tip = f"{number(candidate.score)} · {candidate.prompt}"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{css}"><title>{escape(tip)}</title></circle>'


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers that cover [low, high]."""
    span = max(high - low, 1e-6)
    unit = 10.0 ** math.floor(math.log10(span / 5))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= span / 5)
    first = math.floor(low / step + 1e-9)
    return [k * step for k in range(first, math.ceil(high / step - 1e-9) + 1)] or [low, high]


def _scale(values: Sequence[float], start: float, end: float):
    ticks = _ticks(min(values), max(values))
    ticks = ticks if len(ticks) > 1 else [ticks[0], ticks[0] + 1]
    return ticks, lambda v: start + (v - ticks[0]) / (ticks[-1] - ticks[0]) * (end - start)


def _kind(candidate: Candidate, result: SearchResult) -> str:
    if candidate is result.best:
        return "win"
    if candidate is result.baseline:
        return "base"
    return "dot" if candidate.eligible else "barred"


def _rounds(result: SearchResult) -> Markup:
    height, left, right, top, bottom = 300, 46, _WIDTH - 16, 12, 258
    shown = [c for c in result.candidates if math.isfinite(c.score)]
    curve = [c for c in result.best_by_iteration if math.isfinite(c.score)]
    bands = [c.score + k * c.std for c in curve for k in (-1, 1)]
    ticks, y = _scale([*(c.score for c in shown), *bands], bottom, top)
    steps = max(len(result.best_by_iteration) - 1, 1)

    def x(step: float) -> float:
        return left + 26 + step * (right - left - 52) / steps

    parts = [
        _line(left, y(t), right, y(t), "grid") + _text(left - 6, y(t) + 4, number(t, 1), "tick", "end") for t in ticks
    ]
    for k in range(steps + 1):
        parts.append(_text(x(k), bottom + 18, "unoptimized" if k == 0 else k))
    parts.append(_text((left + right) / 2, height - 4, "round"))
    first = len(result.best_by_iteration) - len(curve)
    points = [(x(first + k), c) for k, c in enumerate(curve)]
    edge = [(px, y(c.score + c.std)) for px, c in points] + [(px, y(c.score - c.std)) for px, c in reversed(points)]
    parts.append(f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in edge)}" class="band"/>')
    counts: dict[int, int] = {}
    for c in shown:
        k = counts[c.iteration] = counts.get(c.iteration, -1) + 1
        spread = 0 if c.iteration == 0 else ((k * 0.618) % 1 - 0.5) * min(34, 0.7 * (right - left) / steps)
        parts.append(_dot(x(c.iteration) + spread, y(c.score), 6 if c is result.best else 3.5, _kind(c, result), c))
    path = " ".join(f"{px:.1f},{y(c.score):.1f}" for px, c in points)
    parts.append(f'<polyline points="{path}" class="curve"/>')
    return _svg("predicted rating by round", height, parts)


def _adherence(result: SearchResult) -> Markup:
    height, left, right, top, bottom = 300, 46, _WIDTH - 16, 12, 258
    shown = [c for c in result.candidates if math.isfinite(c.score) and math.isfinite(c.adherence)]
    if not shown:
        return _svg("no adherence", 40, [_text(_WIDTH / 2, 24, "no adherence scores")])
    floor = [result.floor] if math.isfinite(result.floor) else []
    xticks, x = _scale([*(c.adherence for c in shown), *floor], left, right)
    yticks, y = _scale([c.score for c in shown], bottom, top)
    parts = [
        _line(left, y(t), right, y(t), "grid") + _text(left - 6, y(t) + 4, number(t, 1), "tick", "end") for t in yticks
    ]
    parts += [_text(x(t), bottom + 18, number(t)) for t in xticks]
    parts.append(_text((left + right) / 2, height - 4, "adherence to the unoptimized prompt"))
    if floor:
        parts.append(
            f'<rect x="{left}" y="{top}" width="{max(x(floor[0]) - left, 0):.1f}" height="{bottom - top}"'
            ' class="shade"/>'
        )
        parts.append(_line(x(floor[0]), top, x(floor[0]), bottom, "target"))
    for c in sorted(shown, key=lambda c: c in (result.best, result.baseline)):
        big = c is result.best or c is result.baseline
        parts.append(_dot(x(c.adherence), y(c.score), 6 if big else 3.5, _kind(c, result), c))
    return _svg("predicted rating against adherence", height, parts)


def _tree(result: SearchResult) -> Markup:
    """Rounds from left to right; within a round prompts stand best on top, joined to their parents."""
    rounds = max(c.iteration for c in result.candidates)
    columns = [
        sorted(
            (c for c in result.candidates if c.iteration == k), key=lambda c: -(c.score if c.eligible else -math.inf)
        )
        for k in range(rounds + 1)
    ]
    height = min(300, 40 + 14 * max(map(len, columns)))
    place: dict[str, tuple[float, float]] = {}
    for k, column in enumerate(columns):
        gap = (height - 44) / max(len(column), 1)
        for i, c in enumerate(column):
            px = 26 + k * (_WIDTH - 52) / max(rounds, 1)
            place[c.prompt] = (px, 14 + gap * (i + 0.5) if len(column) > 1 else (height - 30) / 2)
    line = {c.prompt for c in _descent(result)}
    edges: dict[bool, list[str]] = {False: [], True: []}
    for c in result.candidates:
        if c.parent in place:
            (x1, y1), (x2, y2) = place[c.parent], place[c.prompt]
            on = c.prompt in line
            bend = f"M{x1:.1f},{y1:.1f} C{(x1 + x2) / 2:.1f},{y1:.1f} {(x1 + x2) / 2:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
            edges[on].append(f'<path d="{bend}" class="{"vein" if on else "edge"}"/>')
    dots = [
        _dot(*place[c.prompt], 6 if c is result.best else 5 if c.prompt in line else 3, _kind(c, result), c)
        for c in result.candidates
    ]
    labels = [
        _text(26 + k * (_WIDTH - 52) / max(rounds, 1), height - 6, k if k else "start") for k in range(rounds + 1)
    ]
    return _svg("tree of prompts", height, [*edges[False], *edges[True], *dots, *labels])


def _bars(effects: Sequence[tuple[str, float, int]]) -> Markup:
    height, middle = 24 * len(effects) + 14, 190
    widest = max(max(abs(e) for _, e, _ in effects), 1e-6)
    negative = any(e < 0 for _, e, _ in effects)
    zero = middle + ((_WIDTH - 60 - middle) * 0.42 if negative else 0)
    unit = min(_WIDTH - 60 - zero, zero - middle if negative else math.inf) / widest
    parts = [_line(zero, 4, zero, height - 8, "axis")]
    for k, (word, effect, count) in enumerate(effects):
        y = 18 + 24 * k
        short = word if len(word) <= 27 else word[:26] + "…"
        parts.append(f"<g><title>{escape(word)}</title>{_text(middle - 12, y + 4, short, '', 'end')}</g>")
        start, width = min(zero, zero + effect * unit), abs(effect * unit)
        css = "up" if effect > 0 else "down"
        tip = f"<title>in {count} prompts</title>"
        parts.append(
            f'<rect x="{start:.1f}" y="{y - 8}" width="{width:.1f}" height="15" rx="2" class="{css}">{tip}</rect>'
        )
        parts.append(_text(_WIDTH - 4, y + 4, signed(effect), "value", "end"))
    return _svg("effect of words", height, parts)


CSS = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #fff; --fg: #1d2026; --soft: #646b76; --line: #e2e4e8;
--main: #2f6fde; --pale: #9db9ea; --warm: #e0663a; --good: #2a9d78; --shade: #e0663a14 }
@media (prefers-color-scheme: dark) { :root { --bg: #14161a; --card: #1c1f25; --fg: #e7e9ed; --soft: #9aa2ae;
--line: #31363f; --main: #6ea2ff; --pale: #45618f; --warm: #ff8f66; --good: #4cc79d; --shade: #ff8f6618 } }
* { box-sizing: border-box } body { margin: 0; background: var(--bg); color: var(--fg); font: 16px/1.55 system-ui,
-apple-system, "Segoe UI", Roboto, sans-serif } main { max-width: 1200px; margin: 0 auto; padding: 40px 24px 64px }
h1 { font-size: 28px; margin: 0 0 4px } h2 { font-size: 21px; margin: 44px 0 6px } h3 { font-size: 16px; margin: 0 }
p { margin: 4px 0 } .soft, .card p { color: var(--soft); font-size: 14px } .lead { font-size: 20px; font-weight: 600;
margin: 18px 0 4px } .badge { display: inline-block; vertical-align: middle; margin-left: 10px; padding: 2px 12px;
border-radius: 99px; background: var(--warm); color: var(--bg); font-size: 14px; font-weight: 600 }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 18px;
margin: 18px 0 } .card { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
padding: 18px 20px 14px } svg { width: 100%; max-width: 640px; display: block; margin: 10px auto 0; font-size: 12.5px }
svg text { fill: var(--fg) } svg .tick { fill: var(--soft); font-size: 12px } svg .value { font-weight: 600 }
.grid { stroke: var(--line) } .axis { stroke: var(--soft) } .target { stroke: var(--warm); stroke-dasharray: 4 3 }
.shade { fill: var(--shade) } .band { fill: var(--main); opacity: .14 } .curve { fill: none; stroke: var(--main);
stroke-width: 2.5 } .dot { fill: var(--pale) } .win { fill: var(--main) } .base { fill: var(--fg) }
.barred { fill: var(--card); stroke: var(--soft); opacity: .8 } .edge { fill: none; stroke: var(--line);
stroke-width: 1.2 } .vein { fill: none; stroke: var(--main); stroke-width: 2.5 } .up { fill: var(--good) }
.down { fill: var(--warm) } .pair { display: grid;
grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 24px; margin: 14px 0 } figure { margin: 0 }
.sheet { display: grid; gap: 8px;
grid-template-columns: repeat(auto-fill, minmax(110px, 1fr)) } .sheet.one { grid-template-columns: minmax(0, 320px) }
figure img { width: 100%; border-radius: 10px; display: block; image-rendering: auto } figcaption { margin-top: 8px }
.prompt { overflow-wrap: anywhere } .came { background: color-mix(in srgb, var(--good) 22%, transparent);
border-radius: 4px; padding: 0 4px } .went { text-decoration: line-through; color: var(--soft) }
.big { font-size: 24px; font-weight: 700; font-variant-numeric: tabular-nums } .scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: 14px } th, td { padding: 7px 12px; border-bottom: 1px solid
var(--line); text-align: right; vertical-align: top; font-variant-numeric: tabular-nums } th:first-child,
td:first-child { text-align: left; overflow-wrap: anywhere; min-width: 240px } ol { margin: 6px 0; padding-left: 22px }
.people { display: grid; gap: 18px; margin: 18px 0; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)) }
.people h3 { margin-bottom: 8px } td img { width: 84px; border-radius: 8px; display: block; margin-left: auto }
td.own { background: color-mix(in srgb,
var(--main) 12%, transparent) } footer { margin-top: 48px; border-top: 1px solid var(--line); padding-top: 14px }
"""

ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
ENVIRONMENT.filters |= {"number": number, "signed": signed}
_PAGE = ENVIRONMENT.from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'">
<title>{{ arguments.prompt }} for {{ summary.user or "everyone" }}</title>
<style>{{ css }}</style>
</head>
<body><main>
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
{% if summary.best.judge %}
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
<figcaption><span class="big">{{ candidate.score | number }}</span> <span class="soft">± {{ candidate.std | number }}
predicted rating{% if side.images | length > 1 %}, mean of {{ side.images | length }} seeds{% endif %} · adherence
{{ candidate.adherence | number(3) }}</span>
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
words that came{% if went %}; struck out: words that went{% endif %}.</p>
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
{{ arguments.refiner }}; images by {{ summary.images_by }}; seed {{ arguments.seed }}.</p>
<p>A predicted rating is the reward model's opinion, and the search looks for what the reward likes: trust it as far as
its evaluation, the judge and your eyes allow. The refiner was shown prompts and predicted ratings, never who they are
for.</p>
</footer>
</main></body>
</html>
""")
