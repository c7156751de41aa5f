"""Simulated raters: taste as a known function of an image's visible traits, demographics, noise and response
style.

Nothing here is measured on people. The effect of an age, a gender or a nationality is an arbitrary draw, so
that it can mirror no claim about anyone; the means of groups, types and styles follow the released ratings'
aggregates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .traits import SCALARS, Traits, hash_normal, hash_uniform, traits_from_prompt
from .vocabulary import FAMILIES, GROUPS

CALIBRATION: dict[str, float] = {
    "mean_rating": 3.161,  # of the released training split: (17,698 · 2.989 + 32,524 · 3.255) / 50,222
    "consensus": 1.43,  # scales the shared taste for scalar traits
    "personal": 0.9,  # scales how far people differ
    "noise": 0.253,  # sd, rating levels
    "shift_sd": 0.3,  # between people, rating levels
    "log_stretch_sd": 0.15,  # between people
}
"""How the constants were found, once, on four worlds of full size (seeds 100 to 103); frozen since, held by
tests/test_simulation.py. `consensus`, `personal` and `noise` were tried by hand until the mean per-user SROCC
of an image's true mean was .64 and that of the same rater a second time .875 (.638 and .876). For each trial,
`GROUP_LIKING` and `STYLE_LIKING` were solved for by a few steps of least squares on the differences between
the simulated and the wanted means, counting each rating once: the released aggregates for 14 groups, for
Minimalism (1.890), Romanticism (3.656), Art (2.989) and Photorealism (3.255). Five groups (lifestyle, scene,
special, sports, street) and 24 styles have no published mean: theirs are plausible guesses, moved together to
what the published totals leave."""
GROUP_LIKING: dict[str, float] = {
    "abstract": -0.264, "animal": 0.837, "architecture": 0.038, "automotive": -0.257, "cinematic": -0.241,
    "cityscape": 0.147, "fashion": -0.115, "flower painting": 0.497, "food": -0.084, "landscape": 0.580,
    "lifestyle": -0.456, "portrait": 0.140, "product": -0.564, "scene": 0.101, "special": -0.680,
    "sports": -0.519, "still life": -0.101, "street": -0.397, "travel": 0.212,
}  # fmt: skip
"""Group -> what it adds to everybody's liking, rating units."""
STYLE_LIKING: dict[str | None, float] = {
    None: 0.000, "Abstract_Expressionism": -0.795, "Analytical_Cubism": -1.020,
    "Art_Nouveau_Modern": -0.220, "Baroque": -0.210, "Color_Field_Painting": -0.886,
    "Contemporary_Realism": -0.225, "Cubism": -0.961, "Early_Renaissance": -0.550, "Expressionism": -0.638,
    "Fauvism": -0.584, "High_Renaissance": -0.376, "Impressionism": 0.150,
    "Mannerism_Late_Renaissance": -0.394, "Minimalism": -0.976, "Naive_Art_Primitivism": -0.717,
    "New_Realism": -0.295, "Northern_Renaissance": -0.403, "Pointillism": -0.151, "Pop_Art": -0.793,
    "Post_Impressionism": 0.165, "Realism": -0.145, "Rococo": -0.235, "Romanticism": 0.200,
    "Symbolism": -0.284, "Synthetic_Cubism": -1.064, "Ukiyo_e": -0.173,
}  # fmt: skip
"""Style (None: photorealism, the reference) -> what it adds to everybody's liking, rating units."""

# What everybody likes, in rating units for a trait that goes from one end to the other (before `consensus`).
_SHARED_SCALAR = {
    "warmth": 0.35, "saturation": 0.55, "brightness": 0.6, "contrast": 0.45, "elevation": -0.2,
    "closeness": 0.2,
    "density": 0.4, "symmetry": 0.4, "roughness": -0.3,
}  # fmt: skip
_PRODUCTS: dict[tuple[str, str], float] = {
    ("warmth", "brightness"): 0.35,
    ("contrast", "brightness"): -0.3,
    ("density", "closeness"): -0.3,
    ("symmetry", "density"): -0.2,
    ("elevation", "closeness"): -0.2,
    ("saturation", "roughness"): 0.2,
}
_SQUARES: dict[str, float] = {
    "density": -0.5,
    "saturation": -0.3,
    "brightness": -0.4,
}  # neither empty nor crowded

