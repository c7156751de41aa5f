"""The evaluation report as one HTML page for somebody who has never heard of SROCC.

One file without outside references: inline SVG, light and dark by the reader's setting, all data escaped.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from .metrics import METRICS
from .report_page import CSS, PAGE
from .report_plots import few_shot_curve, histogram, margin_curves, rows_chart, signed

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


def render_html(report: Mapping[str, Any]) -> str:
    """The page. `report` is what `evaluation.evaluate` returns, with None where a number is missing."""
    sections = [_section(report, split) for split in report["splits"]]
    return PAGE.render(
        meta=report["meta"], headlines=headlines(report), sections=sections, explanations=EXPLANATIONS, css=Markup(CSS)
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
        return f"{signed(value)} rank correlation"
    clear = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return f"{clear}, {signed(value)} rank correlation (95 % interval {signed(low)} to {signed(high)})"


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
            rows_chart("user_srocc by scorer", rows("user_srocc", shown), 0.0, "bar"),
        ),
        (
            "The clearer the preference, the surer the prediction",
            "Share of image pairs ordered as the person did, by how far apart their two ratings are.",
            margin_curves([(n, scorers[n], color[n]) for n in shown if "@k=" not in n]),
        ),
    ]
    pairs = [
        (_short_pair(pair, name), cells["user_srocc"], "s0")
        for pair, cells in report["differences"].get(split, {}).items()
        if "@k=" not in pair
    ]
    if pairs:
        text = "Difference in user_srocc, paired over the same people. An interval clear of 0 is a real difference."
        charts.append(("What makes the difference", text, rows_chart("paired differences", pairs, 0.0, "difference")))
    values = report["per_user"].get(split, {}).get(name, {}).get("user_srocc", [])
    if values:
        share = sum(value > 0 for value in values) / len(values)
        text = f"{name}'s user_srocc person by person: {100 * share:.0f} % of {len(values)} people are above 0."
        charts.append(("People differ in how predictable they are", text, histogram(values)))
    covered = [row for row in rows("coverage_80", shown) if row[1]["value"] is not None]
    if covered:
        text = "Share of ratings inside the predicted 80 % interval. On the line is honest, left of it too sure."
        charts.append(
            (
                "Does it know how sure it may be?",
                text,
                rows_chart("coverage_80", covered, 0.8, "dot", room=(0.75, 0.85)),
            )
        )
    curve = {_k(scorer): scorers[scorer]["user_srocc"] for scorer in scorers if scorer.startswith(f"{name}@k=")}
    if len(curve) > 1 and any(cell["value"] is not None for cell in curve.values()):
        text = "user_srocc by how many of their own ratings a new person gave first."
        charts.append(("Getting to know somebody new", text, few_shot_curve(curve)))

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
