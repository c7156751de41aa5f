"""The charts of the evaluation report as inline SVG, coloured by the classes of `report_page`.

A cell is `{"value", "ci_low", "ci_high", …}` with None where a number is missing; a color is a class, "s0" … "s7".
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from ..metrics import MARGINS

_WIDTH, _LABEL = 540, 190


def number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    text = f"{abs(value):.{digits}f}"
    text = text[1:] if text.startswith("0.") else text
    return ("−" if value < 0 and float(f"{value:.{digits}f}") else "") + text


def signed(value: float, digits: int = 3) -> str:
    return ("+" if value > 0 else "") + number(value, digits)


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


def _digits(ticks: np.ndarray) -> int:
    """As many as tell two ticks apart."""
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def _ends(cell: Mapping[str, Any]) -> list[float]:
    return [cell[key] for key in ("value", "ci_low", "ci_high") if cell[key] is not None]


def _frame(cells: Sequence[Mapping[str, Any]], height: float, *marks: float):
    """A horizontal axis for rows of cells: value → x, and the svg of its grid and tick labels."""
    everything = [end for cell in cells for end in _ends(cell)] + list(marks)
    ticks = _ticks(min(everything), max(everything))
    left, right = _LABEL + 10, _WIDTH - 62

    def x(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left)

    grid = [_line(x(t), 4, x(t), height - 20, "grid") for t in ticks]
    return x, grid + [_text(x(t), height - 6, number(t, _digits(ticks)), "tick", "middle") for t in ticks]


def _row_label(y: float, name: str) -> str:
    short = name if len(name) <= 23 else name[:22] + "…"
    return f"<g><title>{escape(name)}</title>{_text(_LABEL, y + 4, short, '', 'end')}</g>"


def rows_chart(
    label: str, rows: Sequence[tuple], mark: float, kind: str, room: Sequence[float] = (), digits: int = 3
) -> Markup:
    """A row per (name, cell, color) against a line at `mark`.

    kind: "bar" from the mark with the interval over it; "dot" on its interval; "difference": a dot with its sign.
    room: values that the axis reaches in any case.
    """
    height = 28 * len(rows) + 30
    x, parts = _frame([cell for _, cell, _ in rows], height, mark, *room)
    parts.append(_line(x(mark), 4, x(mark), height - 20, "target" if room else "axis"))
    for k, (name, cell, color) in enumerate(rows):
        y = 18 + 28 * k
        parts.append(_row_label(y, name))
        if cell["value"] is None:
            parts.append(_text(_LABEL + 16, y + 4, "no value", "tick"))
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
        words = signed(cell["value"], digits) if kind == "difference" else number(cell["value"], digits)
        parts.append(_text(_WIDTH - 4, y + 4, words, "value", "end"))
    return _svg(label, height, parts)


def curves(
    label: str, series: Sequence[tuple], names: Sequence[str], axis: str, marks: Sequence[float], target: bool = False
) -> Markup:
    """Lines over len(names) equal steps; series: (legend or None, [cell or None per step], color).

    marks: values that the axis reaches in any case; target: the last of them is drawn, as what would be right.
    """
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
        _line(left, y(t), right, y(t), "grid") + _text(left - 6, y(t) + 4, number(t, _digits(ticks)), "tick", "end")
        for t in ticks
    ]
    parts += [_text(x(k), bottom + 18, name, "tick", "middle") for k, name in enumerate(names)]
    parts.append(_text((left + right) / 2, height - 6, axis, "tick", "middle"))
    if target:
        parts.append(_line(left, y(marks[-1]), right, y(marks[-1]), "target"))
    for place, (legend, cells, color) in enumerate(series):
        shift = 3.0 * (place - (len(series) - 1) / 2)  # side by side, so that intervals don't cover each other
        points = [(x(k) + shift, cell) for k, cell in enumerate(cells) if cell["value"] is not None]
        path = " ".join(f"{px:.1f},{y(cell['value']):.1f}" for px, cell in points)
        parts.append(f'<polyline points="{path}" class="curve {color}"/>')
        for px, cell in points:
            if cell["ci_low"] is not None:
                parts.append(_line(px, y(cell["ci_low"]), px, y(cell["ci_high"]), f"thin {color}"))
            parts.append(_dot(px, y(cell["value"]), 4, color, f"{legend or label}: {number(cell['value'])}"))
        if legend is not None:
            parts += _legend(left, place, legend, color)
    return _svg(label, height, parts)


def _legend(left: float, place: int, name: str, color: str) -> list[str]:
    x, y = left + (place % 3) * 164, 12 + 20 * (place // 3)
    return [_dot(x + 5, y - 4, 5, color), _text(x + 15, y, name if len(name) <= 21 else name[:20] + "…")]


def pit_curves(series: Sequence[tuple]) -> Markup:
    """Shares of ratings by tenth of the probability integral transform; series: (legend, ten cells, color)."""
    names = [f"{k / 10:.1f}".removeprefix("0") for k in range(1, 11)]
    return curves("PIT histogram", series, names, "predicted P(rating this or lower), up to", [0, 0.1], target=True)


def reliability(series: Sequence[tuple]) -> Markup:
    """Observed against predicted probability, the diagonal being right; series: (legend, bins, color)."""
    top, left, right = 14 + 20 * math.ceil(len(series) / 3), 46, _WIDTH - 24
    bottom, height = top + 240, top + 282

    def x(value: float) -> float:
        return left + value * (right - left)

    def y(value: float) -> float:
        return bottom - value * (bottom - top)

    parts = [_line(left, y(t / 5), right, y(t / 5), "grid") for t in range(6)]
    parts += [_text(left - 6, y(t / 5) + 4, number(t / 5, 1), "tick", "end") for t in range(6)]
    parts += [_text(x(t / 5), bottom + 18, number(t / 5, 1), "tick", "middle") for t in range(6)]
    parts.append(_text((left + right) / 2, height - 6, "predicted probability of at least a level", "tick", "middle"))
    parts.append(_line(x(0), y(0), x(1), y(1), "target"))
    for place, (legend, bins, color) in enumerate(series):
        there = [one for one in bins if one["value"] is not None]
        path = " ".join(f"{x(one['predicted']):.1f},{y(one['value']):.1f}" for one in there)
        parts.append(f'<polyline points="{path}" class="curve {color}"/>')
        for one in there:
            px = x(one["predicted"])
            if one["ci_low"] is not None:
                parts.append(_line(px, y(one["ci_low"]), px, y(one["ci_high"]), f"thin {color}"))
            tip = f"{legend}: said {number(one['predicted'], 2)}, happened {number(one['value'], 2)}"
            parts.append(_dot(px, y(one["value"]), 4, color, f"{tip} ({100 * one['share']:.0f} % of questions)"))
        parts += _legend(left, place, legend, color)
    return _svg("reliability", height, parts)


def margin_curves(series: Sequence[tuple]) -> Markup:
    lines = [(name, [cells[f"user_pairwise_{m}"] for m in MARGINS], color) for name, cells, color in series]
    names = ["at all", *(f"more than {m}" for m in MARGINS[1:])]
    return curves("pairwise accuracy by margin", lines, names, "levels between the two ratings", [0.5])


def few_shot_curve(told: Mapping[int, Mapping[str, Any]], untold: Mapping[int, Mapping[str, Any]]) -> Markup:
    """By k; untold: of those k whose people and images are not everybody's, what k = 0 reaches on the same."""
    counts = sorted(told)
    names = [str(k) if k < 10**9 else "all" for k in counts]
    series = [("told so many" if untold else None, [told[k] for k in counts], "s0")]
    if untold:
        series.append(("the same, told none", [untold.get(k, told[counts[0]]) for k in counts], "s3"))
    return curves("user_srocc by k", series, names, "ratings of their own", [])


def histogram(values: Sequence[float]) -> Markup:
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
    parts += [_text(x(t / 10), bottom + 18, number(t / 10, 1), "tick", "middle") for t in range(low, high + 1, step)]
    mean = float(np.mean(values))
    parts.append(_line(x(mean), top - 6, x(mean), bottom, "target"))
    parts.append(_text(x(mean), top - 11, f"mean {number(mean)}", "value", "middle"))
    parts.append(_text((left + right) / 2, height - 6, "user_srocc of one person", "tick", "middle"))
    return _svg("people by user_srocc", height, parts)
