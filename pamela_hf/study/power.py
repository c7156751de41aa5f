"""Studies by simulation: what would this many people see, and do the intervals hold what they say?

A simulated person's strength for a condition is the condition's, plus that person's own liking of it (sd `person_sd`),
plus how well that very image turned out for that person and prompt (sd `image_sd`), all in Elo and normal. Both spreads
are assumptions; `study.spread` estimates them from a real study. Prompts matter through `image_sd` only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t
from tqdm.auto import tqdm

from .analysis import (
    ELO_PER_LOGIT,
    Choices,
    StudyError,
    bootstrap_weights,
    fit,
    interval,
    probabilities,
    score_and_information,
)

PAPER_ELO = {"self": 1065.0, "other": 1038.0, "none": 1016.0, "hpsv3": 959.0, "q-align": 922.0}  # arXiv 2604.07427
PAPER_SIZE = {"people": 6, "prompts": 18, "comparisons": 7650}
_CHUNK = 2_000_000  # numbers in memory at a time


@dataclass(frozen=True)
class Design:
    """A study to simulate: every person judges every pair of conditions on every prompt, `repeats` times.

    Args:
        elo: Elo of each condition, at least 2 of them.
        people: number of people, ≥ 2.
        prompts: number of prompts, ≥ 1; default 1.
        repeats: how often a person judges each pair on each prompt, ≥ 1; default 1.
        comparisons: total in place of repeats, spread as evenly over people, prompts and pairs as it goes, or None
            (default).
        person_sd: spread of a person's own liking of a condition, in Elo, ≥ 0; default 40. See the module.
        image_sd: spread of how well an image turned out, in Elo, ≥ 0; default 80. See the module.
        tie_share: share of ties between two equal images, 0 ≤ share < 1; default 0.1.

    Raises:
        StudyError: a number outside these.
    """

    elo: Sequence[float]
    people: int
    prompts: int = 1
    repeats: int = 1
    comparisons: int | None = None
    person_sd: float = 40.0
    image_sd: float = 80.0
    tie_share: float = 0.1

    def __post_init__(self):
        least = {"people": 2, "prompts": 1, "repeats": 1, "person_sd": 0, "image_sd": 0, "tie_share": 0}
        for name, low in least.items():
            if not low <= getattr(self, name) < (1 if name == "tie_share" else np.inf):
                raise StudyError(
                    f"{name} is {getattr(self, name)}; it must be a number of at least {low}"
                    f"{' and below 1' if name == 'tie_share' else ''}."
                )
        if len(self.elo) < 2:
            raise StudyError(f"There are {len(self.elo)} conditions; a comparison needs at least 2.")
        if self.comparisons is not None and self.comparisons < self.people * len(self.pairs[0]):
            raise StudyError(
                f"comparisons is {self.comparisons}: fewer than one for each person and pair of conditions."
            )

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        return np.triu_indices(len(self.elo), 1)

    @property
    def schedule(self) -> np.ndarray:
        """(P, Q, pairs) how often each comparison is made."""
        shape = (self.people, self.prompts, len(self.pairs[0]))
        if self.comparisons is None:
            return np.full(shape, self.repeats)
        # Pairs and prompts take turns, and each person starts where the one before left off.
        cells = np.arange(self.comparisons)
        person = cells * self.people // self.comparisons
        counts = np.zeros(shape, int)
        np.add.at(counts, (person, cells // shape[2] % self.prompts, cells % shape[2]), 1)
        return counts

    @property
    def log_nu(self) -> float:
        return float(np.log(2 * self.tie_share / (1 - self.tie_share))) if self.tie_share else -np.inf

    def outcomes(self, rng: np.random.Generator, studies: int) -> np.ndarray:
        """(studies, P, Q, pairs, 3) how often the first, neither, the second was chosen, in simulated studies."""
        shape = (studies, self.people, self.prompts, len(self.elo))
        liking = np.asarray(self.elo) + self.person_sd * rng.standard_normal((*shape[:2], 1, shape[3]))
        liking = (liking + self.image_sd * rng.standard_normal(shape)) / ELO_PER_LOGIT
        win, tie = probabilities(liking, np.float64(self.log_nu))
        i, j = self.pairs
        share = np.stack([win[..., i, j], tie[..., i, j], win[..., j, i]], -1)
        return rng.multinomial(self.schedule, share / share.sum(-1, keepdims=True))

    def studies(self, rng: np.random.Generator, studies: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Wins and ties, (chunk, P, C, C) each, until there are that many studies."""
        if studies < 1:
            raise StudyError(f"studies is {studies}; simulate at least one.")
        at_once = max(1, _CHUNK // (self.people * self.prompts * len(self.elo) ** 2))
        i, j = self.pairs
        for start in range(0, studies, at_once):
            counts = self.outcomes(rng, min(at_once, studies - start)).sum(2)
            wins, ties = np.zeros((2, *counts.shape[:2], len(self.elo), len(self.elo)))
            wins[..., i, j], wins[..., j, i] = counts[..., 0], counts[..., 2]
            ties[..., i, j] = ties[..., j, i] = counts[..., 1]
            yield wins, ties

    def population_elo(self) -> np.ndarray:
        """(C,) what infinitely many such people give: a little closer together than `elo`, since people differ."""
        rng = np.random.default_rng(0)
        spread = np.hypot(self.person_sd, self.image_sd)
        liking = np.asarray(self.elo) + spread * rng.standard_normal((100_000, len(self.elo)))
        win, tie = (
            table.mean(0) * ~np.eye(len(self.elo), dtype=bool)
            for table in probabilities(liking / ELO_PER_LOGIT, np.float64(self.log_nu))
        )
        return fit(1e6 * win, 1e6 * tie)[0]

    def calibrated(self) -> "Design":
        """The same study of people whose joint Elo (`population_elo`) is `elo`."""
        design, wanted = self, np.asarray(self.elo, float)
        for _ in range(6):
            design = replace(design, elo=design.elo + wanted - design.population_elo())
        return design


def simulate_choices(design: Design, conditions: Sequence[str], seed: int = 0) -> Choices:
    """One simulated study, row by row in random order; each person has an image of its own for prompt and condition."""
    rng = np.random.default_rng(seed)
    counts = design.outcomes(rng, 1)[0]
    person, prompt, pair, outcome = (
        np.repeat(axis, counts.ravel()) for axis in np.indices(counts.shape).reshape(4, -1)
    )
    order = rng.permutation(len(person))
    person, prompt, pair, outcome = person[order], prompt[order], pair[order], outcome[order]
    left, right = (np.asarray(conditions)[side[pair]] for side in design.pairs)
    turned = rng.random(len(order)) < 0.5
    left, right, choice = np.where(turned, right, left), np.where(turned, left, right), 1 - outcome / 2
    name = np.char.add(np.char.add(_numbered("person", person), "/"), np.char.add(_numbered("prompt", prompt), "/"))
    return Choices(
        participant=_numbered("person", person),
        left=left,
        right=right,
        choice=np.where(turned, 1 - choice, choice),
        prompt=_numbered("prompt", prompt),
        left_image=np.char.add(name, left),
        right_image=np.char.add(name, right),
    )


def _numbered(word: str, numbers: np.ndarray) -> np.ndarray:
    return np.array([f"{word}_{k + 1:02d}" for k in range(numbers.max() + 1)])[numbers]


def coverage(design: Design, studies: int = 200, bootstrap: int = 1000, seed: int = 0) -> dict[str, dict[str, float]]:
    """How often the 95 % interval of a difference holds the truth, over all pairs of conditions in simulated studies.

    Returns:
        {"interval": {"coverage", "width"}, "percentile": the same for the plain percentiles of the draws}; width is
        the mean in Elo. The truth is what infinitely many such people give.
    """
    truth, (i, j) = design.population_elo(), design.pairs
    truth = truth[i] - truth[j]
    weights = bootstrap_weights(design.people, bootstrap, seed)
    found: dict[str, list[np.ndarray]] = {"interval": [], "percentile": []}
    with tqdm(total=studies, desc="simulated studies") as progress:
        for chunk in design.studies(np.random.default_rng(seed), studies):
            for wins, ties in zip(*chunk):
                elo = fit(wins.sum(0), ties.sum(0))[0]
                drawn = fit(np.tensordot(weights, wins, 1), np.tensordot(weights, ties, 1))[0]
                draws = drawn[:, i] - drawn[:, j]
                cells = [interval(elo[a] - elo[b], draws[:, k], design.people) for k, (a, b) in enumerate(zip(i, j))]
                found["interval"].append([[cell["ci_low"] for cell in cells], [cell["ci_high"] for cell in cells]])
                found["percentile"].append(np.quantile(draws, [0.025, 0.975], axis=0))
                progress.update()
    result = {}
    for name, ends in found.items():
        low, high = np.moveaxis(np.asarray(ends), 1, 0)
        result[name] = {
            "coverage": float(((low <= truth) & (truth <= high)).mean()),
            "width": float((high - low).mean()),
        }
    return result


def power(design: Design, goal: float = 0.8, studies: int = 1000, seed: int = 0) -> dict[str, object]:
    """The smallest difference between two conditions that the study sees with probability `goal`.

    Seen: the 95 % interval of their difference lies above 0. Two conditions lie apart, the others at their mean; what
    the design's `elo` holds does not matter, only how many they are. The standard error is that of the bootstrap over
    people in its linear form (the sandwich), so that thousands of studies take seconds.

    Returns:
        {"elo": the difference, None where even the largest tried is not seen that often, "goal", "curve": [(difference
        in Elo as such a study finds it on average, share that sees it), …], "false_alarms": share whose interval
        excludes a difference of 0, on either side; .05 is right}.
    """
    c = len(design.elo)
    critical = student_t.ppf(0.975, design.people - 1)

    def seen(difference: float) -> tuple[float, float, float, float]:
        elo = np.full(c, 1000.0)
        elo[:2] += [difference / 2, -difference / 2]
        found = [
            _difference_and_error(*chunk)
            for chunk in replace(design, elo=elo).studies(np.random.default_rng(seed), studies)
        ]
        value, error = np.concatenate(found, axis=-1)
        above, below = (value > critical * error).mean(), (value < -critical * error).mean()
        return float(value.mean()), float(above), float(above + below), float(np.sqrt((error**2).mean()))

    _, _, false_alarms, error = seen(0.0)
    guess = error * (critical + norm.ppf(goal))
    curve = [(0.0, false_alarms / 2)]
    for factor in tqdm((0.25, 0.5, 0.75, 1.0, 1.25, 1.5), "differences tried", leave=False):
        curve.append(seen(factor * guess)[:2])
    differences, shares = np.maximum.accumulate(np.array(curve), axis=0).T
    bend = norm.ppf(np.clip(shares, 1e-3, 1 - 1e-3))  # nearly a straight line
    elo = float(np.interp(norm.ppf(goal), bend, differences)) if shares[-1] >= goal else None
    return {"elo": elo, "goal": goal, "curve": curve, "false_alarms": false_alarms}


def _difference_and_error(wins: np.ndarray, ties: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) Elo of the first condition above the second, and its standard error over people, from (N, P, C, C)."""
    people, c = wins.shape[1], wins.shape[-1]
    elo, log_nu = fit(wins.sum(1), ties.sum(1))
    theta = (elo - 1000) / ELO_PER_LOGIT
    score = score_and_information(theta[:, None], log_nu[:, None], wins, ties)[0]
    information = score_and_information(theta, log_nu, wins.sum(1), ties.sum(1))[1]
    information[:, range(c + 1), range(c + 1)] += 1e-6  # the mean is free, and log ν where nothing is tied
    contrast = np.zeros(c + 1)
    contrast[:2] = 1, -1
    direction = np.linalg.solve(information, contrast)
    influence = (score @ direction[..., None])[..., 0]
    error = np.sqrt(people / (people - 1) * (influence**2).sum(-1))
    return elo[:, 0] - elo[:, 1], ELO_PER_LOGIT * error
