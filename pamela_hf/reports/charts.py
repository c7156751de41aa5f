"""Charts as inline SVG, styled by [`pamela_hf.reports.style`]; every report draws with these.

They are drawn here rather than by a plotting library so that a page needs no script and no picture file, follows the
reader's light or dark setting, and can be read aloud and searched. A chart is as wide as a phone's screen.

A cell is `{"value", "ci_low", "ci_high", …}` with None where a number is missing. A color is a class of the style
sheet, see [`series_color`].
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from .numbers import count, number, signed
from .style import LIGHT

WIDTH = 400
_LEGEND_LETTERS = 24


def series_color(k: int) -> str:
    """The class of the k-th series. Sixteen colours, then the same with dashed lines: 32 that differ."""
    return f"s{k % len(LIGHT)}" + (" again" if k // len(LIGHT) % 2 else "")


# Colours alone do not tell many series apart, and no one without colour vision: the shape of a point changes, too.
_SHAPES = {f"s{k}": ("circle", "square", "diamond", "triangle")[k % 4] for k in range(len(LIGHT))}


def text(x: float, y: float, words: Any, css: str = "", anchor: str = "start") -> str:
    """Words with their baseline at y; anchor: "start", "middle" or "end" is at x."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def path(points: Iterable[tuple[float, float]], css: str) -> str:
    """A line through points."""
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{css}"/>'


def area(points: Iterable[tuple[float, float]], css: str) -> str:
    """A filled polygon."""
    return f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{css}"/>'


def rect(x: float, y: float, width: float, height: float, css: str, tip: str = "") -> str:
    """A filled rectangle; tip: shown by the browser when it is pointed at."""
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="2" class="{css}">{_tip(tip)}</rect>'


def mark(x: float, y: float, radius: float, css: str, tip: str = "") -> str:
    """A point: a circle, or the shape that belongs to the color."""
    shape, r = _SHAPES.get(css.split(" ")[0], "circle"), radius
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" class="mark {css}">{_tip(tip)}</circle>'
    corners = {
        "square": [(-r, -r), (r, -r), (r, r), (-r, r)],
        "diamond": [(0, -1.35 * r), (1.35 * r, 0), (0, 1.35 * r), (-1.35 * r, 0)],
        "triangle": [(0, -1.25 * r), (1.2 * r, r), (-1.2 * r, r)],
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" class="mark {css}">{_tip(tip)}</polygon>'


def _tip(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""


def svg(label: str, height: float, parts: Iterable[str]) -> Markup:
    """The chart; label: what it shows, for those who do not see it."""
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"<title>{escape(label)}</title>{''.join(parts)}</svg>"
    )


def shortened(words: str, letters: int) -> str:
    """At most that many letters, with an ellipsis where some are missing."""
    return words if len(words) <= letters else words[: letters - 1] + "…"


@dataclass(frozen=True)
class Axis:
    """Values to pixels.

    Args:
        ticks: round numbers at equal steps; the first and last are the ends of the axis.
        start: pixel of the first tick.
        end: pixel of the last.
    """

    ticks: Sequence[float]
    start: float
    end: float

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float) -> "Axis":
        """Two to eight ticks that cover the values, half a unit to both sides where these are hardly apart."""
        values = list(values)
        low, high = min(values), max(values)
        if high - low < 1e-3:
            low, high = low - 0.5, high + 0.5
        raw = (high - low) / 5
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= raw)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return cls([k * step for k in range(first, max(last, first + 1) + 1)], start, end)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0]) * (self.end - self.start)

    def label(self, tick: float) -> str:
        """With as many digits as tell it from the next tick."""
        return number(tick, max(0, -math.floor(math.log10(self.ticks[1] - self.ticks[0]) + 1e-9)))

    def across(self, top: float, bottom: float, grid: bool = True) -> list[str]:
        """Grid and labels of a horizontal axis between two heights; labels stand beneath."""
        parts = [line(self(t), top, self(t), bottom, "grid") for t in self.ticks] if grid else []
        return parts + [text(self(t), bottom + 18, self.label(t), "tick", "middle") for t in self.ticks]

    def up(self, left: float, right: float) -> list[str]:
        """Grid and labels of a vertical axis; labels stand to the left."""
        return [
            line(left, self(t), right, self(t), "grid") + text(left - 6, self(t) + 4, self.label(t), "tick", "end")
            for t in self.ticks
        ]


def _ends(cell: Mapping[str, Any]) -> list[float]:
    return [cell[key] for key in ("value", "ci_low", "ci_high") if cell.get(key) is not None]


def _interval(cell: Mapping[str, Any], digits: int) -> str:
    return "" if cell["ci_low"] is None else f" ({number(cell['ci_low'], digits)} to {number(cell['ci_high'], digits)})"


