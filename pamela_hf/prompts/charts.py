"""The charts of a prompt run's page: rounds, adherence, the tree of prompts."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from ..reports.charts import WIDTH, Axis, area, line, mark, path, rect, svg, text
from ..reports.numbers import number
from .search import Candidate, SearchResult

_LEFT, _RIGHT, _TOP, _BOTTOM = 40, WIDTH - 12, 12, 258


def descent(result: SearchResult) -> list[Candidate]:
    """The unoptimized prompt … the winner, each made from the one before."""
    of = {c.prompt: c for c in reversed(result.candidates)}
    ancestors = [result.best]
    while ancestors[-1].parent in of and len(ancestors) <= len(result.candidates):
        ancestors.append(of[ancestors[-1].parent])
    return ancestors[::-1]


def _mark(x: float, y: float, radius: float, candidate: Candidate, result: SearchResult) -> str:
    kind = "plain" if candidate.eligible else "barred"
    kind = "win" if candidate is result.best else "base" if candidate is result.baseline else kind
    return mark(x, y, radius, kind, f"{number(candidate.score, 2)} · {candidate.prompt}")


def _labelled_rounds(rounds: int, gap: float, taken: float) -> list[int]:
    """Rounds whose numbers fit under a chart.

    Args:
        rounds: how many there are.
        gap: px from one round to the next.
        taken: px that the label of round 0 takes to its right.
    """
    step = next(s for s in (k * 10**e for e in range(9) for k in (1, 2, 5)) if s * gap >= 24)
    return [k for k in range(step, rounds + 1, step) if k * gap >= taken]


def rounds_chart(result: SearchResult, score_range: Sequence[float]) -> Markup:
    """Every candidate by its round, the best so far as a line with the reward's uncertainty as a band.

    Args:
        result: of the search.
        score_range: lowest and highest predicted rating; the band ends there.
    """
    shown = [c for c in result.candidates if math.isfinite(c.score)]
    curve = [c for c in result.best_by_iteration if math.isfinite(c.score)]
    low, high = score_range
    bands = [(max(c.score - c.std, min(low, c.score)), min(c.score + c.std, max(high, c.score))) for c in curve]
    y = Axis.over([*(c.score for c in shown), *(edge for band in bands for edge in band)], _BOTTOM, _TOP)
    steps = max(len(result.best_by_iteration) - 1, 1)
    x = Axis([0, steps], _LEFT + 26, _RIGHT - 26)
    parts = [*y.up(_LEFT, _RIGHT), text(x(0), _BOTTOM + 18, "unoptimized", "tick", "middle")]
    numbers = _labelled_rounds(steps, x(1) - x(0), 52)
    parts += [text(x(k), _BOTTOM + 18, k, "tick", "middle") for k in numbers]
    parts.append(text((_LEFT + _RIGHT) / 2, _BOTTOM + 38, "round", "tick", "middle"))
    first = len(result.best_by_iteration) - len(curve)
    across = [x(first + k) for k in range(len(curve))]
    upper = [(px, y(above)) for px, (_, above) in zip(across, bands)]
    lower = [(px, y(below)) for px, (below, _) in zip(across, bands)]
    parts.append(area(upper + lower[::-1], "band"))
    counts: dict[int, int] = {}
    for c in shown:
        k = counts[c.iteration] = counts.get(c.iteration, -1) + 1
        spread = 0 if c.iteration == 0 else ((k * 0.618) % 1 - 0.5) * min(28, 0.7 * (_RIGHT - _LEFT) / steps)
        parts.append(_mark(x(c.iteration) + spread, y(c.score), 6 if c is result.best else 3.5, c, result))
    parts.append(path([(px, y(c.score)) for px, c in zip(across, curve)], "curve s0"))
    return svg("predicted rating by round", _BOTTOM + 46, parts)


def adherence_chart(result: SearchResult) -> Markup:
    """Predicted rating against adherence; what lies left of the floor may not win."""
    shown = [c for c in result.candidates if math.isfinite(c.score) and math.isfinite(c.adherence)]
    if not shown:
        return svg("no adherence", 40, [text(WIDTH / 2, 24, "no adherence scores", "tick", "middle")])
    floor = [result.floor] if math.isfinite(result.floor) else []
    x = Axis.over([*(c.adherence for c in shown), *floor], _LEFT + 8, _RIGHT - 18)
    y = Axis.over([c.score for c in shown], _BOTTOM, _TOP)
    parts = y.up(_LEFT, _RIGHT) + x.across(_TOP, _BOTTOM, grid=False)
    parts.append(text((_LEFT + _RIGHT) / 2, _BOTTOM + 38, "adherence to the unoptimized prompt", "tick", "middle"))
    for least in floor:
        parts.append(rect(_LEFT, _TOP, max(x(least) - _LEFT, 0), _BOTTOM - _TOP, "shade"))
        parts.append(line(x(least), _TOP, x(least), _BOTTOM, "target"))
    for c in sorted(shown, key=lambda c: c in (result.best, result.baseline)):
        big = c is result.best or c is result.baseline
        parts.append(_mark(x(c.adherence), y(c.score), 6 if big else 3.5, c, result))
    return svg("predicted rating against adherence", _BOTTOM + 46, parts)


def tree_chart(result: SearchResult) -> Markup:
    """Rounds from left to right; within a round prompts stand best on top, joined to their parents."""
    rounds = max(c.iteration for c in result.candidates)
    columns: list[list[Candidate]] = [[] for _ in range(rounds + 1)]
    for c in sorted(result.candidates, key=lambda c: -(c.score if c.eligible else -math.inf)):
        columns[c.iteration].append(c)
    height = min(300, 40 + 14 * max(map(len, columns)))
    gap = (WIDTH - 52) / max(rounds, 1)
    place: dict[str, tuple[float, float]] = {}
    for k, column in enumerate(columns):
        each = (height - 44) / max(len(column), 1)
        for i, c in enumerate(column):
            place[c.prompt] = (26 + k * gap, 14 + each * (i + 0.5) if len(column) > 1 else (height - 30) / 2)
    ancestors = {c.prompt for c in descent(result)}
    edges: dict[bool, list[str]] = {False: [], True: []}
    for c in result.candidates:
        if c.parent in place:
            (x1, y1), (x2, y2), on = place[c.parent], place[c.prompt], c.prompt in ancestors
            bend = f"M{x1:.1f},{y1:.1f} C{(x1 + x2) / 2:.1f},{y1:.1f} {(x1 + x2) / 2:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
            edges[on].append(f'<path d="{bend}" class="{"vein" if on else "edge"}"/>')
    marks = [
        _mark(*place[c.prompt], 6 if c is result.best else 5 if c.prompt in ancestors else 3, c, result)
        for c in result.candidates
    ]
    numbers = (0, *_labelled_rounds(rounds, gap, 24))
    labels = [text(26 + k * gap, height - 6, k or "start", "tick", "middle") for k in numbers]
    return svg("tree of prompts", height, [*edges[False], *edges[True], *marks, *labels])
