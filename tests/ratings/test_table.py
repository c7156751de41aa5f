"""The table, its gate, joining and splitting."""

import json
import math
import random
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import rating, small_splits, write_release

from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.sources._rows import RowChecker, read_tables
from pamela_hf.ratings.splits import split_ratings
from pamela_hf.ratings.table import (
    RATING_COLUMNS,
    RATING_SCHEMA,
    SPLITS,
    RatingData,
    RatingError,
    RatingSource,
    integer_levels,
    join_ratings,
    standardized_scores,
)


def source(rows, **changes):
    """A source of rows given as dicts by column name."""
    fields = {
        "name": "toy",
        "rows": {"train": lambda: (("toy.json", n, row) for n, row in enumerate(rows, 1))},
        "digest": lambda images: "",
    }
    return RatingSource(**{**fields, **changes})


def row(participant="p", image="i", score=3, **more):
    return {"participant_id": participant, "image_id": image, "score": score, **more}


def table(people=20, images=60, share=0.5, seed=0):
    rng = random.Random(seed)
    rows = [
        row(f"p{p}", f"i{i}", rng.randint(1, 5))
        for p in range(people)
        for i in range(images)
        if rng.random() < share or p == i == 0  # a table has a row
    ]
    return read_tables(RowChecker(source(rows, level_values=integer_levels(1, 5))), ["train"])["train"]


def test_schema_names_the_columns_in_order():
    assert tuple(RATING_SCHEMA.names) == RATING_COLUMNS


def test_types_of_the_table():
    rows = [row(7, "a", 1, age=30, gender="female", prompt=""), row("p", "b", 2.0, age=None, gender=None, prompt="x")]
    got = read_tables(RowChecker(source(rows)), ["train"])["train"]
    assert tuple(got.columns) == RATING_COLUMNS
    assert got.score.dtype == np.float32 and got.age.dtype == "Int64"
    for column in set(RATING_COLUMNS) - {"score", "age"}:
        assert isinstance(got[column].dtype, pd.CategoricalDtype)
        assert got[column].cat.categories.dtype in ("str", object)  # pandas 3, 2
    assert got.participant_id.tolist() == ["7", "p"] and got.rating_scale.tolist() == ["toy", "toy"]
    assert got.prompt.isna().tolist() == [True, False] and got.age.isna().tolist() == [False, True]
    assert got.nationality.isna().all()


BAD = {
    "score": [
        math.nan, math.inf, -math.inf, 0, 6, -3, 10**400, 2.5, 1e-9, "3", "", None, True, [3], {"a": 1}, 3j, b"3",
    ],
    "participant_id": [None, "", "  ", 1.5, True, [], {}, "\ud800", "x" * 30_000],
    "image_id": [None, "", "\t", 2.0, False, ["i"], "\udfff"],
    "prompt": [5, 0, False, [], {}, 1.5, "\ud800", "x" * 30_000],
    "gender": [1, True, ["female"]],
    "group": [0.0],
    "style": [math.nan],
    "type": [{}],
    "nationality": [()],
    "age_binned": [30],
    "age": ["30", 0, -1, 121, 30.5, math.nan, math.inf, True, [], 10**300],
    "image_path": [5, [], True],
    "rating_scale": [5, []],
}  # fmt: skip


@pytest.mark.parametrize("column, value", [(column, value) for column, values in BAD.items() for value in values])
def test_each_bad_value_is_refused_with_file_row_and_value(column, value):
    rows = [row("a", "x", 1), row("a", "y", 5), {**row("b", "x", 3), column: value}]
    with pytest.raises(RatingError) as caught:
        list(RowChecker(source(rows, level_values=integer_levels(1, 5), labels={"score": "stars"})).rows("train"))
    message = str(caught.value)
    assert message.startswith("toy.json, row 3: ")
    assert ("stars" if column == "score" else column) in message
    assert "quarantine" in message and len(message) < 600


def test_a_row_that_is_no_object():
    for value in ([1], 3, None, "row"):
        with pytest.raises(RatingError, match=r"toy\.json, row 1: the row is .*object"):
            list(RowChecker(source([value])).rows("train"))


def test_duplicates_within_and_between_splits():
    with pytest.raises(RatingError, match=r"row 2: participant 'p' rates image 'i' again \(first in split 'train'\)"):
        list(RowChecker(source([row(), row(score=4)])).rows("train"))
    rows = [("f", 1, row("p", "i", 1)), ("f", 2, row("q", "j", 2))]
    two = dict.fromkeys(("train", "test_seen"), lambda: iter(rows))
    with pytest.raises(RatingError, match=r"again \(first in split 'train'\)"):
        read_tables(RowChecker(replace(source([]), rows=two)), list(two))


def test_one_image_has_one_file():
    rows = [row("a", "x", 1, image_path="1.png"), row("b", "x", 2, image_path="2.png")]
    with pytest.raises(RatingError, match=r"row 2: image 'x' is at '2\.png' here, at '1\.png'"):
        list(RowChecker(source(rows, locate=lambda image, path: path)).rows("train"))


