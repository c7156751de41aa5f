"""The evaluation report as one HTML page for somebody who has never heard of SROCC.

One file without outside references: inline SVG, light and dark by the reader's setting, all data escaped.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup, escape

from .metrics import MARGINS, METRICS

EXPLANATIONS = {
    "user_srocc": "Does the score rank one person's images as they do? 1 = the same order, 0 = unrelated.",
    "user_plcc": "The same with distances: do scores rise in a straight line with one person's ratings?",
    "user_krocc": "Kendall's τ-b: pairs of images in the right order minus pairs in the wrong one.",
    "user_pairwise_0": "Of two images one person rated differently, how often the score prefers the right one.",
    "user_pairwise_1": "The same where the two ratings differ by more than 1 level.",
    "user_pairwise_2": "The same where the two ratings differ by more than 2 levels.",
    "user_pairwise_3": "The same where the two ratings differ by more than 3 levels.",
    "diverging": "Where two people order two images oppositely, how often each is predicted right. Knowing only what "
    "people like on average gives exactly .5.",
    "avg_srocc": "Are images ranked as they are liked on average over their raters?",
    "avg_plcc": "The same with distances.",
    "rmse": "Typical size of the error, in the units of the rating scale. Lower is better.",
    "coverage_80": "How often a rating falls inside the predicted 80 % interval. .80 is honest, less is too sure.",
}
_SPLITS = {
    "seen": "people the model was trained with, rating images it has never seen",
    "unseen": "people the model has never met, rating images it has never seen",
    "val": "Choices of method and setting are made on this split.",
    "test": "Read once per claim; no choice was made on it.",
}
_WIDTH, _LABEL = 540, 172


def render_html(report: Mapping[str, Any]) -> str:
    """The page. `report` is what `evaluation.evaluate` returns, with None where a number is missing."""
    sections = [_section(report, split) for split in report["splits"]]
    return _PAGE.render(
        meta=report["meta"], headlines=headlines(report), sections=sections, explanations=EXPLANATIONS, css=Markup(_CSS)
    )


def headlines(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What the figures say, as (sentence, comparisons) for people never met and for known ones, test before val."""
    told = []
    for kind, people in (("unseen", "On people it has never met"), ("seen", "On people it was trained with")):
        split = next((f"{part}_{kind}" for part in ("test", "val") if f"{part}_{kind}" in report["splits"]), None)
        if split is None:
            continue
        scorers, differences = report["splits"][split], report["differences"][split]
        name = _reference(report, split)
        plain, clear = (scorers[name][f"user_pairwise_{margin}"]["value"] for margin in (0, 2))
        if plain is None:
            continue
        text = f"{people}, {name} ranks two images as they would {100 * plain:.0f} % of the time"
        text += (
            f"; {100 * clear:.0f} % where their two ratings are more than 2 levels apart." if clear is not None else "."
        )
        details = []
        compared = {n: differences.get(f"{name} - {n}", {}).get("user_srocc") for n in scorers if "@" not in n}
        rivals = [rival for rival, cell in compared.items() if cell and cell["value"] is not None]
        if rivals:
            best = max(rivals, key=lambda rival: scorers[rival]["user_srocc"]["value"])
            rank = f"{best}, the best of {len(rivals)} rivals" if len(rivals) > 1 else best
            details.append(f"Compared with {rank}: {_verdict(compared[best])}.")
        for control, words in (
            ("no_user", "not being told who is asked"),
            ("wrong_user", "being told another's name"),
        ):
            cell = differences.get(f"{name} - {name}@{control}", {}).get("user_srocc")
            if cell and cell["value"] is not None:
                details.append(f"Compared with {words}: {_verdict(cell)}.")
        told.append((f"{text} ({split})", details))
    return told


