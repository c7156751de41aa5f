"""A user study: which of two images do people choose, and what does that say about how the images were made?

Choices become Bradley–Terry strengths on an Elo scale, with ties as Davidson has them: of conditions i and j with
strengths π_i and π_j, i is chosen with probability π_i / (π_i + π_j + ν √(π_i π_j)) and neither with
ν √(π_i π_j) / (same sum). So the odds of i against j, ties aside, are π_i / π_j whatever ν is, a tie counts as half a
choice of each, and without ties it is the plain model. Elo is 400 · log10 π, shifted so that the conditions' mean is
1000, as the paper's five values are (arXiv 2604.07427: 1065, 1038, 1016, 959, 922).

Sources: Bradley & Terry (1952), Biometrika 39:324; Davidson (1970), JASA 65:317, "On extending the Bradley–Terry model
to accommodate ties in paired comparison experiments"; Ford (1957), Amer. Math. Monthly 64(8):28, when it has a fit.

Intervals (95 %) speak about other people judging the same prompts. They resample people, each with all of their
choices, and take the spread of the draws as the standard error: value ± t(P − 1) · √(P / (P − 1)) · sd of the draws
for P people. The percentiles of the draws are too narrow for the few people that such studies have: with 6 people they
hold the truth in 85 to 87 % of simulated studies, with 4 in 80 %; this interval in 94.5 to 95.7 % with 4 to 30 people
(`study_power.coverage`). People who judge about equally often are assumed: where one of six made 20 times as many
choices as each other, it held in 91 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.sparse.csgraph import NegativeCycleError, bellman_ford, connected_components
from scipy.stats import t as student_t

ELO_PER_LOGIT = 400 / np.log(10)
PRIOR_SD = 1000.0  # Elo; weighs as much as an eighth of one comparison, and keeps every draw of people finite
FIRST_NAMED = ("self", "other", "consensus", "none")  # contrasts read "self - other", never the other way


class StudyError(ValueError):
    """Choices that cannot be analysed; the message says which and what to do."""


@dataclass(frozen=True)
class Choices:
    """One row a comparison: who saw which two images, and which was preferred. All arrays are (n,).

    Args:
        participant: who chose.
        left: the condition of the left image, such as "self", "none" or "hpsv3".
        right: the condition of the right image, likewise.
        choice: 1.0 = the left image, 0.0 = the right one, 0.5 = neither.
        prompt: what both images were made from, or None.
        left_image: id of the left image, or None; given with `right_image` or not at all.
        right_image: id of the right image, or None; given with `left_image` or not at all.
        pair: an id that two rows share if they show the same two images, or None: then the images' ids identify the
            pair, or else prompt and conditions.

    Raises:
        StudyError: arrays of different lengths, none at all, or a choice that is none of these.
    """

    participant: np.ndarray
    left: np.ndarray
    right: np.ndarray
    choice: np.ndarray
    prompt: np.ndarray | None = None
    left_image: np.ndarray | None = None
    right_image: np.ndarray | None = None
    pair: np.ndarray | None = None

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            kind = np.float64 if field.name == "choice" else str
            object.__setattr__(self, field.name, np.asarray(value).astype(kind))
            if getattr(self, field.name).shape != (len(self.participant),):
                shape = getattr(self, field.name).shape
                raise StudyError(f"{field.name} has shape {shape}; give one value for each of {len(self)} choices.")
        if not len(self):
            raise StudyError("There are no choices. Give at least one comparison for each pair of conditions.")
        bad = np.flatnonzero(~np.isin(self.choice, (0.0, 0.5, 1.0)))
        if len(bad):
            raise StudyError(f"choice[{bad[0]}] is {self.choice[bad[0]]}; it is 1 (left), 0 (right) or 0.5 (neither).")
        if (self.left_image is None) != (self.right_image is None):
            raise StudyError("left_image and right_image go together; give both or neither.")

    def __len__(self) -> int:
        return len(self.participant)

    @property
    def people(self) -> list[str]:
        return np.unique(self.participant).tolist()

    @property
    def judges(self) -> np.ndarray:
        """The people, sorted, who compared two different conditions: the others say nothing about conditions."""
        return np.unique(self.participant[self.left != self.right])

    @property
    def conditions(self) -> list[str]:
        """The conditions: self, other, consensus and none first, the others by name."""
        known = np.unique([self.left, self.right]).tolist()
        return [name for name in FIRST_NAMED if name in known] + [name for name in known if name not in FIRST_NAMED]

    def only(self, conditions: Sequence[str]) -> "Choices":
        """The comparisons between these conditions. StudyError: one of them does not occur."""
        missing = [name for name in conditions if name not in self.conditions]
        if missing:
            raise StudyError(f"No image is of condition {missing[0]!r}; there are {', '.join(self.conditions)}.")
        rows = np.isin(self.left, conditions) & np.isin(self.right, conditions)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Choices(**{name: None if value is None else value[rows] for name, value in values.items()})

    def counts(self, cells: np.ndarray, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
        """Wins (n_cells, C, C) of row over column and ties (the same, symmetric), by each choice's cell, (n,) ints.

        Comparisons of two images of one condition say nothing about conditions and are left out.
        """
        place = {name: k for k, name in enumerate(self.conditions)}
        left, right = (np.array([place[name] for name in side]) for side in (self.left, self.right))
        wins = np.zeros((2, n_cells, len(place), len(place)))
        tied = (self.choice == 0.5).astype(int)
        first, second = np.where(self.choice == 0, (right, left), (left, right))
        across = left != right
        np.add.at(wins, (tied[across], cells[across], first[across], second[across]), 1.0)
        return wins[0], wins[1] + wins[1].swapaxes(-1, -2)


def probabilities(theta: np.ndarray, log_nu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Davidson's P(i chosen over j) and P(tie), both (..., C, C), from log strengths (..., C) and log ν (...)."""
    half = (theta[..., :, None] - theta[..., None, :]) / 2
    nu = np.exp(np.asarray(log_nu))[..., None, None]
    total = np.exp(half) + np.exp(-half) + nu
    return np.exp(half) / total, nu / total


