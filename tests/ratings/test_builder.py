"""load_ratings over every form of ratings, and the datasets builder: typed, streaming, never stale."""

import json
import os
import pickle
import subprocess
import sys
import zipfile

import datasets
import pandas as pd
import pytest
from PIL import Image
from releases import rating, small_splits, write_release

from pamela_hf.files.images import ImageError
from pamela_hf.ratings.builder import (
    IMAGE_FEATURES,
    RATING_FEATURES,
    PamelaRatings,
    _hub_source,
    load_ratings,
    read_source,
)
from pamela_hf.ratings.preparation import prepare
from pamela_hf.ratings.table import RATING_COLUMNS, RatingError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """What `datasets` caches without being told where stays out of the home folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path / "PAMELA", small_splits())


def built(folder, tmp_path, **options):
    builder = PamelaRatings(data_dir=str(folder), cache_dir=str(tmp_path / "cache"), **options)
    builder.download_and_prepare()
    return builder


def test_every_form_gives_the_same_tables(release, tmp_path):
    folder = load_ratings(release)
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        for file in release.rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path))
    prepare(release, tmp_path / "prepared")
    forms = [
        load_ratings(tmp_path / "r.zip"),
        load_ratings(tmp_path / "prepared"),
        read_source(_hub_source(str(tmp_path / "prepared"))),
    ]
    for other in forms:
        assert other.name == "pamela" and other.level_values == folder.level_values
        assert list(other.splits) == list(folder.splits)
        for split, table in folder.splits.items():
            pd.testing.assert_frame_equal(other.splits[split], table)
        assert other.open_image("7").read() == (release / "images/7.png").read_bytes()
        with pytest.raises(KeyError):
            other.open_image("nothing")
        assert pickle.loads(pickle.dumps(other.open_image))("7").read() == other.open_image("7").read()


def test_splits_and_names(release):
    data = load_ratings(release, splits=["test_seen"], name="mine")
    assert list(data.splits) == ["test_seen"] and data.name == "mine"
    assert data.level_values == {"mine": (1.0, 2.0, 3.0, 4.0, 5.0)}
    with pytest.raises(RatingError, match=r"splits has \['tset'\]; allowed: train, val_seen"):
        load_ratings(release, splits=["tset"])
    with pytest.raises(RatingError, match="has no split val_unseen; it has train"):
        load_ratings(release, splits=["val_unseen"])
    with pytest.raises(RatingError, match="name is 'a/b'"):
        load_ratings(release, name="a/b")


def test_nothing_there_says_what_could_be(tmp_path):
    with pytest.raises(RatingError, match="no such file or folder"):
        load_ratings(tmp_path / "none" / "deeper")
    with pytest.raises(RatingError, match=r"nobody/nothing: neither a file or folder here nor a dataset"):
        load_ratings("nobody/nothing")


def test_leaks_of_a_release_are_told(tmp_path, caplog):
    splits = small_splits()
    splits["test_unseen"].append(rating("p1", 6, 1))
    splits["val_seen"] = [rating("p1", 1, 2)]
    splits["train"] = [row for row in splits["train"] if (row["participant_id"], row["image_id"]) != ("p1", 1)]
    load_ratings(write_release(tmp_path / "r", splits))
    assert "1 participants of test_unseen are also in train" in caplog.text
    assert "1 images of val_seen are also in train" in caplog.text


def test_csv_is_split_only_when_asked(tmp_path):
    for k in range(30):
        Image.new("RGB", (8, 8), (8 * k, 0, 0)).save(tmp_path / f"{k}.png")
    rows = [f"{k}.png,{(k + p) % 5 + 1},p{p}" for k in range(30) for p in range(8)]
    (tmp_path / "own.csv").write_text("image,score,participant\n" + "\n".join(rows))
    assert list(load_ratings(tmp_path / "own.csv").splits) == ["train"]
    data = load_ratings(tmp_path / "own.csv", split_seed=3)
    assert list(data.splits) == ["train", "val_seen", "val_unseen", "test_seen", "test_unseen", "support_unseen"]
    builder = built(tmp_path / "own.csv", tmp_path, split_seed=3)
    dataset = builder.as_dataset()
    for split, table in data.splits.items():
        assert dataset[split]["image_id"] == table.image_id.tolist()
        assert dataset[split].features == RATING_FEATURES
        streamed = list(builder.as_streaming_dataset(split=split))
        assert [row["participant_id"] for row in streamed] == table.participant_id.tolist()


def test_built_and_streamed_rows_are_typed_and_equal(release, tmp_path):
    builder = built(release, tmp_path)
    dataset = builder.as_dataset()
    table = load_ratings(release).splits
    assert dataset["train"].features == RATING_FEATURES and tuple(dataset["train"].features) == RATING_COLUMNS
    assert {split: len(rows) for split, rows in dataset.items()} == {split: len(rows) for split, rows in table.items()}
    for split in dataset:
        assert list(builder.as_streaming_dataset(split=split)) == list(dataset[split])
        assert dataset[split]["score"] == table[split].score.tolist()
    assert dataset["train"][0]["style"] is None and dataset["train"][0]["age"] == 30


def test_images_config(release, tmp_path):
    builder = built(release, tmp_path, config_name="images")
    images = builder.as_dataset(split="all")
    assert images.features == IMAGE_FEATURES and len(images) == 7
    assert images[0]["image"].size == (16, 12) and images[0]["prompt"] == "prompt 1"
    streamed = next(iter(builder.as_streaming_dataset(split="images")))
    assert streamed["image_id"] == "1" and streamed["image"].size == (16, 12)


def test_two_streams_at_once_do_not_see_each_other(release, tmp_path):
    builder = PamelaRatings(data_dir=str(release), cache_dir=str(tmp_path / "cache"))
    stream = builder.as_streaming_dataset(split="train")
    assert len(list(zip(stream, stream))) == 10
    again = pickle.loads(pickle.dumps(builder))
    assert len(list(again.as_streaming_dataset(split="test_seen"))) == 2


def test_bad_rows_stop_a_build_with_our_error(release, tmp_path):
    path = release / "annotations/pamela_test_unseen.json"
    path.write_text(json.dumps([rating("p3", 7, 1), rating("p4", 7, 77)]))
    with pytest.raises(RatingError, match=r"pamela_test_unseen\.json, row 2: original_score is 77"):
        built(release, tmp_path)
    with pytest.raises(RatingError, match="original_score is 77"):
        list(PamelaRatings(data_dir=str(release)).as_streaming_dataset(split="test_unseen"))
    bad = tmp_path / "bad.jsonl"
    assert len(built(release, tmp_path, quarantine=str(bad)).as_dataset(split="test_unseen")) == 1
    assert json.loads(bad.read_text())["row"] == 2
    with pytest.raises(RatingError, match="not streaming"):
        PamelaRatings(data_dir=str(release), quarantine=str(bad)).as_streaming_dataset()
    with pytest.raises(RatingError, match="data_dir is missing"):
        PamelaRatings()


def test_a_bad_image_stops_the_build(release, tmp_path):
    path = release / "images/3.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ImageError, match=r"3\.png: "):
        built(release, tmp_path, config_name="images")


def edit(release, n):
    """Changes one score by its digit alone: same size, and as far as possible the same time."""
    path = release / "annotations/pamela_val_seen.json"
    before = path.stat()
    path.write_text(path.read_text().replace('"original_score": ' + str(2 + n % 2), f'"original_score": {3 - n % 2}'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def rebuilt_after_edits(release, tmp_path, times):
    for n in range(times):
        before = built(release, tmp_path).as_dataset(split="val_seen")["score"]
        edit(release, n)
        after = built(release, tmp_path).as_dataset(split="val_seen")["score"]
        assert (before, after) == ([2 + n % 2], [3 - n % 2])
    print(f"{times} edits: rebuilt each time")


def test_a_changed_score_is_rebuilt(release, tmp_path):
    rebuilt_after_edits(release, tmp_path, 2)


@pytest.mark.faults
def test_a_changed_score_is_rebuilt_100_times(release, tmp_path):
    rebuilt_after_edits(release, tmp_path, 100)


def test_a_changed_image_is_rebuilt_and_an_unchanged_source_is_not(release, tmp_path):
    first = built(release, tmp_path, config_name="images")
    again = PamelaRatings(data_dir=str(release), cache_dir=str(tmp_path / "cache"), config_name="images")
    assert again.cache_dir == first.cache_dir
    Image.new("RGB", (16, 12), "red").save(release / "images/3.png")
    changed = built(release, tmp_path, config_name="images").as_dataset(split="all")
    assert changed[changed["image_id"].index("3")]["image"].getpixel((0, 0)) == (255, 0, 0)


def test_reading_needs_neither_torch_nor_transformers():
    code = (
        "import sys, types\n"
        "package = sys.modules['pamela_hf'] = types.ModuleType('pamela_hf')\n"  # its own imports are not at issue
        "package.__path__ = [sys.argv[1]]\n"
        "import pamela_hf.ratings.builder, pamela_hf.ratings.sources.pamela, pamela_hf.ratings.sources.csv\n"
        "print({'torch', 'transformers'} & set(sys.modules))\n"
    )
    import pamela_hf

    command = [sys.executable, "-c", code, os.path.dirname(pamela_hf.__file__)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_datasets_knows_the_card(release, tmp_path):
    prepare(release, tmp_path / "out")
    assert datasets.get_dataset_config_names(str(tmp_path / "out")) == ["ratings", "images"]
