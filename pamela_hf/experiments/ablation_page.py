"""What a grid of trainings says: pooled over seeds, against `full`, as a dict, a table and a page.

The report, cells being `{"value", "sd", "ci_low", "ci_high", "n_users", "difference": {"value", "sd", "ci_low",
"ci_high", "n_users"}}`::

    {"ablation": {split: {variant: {metric: cell}}},
     "curves":   {split: {"users", "images" or "ratings_per_user": [{"size", "ratings", "cells": {metric: cell}}]}},
     "meta":     {"version", "data", "simulated", "seeds", "skipped": {variant: why}, "config", "sizes", "counts", …}}

A person's value is averaged over the seeds, then over people; intervals resample people. sd is that of the seeds'
means (None of one seed). The difference is the variant minus `full`, of the same seeds, paired over the same people.
The last point of a curve is `full`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..metrics import METRICS, Estimate, bootstrap_ci, paired_bootstrap
from ..reports.charts import curves, rows_chart, series_color
from ..reports.numbers import number, signed
from ..reports.page import Card, template

PART_WORDS = {
    "users": ("How many people", "people in training"),
    "images": ("How many images", "images in training"),
    "ratings_per_user": ("How many ratings of each person", "ratings of each person in training, at most"),
}


def shown_metrics() -> list[str]:
    """The columns of the ablation's tables."""
    return [name for name, metric in METRICS.items() if metric.in_ablation]


def ablation_report(
    cells: Mapping[str, Sequence[Mapping[str, Any]]],
    parts: Mapping[str, tuple[str, int] | None],
    meta: Mapping[str, Any],
) -> dict[str, Any]:
    """The report.

    Args:
        cells: variant → what [`ablation.judge_model`] gives, one per seed in the same order of seeds.
        parts: variant → point of a learning curve, or None for an ablation.
        meta: see the module.
    """
    report: dict[str, Any] = {"ablation": {}, "curves": {}, "meta": dict(meta)}
    for split in cells["full"][0]["splits"]:
        judged = {name: [cell["splits"][split] for cell in of] for name, of in cells.items()}
        table = {name: _row(own, judged["full"] if name != "full" else None) for name, own in judged.items()}
        report["ablation"][split] = {name: row for name, row in table.items() if parts[name] is None}
        lines = report["curves"][split] = {}
        for name, part in parts.items():
            if part is not None:
                ratings = round(float(np.mean([cell["train"]["ratings"] for cell in cells[name]])))
                lines.setdefault(part[0], []).append({"size": part[1], "ratings": ratings, "cells": table[name]})
        for kind, points in lines.items():
            ratings = cells["full"][0]["train"]["ratings"]
            points.append({"size": meta["sizes"][kind], "ratings": ratings, "cells": table["full"]})
    return report