def score_and_information(
    theta: np.ndarray, log_nu: np.ndarray, wins: np.ndarray, ties: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (..., C + 1) and negative Hessian (..., C + 1, C + 1) of the log likelihood in (theta, log ν).

    theta: (..., C); log_nu: (...); wins, ties: (..., C, C). The model is an exponential family: what counts are each
    condition's choices plus half its ties, and the number of ties.
    """
    n = wins + wins.swapaxes(-1, -2) + ties
    win, tie = probabilities(theta, log_nu)
    expected = win + tie / 2  # of a comparison's value to i: 1, ½ or 0
    gradient = np.concatenate(
        [
            (wins + ties / 2 - n * expected).sum(-1),
            ((ties - n * tie).sum((-1, -2)) / 2)[..., None],
        ],
        axis=-1,
    )
    between = n * (win + tie / 4 - expected**2)
    c = theta.shape[-1]
    information = np.zeros((*gradient.shape, c + 1))
    information[..., :c, :c] = -between
    information[..., range(c), range(c)] = between.sum(-1)  # the diagonal of `between` is 0: no condition meets itself
    with_ties = (n * tie * (0.5 - expected)).sum(-1)
    information[..., :c, c] = information[..., c, :c] = with_ties
    information[..., c, c] = (n * tie * (1 - tie)).sum((-1, -2)) / 2
    return gradient, information


def fit(wins: np.ndarray, ties: np.ndarray, prior_sd: float = PRIOR_SD) -> tuple[np.ndarray, np.ndarray]:
    """Davidson's model by Newton's method, many studies at once.

    Args:
        wins: (..., C, C), how often row was chosen over column; the diagonal is 0.
        ties: (..., C, C), how often neither was chosen, symmetric; the diagonal is 0.
        prior_sd: Elo; standard deviation of a normal prior around the mean.

    Returns:
        Elo (..., C) with mean 1000, and log ν (...), −inf where there is no tie. Where all n are tied every Elo is
        1000 and log ν, which has no maximum, is log 4n.

    Raises:
        ArithmeticError: it did not converge.
    """
    n_ties = ties.sum((-1, -2)) / 2
    decided = wins.sum((-1, -2))
    tied = n_ties > 0
    free = tied & (decided > 0)
    theta = np.zeros(wins.shape[:-1])
    log_nu = np.where(tied, np.log(2 * np.maximum(n_ties, 0.5) / np.maximum(decided, 0.5)), -np.inf)
    penalty = (ELO_PER_LOGIT / prior_sd) ** 2
    c = wins.shape[-1]
    for _ in range(100):
        gradient, information = score_and_information(theta, log_nu, wins, ties)
        gradient[..., :c] -= penalty * theta
        information[..., range(c), range(c)] += penalty
        # log ν is not estimated without ties, nor where all are tied; a floor keeps the solve regular close to that.
        information[..., c, c] = np.where(free, information[..., c, c] + 1e-6, 1.0)
        gradient[..., c] = np.where(free, gradient[..., c] - 1e-6 * np.where(free, log_nu, 0), 0.0)
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        # the mean is 0 at the maximum, and only a wide prior's rounding moves it
        step[..., :c] -= step[..., :c].mean(-1, keepdims=True)
        step /= np.maximum(np.abs(step).max(-1, keepdims=True), 1.0)  # at most one logit at a time
        theta, log_nu = theta + step[..., :c], np.where(tied, log_nu + step[..., c], -np.inf)
        if np.abs(step).max() < 1e-9:
            return 1000 + ELO_PER_LOGIT * (theta - theta.mean(-1, keepdims=True)), log_nu
    raise ArithmeticError(
        "The Bradley–Terry model did not converge; look for a condition that is nearly always chosen."
    )


def check_comparable(conditions: Sequence[str], wins: np.ndarray, ties: np.ndarray) -> None:
    """Raises StudyError unless every condition has a finite Elo: it met the others, won and lost (Ford 1957).

    A tie holds a condition up as a win does, but only where ν is finite. It is not if, around every circle of
    conditions each of which beat or tied with the next, there are no more wins than ties: moving the winners apart by
    2 and log ν by 1 then makes no choice less likely, and what never happened ever less. Twelve wins, four ties and no
    loss are such choices. Nothing but ties is let pass: by symmetry all are equal.

    wins, ties: (C, C), summed over people.
    """
    if len(conditions) < 2:
        raise StudyError(f"All images are of one condition, {conditions[0]!r}; an Elo needs at least two that meet.")
    held_up = (wins + ties) > 0
    n, group = connected_components(held_up, directed=True, connection="weak")
    if n > 1:
        parts = [", ".join(name for name, g in zip(conditions, group) if g == k) for k in range(n)]
        raise StudyError(
            f"Nobody compared these groups of conditions with each other: {' | '.join(parts)}. Their Elo has no common "
            "scale. Collect comparisons between them, or analyse each group by itself with --conditions."
        )
    ties_count = not ties.any() or not wins.any() or _more_wins_than_ties_in_a_circle(wins, ties)
    held_up = held_up if ties_count else wins > 0
    n, group = connected_components(held_up, directed=True, connection="strong")
    for k in np.argsort(np.bincount(group)) if n > 1 else ():  # name the few rather than the many
        inside = group == k
        names = ", ".join(name for name, here in zip(conditions, inside) if here)
        lost, won = held_up[~inside][:, inside], held_up[inside][:, ~inside]
        if not (lost.any() and won.any()):
            met = int((wins + wins.T + ties)[inside][:, ~inside].sum())
            raise StudyError(
                f"{names} never {'won' if lost.any() else 'lost'}{' or tied' if ties_count else ''} a single one of "
                f"{met} comparisons with the other conditions{'' if ties_count else ', and ties alone are not enough'}"
                ", so no finite Elo fits. Collect more choices, or leave out with --conditions."
            )


def _more_wins_than_ties_in_a_circle(wins: np.ndarray, ties: np.ndarray) -> bool:
    lengths = np.where(wins > 0, -1.0, np.where(ties > 0, 1.0, 0.0))  # 0: no way
    try:
        bellman_ford(lengths, directed=True)
    except NegativeCycleError:
        return True
    return False


def bootstrap_weights(n_people: int, draws: int, seed: int) -> np.ndarray:
    """(draws, n_people) how often each person is drawn when n_people are drawn with replacement."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_people, np.full(n_people, 1 / n_people), size=draws).astype(np.float64)


def interval(value: float, draws: np.ndarray, people: int, low: float = -np.inf, high: float = np.inf) -> dict:
    """`{"value", "ci_low", "ci_high"}` from draws of people; both ends None with fewer than two people."""
    draws = draws[np.isfinite(draws)]
    if people < 2 or len(draws) < 2:
        return {"value": float(value), "ci_low": None, "ci_high": None}
    wide = student_t.ppf(0.975, people - 1) * np.sqrt(people / (people - 1)) * draws.std(ddof=1)
    ends = np.clip([value - wide, value + wide], low, high)
    return {"value": float(value), "ci_low": float(ends[0]), "ci_high": float(ends[1])}


def analyse(choices: Choices, bootstrap: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Everything a study says, as plain dicts and numbers.

    Args:
        choices: choices between at least two conditions.
        bootstrap: number of draws of people for the intervals; 0 = no intervals. Default: 1000.
        seed: seed of these draws; default: 0.

    Returns:
        counts: people, prompts (or None), comparisons, ties, within (left out: two images of one condition),
            per_person: the fewest and the most comparisons of one.
        conditions: {name: {"elo": cell, "win_rate": cell, "comparisons"}}, best first, where a cell is
            {"value", "ci_low", "ci_high"} and win_rate the share chosen over any other condition, ties half.
        contrasts: {"a - b": {"between": [a, b], "elo": cell, "win_rate": cell, "comparisons", "ties", "people"}} of
            every two conditions; elo is the paired difference, win_rate None where the two never met.
        tie_share: of two equal images.
        spread: see [`spread`].

    Raises:
        StudyError: see [`check_comparable`]; or bootstrap < 0.
    """
    if bootstrap < 0:
        raise StudyError(f"bootstrap is {bootstrap}; give a number of draws, or 0 for no intervals.")
    names, people = choices.conditions, choices.judges
    who = np.searchsorted(people, choices.participant)
    wins, ties = choices.counts(who, len(people))
    check_comparable(names, wins.sum(0), ties.sum(0))
    elo, log_nu = fit(wins.sum(0), ties.sum(0))
    weights = bootstrap_weights(len(people), bootstrap, seed)
    drawn_wins, drawn_ties = (np.tensordot(weights, table, 1) for table in (wins, ties))
    made = (wins + ties / 2).sum((1, 2))
    drawn_elo = fit(drawn_wins, drawn_ties)[0] if bootstrap else np.zeros((0, len(names)))

    def rate(a: int, others: Sequence[int]) -> tuple[dict | None, int]:
        def of(w: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            w, lost, t = w[..., a, others].sum(-1), w[..., others, a].sum(-1), t[..., a, others].sum(-1)
            return w + t / 2, w + lost + t

        met = of(wins, ties)[1]
        with np.errstate(invalid="ignore"):
            value, draws = (np.divide(*of(w, t)) for w, t in ((wins.sum(0), ties.sum(0)), (drawn_wins, drawn_ties)))
        return (interval(value, draws, int((met > 0).sum()), 0, 1) if met.any() else None), int(met.sum())

    by_condition = {}
    for k in np.argsort(-elo, kind="stable"):
        share, met = rate(k, [j for j in range(len(names)) if j != k])
        cell = interval(elo[k], drawn_elo[:, k], len(made))
        by_condition[names[k]] = {"elo": cell, "win_rate": share, "comparisons": met}
    contrasts = {}
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            share, met = rate(i, [j])
            contrasts[f"{names[i]} - {names[j]}"] = {
                "between": [names[i], names[j]],
                "elo": interval(elo[i] - elo[j], drawn_elo[:, i] - drawn_elo[:, j], len(made)),
                "win_rate": share,
                "comparisons": met,
                "ties": int(ties[:, i, j].sum()),
                "people": int(((wins[:, i, j] + wins[:, j, i] + ties[:, i, j]) > 0).sum()),
            }
    across = choices.left != choices.right
    return {
        "counts": {
            "people": len(made),
            "prompts": None if choices.prompt is None else len(np.unique(choices.prompt)),
            "comparisons": int(across.sum()),
            "ties": int((across & (choices.choice == 0.5)).sum()),
            "within": int((~across).sum()),
            "per_person": [int(made.min()), int(made.max())],
        },
        "conditions": by_condition,
        "contrasts": contrasts,
        "tie_share": float(np.exp(log_nu) / (2 + np.exp(log_nu))),
        "spread": spread(choices, elo, log_nu),
    }


def spread(choices: Choices, elo: np.ndarray, log_nu: float) -> dict[str, float | None]:
    """How much conditions differ from person to person and from image to image, as standard deviations in Elo.

    A variance-components estimate from the scores U of each person p and prompt q at the joint fit: with information
    H, E|U|² = tr H + σ² tr H². What a person's prompts have in common is the person's (`person_sd`), the rest that
    chance does not explain is the image's (`image_sd`; None without prompts, then it is in person_sd). Estimates below
    0 are 0; few people give a rough figure. None for fewer than two people, or where no one compared twice.
    What is averaged over people is flatter than for each (Zeger, Liang & Albert 1988, Biometrics 44:1049: by
    √(1 + .346 · variance)); that is undone.
    """
    people = choices.judges
    n = len(people)
    if n < 2:
        return {"person_sd": None, "image_sd": None}
    label = choices.prompt if choices.prompt is not None else np.zeros(len(choices))
    prompts = np.unique(label, return_inverse=True)[1]
    n_prompts = prompts.max() + 1
    cells = np.searchsorted(people, choices.participant) * n_prompts + prompts
    theta, c = (elo - 1000) / ELO_PER_LOGIT, len(elo)
    shape = (n, n_prompts, c)
    counted = choices.counts(cells, n * n_prompts)
    score, information = score_and_information(np.broadcast_to(theta, (n * n_prompts, c)), log_nu, *counted)
    score, information = score[:, :c].reshape(shape), information[:, :c, :c].reshape(*shape, c)
    shrunk, trace = n / (n - 1), np.trace(information.sum((0, 1)))  # the joint fit takes one person's worth of spread
    win, tie = probabilities(theta, log_nu)
    of_one = win + tie / 4 - (win + tie / 2) ** 2
    alone = 2 * ((counted[0] + counted[0].swapaxes(1, 2) + counted[1]) * of_one**2).sum()
    by_image, by_person = (information**2).sum() - alone, (information.sum(1) ** 2).sum() - alone
    within = (score**2).sum() - trace  # ≈ (person² / shrunk + image²) · by_image
    common = (score.sum(1) ** 2).sum() * shrunk - trace  # ≈ person² · by_person + image² · by_image
    if by_person < 1e-6 * trace:  # no one compared twice
        return {"person_sd": None, "image_sd": None}
    if (
        by_image < 1e-6 * trace or by_person - by_image < 1e-6 * trace
    ):  # one comparison a prompt, or one prompt a person
        return {"person_sd": _unshrunk(common / by_person, common / by_person), "image_sd": None}
    person = max((common - within) / (by_person - by_image / shrunk), 0.0)
    image = max(within / by_image - person / shrunk, 0.0)
    return {"person_sd": _unshrunk(person, person + image), "image_sd": _unshrunk(image, person + image)}


def _unshrunk(variance: float, total: float) -> float:
    """Elo, from a variance at the joint fit, where logistic curves of differing people average to a flatter one."""
    total = min(max(total, 0.0), 1.0)  # beyond 1, chance and people cannot be separated
    return float(ELO_PER_LOGIT * np.sqrt(max(variance, 0.0) / (1 - 2 * 0.346 * total)))