_FEATURES = len(SCALARS) + len(_PRODUCTS) + len(_SQUARES) + len(GROUPS) + len(FAMILIES)
# How far people differ in each weight (standard deviations, before `personal`).
_PERSONAL_SD = np.concatenate([
    np.full(len(SCALARS), 0.75),
    np.full(len(_PRODUCTS), 0.5),
    np.full(len(_SQUARES), 0.5),
    np.full(len(GROUPS), 0.3),
    np.full(len(FAMILIES), 0.25),
])  # fmt: skip
_DEMOGRAPHIC_SHARE = 0.2  # of that variance
_WEIGHTS_KEY, _NOISE_KEY = 101, 102

AGE_BINS: tuple[tuple[int, int], ...] = ((19, 29), (30, 39), (40, 49), (50, 60))
GENDERS: tuple[str, ...] = ("male", "female", "prefer not to say")
NATIONALITIES: tuple[str, ...] = (
    "American", "Australian", "Belgian", "Brazilian", "British", "Canadian", "Chilean", "Chinese", "Dutch",
    "French",
    "German", "Greek", "Hungarian", "Indian", "Italian", "Japanese", "Kenyan", "Mexican", "Nigerian",
    "Polish",
    "Portuguese", "South African", "Spanish",
)  # fmt: skip


def _features(traits: Sequence[Traits]) -> np.ndarray:
    """The trait features of taste, shape (N, F): scalars in [-.5, .5], products, squares, group and family
    one-hots."""
    scalars = np.array([[getattr(t, name) for name in SCALARS] for t in traits], float).reshape(-1, len(SCALARS)) - 0.5
    column = {name: scalars[:, k] for k, name in enumerate(SCALARS)}
    products = [4.0 * column[a] * column[b] for a, b in _PRODUCTS]
    squares = [4.0 * column[a] ** 2 - 0.4 for a in _SQUARES]
    groups = np.array([[t.group == g for g in GROUPS] for t in traits], float).reshape(-1, len(GROUPS))
    families = np.array([[t.family == f for f in FAMILIES] for t in traits], float).reshape(-1, len(FAMILIES))
    return np.concatenate([scalars, np.stack([*products, *squares], axis=1), groups, families], axis=1)


_SHARED = np.array([*_SHARED_SCALAR.values(), *_PRODUCTS.values(), *_SQUARES.values()])


def _consensus(traits: Sequence[Traits], features: np.ndarray) -> np.ndarray:
    offset = np.array([GROUP_LIKING[t.group] + STYLE_LIKING[t.style] for t in traits])
    return CALIBRATION["consensus"] * (features[:, : len(_SHARED)] @ _SHARED) + offset


def _as_traits(prompt_or_traits: str | Traits, seed: int) -> Traits:
    return prompt_or_traits if isinstance(prompt_or_traits, Traits) else traits_from_prompt(prompt_or_traits, seed)


@dataclass(frozen=True)
class SimulatedRater:
    """One simulated person.

    `weights (F,)`: what this person adds to the consensus for each trait feature; `agreement`: how much of
    the consensus they share (1 on average); `shift` (rating levels) and `stretch` (factor around the mean
    rating): how they use the scale; `key`: what their rating noise is drawn from. `demographics` has the keys
    of the released ratings: age (19..60), age_binned, gender, nationality.
    """

    participant_id: str
    demographics: dict[str, int | str]
    weights: np.ndarray = field(repr=False)
    agreement: float
    shift: float
    stretch: float
    key: int

    def true_liking(self, prompt_or_traits: str | Traits, seed: int = 0) -> float:
        """How much they like the image of this prompt and seed, in rating units: about 1..5, unbounded,
        without noise and before their way of using the scale. Higher is better."""
        return float(liking_matrix([self], [_as_traits(prompt_or_traits, seed)])[0, 0])

    def rate(self, prompt_or_traits: str | Traits, seed: int = 0, occasion: int = 0) -> int:
        """Their rating, 1..5. The same image on the same `occasion` gets the same rating; another occasion,
        new noise."""
        traits = _as_traits(prompt_or_traits, seed)
        return int(rate_matrix([self], [traits], [seed], occasion=occasion)[0, 0])


def liking_matrix(people: Sequence[SimulatedRater], traits: Sequence[Traits]) -> np.ndarray:
    """`SimulatedRater.true_liking` of N images by U people, shape (U, N)."""
    features = _features(traits)
    consensus = _consensus(traits, features)
    agreement = np.array([person.agreement for person in people])[:, None]
    weights = np.stack([person.weights for person in people])
    return CALIBRATION["mean_rating"] + agreement * consensus[None, :] + weights @ features.T


