"""Simulated taste in words, and newcomers chosen by it, before any model is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import rankdata

from ..metrics import correlation
from .raters import SimulatedRater, liking_matrix, population_liking, simulated_newcomer, taste_weights
from .traits import Traits

_SCALARS = {
    "warmth": ("cool blues", "warm reds and oranges"),
    "saturation": ("muted colours", "vivid colours"),
    "brightness": ("dark images", "bright images"),
    "contrast": ("fog and soft light", "strong contrast"),
    "elevation": ("views from below", "views from above"),
    "closeness": ("distant subjects", "close-ups"),
    "density": ("empty scenes", "crowded scenes"),
    "symmetry": ("off-centre compositions", "symmetry"),
    "roughness": ("smooth surfaces", "thick brushwork and grain"),
}
_GROUPS = {
    "animal": "animals", "architecture": "buildings", "automotive": "cars", "cityscape": "cityscapes",
    "fashion": "fashion", "flower painting": "flower paintings", "food": "food", "landscape": "landscapes",
    "portrait": "portraits", "product": "pictures of products", "sports": "sports", "still life": "still lifes",
    "street": "street scenes", "travel": "travel pictures",
}  # fmt: skip
_FAMILIES = {"photo": "photographs", "geometric": "Cubist painting", "field": "minimal painting"}


def taste_in_words(person: SimulatedRater, count: int = 4) -> str:
    """A sentence on where this person's taste differs most from everyone's.

    Args:
        person: whom it is about.
        count: how many things it names.

    Returns:
        Such as "Likes vivid colours and close-ups more than others do; portraits less."
    """
    more, less = [], []
    # A scalar trait moves liking by half its weight between its middle and either end.
    scalars, groups, families = taste_weights(person)
    effects = [(abs(w) / 2, _SCALARS[name][w > 0], True) for name, w in scalars.items()]
    effects += [(abs(w), _GROUPS.get(name, f"{name} images"), w > 0) for name, w in groups.items()]
    effects += [(abs(w), _FAMILIES.get(name, f"{name} painting"), w > 0) for name, w in families.items()]
    for _, words, liked in sorted(effects, key=lambda effect: -effect[0])[:count]:
        (more if liked else less).append(words)
    likes = f"likes {_listed(more)} more than others do" if more else ""
    spares = f"likes {_listed(less)} less than others do" if less and not more else f"{_listed(less)} less"
    sentence = "; ".join(part for part in (likes, spares if less else "") if part)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def agreements(
    persons: Sequence[SimulatedRater], people: Sequence[SimulatedRater], images: Sequence[Traits]
) -> list[float]:
    """Rank correlation, in [-1, 1], of what each person likes with what people like on average, without noise.

    Args:
        persons: P of them, one value each.
        people: over whom the average is.
        images: what is liked.
    """
    everyone = rankdata(population_liking(people, images))
    return [float(correlation(rankdata(own), everyone)) for own in liking_matrix(persons, images)]


@dataclass(frozen=True)
class Newcomer:
    """A simulated person whom no model has met.

    Args:
        person: the rater, [`simulated_newcomer`] of `seed`.
        seed: of [`new_rater_csv`], too.
        agreement: see [`agreements`].
    """

    person: SimulatedRater
    seed: int
    agreement: float


def choose_newcomers(
    people: Sequence[SimulatedRater], images: Sequence[Traits], candidates: int = 100
) -> tuple[Newcomer, Newcomer]:
    """A usual newcomer and one with a taste of their own.

    The usual one has the median of the candidates' [`agreements`], the other the lowest: a rule on simulated taste
    alone, so that nobody is chosen for how well a model does on them.

    Args:
        people: over whom the average is.
        images: what is liked.
        candidates: newcomers of the seeds 0 to candidates - 1.

    Raises:
        ValueError: fewer than two candidates.
    """
    if candidates < 2:
        raise ValueError(f"candidates={candidates}: choose among 2 or more.")
    persons = [simulated_newcomer(seed) for seed in range(candidates)]
    found = [Newcomer(*one) for one in zip(persons, range(candidates), agreements(persons, people, images))]
    found.sort(key=lambda newcomer: newcomer.agreement)
    return found[len(found) // 2], found[0]
