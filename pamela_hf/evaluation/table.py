"""The evaluation report for a console."""

import math
from collections.abc import Mapping
from typing import Any

from ..metrics import METRICS, Metric
from ..reports.numbers import number
from .choices import CHOICE_METRICS

_COLUMN = 10  # letters


def metric_table(report: Mapping[str, Any]) -> str:
    """The report for a console: a row per scorer with its intervals beneath, the best of each column starred, and the
    paired differences between scorers.

    Args:
        report: what [`evaluate`] returns. Which value is best: see [`METRICS`].
    """
    names = [name for scorers in report["splits"].values() for name in scorers]
    first, lines = max([12, *(len(name) + 1 for name in names)]), []
    for split, scorers in report["splits"].items():
        count = report["meta"]["counts"][split]
        lines.append(
            f"\n{split}: {count['ratings']:,} ratings of {count['images']:,} images by {count['participants']:,} people"
            f" (left out: {count['left_out']['few_ratings']} with few, "
            f"{count['left_out']['constant_ratings']} with constant ratings)"
        )
        lines.append(" " * first + "".join(metric.heading.rjust(_COLUMN) for metric in METRICS.values()))
        part = report.get("few_shot", {}).get(split, {})
        whole = {name: cells for name, cells in scorers.items() if name not in part}
        best = {metric: best_scorers(metric, whole) for metric in METRICS}
        for name, cells in scorers.items():
            values, intervals = name.ljust(first), " " * first
            for metric in METRICS:
                values += f"{number(cells[metric]['value'])}{'*' if name in best[metric] else ' '}".rjust(_COLUMN)
                low, high = (number(cells[metric][end], 2) for end in ("ci_low", "ci_high"))
                intervals += ("" if low == "–" else f"{low}–{high} ").rjust(_COLUMN)
            lines += [values, intervals]
        lines += _differences(report["differences"].get(split, {}))
        lines += few_shot_notes(report, split)
    lines += _choices(report.get("choices"))
    lines.append("\n* best; beneath each value its 95 % interval over people; coverage_80 is right at .80")
    return "\n".join(line.rstrip() for line in lines)


def best_scorers(
    metric: str, scorers: Mapping[str, Any], metrics: Mapping[str, Metric] = METRICS
) -> set[str]:  # fmt: skip
    """Who is nearest to the metric's best value; nobody where no scorer has a value.

    Args:
        metric: a name of `metrics`.
        scorers: scorer → metric → cell.
        metrics: the table that the metric stands in.
    """
    losses = {name: metrics[metric].loss(cells[metric]["value"]) for name, cells in scorers.items()}
    least = min(losses.values(), default=math.inf)
    return {name for name, loss in losses.items() if loss == least < math.inf}


def _choices(part: Mapping[str, Any] | None) -> list[str]:
    """The same of choices: a row per scorer, each value with its interval."""
    lines: list[str] = []
    for split, scorers in part["splits"].items() if part else ():
        count = part["counts"][split]
        lines.append(
            f"\n{split}: {count['choices']:,} choices ({count['ties']:,} ties) between {count['images']:,} images by "
            f"{count['participants']:,} people"
        )
        first = max([12, *(len(name) + 1 for name in scorers)])
        lines.append(" " * first + "".join(metric.heading.rjust(23) for metric in CHOICE_METRICS.values()))
        best = {metric: best_scorers(metric, scorers, CHOICE_METRICS) for metric in CHOICE_METRICS}
        for name, cells in scorers.items():
            line = name.ljust(first)
            for metric in CHOICE_METRICS:
                value, low, high = (number(cells[metric][key]) for key in ("value", "ci_low", "ci_high"))
                value += "*" if name in best[metric] else ""
                line += (value if low == "–" else f"{value} [{low}, {high}]").rjust(23)
            lines.append(line)
        for pair, cells in part["differences"][split].items():
            value, low, high = (number(cells["accuracy"][key]) for key in ("value", "ci_low", "ci_high"))
            lines.append(f"Δ {pair}  accuracy {value}" + ("" if low == "–" else f" [{low}, {high}]"))
    return lines


def few_shot_notes(report: Mapping[str, Any], split: str) -> list[str]:
    """What to know before few-shot results are compared: who is missing, and what is judged on its own.

    Args:
        report: what [`evaluate`] returns.
        split: one of its splits.
    """
    about = report["meta"].get("few_shot")
    left = about["left_out"].get(split, {}) if about else {}
    everybody, notes = report["meta"]["counts"][split]["participants"], []
    if skipped := [suffix for suffix, people in left.items() if people == everybody]:
        notes.append(f"Skipped, since nobody has that many ratings: {', '.join(skipped)}.")
    if some := [f"{people} of {everybody} at {suffix}" for suffix, people in left.items() if 0 < people < everybody]:
        notes.append(f"Left out, since they have too few ratings: {', '.join(some)}.")
    if part := report.get("few_shot", {}).get(split):
        notes.append(
            f"{', '.join(part)}: judged on other people or ratings than the rest (what is given is not judged); each "
            "difference is taken on the same ones, and none is marked best."
        )
    return notes


def _differences(pairs: Mapping[str, Any]) -> list[str]:
    """A line for each pair of scorers: how much more the first reaches, with the 95 % interval paired over people."""
    shown = {name: metric for name, metric in METRICS.items() if metric.in_differences}
    first = max((len(pair) + 3 for pair in pairs), default=0)
    lines = [" " * first + "".join(metric.heading.rjust(23) for metric in shown.values())] if pairs else []
    for pair, cells in pairs.items():
        line = f"Δ {pair}".ljust(first)
        for metric in shown:
            value, low, high = (number(cells[metric][key]) for key in ("value", "ci_low", "ci_high"))
            line += (value if low == "–" else f"{value} [{low}, {high}]").rjust(23)
        lines.append(line)
    return lines
