"""Simulated taste in words, and who is chosen as a newcomer."""

from dataclasses import replace

import numpy as np
import pytest

from pamela_hf.simulation.raters import (
    FAMILIES,
    GROUPS,
    SCALARS,
    simulated_newcomer,
    simulated_participants,
    taste_weights,
)
from pamela_hf.simulation.tastes import agreements, choose_newcomers, taste_in_words
from pamela_hf.simulation.traits import Traits, traits_from_prompt
from pamela_hf.simulation.world import world_prompt


@pytest.fixture(scope="module")
def images() -> list[Traits]:
    rng = np.random.default_rng(0)
    return [traits_from_prompt(world_prompt(rng), k) for k in range(150)]


@pytest.fixture(scope="module")
def people():
    return simulated_participants(40)


def liking(**effects: float):
    """A person who likes these groups, families and ends of scalar traits by so much more than others do."""
    person = simulated_participants(1)[0]
    weights = np.zeros_like(person.weights)
    for name, effect in effects.items():
        names = SCALARS if name in SCALARS else GROUPS if name in GROUPS else FAMILIES
        families = len(weights) - len(FAMILIES)
        start = {SCALARS: 0, GROUPS: families - len(GROUPS), FAMILIES: families}[names]
        weights[start + names.index(name)] = effect
    return replace(person, weights=weights)


def test_words_name_what_moves_liking_most():
    assert taste_in_words(liking(saturation=2.0, animal=0.8, photo=-0.6), 3) == (
        "Likes vivid colours and animals more than others do; photographs less."
    )
    assert taste_in_words(liking(brightness=-1.0), 1) == "Likes dark images more than others do."
    assert taste_in_words(liking(food=-1.0), 1) == "Likes food less than others do."
    # from the middle to an end a trait moves liking by half its weight
    assert taste_in_words(liking(warmth=1.0, landscape=0.6), 1) == "Likes landscapes more than others do."


def test_words_are_true_of_the_ratings():
    person = liking(closeness=2.0)
    near, far = (Traits(closeness=value) for value in (0.9, 0.1))
    plain = liking()
    more = (person.true_liking(near) - plain.true_liking(near)) - (person.true_liking(far) - plain.true_liking(far))
    assert more == pytest.approx(1.6) and taste_weights(person)[0]["closeness"] == 2.0


def test_agreement_is_one_with_oneself_and_falls_with_taste(people, images):
    usual = liking()
    odd = liking(warmth=-9.0)
    high, low = agreements([usual, odd], people, images)
    assert low < 0.5 < high and agreements(people[:1], people[:1], images)[0] > 0.98


def test_newcomers_are_chosen_by_taste_alone(people, images):
    usual, own = choose_newcomers(people, images, 21)
    found = agreements([simulated_newcomer(seed) for seed in range(21)], people, images)
    assert own.agreement == found[own.seed] == min(found)
    assert usual.agreement == found[usual.seed] == np.median(found)
    assert own.person.participant_id == f"simulated_newcomer_{own.seed}"
    with pytest.raises(ValueError, match="candidates=1"):
        choose_newcomers(people, images, 1)
