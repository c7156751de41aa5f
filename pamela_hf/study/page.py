"""A user study from its CSV to a table, `report.json` and `report.html`."""

import os
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ..reports.charts import curves, rows_chart
from ..reports.files import write_report
from ..reports.numbers import number, signed
from ..reports.page import Card, template
from .agreement import agreement, retest
from .analysis import Choices, analyse
from .power import PAPER_ELO, PAPER_SIZE, Design, coverage, power, simulate_choices

ASSUMED_SD = {"person_sd": 40.0, "image_sd": 80.0}  # Elo, where a study cannot tell; an assumption, not a finding


def study_report(choices: Choices, bootstrap: int = 1000, seed: int = 0, simulations: int = 1000) -> dict[str, Any]:
    """`study.analyse` with agreement, retest and, unless simulations is 0, what such a study can see.

    `power` is of as many people, prompts and conditions, each pair judged as often as on average, with the spread of
    people and images estimated from the choices themselves where they tell (else `ASSUMED_SD`).
    """
    report = analyse(choices, bootstrap, seed)
    counts = report["counts"]
    report |= {"agreement": agreement(choices), "retest": retest(choices, bootstrap, seed), "power": None}
    report["meta"] = {"bootstrap": bootstrap, "seed": seed, "simulated": False, "interval": "t over people"}
    pairs = len(report["contrasts"])
    if simulations and counts["people"] > 1 and counts["comparisons"] >= counts["people"] * pairs:
        spread = {name: ASSUMED_SD[name] if sd is None else sd for name, sd in report["spread"].items()}
        if counts["prompts"] is None:
            spread["image_sd"] = 0.0  # it is part of person_sd then
        report["power"] = planned_power(
            len(report["conditions"]), counts["people"], counts["prompts"] or 1, None, counts["comparisons"],
            tie_share=min(report["tie_share"], 0.9), studies=simulations, seed=seed, **spread,
        )  # fmt: skip
    return report


def planned_power(
    conditions: int,
    people: int,
    prompts: int,
    repeats: int | None,
    comparisons: int | None = None,
    *,
    person_sd: float,
    image_sd: float,
    tie_share: float,
    studies: int,
    seed: int = 0,
) -> dict[str, Any]:
    """[`study_power.power`] of such a study, with its design and the sentence that says it."""
    design = Design([1000.0] * conditions, people, prompts, repeats or 1, comparisons, person_sd, image_sd, tie_share)
    found = power(design, studies=studies, seed=seed)
    of = "1 prompt" if prompts == 1 else f"{prompts} prompts"
    each = f"{repeats} judgement{'s' * (repeats > 1)} of each pair" if repeats else f"{comparisons:,} comparisons"
    sees = "no difference that was tried" if found["elo"] is None else f"a difference of {found['elo']:.0f} Elo"
    sentence = f"With {people} people, {of}, {conditions} conditions and {each} you can see {sees} at "
    sentence += f"{100 * found['goal']:.0f} % power"
    about = {"people": people, "prompts": prompts, "conditions": conditions, "repeats": repeats}
    about |= {"comparisons": int(design.schedule.sum()), "person_sd": person_sd, "image_sd": image_sd}
    return {**found, **about, "tie_share": tie_share, "sentence": sentence}