def rate_matrix(
    people: Sequence[SimulatedRater], traits: Sequence[Traits], seeds: Sequence[int], occasion: int = 0
) -> np.ndarray:
    """Ratings of every image by every person, int (U, N), 1..5; equal to `SimulatedRater.rate` one by one.

    `seeds (N,)` are the images' seeds, from which (with the person and `occasion`) the rating noise follows.
    """
    liking = liking_matrix(people, traits)
    center = CALIBRATION["mean_rating"]
    shift = np.array([person.shift for person in people])[:, None]
    stretch = np.array([person.stretch for person in people])[:, None]
    keys = np.array([person.key for person in people])[:, None]
    noise = CALIBRATION["noise"] * hash_normal(_NOISE_KEY, keys, np.asarray(seeds)[None, :], occasion)
    return np.clip(np.rint(center + shift + stretch * (liking - center) + noise), 1, 5).astype(int)


def population_liking(people: Sequence[SimulatedRater], traits: Sequence[Traits]) -> np.ndarray:
    """The images' true mean: liking without noise, cut to 1..5, averaged over `people`; shape (N,)."""
    return np.clip(liking_matrix(people, traits), 1.0, 5.0).mean(axis=0)


def taste_weights(person: SimulatedRater) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """What a person adds to the consensus, in rating units: by scalar trait (from one end to the other), by group, by
    style family. Their weights of products and squares of traits are left out."""
    weights = person.weights.tolist()
    groups = len(SCALARS) + len(_PRODUCTS) + len(_SQUARES)
    return (
        dict(zip(SCALARS, weights)),
        dict(zip(GROUPS, weights[groups:])),
        dict(zip(FAMILIES, weights[groups + len(GROUPS) :])),
    )


def _person(participant_id: str, key: int) -> SimulatedRater:
    uniform = hash_uniform(_WEIGHTS_KEY, 1, key, np.arange(4))
    age = 19 + int(42 * min(uniform[0], uniform[1]) * 0.999 + 8 * (uniform[0] > 0.9))
    age = min(age, 60)
    gender = GENDERS[int(np.searchsorted([0.485, 0.975], uniform[2]))]
    nationality = NATIONALITIES[int(len(NATIONALITIES) * uniform[3])]
    binned = next(f"{low}-{high}" for low, high in AGE_BINS if low <= age <= high)
    features = np.arange(_FEATURES)
    # Each demographic value has an arbitrary direction of taste; the three are of equal weight.
    demographic = (
        (age - 33.0) / 10.0 * hash_normal(_WEIGHTS_KEY, 2, 0, features)
        + hash_normal(_WEIGHTS_KEY, 3, GENDERS.index(gender), features)
        + hash_normal(_WEIGHTS_KEY, 4, NATIONALITIES.index(nationality), features)
    ) / np.sqrt(3.0)
    own = hash_normal(_WEIGHTS_KEY, 5, key, features)
    mixed = np.sqrt(_DEMOGRAPHIC_SHARE) * demographic + np.sqrt(1.0 - _DEMOGRAPHIC_SHARE) * own
    style = np.clip(hash_normal(_WEIGHTS_KEY, 6, key, np.arange(3)), -2.5, 2.5)
    return SimulatedRater(
        participant_id=participant_id,
        demographics={"age": age, "age_binned": binned, "gender": gender, "nationality": nationality},
        weights=CALIBRATION["personal"] * _PERSONAL_SD * mixed,
        agreement=float(1.0 + 0.2 * style[0]),
        shift=float(CALIBRATION["shift_sd"] * style[1]),
        stretch=float(np.exp(CALIBRATION["log_stretch_sd"] * style[2])),
        key=key,
    )


def simulated_participants(people: int = 199, seed: int = 0) -> list[SimulatedRater]:
    """`people` simulated raters with ids `simulated_0000` …; the first are the same whatever `people` is."""
    if people < 1:
        raise ValueError(f"people={people}: at least 1")
    return [_person(f"simulated_{k:04d}", 1_000_003 * (seed + 1) + k) for k in range(people)]


def simulated_newcomer(seed: int = 0) -> SimulatedRater:
    """A simulated person who belongs to no world (id `simulated_newcomer_<seed>`)."""
    return _person(f"simulated_newcomer_{seed}", -1 - seed)