def _verdict(cell: Mapping[str, Any]) -> str:
    value, low, high = (cell[key] for key in ("value", "ci_low", "ci_high"))
    if low is None:
        return f"{_signed(value)} rank correlation"
    clear = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return f"{clear}, {_signed(value)} rank correlation (95 % interval {_signed(low)} to {_signed(high)})"


def _colors(report: Mapping[str, Any]) -> dict[str, str]:
    """One colour per scorer through all splits; what is told about a personal scorer is related to its own."""
    known, color = {"no_user": "s1", "wrong_user": "s2"}, {}
    rest = (f"s{k}" for k in (*range(3, 8), *([3] * 1000)))
    for scorers in report["splits"].values():
        for name in scorers:
            base, _, control = name.partition("@")
            if base == report["meta"]["reference"]:
                color[name] = known.get(control, "s1" if control else "s0")
            elif name not in color:
                color[name] = next(rest)
    return color


def _section(report: Mapping[str, Any], split: str) -> dict[str, Any]:
    scorers, name = report["splits"][split], _reference(report, split)
    color = _colors(report)
    # `NAME@k=0` repeats NAME: it is a point of the few-shot curve, not a bar of its own.
    shown = [scorer for scorer in scorers if not scorer.endswith("@k=0")]

    def rows(metric: str, names: Iterable[str]):
        return [(scorer, scorers[scorer][metric], color[scorer]) for scorer in names]

    charts = [
        (
            "How well each person's ranking is predicted",
            "user_srocc, the mean over people. The line is the 95 % interval over people.",
            _rows("user_srocc by scorer", rows("user_srocc", shown), 0.0, "bar"),
        ),
        (
            "The clearer the preference, the surer the prediction",
            "Share of image pairs ordered as the person did, by how far apart their two ratings are.",
            _margin_curves([(n, scorers[n], color[n]) for n in shown if "@k=" not in n]),
        ),
    ]
    pairs = [
        (_short_pair(pair, name), cells["user_srocc"], "s0")
        for pair, cells in report["differences"].get(split, {}).items()
        if "@k=" not in pair
    ]
    if pairs:
        text = "Difference in user_srocc, paired over the same people. An interval clear of 0 is a real difference."
        charts.append(("What makes the difference", text, _rows("paired differences", pairs, 0.0, "difference")))
    values = report["per_user"].get(split, {}).get(name, {}).get("user_srocc", [])
    if values:
        share = sum(value > 0 for value in values) / len(values)
        text = f"{name}'s user_srocc person by person: {100 * share:.0f} % of {len(values)} people are above 0."
        charts.append(("People differ in how predictable they are", text, _histogram(values)))
    covered = [row for row in rows("coverage_80", shown) if row[1]["value"] is not None]
    if covered:
        text = "Share of ratings inside the predicted 80 % interval. On the line is honest, left of it too sure."
        charts.append(
            ("Does it know how sure it may be?", text, _rows("coverage_80", covered, 0.8, "dot", room=(0.75, 0.85)))
        )
    curve = {_k(scorer): scorers[scorer]["user_srocc"] for scorer in scorers if scorer.startswith(f"{name}@k=")}
    if len(curve) > 1 and any(cell["value"] is not None for cell in curve.values()):
        text = "user_srocc by how many of their own ratings a new person gave first."
        charts.append(("Getting to know somebody new", text, _few_shot_curve(curve)))

    best = {metric: _best(metric, scorers) for metric in METRICS}
    table = [(metric, [(scorers[scorer][metric], scorer in best[metric]) for scorer in scorers]) for metric in METRICS]
    part, _, kind = split.partition("_")
    return {
        "split": split,
        "people": _SPLITS.get(kind, ""),
        "use": _SPLITS.get(part, ""),
        "counts": report["meta"]["counts"][split],
        "charts": charts,
        "scorers": [(scorer, color[scorer]) for scorer in scorers],
        "table": table,
    }


def _reference(report: Mapping[str, Any], split: str) -> str:
    scorers = report["splits"][split]
    return report["meta"]["reference"] if report["meta"]["reference"] in scorers else next(iter(scorers))


