"""The charts of a prompt run's page, as inline SVG: rounds, adherence, the tree of prompts, what words are worth."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from ..reports.prompt_frame import number, signed
from .search import Candidate, SearchResult

_WIDTH = 560


def descent(result: SearchResult) -> list[Candidate]:
    """The unoptimized prompt … the winner, each made from the one before."""
    of = {c.prompt: c for c in reversed(result.candidates)}
    path = [result.best]
    while path[-1].parent is not None and path[-1].parent in of and len(path) <= len(result.candidates):
        path.append(of[path[-1].parent])
    return path[::-1]


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
    """Three to seven round numbers that cover [low, high], half a unit to both sides where these are hardly apart."""
    if high - low < 1e-3:
        low, high = low - 0.5, high + 0.5
    span = high - low
    unit = 10.0 ** math.floor(math.log10(span / 5))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= span / 5)
    first = math.floor(low / step + 1e-9)
    return [k * step for k in range(first, math.ceil(high / step - 1e-9) + 1)]


def _scale(values: Sequence[float], start: float, end: float):
    ticks = _ticks(min(values), max(values))
    return ticks, lambda v: start + (v - ticks[0]) / (ticks[-1] - ticks[0]) * (end - start)


def _told(tick: float, ticks: Sequence[float]) -> str:
    """A tick's label, with the digits that tell it from the next."""
    return number(tick, max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-6)))


def _labelled(rounds: int, gap: float, taken: float) -> list[int]:
    """Rounds whose numbers fit under a chart, `gap` px from one round to the next, `taken` px for the label of 0."""
    step = next(s for s in (k * 10**e for e in range(9) for k in (1, 2, 5)) if s * gap >= 24)
    return [k for k in range(step, rounds + 1, step) if k * gap >= taken]


def _kind(candidate: Candidate, result: SearchResult) -> str:
    if candidate is result.best:
        return "win"
    if candidate is result.baseline:
        return "base"
    return "dot" if candidate.eligible else "barred"


def rounds_chart(result: SearchResult, score_range: Sequence[float]) -> Markup:
    height, left, right, top, bottom = 300, 46, _WIDTH - 16, 12, 258
    shown = [c for c in result.candidates if math.isfinite(c.score)]
    curve = [c for c in result.best_by_iteration if math.isfinite(c.score)]
    low, high = score_range
    bands = [(max(c.score - c.std, min(low, c.score)), min(c.score + c.std, max(high, c.score))) for c in curve]
    ticks, y = _scale([*(c.score for c in shown), *(edge for band in bands for edge in band)], bottom, top)
    steps = max(len(result.best_by_iteration) - 1, 1)

    def x(step: float) -> float:
        return left + 26 + step * (right - left - 52) / steps

    parts = [
        _line(left, y(t), right, y(t), "grid") + _text(left - 6, y(t) + 4, _told(t, ticks), "tick", "end")
        for t in ticks
    ]
    parts.append(_text(x(0), bottom + 18, "unoptimized"))
    parts += [_text(x(k), bottom + 18, k) for k in _labelled(steps, x(1) - x(0), 44)]
    parts.append(_text((left + right) / 2, height - 4, "round"))
    first = len(result.best_by_iteration) - len(curve)
    points = [(x(first + k), c) for k, c in enumerate(curve)]
    places = [(px, y(below), y(above)) for (px, _), (below, above) in zip(points, bands)]
    edge = [(px, above) for px, _, above in places] + [(px, below) for px, below, _ in reversed(places)]
    parts.append(f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in edge)}" class="band"/>')
    counts: dict[int, int] = {}
    for c in shown:
        k = counts[c.iteration] = counts.get(c.iteration, -1) + 1
        spread = 0 if c.iteration == 0 else ((k * 0.618) % 1 - 0.5) * min(34, 0.7 * (right - left) / steps)
        parts.append(_dot(x(c.iteration) + spread, y(c.score), 6 if c is result.best else 3.5, _kind(c, result), c))
    path = " ".join(f"{px:.1f},{y(c.score):.1f}" for px, c in points)
    parts.append(f'<polyline points="{path}" class="curve"/>')
    return _svg("predicted rating by round", height, parts)


def adherence_chart(result: SearchResult) -> Markup:
    height, left, right, top, bottom = 300, 46, _WIDTH - 24, 12, 258
    shown = [c for c in result.candidates if math.isfinite(c.score) and math.isfinite(c.adherence)]
    if not shown:
        return _svg("no adherence", 40, [_text(_WIDTH / 2, 24, "no adherence scores")])
    floor = [result.floor] if math.isfinite(result.floor) else []
    xticks, x = _scale([*(c.adherence for c in shown), *floor], left, right)
    yticks, y = _scale([c.score for c in shown], bottom, top)
    parts = [
        _line(left, y(t), right, y(t), "grid") + _text(left - 6, y(t) + 4, _told(t, yticks), "tick", "end")
        for t in yticks
    ]
    parts += [_text(x(t), bottom + 18, _told(t, xticks)) for t in xticks]
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


def tree_chart(result: SearchResult) -> Markup:
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
    line = {c.prompt for c in descent(result)}
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
    gap = (_WIDTH - 52) / max(rounds, 1)
    labels = [_text(26 + k * gap, height - 6, k or "start") for k in (0, *_labelled(rounds, gap, 24))]
    return _svg("tree of prompts", height, [*edges[False], *edges[True], *dots, *labels])


def effects_chart(effects: Sequence[tuple[str, float, int]]) -> Markup:
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
