"""Choices beside ratings: the table, its gate, all forms they come and go in, joining and splitting."""

import json
import random

import datasets
import pandas as pd
import pyarrow.parquet as pq
import pytest
from releases import rating, small_splits, write_image, write_release

from pamela_hf.ratings.builder import CHOICE_FEATURES, PamelaRatings, load_ratings
from pamela_hf.ratings.preparation import prepare
from pamela_hf.ratings.sources._rows import RowChecker, read_choices
from pamela_hf.ratings.splits import split_answers
from pamela_hf.ratings.table import CHOICE_COLUMNS, CHOICE_SCHEMA, RatingError, RatingSource, join_ratings


def choice(participant="p1", preferred=1, other=2, tie=False, **changes) -> dict:
    row = {
        "participant_id": participant, "preferred_id": preferred, "preferred_path": f"images/{preferred}.png",
        "other_id": other, "other_path": f"images/{other}.png", "tie": tie, "prompt": None,
        "preferred_metadata": {"prompt": f"prompt {preferred}", "group": "animal", "style": None, "type": "Art"},
        "other_metadata": {"prompt": f"prompt {other}", "group": "animal", "style": None, "type": "Art"},
        "user_demographics": {"age": 30, "age_binned": "30-39", "gender": "female", "nationality": "German"},
    }  # fmt: skip
    return {**row, **changes}


def write_choices(folder, splits):
    for split, rows in splits.items():
        (folder / "annotations" / f"pamela_choices_{split}.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def release(tmp_path):
    folder = write_release(tmp_path / "PAMELA", small_splits())
    train = [choice("p1", 1, 2), choice("p2", 3, 1, tie=True), choice("p1", 2, 1)]
    return write_choices(folder, {"train": train, "test_seen": [choice("p4", 7, 6)]})


def source(rows):
    return RatingSource(
        "toy", {}, lambda images: "",
        choices={"train": lambda: (("toy.json", number, row) for number, row in enumerate(rows, 1))},
    )  # fmt: skip


def plain(participant="p", preferred="a", other="b", **more):
    return {"participant_id": participant, "preferred_id": preferred, "other_id": other, **more}


def test_schema_and_features_name_the_columns_in_order():
    assert tuple(CHOICE_SCHEMA.names) == CHOICE_COLUMNS == tuple(CHOICE_FEATURES)
    assert CHOICE_COLUMNS[:9] == (
        "participant_id", "preferred_id", "other_id", "tie", "prompt", "age", "age_binned", "gender", "nationality",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"participant_id": None}, "participant_id is missing"),
        ({"preferred_id": ""}, "preferred_id is ''"),
        ({"other_id": 1.5}, r"other_id is 1\.5"),
        ({"other_id": "a"}, "preferred_id and other_id are both 'a'; a choice is between two images"),
        ({"tie": "yes"}, "tie is 'yes'; true, false or null"),
        ({"tie": 1}, "tie is 1;"),
        ({"prompt": 5}, "prompt is 5"),
        ({"age": 300}, "age is 300"),
        ({"gender": []}, "gender is"),
        ({"preferred_group": 4}, "preferred_group is 4"),
        ({"other_path": 4}, "other_path is 4"),
        ({None: "something is wrong."}, "something is wrong"),
    ],
)
def test_each_bad_value_is_refused_with_file_row_and_value(change, message):
    with pytest.raises(RatingError, match=rf"^toy\.json, row 2: {message}"):
        read_choices(RowChecker(source([plain(), plain() | change])), ["train"])


def test_types_of_the_table():
    rows = [plain(age=30, tie=True, preferred_group="x"), plain("q", "b", "c", tie=None, prompt="sea")]
    table = read_choices(RowChecker(source(rows)), ["train"])["train"]
    assert tuple(table.columns) == CHOICE_COLUMNS and table.tie.tolist() == [True, False] and table.tie.dtype == bool
    assert table.preferred_id.cat.categories.tolist() == table.other_id.cat.categories.tolist() == ["a", "b", "c"]
    assert table.age.tolist()[0] == 30 and table.age.dtype == "Int64" and table.prompt.isna().tolist() == [True, False]