def _short_pair(pair: str, name: str) -> str:
    """`pamela - pamela@no_user` as `pamela − @no_user`: the label has little room."""
    first, _, second = pair.partition(" - ")
    return f"{first.replace(f'{name}@', '@')} − {second.replace(f'{name}@', '@')}"


def _k(scorer: str) -> int:
    count = scorer.rpartition("@k=")[2]
    return int(count) if count.isdigit() else 10**9  # "all"


def _best(metric: str, scorers: Mapping[str, Any]) -> set[str]:
    values = {name: cells[metric]["value"] for name, cells in scorers.items()}
    loss = {"rmse": lambda v: v, "coverage_80": lambda v: abs(v - 0.8)}.get(metric, lambda v: -v)
    losses = {name: loss(value) for name, value in values.items() if value is not None}
    return {name for name, value in losses.items() if value == min(losses.values())}


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    text = f"{abs(value):.{digits}f}"
    text = text[1:] if text.startswith("0.") else text
    return ("−" if value < 0 and float(f"{value:.{digits}f}") else "") + text


def _signed(value: float, digits: int = 3) -> str:
    return ("+" if value > 0 else "") + _number(value, digits)


def _text(x: float, y: float, words: Any, css: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def _dot(x: float, y: float, radius: float, css: str, tip: str = "") -> str:
    title = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{css}">{title}</circle>'


def _svg(label: str, height: float, parts: Iterable[str]) -> Markup:
    body = "".join(parts)
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"<title>{escape(label)}</title>{body}</svg>"
    )


def _ticks(low: float, high: float) -> np.ndarray:
    """Round numbers covering [low, high], two to eight of them."""
    raw = max(high - low, 1e-6) / 5
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= raw)
    first = math.floor(low / step + 1e-9)
    return np.arange(first, max(math.ceil(high / step - 1e-9), first + 1) + 1) * step


def _ends(cell: Mapping[str, Any]) -> list[float]:
    return [cell[key] for key in ("value", "ci_low", "ci_high") if cell[key] is not None]


def _frame(cells: Sequence[Mapping[str, Any]], height: float, *marks: float, digits: int = 2):
    """A horizontal axis for rows of cells: value → x, and the svg of its grid and tick labels."""
    everything = [end for cell in cells for end in _ends(cell)] + list(marks)
    ticks = _ticks(min(everything), max(everything))
    left, right = _LABEL + 10, _WIDTH - 62

    def x(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left)

    grid = [_line(x(t), 4, x(t), height - 20, "grid") for t in ticks]
    return x, grid + [_text(x(t), height - 6, _number(t, digits), "tick", "middle") for t in ticks]


def _row_label(y: float, name: str) -> str:
    short = name if len(name) <= 23 else name[:22] + "…"
    return f"<g><title>{escape(name)}</title>{_text(_LABEL, y + 4, short, '', 'end')}</g>"


def _rows(
    label: str, rows: Sequence[tuple], mark: float, kind: str, room: Sequence[float] = (), digits: int = 3
) -> Markup:
    """A row per (name, cell, color) against a line at `mark`.

    kind: "bar" from the mark with the interval over it; "dot" on its interval; "difference": a dot with its sign.
    """
    height = 28 * len(rows) + 30
    x, parts = _frame([cell for _, cell, _ in rows], height, mark, *room, digits=max(digits - 1, 0))
    parts.append(_line(x(mark), 4, x(mark), height - 20, "target" if room else "axis"))
    for k, (name, cell, color) in enumerate(rows):
        y = 18 + 28 * k
        parts.append(_row_label(y, name))
        if cell["value"] is None:
            parts.append(_text(x(mark) + 6, y + 4, "no value", "tick"))
            continue
        end = x(cell["value"])
        if kind == "bar":
            start, width = min(x(mark), end), abs(end - x(mark))
            parts.append(f'<rect x="{start:.1f}" y="{y - 8}" width="{width:.1f}" height="16" rx="2" class="{color}"/>')
        if cell["ci_low"] is not None:
            css = "whisker" if kind == "bar" else f"whisker {color}"
            parts.append(_line(x(cell["ci_low"]), y, x(cell["ci_high"]), y, css))
        if kind != "bar":
            parts.append(_dot(end, y, 5, color))
        words = _signed(cell["value"], digits) if kind == "difference" else _number(cell["value"], digits)
        parts.append(_text(_WIDTH - 4, y + 4, words, "value", "end"))
    return _svg(label, height, parts)


