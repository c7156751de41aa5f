import numpy as np
import pytest
from taste_world import LEVELS, srocc, taste_world

from pamela_hf.baselines import low_rank
from pamela_hf.evaluation.evaluate import without_user


@pytest.fixture(scope="module")
def fitted():
    tables, embeddings = taste_world()
    scorer = low_rank.fit(tables["train"], embeddings, level_values=LEVELS, candidates=[(1, 0.3), (3, 1.0), (3, 300.0)])
    return scorer, tables, embeddings


def test_rank_and_penalty_are_chosen_and_directions_of_taste_found(fitted):
    scorer, *_ = fitted
    assert (scorer.rank, scorer.penalty) == (3, 1.0)


def test_demographics_tell_something_of_people_never_met(fitted):
    scorer, tables, embeddings = fitted
    assert scorer.vocabulary == [("age_binned", "20-29"), ("age_binned", "60-69")]
    val = tables["val_unseen"]
    other = val.age_binned.astype(str).map({"20-29": "60-69", "60-69": "20-29"})
    told, untold, lied = (
        srocc(scorer.predict(val.assign(age_binned=age), embeddings), val) for age in (val.age_binned, None, other)
    )
    assert lied < untold < told
    # With the id withheld, a trained person is predicted from the demographics, too.
    seen = without_user(tables["val_seen"])
    unknown = scorer.predict(seen.assign(age_binned=None), embeddings).scores
    assert np.abs(scorer.predict(seen, embeddings).scores - unknown).max() > 1e-3