def test_the_released_form_holds_ratings_and_choices(release):
    data = load_ratings(release)
    assert data.name == "pamela" and len(data.splits["train"]) == 10
    train = data.choices["train"]
    assert train.preferred_id.tolist() == ["1", "3", "2"] and train.tie.tolist() == [False, True, False]
    assert train.preferred_group.tolist() == ["animal"] * 3 and train.gender.tolist() == ["female"] * 3
    images = data.images()
    assert images.image_id.nunique() == len(images) == 7 and images.prompt.tolist()[0] == "prompt 1"
    (release / "annotations/pamela_choices_val_seen.json").write_text(json.dumps([choice("p1", 6, "nowhere")]))
    with pytest.raises(RatingError, match=r"pamela_choices_val_seen\.json, row 1: image_path is 'images/nowhere\.png'"):
        load_ratings(release)
    aside = load_ratings(release, quarantine=release / "bad.jsonl", splits=["train"])
    assert len(aside.choices["train"]) == 3


def test_prepared_folder_hub_and_builder_give_the_same(release, tmp_path):
    data = prepare(release, tmp_path / "out")
    assert pq.read_schema(tmp_path / "out/choices/train-00000-of-00001.parquet").names == list(CHOICE_COLUMNS)
    back = load_ratings(tmp_path / "out")
    for split, table in data.choices.items():
        pd.testing.assert_frame_equal(
            back.choices[split].astype(object), table.astype(object), check_dtype=False, check_categorical=False
        )
    hub = datasets.load_dataset(str(tmp_path / "out"), "choices", cache_dir=tmp_path / "cache")
    assert hub["train"][1]["tie"] is True and hub["train"][0]["other_id"] == "2"
    default = datasets.load_dataset(str(tmp_path / "out"), cache_dir=tmp_path / "cache")
    assert default["train"].column_names[3] == "score"
    builder = PamelaRatings(config_name="choices", data_dir=str(release), cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    assert builder.as_dataset(split="train")[0]["preferred_id"] == "1"
    assert next(iter(builder.as_streaming_dataset(split="test_seen")))["participant_id"] == "p4"
    card = (tmp_path / "out/README.md").read_text()
    assert "3 | 1 | 2 | 3 |" in card and "`preferred_id`, `other_id`" in card and "choices of" in card


def test_choices_alone(tmp_path):
    for name in "abcd":
        write_image(tmp_path / f"{name}.png")
    rows = "preferred,other,tie,participant,prompt\na.png,b.png,no,ann,a fox\nc.png,d.png,yes,bob,\nb.png,a.png,,ann,\n"
    (tmp_path / "mine.csv").write_text(rows)
    data = prepare(tmp_path / "mine.csv", tmp_path / "out", split_by="none")
    assert data.splits == {} and data.level_values == {} and data.choices["train"].tie.tolist() == [False, True, False]
    back = load_ratings(tmp_path / "out")
    assert back.choices["train"].participant_id.tolist() == ["ann", "bob", "ann"]
    assert back.images().prompt.tolist()[0] == "a fox" and back.open_image("d.png").read()
    hub = datasets.load_dataset(str(tmp_path / "out"), cache_dir=tmp_path / "cache")  # the default is what there is
    assert hub["train"].column_names == list(CHOICE_COLUMNS)
    prepare(tmp_path / "mine.csv", tmp_path / "out", split_by="none", overwrite=True)
    with pytest.raises(RatingError, match=r"own holds no ratings; it holds choices"):
        (tmp_path / "own.csv").write_text(rows)
        PamelaRatings(data_dir=str(tmp_path / "own.csv"), cache_dir=str(tmp_path / "c")).download_and_prepare()
    (tmp_path / "both.csv").write_text("preferred,other,image,score\na.png,b.png,a.png,3\n")
    with pytest.raises(RatingError, match="columns of ratings and of choices"):
        load_ratings(tmp_path / "both.csv")
    (tmp_path / "bad.csv").write_text("preferred,other,tie\na.png,b.png,perhaps\n")
    with pytest.raises(RatingError, match=r"bad\.csv, row 2: tie is 'perhaps'"):
        load_ratings(tmp_path / "bad.csv")


def test_joined_sources_prefix_choices_too(release, tmp_path):
    write_image(tmp_path / "a.png"), write_image(tmp_path / "b.png")
    (tmp_path / "mine.csv").write_text("preferred,other\na.png,b.png\n")
    joined = join_ratings([load_ratings(release), load_ratings(tmp_path / "mine.csv")])
    assert joined.sources == ("pamela", "mine")
    train = joined.choices["train"]
    assert train.preferred_id.tolist() == ["pamela/1", "pamela/3", "pamela/2", "mine/a.png"]
    assert train.participant_id.tolist()[-1] == "mine/me" and train.tie.dtype == bool
    assert set(joined.splits["train"].participant_id) == {"pamela/p1", "pamela/p2"}
    assert joined.open_image("mine/b.png").read()


def many(people, pairs, seed=0):
    rng = random.Random(seed)
    rows = [plain(f"p{rng.randrange(people)}", f"i{a}", f"i{b}") for a, b in pairs]
    return read_choices(RowChecker(source(rows)), ["train"])["train"]


def parts_of_images(splits):
    parts: dict = {}
    for split, table in splits.items():
        part = split.split("_")[0].replace("support", "train")
        for column in ("image_id", "preferred_id", "other_id"):
            for image in table[column].unique() if column in table else ():
                parts.setdefault(image, set()).add(part)
    return parts


@pytest.mark.parametrize("linked", [True, False])
def test_no_image_and_no_unseen_person_leaks(linked):
    rng = random.Random(1)
    if linked:  # images of one prompt were compared with each other
        pairs = [(4 * p + a, 4 * p + b) for p in range(100) for a, b in ((0, 1), (1, 2), (2, 3)) for _ in range(4)]
    else:
        pairs = [tuple(rng.sample(range(60), 2)) for _ in range(3000)]
    table = many(30, pairs)
    _, splits = split_answers(None, table, seed=0)
    assert all(len(parts) == 1 for parts in parts_of_images(splits).values())
    train = set(splits["train"].participant_id.unique())
    for split in ("val_unseen", "test_unseen", "support_unseen"):
        assert not train & set(splits[split].participant_id.unique())
    kept = sum(map(len, splits.values())) / len(table)
    # only what unseen people of val say of test, and the reverse, is left out where whole prompts are dealt
    assert kept > 0.9 if linked else 0.4 < kept < 0.7
    again = split_answers(None, table.sample(frac=1, random_state=0).reset_index(drop=True), seed=0)[1]
    assert {s: len(t) for s, t in again.items()} == {s: len(t) for s, t in splits.items()}


def test_ratings_and_choices_are_divided_alike(tmp_path):
    folder = tmp_path / "both"
    rows = [rating(f"p{p}", i, (i + p) % 5 + 1) for p in range(12) for i in range(40)]
    write_release(folder, {"train": rows})
    chosen = [choice(f"p{p}", i, (i + 7) % 40) for p in range(12) for i in range(40)]
    write_choices(folder, {"train": chosen})
    data = load_ratings(folder)
    ratings, choices = split_answers(data.splits["train"], data.choices["train"], seed=3)
    both = parts_of_images({f"{split}_{kind}": table for kind, tables in (("a", ratings), ("b", choices))
                            for split, table in tables.items()})  # fmt: skip
    assert all(len(parts) == 1 for parts in both.values())
    assert not set(ratings["train"].participant_id.unique()) & set(choices["test_unseen"].participant_id.unique())


def test_a_changed_choice_is_built_anew(release):
    before = PamelaRatings(config_name="choices", data_dir=str(release)).config.open().digest(False)
    write_choices(release, {"test_seen": [choice("p4", 6, 7)]})
    assert PamelaRatings(config_name="choices", data_dir=str(release)).config.open().digest(False) != before


def test_images_of_val_that_are_in_train_are_pointed_out(release, caplog):
    write_choices(release, {"val_unseen": [choice("p2", 1, 6)]})
    load_ratings(release)
    assert "1 participants of val_unseen are also in train" in caplog.text
    assert "1 images of val_unseen are also in train" in caplog.text