def simulated_paper(
    person_sd: float, image_sd: float, tie_share: float, studies: int, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """A simulated study of the paper's size whose people jointly have the paper's Elo values; are these recovered?

    The report of one such study, with `paper`: {condition: Elo} and `coverage`: of `studies` such studies
    (`study_power.coverage`).
    """
    design = Design(list(PAPER_ELO.values()), person_sd=person_sd, image_sd=image_sd, tie_share=tie_share, **PAPER_SIZE)
    design = design.calibrated()
    report = study_report(simulate_choices(design, list(PAPER_ELO), seed), bootstrap, seed, 5 * studies)
    report["meta"]["simulated"] = True
    tried = coverage(design, studies, bootstrap, seed) if studies else None
    return {**report, "paper": PAPER_ELO, "coverage": tried and {"studies": studies, **tried}}


def study_table(report: Mapping[str, Any]) -> str:
    """The report as text: conditions, contrasts, agreement, power."""
    paper = report.get("paper", {})
    lines = [("Simulated: " if report["meta"]["simulated"] else "") + _counted(report["counts"]), ""]
    lines.append(f"{'condition':24} {'Elo':>6}  {'95 % interval':>14} {'chosen':>8}  {'95 % interval':>14}")
    for name, row in report["conditions"].items():
        lines.append(_line(name, row, f"{row['elo']['value']:.0f}") + _beside(paper.get(name), row["elo"]))
    lines += ["", f"{'difference':24} {'Elo':>6}  {'95 % interval':>14} {'chosen':>8}  {'95 % interval':>14}"]
    for name, row in report["contrasts"].items():
        a, b = row["between"]
        wanted = paper[a] - paper[b] if paper else None
        lines.append(_line(name, row, signed(row["elo"]["value"], 0)) + _beside(wanted, row["elo"]))
    return "\n".join([*lines, "", *_sentences(report)])


def _line(name: str, row: Mapping[str, Any], elo: str) -> str:
    text = f"{name:24} {elo:>6}  {_span(row['elo']):>14}"
    if row["win_rate"] is None:
        return f"{text} {'never met':>8}"
    percent = {key: None if value is None else 100 * value for key, value in row["win_rate"].items()}
    return f"{text} {percent['value']:>6.1f} %  {_span(percent):>14}"


def _span(cell: Mapping[str, Any]) -> str:
    return "" if cell["ci_low"] is None else f"{number(cell['ci_low'], 0)} to {number(cell['ci_high'], 0)}"


def _beside(wanted: float | None, cell: Mapping[str, Any]) -> str:
    if wanted is None or cell["ci_low"] is None:
        return ""
    held = "inside" if cell["ci_low"] <= wanted <= cell["ci_high"] else "OUTSIDE"
    return f"   the paper's {number(wanted, 0)} is {held}"


def _counted(counts: Mapping[str, Any]) -> str:
    prompts = "" if counts["prompts"] is None else f"{counts['prompts']:,} prompts, "
    within = f"; {counts['within']:,} more of two images of one condition" if counts["within"] else ""
    ties = f"{counts['ties']:,} ties"
    return f"{counts['people']:,} people, {prompts}{counts['comparisons']:,} comparisons, {ties}{within}"


def _sentences(report: Mapping[str, Any]) -> list[str]:
    """What the study says beside its Elo values, in words."""
    sentences, agreed, again = [], report["agreement"], report["retest"]
    if agreed["alpha"] is None:
        sentences.append("Agreement between people: no pair of images was judged by two of them.")
    else:
        sentences.append(
            f"Agreement between people: Krippendorff's α = {number(agreed['alpha'], 2)} over {agreed['pairs']:,} "
            f"pairs (distinguished by {agreed['pairs_by']}); 1 is full agreement, 0 chance."
        )
    if again["same"] is None:
        sentences.append("Test–retest: nobody judged a pair twice.")
    else:
        same = {key: None if value is None else 100 * value for key, value in again["same"].items()}
        sentences.append(
            f"Test–retest: the same answer {same['value']:.0f} % of the time ({_span(same) or 'one person'}; α = "
            f"{number(again['alpha'], 2)}) over {again['pairs']:,} pairs judged again by {again['people']:,} people."
        )
    fewest, most = report["counts"]["per_person"]
    if most > 4 * fewest:
        sentences.append(
            f"People judged unequally often, {fewest:,} to {most:,} comparisons: who judged most counts most, and the "
            "intervals may be too narrow."
        )
    spread = report["spread"]
    if spread["person_sd"] is not None:
        image = "" if spread["image_sd"] is None else f", and from image to image by {spread['image_sd']:.0f}"
        sentences.append(f"Conditions differ from person to person by {spread['person_sd']:.0f} Elo (sd){image}.")
    if report["power"]:
        sentences.append(f"{report['power']['sentence']}, if people and images differ that much.")
    if report.get("coverage"):
        tried = report["coverage"]
        sentences.append(
            f"In {tried['studies']:,} simulated studies the 95 % interval of a difference held the truth "
            f"{100 * tried['interval']['coverage']:.1f} % of the time (mean width {tried['interval']['width']:.0f} "
            f"Elo); the percentiles of the draws would have {100 * tried['percentile']['coverage']:.1f} % "
            f"({tried['percentile']['width']:.0f} Elo)."
        )
    return sentences


def write_study(report: Mapping[str, Any], output: str | os.PathLike, title: str) -> None:
    """Writes report.json and report.html.

    Args:
        report: of [`study_report`] or [`simulated_paper`].
        output: the folder, made if it does not exist.
        title: of the page.
    """
    write_report(report, output, lambda plain: _html(plain, title))


def _html(report: Mapping[str, Any], title: str) -> str:
    return _PAGE.render(
        title=title, report=report, cards=_cards(report), counted=_counted(report["counts"]),
        sentences=_sentences(report),
    )  # fmt: skip


def _cards(report: Mapping[str, Any]) -> list[Card]:
    elo = [(name, row["elo"], "s0") for name, row in report["conditions"].items()]
    contrasts = [(" − ".join(row["between"]), row["elo"], "s0") for row in report["contrasts"].values()]
    met = [row for row in report["contrasts"].values() if row["win_rate"]]
    rates = [(" over ".join(row["between"]), row["win_rate"], "s0") for row in met]
    cards = [
        Card(
            "How much each condition is liked",
            "Elo, mean 1000. 400 more is being chosen ten times as often; 50 more is 57 to 43.",
            rows_chart("Elo by condition", elo, 1000.0, "dot", (990.0, 1010.0), 0),
        ),
        Card(
            "What makes the difference",
            "Difference in Elo, paired over the same people. An interval clear of 0 is a real difference.",
            rows_chart("differences in Elo", contrasts, 0.0, "difference", (), 0),
        ),
        Card(
            "How often the first is chosen over the second",
            "Share of their direct comparisons, a tie counting half. .5 means no preference.",
            rows_chart("win rates", rates, 0.5, "dot", (0.45, 0.55)),
        ),
    ]
    if report["power"]:
        text, chart = report["power"]["sentence"] + ".", _power_chart(report["power"])
        cards.append(Card("What such a study can see", text, chart))
    return cards


def _power_chart(found: Mapping[str, Any]) -> Markup:
    cells = [{"value": share, "ci_low": None, "ci_high": None} for _, share in found["curve"]]
    names = [f"{difference:.0f}" for difference, _ in found["curve"]]
    axis = "difference in Elo, as found on average"
    return curves(
        "share of studies that see a difference", [(None, cells, "s0")], names, axis, [0.0, 1.0, found["goal"]], True
    )


_PAGE = template("""\
{% extends "frame.html" %}{% import "kit.html" as kit %}
{% block title %}{{ title }}: user study{% endblock %}
{% block content %}
{{ kit.heading("Which images do people choose?", report.meta.simulated) }}
<p class="soft">{{ title }}: {{ counted }}.</p>
{% for sentence in sentences %}<p>{{ sentence }}</p>
{% endfor %}
{{ kit.cards(cards) }}
<footer class="soft">
<p>Bradley–Terry strengths with ties after Davidson (1970), 400 · log10 of the odds, shifted to a mean of 1000.
Intervals (95 %) resample people, {{ report.meta.bootstrap | count }} draws, and are widened for few people: value ±
t(people − 1) · √(people / (people − 1)) · sd of the draws. They speak about other people judging the same prompts, each
by itself, without correction for looking at several. Seed {{ report.meta.seed }}.</p>
</footer>
{% endblock %}
""")
