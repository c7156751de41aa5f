"""The refiner without a language model, and what all refiners share: finding, cleaning."""

import numpy as np
import pytest

from pamela_hf.refiners import Trial, available_refiners, clean_prompt, load_refiner, prompt_key
from pamela_hf.refiners.vocabulary import TERMS, Refiner, known_terms

PROMPT = "a cottage by the sea, overcast, oil painting"


def trial(prompt: str, score: float, iteration: int = 1, eligible: bool = True) -> Trial:
    return Trial(prompt, PROMPT, iteration, score, 0.5, eligible)


def test_refiners_are_found_by_name():
    assert available_refiners() == ["endpoint", "transformers_chat", "vocabulary"]
    assert load_refiner("vocabulary", exploration=0.5).name == "vocabulary"
    with pytest.raises(ValueError, match=r"refiner='instructions' does not exist; there are endpoint"):
        load_refiner("instructions")
    with pytest.raises(ValueError, match="exploration=2"):
        Refiner(exploration=2)


def test_variants_keep_the_subject_are_distinct_and_repeatable():
    history = [Trial(PROMPT, None, 0, 3.0, 0.5)]
    found = Refiner().propose(PROMPT, history, 40, np.random.default_rng(0))
    assert len(found) == len({prompt_key(text) for text in found}) == 40
    assert found == Refiner().propose(PROMPT, history, 40, np.random.default_rng(0))
    for text in found:
        assert text.startswith("a cottage by the sea") and text == clean_prompt(text) and text != PROMPT
        assert text.count("oil painting") <= 1
        assert sum(len(terms) for terms in [known_terms(text)]) == len(text.split(", ")) - 1  # one term an aspect


def test_what_scored_well_comes_more_often():
    history = [Trial(PROMPT, None, 0, 3.0, 0.5)]
    for k, term in enumerate(TERMS["palette"]):
        history.append(trial(f"a cottage by the sea, {term}", 4.5 if term == "sepia" else 2.5, 1 + k % 3))
    rng = np.random.default_rng(0)
    found = Refiner(exploration=0.0).propose(PROMPT, history, 200, rng)
    counts = {term: sum(term in text.split(", ") for text in found) for term in TERMS["palette"]}
    assert max(counts, key=counts.get) == "sepia"
    barred = [*history, *(trial(f"a cottage by the sea, sepia, {t}", 5.0, 2, False) for t in TERMS["texture"])]
    after = Refiner(exploration=0.0).propose(PROMPT, barred, 200, np.random.default_rng(0))
    assert sum("sepia" in text for text in after) < counts["sepia"]  # it may score well, but it may not win


def test_no_aspect_shares_a_term_with_another():
    keys = [prompt_key(term) for terms in TERMS.values() for term in terms]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  “a  cottage”,\n\tat night. ", "a  cottage”, at night.".replace("  ", " ")),
        ("a\u200b cot\u202etage\x00", "a cottage"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("half \ud800", "half"),
        ("…!?", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_prompts_are_cleaned(text, expected):
    assert clean_prompt(text) == expected


def test_long_prompts_end_at_a_word():
    text = clean_prompt("a cottage, " * 1000)
    assert len(text) <= 1000 and text.endswith("a cottage")
    assert len(clean_prompt("x" * 10_000)) == 1000