def _curves(label: str, series: Sequence[tuple], names: Sequence[str], axis: str, marks: Sequence[float]) -> Markup:
    """Lines over len(names) equal steps; series: (legend or None, [cell or None per step], color)."""
    rows = math.ceil(sum(legend is not None for legend, _, _ in series) / 3)
    top, height = 14 + 20 * rows, 250 + 20 * rows
    ends = [end for _, cells, _ in series for cell in cells for end in _ends(cell)] + list(marks)
    ticks = _ticks(min(ends), max(ends))
    left, right, bottom = 46, _WIDTH - 24, height - 42

    def x(step: int) -> float:
        return left + 24 + step * (right - left - 48) / max(len(names) - 1, 1)

    def y(value: float) -> float:
        return bottom - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - top)

    parts = [
        _line(left, y(t), right, y(t), "grid") + _text(left - 6, y(t) + 4, _number(t, 2), "tick", "end") for t in ticks
    ]
    parts += [_text(x(k), bottom + 18, name, "tick", "middle") for k, name in enumerate(names)]
    parts.append(_text((left + right) / 2, height - 6, axis, "tick", "middle"))
    for place, (legend, cells, color) in enumerate(series):
        shift = 3.0 * (place - (len(series) - 1) / 2)  # side by side, so that intervals don't cover each other
        points = [(x(k) + shift, cell) for k, cell in enumerate(cells) if cell["value"] is not None]
        path = " ".join(f"{px:.1f},{y(cell['value']):.1f}" for px, cell in points)
        parts.append(f'<polyline points="{path}" class="curve {color}"/>')
        for px, cell in points:
            if cell["ci_low"] is not None:
                parts.append(_line(px, y(cell["ci_low"]), px, y(cell["ci_high"]), f"thin {color}"))
            parts.append(_dot(px, y(cell["value"]), 4, color, f"{legend or label}: {_number(cell['value'])}"))
        if legend is not None:
            lx, ly = left + (place % 3) * 164, 12 + 20 * (place // 3)
            parts.append(_dot(lx + 5, ly - 4, 5, color))
            parts.append(_text(lx + 15, ly, legend if len(legend) <= 21 else legend[:20] + "…"))
    return _svg(label, height, parts)


def _margin_curves(series: Sequence[tuple]) -> Markup:
    lines = [(name, [cells[f"user_pairwise_{m}"] for m in MARGINS], color) for name, cells, color in series]
    names = ["at all", *(f"more than {m}" for m in MARGINS[1:])]
    return _curves("pairwise accuracy by margin", lines, names, "levels between the two ratings", [0.5])


def _few_shot_curve(curve: Mapping[int, Mapping[str, Any]]) -> Markup:
    counts = sorted(curve)
    names = [str(k) if k < 10**9 else "all" for k in counts]
    return _curves("user_srocc by k", [(None, [curve[k] for k in counts], "s0")], names, "ratings of their own", [])


def _histogram(values: Sequence[float]) -> Markup:
    """People by their value, .1 wide, with the mean marked."""
    low, high = math.floor(min(*values, 0) * 10), max(math.ceil(max(values) * 10), 1)
    counts, _ = np.histogram(values, bins=np.arange(low, high + 1) / 10)
    left, right, top, bottom, height = 46, _WIDTH - 24, 26, 190, 232
    ticks = [t for t in _ticks(0, counts.max()) if t == int(t)]

    def x(value: float) -> float:
        return left + (value * 10 - low) / (high - low) * (right - left)

    def y(count: float) -> float:
        return bottom - count / max(ticks[-1], 1) * (bottom - top)

    parts = [_line(left, y(t), right, y(t), "grid") + _text(left - 6, y(t) + 4, int(t), "tick", "end") for t in ticks]
    for k, count in enumerate(counts):
        start, end = x((low + k) / 10), x((low + k + 1) / 10)
        tip = f"{count} people between {(low + k) / 10:.1f} and {(low + k + 1) / 10:.1f}"
        parts.append(
            f'<rect x="{start + 1:.1f}" y="{y(count):.1f}" width="{end - start - 2:.1f}"'
            f' height="{bottom - y(count):.1f}" rx="2" class="s0"><title>{tip}</title></rect>'
        )
    step = 2 if high - low > 10 else 1
    parts += [_text(x(t / 10), bottom + 18, _number(t / 10, 1), "tick", "middle") for t in range(low, high + 1, step)]
    mean = float(np.mean(values))
    parts.append(_line(x(mean), top - 6, x(mean), bottom, "target"))
    parts.append(_text(x(mean), top - 11, f"mean {_number(mean)}", "value", "middle"))
    parts.append(_text((left + right) / 2, height - 6, "user_srocc of one person", "tick", "middle"))
    return _svg("people by user_srocc", height, parts)


_CSS = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #fff; --fg: #1d2026; --soft: #646b76; --line: #e2e4e8; --s0:
#2f6fde; --s1: #7fa9ec; --s2: #e0663a; --s3: #7d8590; --s4: #2a9d78; --s5: #9a62c7; --s6: #c2972b; --s7: #c64f84; }
@media (prefers-color-scheme: dark) { :root { --bg: #14161a; --card: #1c1f25; --fg: #e7e9ed; --soft: #9aa2ae; --line:
#31363f; --s0: #6ea2ff; --s1: #4567a3; --s2: #ff8f66; --s3: #8b95a3; --s4: #4cc79d; --s5: #bd8be6; --s6: #e0b94f; --s7:
#ea7fab; } } * { box-sizing: border-box } body { margin: 0; background: var(--bg); color: var(--fg); font: 16px/1.55
system-ui, -apple-system, "Segoe UI", Roboto, sans-serif } main { max-width: 1200px; margin: 0 auto; padding: 40px 24px
64px } h1 { font-size: 28px; margin: 0 0 4px } h2 { font-size: 22px; margin: 56px 0 2px } h3 { font-size: 16px; margin:
0 } p { margin: 4px 0 } .soft, .card p { color: var(--soft); font-size: 14px } .lead { font-size: 20px; font-weight:
600; margin: 20px 0 4px } ul { margin: 0; padding-left: 22px } .badge { display: inline-block; vertical-align: middle;
margin-left: 10px; padding: 2px 12px; border-radius: 99px; background: var(--s2); color: var(--bg); font-size: 14px;
font-weight: 600 } .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap:
18px; margin: 18px 0 } .card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding:
18px 20px 12px } svg { width: 100%; max-width: 640px; display: block; margin: 10px auto 0; font-size: 12.5px } svg text
{ fill: var(--fg) } svg .tick { fill: var(--soft); font-size: 12px } svg .value { font-weight: 600;
font-variant-numeric: tabular-nums } .grid { stroke: var(--line) } .axis { stroke: var(--soft) } .target { stroke:
var(--fg); stroke-dasharray: 4 3 } .whisker { stroke: var(--fg); stroke-width: 2 } .thin { stroke-width: 1.5; opacity:
.55 } SERIES svg .curve { fill: none; stroke-width: 2.5 } svg rect { stroke: none } svg circle { stroke: var(--card) }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: 14px } th, td { padding: 8px
12px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; white-space: nowrap;
font-variant-numeric: tabular-nums } th:first-child { text-align: left; white-space: normal; min-width: 270px } tbody
th { font-weight: 600 } th small, td small { display: block; font-weight: 400; color: var(--soft); font-size: 12.5px }
td.best b { border-bottom: 3px solid var(--s0) } td b { font-weight: 400 } td.best b { font-weight: 700 } .key {
display: inline-block; width: 10px; height: 10px; border-radius: 99px; margin-right: 6px } footer { margin-top: 56px;
border-top: 1px solid var(--line); padding-top: 14px }
""".replace(
    "SERIES",
    "\n".join(
        f".s{k} {{ fill: var(--s{k}); stroke: var(--s{k}) }} .key.s{k} {{ background: var(--s{k}) }}" for k in range(8)
    ),
)

_ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters |= {"number": _number, "thousands": "{:,}".format}
_PAGE = _ENVIRONMENT.from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ meta.reference }} on {{ meta.data }}: how well are personal ratings predicted?</title>
<style>{{ css }}</style>
</head>
<body><main>
<h1>How well are people's own ratings predicted?
{% if meta.simulated %}<span class="badge">simulated</span>{% endif %}</h1>
<p class="soft">Ratings: {{ meta.data }}. Everything is judged person by person, then averaged over people.</p>
{% if meta.simulated %}
<p class="soft">The people and images of this report are simulated: it shows that the parts work, not how well real
taste is predicted.</p>
{% endif %}
{% for text, details in headlines %}
<p class="lead">{{ text }}</p>
<ul>{% for detail in details %}<li>{{ detail }}</li>{% endfor %}</ul>
{% endfor %}
{% for section in sections %}
<section>
<h2>{{ section.split }}</h2>
<p>{{ section.people }}</p>
<p class="soft">{{ section.counts.ratings | thousands }} ratings of {{ section.counts.images | thousands }} images by
{{ section.counts.participants | thousands }} people; left out of the per-person means:
{{ section.counts.left_out.few_ratings }} with fewer than 6 ratings,
{{ section.counts.left_out.constant_ratings }} who rated everything alike. {{ section.use }}</p>
<div class="cards">
{% for title, text, chart in section.charts %}
<div class="card"><h3>{{ title }}</h3><p>{{ text }}</p>{{ chart }}</div>
{% endfor %}
</div>
<div class="card scroll"><table>
<thead><tr><th>Every metric, with its 95 % interval over people</th>
{% for scorer, color in section.scorers %}<th><span class="key {{ color }}"></span>{{ scorer }}</th>{% endfor %}</tr>
</thead>
<tbody>
{% for metric, cells in section.table %}
<tr><th>{{ metric }}<small>{{ explanations[metric] }}</small></th>
{% for cell, best in cells %}
<td{% if best %} class="best"{% endif %}><b>{{ cell.value | number }}</b>
<small>{% if cell.ci_low is not none %}{{ cell.ci_low | number(2) }} to {{ cell.ci_high | number(2) }}{% endif %}
</small></td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
</section>
{% endfor %}
<footer class="soft">
<p><b>Scorers.</b> {% for name, about in meta.scorers.items() %}
{{ name }}: {{ "personal" if about.personal else "the same for everybody" }}{% if about.identity %},
identity {{ about.identity }}{% endif %}. {% endfor %}
<b>@no_user</b>: of the person it is told nothing but the demographics. <b>@wrong_user</b>: it is told somebody else's
name. <b>@k=20</b>: a new person whose first 20 ratings it has seen; <b>@k=0</b> is a new person as such.</p>
<p>Underlined: best of its row. Intervals: {{ meta.bootstrap | thousands }} bootstrap draws of people.
Seed {{ meta.seed }}, pamela_hf {{ meta.version }}.</p>
</footer>
</main></body>
</html>
""")