def test_half_steps_sliders_and_float32_levels():
    half = tuple(x / 2 for x in range(2, 11))
    got = [r[3] for r in RowChecker(source([row("a", "x", 1.5), row("a", "y", 4)], level_values=half)).rows("train")]
    assert got == [1.5, 4.0]
    with pytest.raises(RatingError, match=r"score is 1\.25; allowed on scale 'toy': 1, 1\.5"):
        list(RowChecker(source([row(score=1.25)], level_values=half)).rows("train"))
    tenths = tuple(x / 10 for x in range(1, 11))
    read_back = float(np.float32(0.3))
    (got,) = RowChecker(source([row(score=read_back)], level_values=tenths)).rows("train")
    assert got[3] == read_back
    bins = tuple(range(0, 101, 10))
    rows = [row("a", "x", 44), row("a", "y", 45.1), row("a", "z", 100)]
    assert [r[3] for r in RowChecker(source(rows, level_values=bins, slider=True)).rows("train")] == [40, 50, 100]
    with pytest.raises(RatingError, match="a number from 0 to 100 is allowed"):
        list(RowChecker(source([row(score=101)], level_values=bins, slider=True)).rows("train"))


def test_a_level_that_nobody_uses_is_pointed_out(caplog):
    checker = RowChecker(source([row("a", "x", 1), row("a", "y", 2), row("a", "z", 9)]))
    list(checker.rows("train"))
    assert checker.level_values == {"toy": tuple(map(float, range(1, 10)))}
    assert "no rating of train says 3, 4, 5, 6, 7, 8" in caplog.text


@pytest.mark.parametrize(
    "ends", [(1, 1), (5, 1), (0, 500), (1.5, 5), (math.nan, 5), (True, 5), ("1", 5), (1, math.inf)]
)
def test_scale_ends(ends):
    with pytest.raises(RatingError, match="rating_m"):
        integer_levels(*ends)


def test_quarantine_file_is_whole_or_absent(tmp_path):
    file = tmp_path / "bad.jsonl"
    rows = [row("a", "x", 1), row("a", "x", 2), 17, row("a", "y", math.nan), row("b", "x", 3, gender=b"\xff")]
    checker = RowChecker(source(rows, level_values=integer_levels(1, 5)), quarantine=file)
    assert len(list(checker.rows("train"))) == 1
    assert not file.exists()
    checker.close()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["row"] for line in lines] == [2, 3, 4, 5] and checker.quarantined == 4
    assert lines[1]["values"] == 17 and "again" in lines[0]["problem"]
    again = RowChecker(source(rows), quarantine=file)
    again.discard()
    assert len(file.read_text().splitlines()) == 4 and list(tmp_path.iterdir()) == [file]


MUTATIONS = [
    *[("original_score", value) for value in (math.nan, math.inf, 0, 6, 2.5, "3", None, True, [3], -1, 1e300)],
    *[("participant_id", value) for value in (None, "", " ", 1.5, [], {}, True, "\ud800")],
    *[("image_id", value) for value in (None, "", 1.5, False, ["x"])],
    *[("image_path", value) for value in ("../1.png", "/etc/passwd", "images/none.png", None, 3, "")],
    *[("image_metadata", value) for value in ("x", 3, [1], {"prompt": 5}, {"style": math.nan}, {"type": []})],
    *[("user_demographics", value) for value in ("x", {"age": "30"}, {"age": -1}, {"gender": 1})],
]  # fmt: skip


def mutate_and_load(folder, n_rows, mutations, seed):
    """Mutates some rows of a release of `n_rows`; returns the rows that are valid, and those that came in."""
    rng = random.Random(seed)
    rows = [rating(f"p{n // 20}", n % 20, 1 + n % 5) for n in range(n_rows)]
    valid = []
    for n, each in enumerate(rows):
        if rng.random() < 0.2 and n > 20:  # the first rows give the scale and the images
            key, value = rng.choice(mutations)
            each[key] = value
        else:
            valid.append((each["participant_id"], str(each["image_id"]), float(each["original_score"])))
    write_release(folder, {"train": rows})
    data = load_ratings(folder, quarantine=folder / "bad.jsonl", rating_min=1, rating_max=5)
    train = data.splits["train"]
    came = list(zip(train.participant_id.astype(str), train.image_id.astype(str), train.score.astype(float)))
    bad = [json.loads(line) for line in (folder / "bad.jsonl").read_text().splitlines()]
    assert len(bad) == len(rows) - len(valid)
    print(f"{len(rows)} rows, {len(bad)} of them mutated")
    return valid, came


@pytest.mark.parametrize("seed", range(3))
def test_accepted_is_exactly_the_valid_set(tmp_path, seed):
    valid, came = mutate_and_load(tmp_path / "r", 200, MUTATIONS, seed)
    assert came == valid


@pytest.mark.faults
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: re.sub(r"\W+", "_", f"{m[0]}={m[1]!r}"))
def test_accepted_is_exactly_the_valid_set_of_1000(tmp_path, mutation):
    assert len(MUTATIONS) >= 40
    valid, came = mutate_and_load(tmp_path / "r", 1000, [mutation], 0)
    assert came == valid


