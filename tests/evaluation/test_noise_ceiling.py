"""Second ratings: what is read, what is refused, and the ceiling they give."""

import numpy as np
import pandas as pd
import pytest

from pamela_hf.evaluation.noise_ceiling import noise_ceiling, read_repeats
from pamela_hf.metrics import METRICS
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import RatingError


@pytest.fixture(scope="module")
def data(ratings_folder):
    return load_ratings(ratings_folder)


def written(path, rows, header="participant,image,score"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_second_ratings_are_judged_against_the_first(data, tmp_path):
    rng = np.random.default_rng(0)
    first = pd.concat([data.splits["train"], data.splits["test_unseen"]])
    first = first[first.participant_id.isin(["p00", "p01", "p08"])]
    second = np.clip(first.score + rng.integers(-1, 2, len(first)), 1, 5)
    rows = list(zip(first.participant_id, first.image_id, second.astype(int)))
    repeats = read_repeats(written(tmp_path / "again.csv", rng.permutation(rows)), data)
    ceiling = noise_ceiling(repeats, data.level_values, bootstrap=50)
    assert ceiling["ratings"] == len(rows) and ceiling["participants"] == 3
    assert list(ceiling["metrics"]) == list(METRICS)
    each = []
    for person in ("p00", "p01", "p08"):
        here = (first.participant_id == person).to_numpy()
        each.append(pd.Series(first.score.to_numpy()[here]).corr(pd.Series(second.to_numpy()[here]), "spearman"))
    cell = ceiling["metrics"]["user_srocc"]
    assert cell["value"] == pytest.approx(np.mean(each)) and cell["n_users"] == 3
    assert cell["ci_low"] <= cell["value"] <= cell["ci_high"] < 1
    exact = noise_ceiling(repeats.assign(second=repeats["first"]), data.level_values, bootstrap=0)["metrics"]
    assert exact["user_krocc"]["value"] == pytest.approx(1) and exact["rmse"]["value"] == 0


@pytest.mark.parametrize(
    "rows, message",
    [
        ([("p00", "img001", 3), ("p00", "img999", 3)], "row 3: participant 'p00', image 'img999'.*no first rating"),
        ([("nobody", "img001", 3)], "row 2: participant 'nobody'.*no first rating"),
        ([("p00", "img001", 3), ("p00", "img001", 4)], "row 3: .*occurs twice"),
        ([("p00", "img001", 7)], "score '7': not a level of the rating scale"),
        ([("p00", "img001", "good")], "score 'good': not a level"),
        ([("p00", "img001", "")], "a field is empty"),
    ],
)
def test_wrong_rows_are_named(rows, message, data, tmp_path):
    with pytest.raises(RatingError, match=message):
        read_repeats(written(tmp_path / "again.csv", rows), data)


def test_wrong_files_are_named(data, tmp_path):
    with pytest.raises(RatingError, match=r"row 1: the header \['whose', 'image', 'score'\] lacks participant"):
        read_repeats(written(tmp_path / "again.csv", [("p00", "img001", 3)], "whose,image,score"), data)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(RatingError, match=r"empty\.csv, row 1: the header \[\] lacks participant"):
        read_repeats(tmp_path / "empty.csv", data)
    with pytest.raises(RatingError, match=r"none\.csv: holds no rows"):
        read_repeats(written(tmp_path / "none.csv", []), data)