def rows_chart(
    label: str,
    rows: Sequence[tuple[str, Mapping[str, Any], str]],
    at: float,
    kind: str,
    room: Sequence[float] = (),
    digits: int = 3,
) -> Markup:
    """A row for each thing compared, its name above its value, against a vertical line.

    Args:
        label: what it shows.
        rows: (name, cell, color), from top to bottom.
        at: where the line stands.
        kind: "bar" from the line with the interval over it; "dot" on its interval; "difference": a dot, the value with
            its sign.
        room: values that the axis reaches in any case; with them the line is dashed, as what would be right.
        digits: of the values.
    """
    gap = 40
    bottom = gap * len(rows) + 8
    x = Axis.over([*(end for _, cell, _ in rows for end in _ends(cell)), at, *room], 12, WIDTH - 16)
    parts = [*x.across(4, bottom), line(x(at), 4, x(at), bottom, "target" if room else "axis")]
    for k, (name, cell, color) in enumerate(rows):
        y = 30 + gap * k
        parts.append(f"<g><title>{escape(name)}</title>{text(0, y - 11, shortened(name, 44))}</g>")
        if cell["value"] is None:
            parts.append(text(WIDTH, y - 11, "no value", "tick", "end"))
            continue
        shown = signed(cell["value"], digits) if kind == "difference" else number(cell["value"], digits)
        tip = f"{name}: {shown}{_interval(cell, digits)}"
        if kind == "bar":
            start, width = min(x(at), x(cell["value"])), abs(x(cell["value"]) - x(at))
            parts.append(rect(start, y - 5, width, 12, color, tip))
        if cell["ci_low"] is not None:
            css = "whisker" if kind == "bar" else f"whisker {color}"
            parts.append(line(x(cell["ci_low"]), y + 1, x(cell["ci_high"]), y + 1, css))
        if kind != "bar":
            parts.append(mark(x(cell["value"]), y + 1, 5, color, tip))
        parts.append(text(WIDTH, y - 11, shown, "value", "end"))
    return svg(label, bottom + 24, parts)