def test_images_once_each_and_disagreement_is_told(caplog):
    rows = [row("a", "x", 1, prompt="first"), row("b", "x", 2, prompt="second"), row("a", "y", 3, prompt="other")]
    got = read_tables(RowChecker(source(rows)), ["train"])
    images = RatingData("toy", got, {}).images()
    assert images.image_id.tolist() == ["x", "y"] and images.prompt.tolist() == ["first", "other"]
    assert list(images.columns) == ["image_id", "prompt", "group", "style", "type"]
    assert "1 images have rows that disagree" in caplog.text


def test_join_prefixes_ids_and_names_scales(tmp_path):
    first = load_ratings(write_release(tmp_path / "a", small_splits()), name="a")
    second = load_ratings(
        write_release(tmp_path / "b", {"train": small_splits()["train"]}), name="b", rating_min=0, rating_max=9
    )
    joined = join_ratings([first, second])
    assert joined.level_values == {"a": first.level_values["a"], "b": tuple(map(float, range(10)))}
    assert len(joined.splits["train"]) == 20 and list(joined.splits) == list(first.splits)
    assert set(joined.splits["train"].participant_id) == {"a/p1", "a/p2", "b/p1", "b/p2"}
    assert joined.splits["train"].rating_scale.unique().tolist() == ["a", "b"]
    assert joined.open_image("b/3").read() == (tmp_path / "b/images/3.png").read_bytes()
    for split, both in joined.splits.items():
        assert tuple(both.columns) == RATING_COLUMNS and both.score.dtype == np.float32
        assert both.participant_id.cat.categories.equals(joined.splits["train"].participant_id.cat.categories), split
    with pytest.raises(RatingError, match="different names"):
        join_ratings([first, first])
    with pytest.raises(RatingError):
        join_ratings([])


def check_no_leak(splits, groups=None):
    train = splits["train"]
    group = lambda images: {groups.get(i, i) if groups else i for i in images}  # noqa: E731
    for split, rows in splits.items():
        people, images = set(rows.participant_id), set(rows.image_id)
        if split.endswith("unseen"):
            assert not people & set(train.participant_id)
        elif split != "train":
            assert not group(images) & group(set(train.image_id))
        if split.startswith("val"):
            for other in ("test_seen", "test_unseen"):
                if other in splits:
                    assert not group(images) & group(set(splits[other].image_id))
    if {"val_unseen", "test_unseen"} <= splits.keys():
        assert not set(splits["val_unseen"].participant_id) & set(splits["test_unseen"].participant_id)
    pairs = [pair for rows in splits.values() for pair in zip(rows.participant_id, rows.image_id)]
    assert len(pairs) == len(set(pairs))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 100), st.integers(1, 25), st.integers(4, 50), st.floats(0, 0.4), st.floats(0, 0.4),
    st.floats(0, 0.9), st.integers(1, 4),
)  # fmt: skip
def test_splits_never_leak(seed, people, images, val, test, unseen, group_size):
    ratings = table(people, images, 0.7, seed)
    groups = {f"i{i}": i // group_size for i in range(images)}
    try:
        splits = split_ratings(ratings, seed=seed, val=val, test=test, unseen=unseen, groups=groups)
    except RatingError:
        return
    if "train" in splits:
        check_no_leak(splits, groups)
    assert set(splits) <= set(SPLITS)


def test_split_shares_are_stable_and_depend_on_the_seed_only():
    ratings = table(40, 200)
    splits = split_ratings(ratings)
    assert list(splits) == list(SPLITS)
    assert splits["train"].participant_id.nunique() == 30
    assert splits["train"].image_id.nunique() == 140 and splits["test_seen"].image_id.nunique() == 40
    shuffled = split_ratings(ratings.sample(frac=1, random_state=1))
    assert set(shuffled["train"].image_id) == set(splits["train"].image_id)
    assert set(split_ratings(ratings, seed=1)["train"].image_id) != set(splits["train"].image_id)
    more = split_ratings(table(40, 210))
    moved = set(more["train"].image_id) ^ set(splits["train"].image_id)
    assert len(moved) < 25


def test_split_bounds():
    with pytest.raises(RatingError, match=r"val=0\.5, test=0\.5"):
        split_ratings(table(), val=0.5, test=0.5)
    with pytest.raises(RatingError, match="too few to split"):
        split_ratings(table(), groups={f"i{i}": 0 for i in range(60)})
    assert list(split_ratings(table(), val=0, test=0)) == ["train"]
    one = split_ratings(table(people=1, images=50, share=1))
    assert list(one) == ["train", "val_seen", "test_seen"]


def test_scores_are_standardized_on_their_own_scale():
    rows = [row("p", f"i{i}", score) for i, score in enumerate((1, 2, 3, 20, 60, 100, 7))]
    ratings = pd.DataFrame(rows).assign(rating_scale=["stars"] * 3 + ["slider"] * 3 + ["one"])
    z = 1.5**0.5
    np.testing.assert_allclose(standardized_scores(ratings), [-z, 0, z, -z, 0, z, np.nan])
