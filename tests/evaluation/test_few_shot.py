"""Few-shot evaluation: who is judged on what, who is left out and counted, what is refused."""

import pandas as pd
import pytest

from pamela_hf.evaluation.few_shot import FewShotFits
from pamela_hf.scoring import PamelaScorer


@pytest.fixture(scope="module")
def scorer(trained_folder):
    return PamelaScorer.from_pretrained(trained_folder, device="cpu")


@pytest.mark.parametrize("select", ["random", "active"])
def test_few_shot_judges_each_person_on_the_rest(scorer, data, features, select):
    ratings = data.splits["test_unseen"].reset_index(drop=True)
    fits = FewShotFits(None, features, [0, 5], draws=2, select=select, progress=False)
    found = fits(scorer, "test_unseen", ratings)
    assert set(found) == {"k=5"} and len(found["k=5"]) == 2
    for rows, predicted in found["k=5"]:
        assert len(rows) == len(predicted.scores) == len(ratings) - 5 * ratings.participant_id.nunique()
    support = FewShotFits(
        data.splits["val_unseen"].assign(participant_id=ratings.participant_id.iloc[0]), features, [5]
    )
    assert len(support(scorer, "test_unseen", ratings)["k=5"][0][0]) <= len(ratings)


def test_few_shot_leaves_out_and_counts_who_has_too_few(scorer, data, features):
    ratings = data.splits["val_unseen"].reset_index(drop=True)
    names = ratings.participant_id.astype(str)
    people = sorted(names.unique())
    support = pd.concat([ratings[names == people[0]].head(3), ratings[names != people[0]]], ignore_index=True)
    fits = FewShotFits(support, features, [3, 5], draws=1, progress=False)
    found = fits(scorer, "val_unseen", ratings)
    assert len(found["k=3"][0][0]) == len(ratings)
    assert set(names[found["k=5"][0][0]]) == set(people[1:])
    assert fits.left_out == {"val_unseen": {"k=3": 0, "k=5": 1}}


def test_few_shot_refuses_a_score_that_is_no_level(scorer, data, features):
    ratings = data.splits["test_unseen"].reset_index(drop=True)
    ratings["score"] = ratings["score"].astype(float)
    ratings.loc[0, "score"] = 3.5
    with pytest.raises(ValueError, match=r"score 3\.5 is not a level"):
        FewShotFits(None, features, [3], draws=1, progress=False)(scorer, "test_unseen", ratings)
