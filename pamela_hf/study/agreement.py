"""Do people who choose between the same two images agree, with each other and with themselves?

Source: Krippendorff (2011), "Computing Krippendorff's alpha-reliability", through the package `krippendorff`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .analysis import Choices, bootstrap_weights, interval


def _answers(choices: Choices) -> tuple[str | None, dict[tuple, dict[str, list[int]]]]:
    """What identifies pairs, and each pair's answers by person in their order: 1 the first image, −1 the second, 0."""
    by = "pair" if choices.pair is not None else "images" if choices.left_image is not None else None
    if by is None and choices.prompt is not None:
        by = "prompt and conditions"
    if by is None:
        return None, {}
    a, b = (choices.left, choices.right) if choices.left_image is None else (choices.left_image, choices.right_image)
    label = choices.pair if by == "pair" else choices.prompt if choices.prompt is not None else a
    found: dict[tuple, dict[str, list[int]]] = {}
    for row in np.flatnonzero(a != b):  # two unnamed images of one condition cannot be distinguished
        ends = sorted((a[row], b[row]))
        key = (label[row] if label is not a else "", *ends)
        answer = round(2 * choices.choice[row] - 1) * (1 if a[row] == ends[0] else -1)
        found.setdefault(key, {}).setdefault(choices.participant[row], []).append(answer)
    return by, found


def _alpha(units: Sequence[Sequence[int]]) -> float | None:
    """Krippendorff's α (ordinal: a tie lies between) of units with at least two answers each; None if all are ties.

    Which of two images is called the first is arbitrary, so each unit enters both ways round: without ties α is then
    Kendall's coefficient of agreement, 0 where raters toss coins, however often one side happens to be the better.
    """
    try:
        import krippendorff
    except ImportError as error:
        raise RuntimeError("Agreement needs the package krippendorff: pip install 'pamela_hf[study]'") from error
    counts = np.array([[unit.count(value) for value in (-1, 0, 1)] for unit in units])
    if not counts[:, [0, 2]].any():
        return None
    both = np.concatenate([counts, counts[:, ::-1]])
    return float(krippendorff.alpha(value_counts=both, value_domain=[-1, 0, 1], level_of_measurement="ordinal"))


def agreement(choices: Choices) -> dict[str, Any]:
    """Do people agree? `alpha` over pairs that several people judged (each person's first answer), `pairs` of these.

    1: all choose alike, 0: as if by chance, below 0: they differ by system. alpha is None where no pair was judged
    twice. pairs_by: what identifies pairs, "pair", "images" or "prompt and conditions" (None: nothing does).
    """
    by, found = _answers(choices)
    units = [[answers[0] for answers in people.values()] for people in found.values() if len(people) > 1]
    return {"alpha": _alpha(units) if units else None, "pairs": len(units), "pairs_by": by}


def retest(choices: Choices, bootstrap: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Do people agree with themselves? `same`: share of equal answers to a pair seen again, the mean over people.

    Its interval is over those who judged a pair again. alpha: as in [`agreement`], with a person's answers to one pair
    in place of several people's. pairs: judged more than once by the same person; people: who did so.
    """
    by, found = _answers(choices)
    units: list[list[int]] = []
    shares: dict[str, list[float]] = {}
    for people in found.values():
        for person, answers in people.items():
            n = len(answers)
            if n > 1:
                equal = sum(answers.count(value) * (answers.count(value) - 1) for value in (-1, 0, 1))
                shares.setdefault(person, []).append(equal / (n * (n - 1)))
                units.append(answers)
    if not units:
        return {"same": None, "alpha": None, "pairs": 0, "people": 0, "pairs_by": by}
    means = np.array([np.mean(shares[person]) for person in sorted(shares)])
    draws = bootstrap_weights(len(means), bootstrap, seed) @ means / len(means)
    cell = interval(means.mean(), draws, len(means), 0, 1)
    return {"same": cell, "alpha": _alpha(units), "pairs": len(units), "people": len(means), "pairs_by": by}
