"""The evaluation report for a console."""

import math
from collections.abc import Mapping
from typing import Any

from ..metrics import METRICS


def metric_table(report: Mapping[str, Any]) -> str:
    """The report for a console: a row per scorer with its intervals beneath, the best of each column starred, and the
    paired differences between scorers.

    Best is highest, but lowest for rmse and nearest to .80 for coverage_80.
    """
    short = {"coverage_80": "cover_80"}
    width, first = (
        10,
        max([12, *(len(name) + 1 for scorers in report["splits"].values() for name in scorers)]),
    )
    lines = []
    for split, scorers in report["splits"].items():
        count = report["meta"]["counts"][split]
        lines.append(
            f"\n{split}: {count['ratings']:,} ratings of {count['images']:,} images by {count['participants']:,} people"
            f" (left out: {count['left_out']['few_ratings']} with few, "
            f"{count['left_out']['constant_ratings']} with constant ratings)"
        )
        heads = [short.get(metric, metric).replace("user_", "").replace("pairwise", "pair") for metric in METRICS]
        lines.append(" " * first + "".join(head.rjust(width) for head in heads))
        losses = {
            metric: {name: _loss(metric, cells[metric]["value"]) for name, cells in scorers.items()}
            for metric in METRICS
        }
        part = report.get("few_shot", {}).get(split, {})
        whole = {metric: [loss for name, loss in of.items() if name not in part] for metric, of in losses.items()}
        for name, cells in scorers.items():
            values, intervals = "", ""
            for metric in METRICS:
                best = name not in part and losses[metric][name] < math.inf
                best = best and losses[metric][name] == min(whole[metric])
                values += (_number(cells[metric]["value"], 3) + ("*" if best else " ")).rjust(width)
                low, high = (_number(cells[metric][end], 2) for end in ("ci_low", "ci_high"))
                intervals += ("" if low == "–" else f"{low}–{high} ").rjust(width)
            lines += [name.ljust(first) + values, " " * first + intervals]
        lines += _differences(report["differences"].get(split, {}))
        lines += few_shot_notes(report, split)
    lines.append("\n* best; beneath each value its 95 % interval over people; coverage_80 is right at .80")
    return "\n".join(line.rstrip() for line in lines)


def few_shot_notes(report: Mapping[str, Any], split: str) -> list[str]:
    """What to know before numbers of own ratings are compared: who is missing, and what stands for itself."""
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
    shown = ("user_srocc", "user_pairwise_0", "diverging")
    first = max((len(pair) + 3 for pair in pairs), default=0)
    lines = [" " * first + "".join(metric.replace("user_", "").rjust(23) for metric in shown)] if pairs else []
    for pair, cells in pairs.items():
        line = f"Δ {pair}".ljust(first)
        for metric in shown:
            value, low, high = (_number(cells[metric][key], 3) for key in ("value", "ci_low", "ci_high"))
            line += (value if low == "–" else f"{value} [{low}, {high}]").rjust(23)
        lines.append(line)
    return lines


def _loss(metric: str, value: float | None) -> float:
    if value is None or math.isnan(value):
        return math.inf
    return {"rmse": value, "coverage_80": abs(value - 0.8)}.get(metric, -value)


def _number(value: float | None, digits: int) -> str:
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
