"""The evaluation report as one HTML page for somebody who has never heard of SROCC.

One file without outside references: inline SVG, light and dark by the reader's setting, all data escaped.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from ..metrics import METRICS
from ..reports.charts import (
    few_shot_curve,
    histogram,
    margin_curves,
    number,
    pit_curves,
    reliability,
    rows_chart,
    signed,
)
from ..reports.page import CSS, PAGE
from .group_charts import group_cards, group_rows
from .table import few_shot_notes

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
FEW = 6  # people; of fewer, the headline says how few and gives no verdict: their intervals come out too narrow
_SPLITS = {
    "seen": "people the model was trained with, rating images it has never seen",
    "unseen": "people the model has never met, rating images it has never seen",
    "val": "Choices of method and setting are made on this split.",
    "test": "Read once per claim; no choice was made on it.",
}


def render_html(report: Mapping[str, Any]) -> str:
    """The page. `report` is what `evaluation.evaluate` returns, with None where a number is missing."""
    test_first = sorted(report["splits"], key=lambda split: not split.startswith("test"))
    return PAGE.render(
        meta=report["meta"],
        headlines=headlines(report),
        overall=_overall(report),
        paper=report["paper"],
        sections=[_section(report, split) for split in test_first],
        explanations=EXPLANATIONS,
        css=Markup(CSS),
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
        if (judged := scorers[name]["user_pairwise_0"]["n_users"]) < FEW:
            people += f" (only {judged} {'person' if judged == 1 else 'people'} judged)"
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
        right, share = scorers[name]["diverging"], report["diverging"].get(split)
        if share and share["value"] is not None and right["value"] is not None:
            details.append(
                f"Of the image pairs that two people both have a preference in, {100 * share['value']:.0f} % divide "
                f"them; there it is right {100 * right['value']:.1f} % of the time{_between(right, 100, 1)}. Knowing "
                "only averages gives 50 %."
            )
        honest = report["calibration"].get(split, {}).get(name)
        if honest:
            details.append(
                f"Its probabilities are off by {100 * honest['error']:.1f} points of 100 on average; "
                f"{100 * scorers[name]['coverage_80']['value']:.0f} % of ratings lie inside its 80 % intervals."
            )
        told.append((f"{text} ({split})", details))
    return told


def _between(cell: Mapping[str, Any], factor: float = 1, digits: int = 3) -> str:
    """The interval in brackets, if there is one."""
    if cell["ci_low"] is None:
        return ""
    return f" ({number(factor * cell['ci_low'], digits)} to {number(factor * cell['ci_high'], digits)})"


def _verdict(cell: Mapping[str, Any]) -> str:
    value, low, high = (cell[key] for key in ("value", "ci_low", "ci_high"))
    if cell["n_users"] < FEW:
        return f"{signed(value)} rank correlation, of too few people to tell"
    if low is None:
        return f"{signed(value)} rank correlation"
    clear = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return f"{clear}, {signed(value)} rank correlation (95 % interval {signed(low)} to {signed(high)})"


def _colors(report: Mapping[str, Any]) -> dict[str, str]:
    """One colour per scorer through all splits; what is told about a rival is a paler one of its own."""
    known, color = {"no_user": "s1", "wrong_user": "s2"}, {}
    rest = (f"s{k}" for k in (*range(3, 8), *([3] * 1000)))
    for scorers in report["splits"].values():
        for name in scorers:
            base, _, control = name.partition("@")
            if base == report["meta"]["reference"]:
                color[name] = known.get(control, "s1" if control else "s0")
            else:
                color[base] = color.get(base) or next(rest)
                color[name] = f"{color[base]} pale" if control else color[base]
    return color


def _overall(report: Mapping[str, Any]) -> list[tuple[str, str, Markup]]:
    """Cards on all splits together: the gap between known and new people, and the noise ceiling."""
    cards, color, meta = [], _colors(report), report["meta"]
    for part, gaps in sorted(report["gap"].items()):  # test before val
        cells = [(name, cell["user_srocc"], color[name]) for name, cell in gaps.items()]
        if all(cell["value"] is None for _, cell, _ in cells):
            continue
        own = gaps.get(meta["reference"], {}).get("user_srocc", {"value": None})
        text = "user_srocc of people it was trained with minus that of people never met, each resampled on their own. "
        if own["value"] is not None:
            text += f"{meta['reference']}: {signed(own['value'])}{_between(own)}. "
        text += "A scorer that knows nobody shows how much is due to who these people are."
        cards.append((f"Known against new people ({part})", text, rows_chart("gap", cells, 0.0, "difference")))
        break
    ceiling = report["noise_ceiling"]
    if ceiling and ceiling["metrics"]["user_srocc"]["value"] is not None:
        again = ceiling["metrics"]["user_srocc"]
        text = f"{again['n_users']} people rated images a second time ({ceiling['ratings']:,} ratings). Their second "
        text += f"ratings rank the images as their first did with {number(again['value'])}{_between(again)}: a score "
        text += "that close knows them about as well as they do. Pairs in the same order, by how far apart they were:"
        series = [(None, ceiling["metrics"], "s0")]
        cards.append(("How well do people agree with themselves?", text, margin_curves(series)))
    return cards


def _section(report: Mapping[str, Any], split: str) -> dict[str, Any]:
    scorers, name = report["splits"][split], _reference(report, split)
    color, part = _colors(report), report.get("few_shot", {}).get(split, {})
    # `NAME@k=0` repeats NAME: it is a point of the few-shot curve, not a bar of its own. Nor has a bar beside the
    # others what was judged on other people and images.
    shown = [scorer for scorer in scorers if not scorer.endswith("@k=0") and scorer not in part]

    def rows(metric: str, names: Iterable[str]):
        return [(scorer, scorers[scorer][metric], color[scorer]) for scorer in names]

    ranks = rows("user_srocc", shown)
    if report["noise_ceiling"] and report["noise_ceiling"]["metrics"]["user_srocc"]["value"] is not None:
        ranks.append(("their second rating", report["noise_ceiling"]["metrics"]["user_srocc"], "ceiling"))
    charts = [
        (
            "How well each person's ranking is predicted",
            "user_srocc, the mean over people: 1 is their very order. The line is the 95 % interval over people.",
            rows_chart("user_srocc by scorer", ranks, 0.0, "bar"),
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
        # one alone is a point of the curve below, if that is of everybody; two had the same ratings
        if pair.count("@k=") != 1 or pair.partition(" - ")[2] in part
    ]
    if pairs:
        text = "Difference in user_srocc, paired over the same people. An interval clear of 0 is a real difference."
        charts.append(("What makes the difference", text, rows_chart("paired differences", pairs, 0.0, "difference")))
    values = report["per_user"].get(split, {}).get(name, {}).get("user_srocc", [])
    if values:
        share = sum(value > 0 for value in values) / len(values)
        text = f"{name}'s user_srocc person by person: {100 * share:.0f} % of {len(values)} people are above 0."
        charts.append(("People differ in how predictable they are", text, histogram(values)))
    diverging, share = rows("diverging", shown), report["diverging"].get(split)
    if share and share["value"] is not None:
        text = f"{100 * share['value']:.0f} %{_between(share, 100, 0)} of the image pairs that two people both have a "
        text += f"preference in are ordered oppositely ({share['n_pairs']:,}). How often each of the two is predicted "
        text += "right there; knowing only averages gives .5."
        charts.append(("Where tastes differ", text, rows_chart("diverging", diverging, 0.5, "dot", room=(0.48, 0.52))))
    charts += _honesty(report, split, shown, color)
    curve = {_k(scorer): scorers[scorer]["user_srocc"] for scorer in scorers if scorer.startswith(f"{name}@k=")}
    if len(curve) > 1 and any(cell["value"] is not None for cell in curve.values()):
        text = "user_srocc by how many of their own ratings a new person gave first."
        untold = {_k(scorer): cells["user_srocc"] for scorer, cells in part.items() if scorer.startswith(f"{name}@k=")}
        if untold:
            text += " What is given is not judged, so people and images differ from step to step: the grey line is the"
            text += " same ones with nothing given."
        charts.append(("Getting to know somebody new", text, few_shot_curve(curve, untold)))

    groups = report["groups"].get(split)
    if groups and name in groups["everyone"]["scorers"]:
        charts += group_cards(groups, name)
    whole = {scorer: cells for scorer, cells in scorers.items() if scorer not in part}
    best = {metric: _best(metric, whole) for metric in METRICS}
    table = [(metric, [(scorers[scorer][metric], scorer in best[metric]) for scorer in scorers]) for metric in METRICS]
    role, _, kind = split.partition("_")
    return {
        "split": split,
        "open": split.startswith("test") or not any(other.startswith("test") for other in report["splits"]),
        "groups": group_rows(groups) if groups else [],
        "grouped": [(scorer, color[scorer]) for scorer in groups["everyone"]["scorers"]] if groups else [],
        "people": _SPLITS.get(kind, ""),
        "use": _SPLITS.get(role, ""),
        "notes": few_shot_notes(report, split),
        "counts": report["meta"]["counts"][split],
        "charts": charts,
        "scorers": [(scorer, color[scorer]) for scorer in scorers],
        "table": table,
    }


def _honesty(report: Mapping[str, Any], split: str, shown: list[str], color: Mapping[str, str]) -> list[tuple]:
    """The cards on uncertainty, of scorers that give probabilities."""
    scorers, name = report["splits"][split], _reference(report, split)
    covered = [
        (n, scorers[n]["coverage_80"], color[n]) for n in shown if scorers[n]["coverage_80"]["value"] is not None
    ]
    cards = []
    if covered:
        text = "Share of ratings inside the predicted 80 % interval. On the line is honest, left of it too sure."
        chart = rows_chart("coverage_80", covered, 0.8, "dot", room=(0.75, 0.85))
        cards.append(("Does it know how sure it may be?", text, chart))
    honest = report["calibration"].get(split, {})
    plain = [n for n in shown if n in honest and "@" not in n]
    if not plain:
        return cards
    off = ", ".join(f"{n} {100 * honest[n]['error']:.1f}" for n in plain)
    text = "Asked “at least this level?”, how often was it so when it said 10, 30, 90 %? On the diagonal is honest. "
    text += f"Off on average, in points of 100: {off}."
    series = [(n, honest[n]["reliability"], color[n]) for n in plain]
    cards.append(("Does 70 % mean 70 %?", text, reliability(series)))
    text = "Where ratings fall in what was predicted, by tenths. Flat at .10 is honest; high at both ends: too sure; "
    text += "high in the middle: too unsure; higher on the left: scores too high."
    if name in plain:
        text += f" {name}: {_shape(honest[name]['pit'])}."
    cards.append(("Too sure, too high, too low?", text, pit_curves([(n, honest[n]["pit"], color[n]) for n in plain])))
    return cards


def _shape(pit: list[Mapping[str, float]]) -> str:
    """What a PIT histogram says, in words; differences of a tenth of the even share are let pass."""
    values = [cell["value"] for cell in pit]
    ends, left = (values[0] + values[-1]) / 2, sum(values[:5])
    sure = "too sure" if ends > 0.11 else "too unsure" if ends < 0.09 else "about as sure as it may be"
    high = ", scores too high" if left > 0.55 else ", scores too low" if left < 0.45 else ""
    return sure + high


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