def _legend(names: Sequence[tuple[str, str]]) -> tuple[list[str], float]:
    """The keys of (name, color), two in a line, and the height that they take."""
    parts = []
    for k, (name, color) in enumerate(names):
        x, y = (k % 2) * WIDTH / 2, 12 + 20 * (k // 2)
        words = f"<g><title>{escape(name)}</title>{text(x + 16, y, shortened(name, _LEGEND_LETTERS))}</g>"
        parts += [mark(x + 6, y - 4, 5, color), words]
    return parts, 20 * math.ceil(len(names) / 2)


def _series(points: Sequence[tuple[float, float, Mapping[str, Any], str]], y: Callable, color: str) -> list[str]:
    """A line with intervals through (x, y, cell, tip)."""
    parts = [path([(px, py) for px, py, _, _ in points], f"curve {color}")]
    for px, py, cell, tip in points:
        if cell["ci_low"] is not None:
            parts.append(line(px, y(cell["ci_low"]), px, y(cell["ci_high"]), f"thin {color}"))
        parts.append(mark(px, py, 4, color, tip))
    return parts


def curves(
    label: str,
    series: Sequence[tuple[str | None, Sequence[Mapping[str, Any]], str]],
    names: Sequence[str],
    axis: str,
    marks: Sequence[float] = (),
    target: bool = False,
) -> Markup:
    """Lines over equal steps.

    Args:
        label: what it shows.
        series: (name in the legend or None, a cell for each step, color).
        names: of the steps.
        axis: what the steps are.
        marks: values that the axis reaches in any case.
        target: the last of the marks is drawn, as what would be right.
    """
    parts, legend = _legend([(name, color) for name, _, color in series if name is not None])
    top, left, right = 14 + legend, 40, WIDTH - 10
    bottom = top + 200
    y = Axis.over([*(e for _, cells, _ in series for one in cells for e in _ends(one)), *marks], bottom, top)
    x = Axis([0, max(len(names) - 1, 1)], left + 18, right - 18)
    parts += y.up(left, right)
    every = math.ceil(len(names) * 36 / (right - left))
    parts += [text(x(k), bottom + 18, n, "tick", "middle") for k, n in enumerate(names) if k % every == 0]
    parts.append(text((left + right) / 2, bottom + 38, axis, "tick", "middle"))
    if target:
        parts.append(line(left, y(marks[-1]), right, y(marks[-1]), "target"))
    for place, (name, cells, color) in enumerate(series):
        shift = 3.0 * (place - (len(series) - 1) / 2)  # side by side, so that intervals do not cover each other
        points = [
            (x(k) + shift, y(cell["value"]), cell, f"{name or label}, {names[k]}: {number(cell['value'])}")
            for k, cell in enumerate(cells)
            if cell["value"] is not None
        ]
        parts += _series(points, y, color)
    return svg(label, bottom + 46, parts)


def reliability(series: Sequence[tuple[str, Sequence[Mapping[str, Any]], str]]) -> Markup:
    """Observed against predicted probability, the diagonal being right.

    Args:
        series: (name, bins, color); a bin is a cell with "predicted" and "share" (its part of the questions).
    """
    parts, legend = _legend([(name, color) for name, _, color in series])
    top, left, right = 14 + legend, 40, WIDTH - 10
    bottom, ticks = top + 230, [k / 5 for k in range(6)]
    x, y = Axis(ticks, left, right), Axis(ticks, bottom, top)
    parts += y.up(left, right) + x.across(top, bottom, grid=False)
    parts.append(text((left + right) / 2, bottom + 38, "predicted probability of at least a level", "tick", "middle"))
    parts.append(line(x(0), y(0), x(1), y(1), "target"))
    for name, bins, color in series:
        points = []
        for one in bins:
            if one["value"] is not None:
                tip = f"{name}: predicted {number(one['predicted'], 2)}, observed {number(one['value'], 2)}"
                tip += f" ({100 * one['share']:.0f} % of questions)"
                points.append((x(one["predicted"]), y(one["value"]), one, tip))
        parts += _series(points, y, color)
    return svg("reliability", bottom + 46, parts)


def histogram(values: Sequence[float], label: str, axis: str) -> Markup:
    """How many people have which value, in steps of .1, with the mean marked."""
    low, high = math.floor(min(*values, 0) * 10), max(math.ceil(max(values) * 10), 1)
    counts, _ = np.histogram(values, bins=np.arange(low, high + 1) / 10)
    left, right, top, bottom = 40, WIDTH - 10, 26, 180
    y = Axis.over([0, max(counts.max(), 5)], bottom, top)  # 5 or more: whole people at every tick
    x = Axis([low / 10, high / 10], left, right)
    parts = y.up(left, right)
    for k, people in enumerate(counts):
        start, end = (low + k) / 10, (low + k + 1) / 10
        tip = f"{people} people between {start:.1f} and {end:.1f}"
        parts.append(rect(x(start) + 1, y(people), x(end) - x(start) - 2, bottom - y(people), "s0", tip))
    step = 2 if high - low > 10 else 1
    parts += [text(x(t / 10), bottom + 18, number(t / 10, 1), "tick", "middle") for t in range(low, high + 1, step)]
    mean = float(np.mean(values))
    parts.append(line(x(mean), top - 6, x(mean), bottom, "target"))
    parts.append(text(x(mean), top - 11, f"mean {number(mean)}", "value", "middle"))
    parts.append(text((left + right) / 2, bottom + 38, axis, "tick", "middle"))
    return svg(label, bottom + 46, parts)


def columns_chart(
    label: str, groups: Sequence[tuple[str, Sequence[float]]], ends: Sequence[float], axes: tuple[str, str]
) -> Markup:
    """How values spread in each of a few ordered groups: their middle half as a box, the median, the outer tenths.

    Args:
        label: what it shows.
        groups: (name, values), from left to right; an empty one is left blank.
        ends: lowest and highest value of the vertical axis.
        axes: what stands across, and what up.
    """
    left, right, top, bottom = 40, WIDTH - 10, 30, 250
    y, step = Axis.over(ends, bottom, top), (right - left) / len(groups)
    parts = [*y.up(left, right), text(0, 14, axes[1], "tick")]
    for k, (name, values) in enumerate(groups):
        middle = left + (k + 0.5) * step
        parts.append(text(middle, bottom + 18, name, "tick", "middle"))
        if len(values):
            tenth, quarter, median, three, nine = (y(v) for v in np.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9]))
            tip = f"{name}: {count(len(values))} ratings, median predicted {number(float(np.median(values)), 2)}"
            parts.append(line(middle, tenth, middle, nine, "whisker s0"))
            parts.append(rect(middle - step / 4, three, step / 2, quarter - three, "s0", tip))
            parts.append(rect(middle - step / 4, median - 1.5, step / 2, 3, "base"))
    parts.append(text((left + right) / 2, bottom + 38, axes[0], "tick", "middle"))
    return svg(label, bottom + 46, parts)


def effects_chart(label: str, effects: Sequence[tuple[str, float, str]]) -> Markup:
    """A bar up or down from 0 for each (name, effect, tip), the name above it."""
    gap = 38
    x = Axis.over([0.0, *(effect for _, effect, _ in effects)], 4, WIDTH - 4)
    bottom, parts = gap * len(effects) + 6, []
    parts.append(line(x(0), 4, x(0), bottom, "axis"))
    for k, (name, effect, tip) in enumerate(effects):
        y = 18 + gap * k
        parts.append(f"<g><title>{escape(name)}</title>{text(0, y, shortened(name, 46))}</g>")
        css = "more" if effect > 0 else "less"
        parts.append(rect(min(x(0), x(effect)), y + 6, abs(x(effect) - x(0)), 11, css, tip))
        parts.append(text(WIDTH, y, signed(effect, 2), "value", "end"))
    return svg(label, bottom, parts)