def _row(own: Sequence[Mapping[str, Any]], full: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    return {metric: _cell(metric, own, full) for metric in METRICS}


def _cell(metric: str, own: Sequence[Mapping[str, Any]], full: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    if METRICS[metric].of_person:
        values = _people(metric, own)  # (seeds, people)
        pooled, known = values.mean(0), np.isfinite(values.mean(0))
        low, high = bootstrap_ci(pooled)
        value = float(pooled[known].mean()) if known.any() else np.nan
        means = values[:, known].mean(1) if known.any() else np.full(len(values), np.nan)
        cell = {"value": value, "ci_low": low, "ci_high": high, "n_users": int(known.sum())}
        if full is not None:
            others = _people(metric, full)
            cell["difference"] = paired_bootstrap(pooled, others.mean(0))
            both = np.isfinite(pooled) & np.isfinite(others.mean(0))
            gaps = (values - others)[:, both].mean(1) if both.any() else means
    else:
        estimate, means = _estimate(metric, own)
        cell = estimate.as_dict()
        if full is not None:
            other, others = _estimate(metric, full)
            cell["difference"], gaps = (estimate - other).as_dict(), means - others
    cell["sd"] = _sd(means)
    if full is not None:
        cell["difference"]["sd"] = _sd(gaps)
    return cell


def _people(metric: str, judged: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return np.array([one["per_person"][metric] for one in judged], dtype=np.float64)


def _estimate(metric: str, judged: Sequence[Mapping[str, Any]]) -> tuple[Estimate, np.ndarray]:
    """Averaged over seeds, value and draw by draw; and the value of each seed."""
    together = [one["together"][metric] for one in judged]
    values = np.array([one["value"] for one in together], dtype=np.float64)
    draws = np.array([one["draws"] for one in together], dtype=np.float64).mean(0)
    return Estimate(float(values.mean()), draws, together[0]["n_users"]), values


def _sd(values: np.ndarray) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def ablation_table(report: Mapping[str, Any], metrics: Sequence[str] | None = None) -> str:
    """The report for a console: a Markdown table per split, and one per learning curve.

    Args:
        report: of [`ablation_report`].
        metrics: names of [`METRICS`]; None: those marked `in_ablation`.
    """
    meta, lines, metrics = report["meta"], [], shown_metrics() if metrics is None else metrics
    if meta["simulated"]:
        lines.append("SIMULATED people and images: no figure here says anything about real taste.")
    seeds = len(meta["seeds"])
    heads = [METRICS[metric].heading for metric in metrics]
    for split, rows in report["ablation"].items():
        people = meta["counts"][split]["participants"]
        lines += [
            "",
            f"{split}: {people:,} people, {f'mean of {seeds} seeds ± their sd' if seeds > 1 else 'one seed'}",
            "",
        ]
        lines += _markdown(["variant", *heads, "srocc minus full [95 % over people]", "diverging minus full"])
        lines += [_line(name, row, metrics) for name, row in rows.items()]
        for kind, points in report["curves"][split].items():
            lines += ["", f"{split}: {PART_WORDS[kind][1]}", ""]
            lines += _markdown([kind, *heads, "srocc minus all [95 % over people]", "diverging minus all"])
            lines += [_line(f"{point['size']:,}", point["cells"], metrics) for point in points]
    lines += ["", *(f"Skipped {name}: {why}." for name, why in meta["skipped"].items())]
    return "\n".join(lines).strip()


def _markdown(heads: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]


def _line(name: str, row: Mapping[str, Any], metrics: Sequence[str]) -> str:
    cells = [
        number(_or_none(row[m]["value"])) + ("" if (sd := _or_none(row[m]["sd"])) is None else f" ± {number(sd)}")
        for m in metrics
    ]
    cells += [_difference(row[metric].get("difference")) for metric in ("user_srocc", "diverging")]
    return f"| {name} | {' | '.join(cells)} |"


def _difference(cell: Mapping[str, Any] | None) -> str:
    if cell is None or _or_none(cell["value"]) is None:
        return "–"
    if _or_none(cell["ci_low"]) is None:
        return signed(cell["value"])
    return f"{signed(cell['value'])} [{signed(cell['ci_low'])}, {signed(cell['ci_high'])}]"


def _or_none(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value


def render_ablation(report: Mapping[str, Any]) -> str:
    """The page: what each piece is worth, the learning curves, and all values.

    Args:
        report: of [`ablation_report`], NaN being None.
    """
    sections = [(split, _costs(rows), rows) for split, rows in report["ablation"].items()]
    return _PAGE.render(
        meta=report["meta"], sections=sections, curves=_learning_curves(report), shown=shown_metrics(),
        difference=_difference,
    )  # fmt: skip


def _costs(rows: Mapping[str, Any]) -> list[Card]:
    cards = []
    for metric, title in (("user_srocc", "What leaving a piece out costs"), ("diverging", "… where tastes differ")):
        gaps = [(name, row[metric]["difference"], "s0") for name, row in rows.items() if "difference" in row[metric]]
        if any(cell["value"] is not None for _, cell, _ in gaps):
            text = f"{metric} without it minus with everything, paired over the same people. Left of 0: it is missed."
            cards.append(Card(title, text, rows_chart(f"{metric} minus full", gaps, 0.0, "difference")))
    return cards


def _learning_curves(report: Mapping[str, Any]) -> list[Card]:
    cards = []
    for kind, (title, axis) in PART_WORDS.items():
        lines = {split: found[kind] for split, found in report["curves"].items() if kind in found}
        text = "Trained on a random part, larger ones holding the smaller; the last point is everything."
        if kind == "users":
            text += " Everybody is judged: people left out are unknown to it."
        for metric in ("user_srocc", "diverging"):
            series = [
                (split, [point["cells"][metric] for point in points], series_color(k))
                for k, (split, points) in enumerate(lines.items())
            ]
            if any(cell["value"] is not None for _, cells, _ in series for cell in cells):
                names = [f"{point['size']:,}" for point in next(iter(lines.values()))]
                cards.append(Card(f"{title} ({metric})", text, curves(metric, series, names, axis)))
    return cards


_PAGE = template("""\
{% extends "frame.html" %}{% import "kit.html" as kit %}
{% block title %}{{ meta.data }}: ablations and learning curves{% endblock %}
{% block content %}
{{ kit.heading("What is each part worth?", meta.simulated) }}
<p class="soft">Ratings: {{ meta.data }}. Each variant is trained anew with seeds {{ meta.seeds | join(", ") }} and
judged person by person.</p>
{% if meta.simulated %}
<p class="note">The people and images are simulated: nothing here says anything about real taste.</p>
{% endif %}
{% if curves %}<h2>Learning curves</h2>
{{ kit.cards(curves) }}{% endif %}
{% for split, cards, rows in sections %}
<h2>{{ split }}</h2>
{{ kit.cards(cards) }}
<div class="card scroll"><table><thead><tr><th>Variant</th>
{% for metric in shown %}<th>{{ metric }}</th>{% endfor %}<th>user_srocc minus full</th></tr></thead><tbody>
{% for name, row in rows.items() %}
<tr><th>{{ name }}</th>
{% for metric in shown %}<td>{{ row[metric].value | number }}
{% if row[metric].sd is not none %}<small>± {{ row[metric].sd | number }}</small>{% endif %}</td>{% endfor %}
<td>{{ difference(row.user_srocc.get("difference")) }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
<footer class="soft">
{% for name, why in meta.skipped.items() %}<p>Skipped {{ name }}: {{ why }}.</p>
{% endfor %}
<p>± is the sd of the seeds. Intervals (95 %): {{ meta.bootstrap | count }} bootstrap draws of people, each person's
value being the mean over seeds. pamela_hf {{ meta.version }}.</p>
</footer>
{% endblock %}
""")
