"""Pick-a-Pic, in files with the release's columns and types."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.preparation import prepare
from pamela_hf.ratings.table import CHOICE_COLUMNS, RatingError

SCHEMA = pa.schema([
    ("are_different", pa.bool_()), ("best_image_uid", pa.string()), ("caption", pa.string()),
    ("created_at", pa.timestamp("ns")), ("has_label", pa.bool_()), ("image_0_uid", pa.string()),
    ("image_0_url", pa.string()), ("image_1_uid", pa.string()), ("image_1_url", pa.string()),
    ("jpg_0", pa.binary()), ("jpg_1", pa.binary()), ("label_0", pa.float64()), ("label_1", pa.float64()),
    ("model_0", pa.string()), ("model_1", pa.string()), ("ranking_id", pa.int64()), ("user_id", pa.int64()),
    ("num_example_per_prompt", pa.int64()), ("__index_level_0__", pa.int64()),
])  # fmt: skip
UNIQUE = "1d3f52a8-b4d0-41b2-b47a-a0d8b6c8e4c"


def uid(number: int) -> str:
    return f"{UNIQUE}{number:04d}"


def jpg(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (number * 9 % 256, 0, 60)).save(stream, "JPEG")
    return stream.getvalue()


def row(user: int, first: int, second: int, labels=(1.0, 0.0), caption="a fox", **changes) -> dict:
    return {
        "are_different": True, "best_image_uid": uid(first), "caption": caption, "has_label": True,
        "image_0_uid": uid(first), "image_1_uid": uid(second), "jpg_0": jpg(first), "jpg_1": jpg(second),
        "label_0": labels[0], "label_1": labels[1], "user_id": user, "ranking_id": 5, **changes,
    }  # fmt: skip


def write(folder, split, rows, without=()):
    (folder / "data").mkdir(parents=True, exist_ok=True)
    names = [name for name in SCHEMA.names if name not in without]
    table = pa.Table.from_pylist(rows, schema=SCHEMA).select(names)
    pq.write_table(table, folder / "data" / f"{split}-00000-of-00001-f2afb1ff4a4a1a3e.parquet")
    return folder


@pytest.fixture
def release(tmp_path):
    folder = tmp_path / "pickapic_v1"
    write(folder, "train", [row(3, 0, 1), row(3, 1, 2, (0.0, 1.0)), row(9, 3, 4, (0.5, 0.5), "a cat")])
    write(folder, "validation", [row(3, 5, 6, caption="a dog"), row(77, 5, 6, (0.0, 1.0), "a dog")])
    write(folder, "test", [row(9, 7, 8, caption="the sea")])
    return write(folder, "validation_unique", [row(3, 5, 6, caption="a dog")])


def test_choices_of_each_split_by_whether_their_people_are_in_train(release):
    data = load_ratings(release)
    assert data.name == "pick_a_pic" and data.splits == {} and data.level_values == {}
    assert {split: len(table) for split, table in data.choices.items()} == {
        "train": 3, "val_seen": 1, "val_unseen": 1, "test_seen": 1,
    }  # fmt: skip
    train = data.choices["train"]
    assert tuple(train.columns) == CHOICE_COLUMNS
    assert train.participant_id.tolist() == ["3", "3", "9"]
    assert train.preferred_id.tolist() == [uid(0), uid(2), uid(3)]
    assert train.other_id.tolist() == [uid(1), uid(1), uid(4)]
    assert train.tie.tolist() == [False, False, True] and train.prompt.tolist() == ["a fox", "a fox", "a cat"]
    assert data.choices["val_unseen"].participant_id.tolist() == ["77"]
    assert data.images().prompt.tolist()[:2] == ["a fox", "a fox"] and len(data.images()) == 9
    assert data.open_image(uid(6)).read() == jpg(6)
    assert data.open_image(uid(0)).read() == jpg(0)
    assert data.releases[""].url.startswith("https://huggingface.co/datasets/yuvalkirstain/pickapic")


def test_prepared_with_images_and_read_back(release, tmp_path):
    prepare(release, tmp_path / "out")
    back = load_ratings(tmp_path / "out")
    assert back.choices["train"].equals(load_ratings(release).choices["train"])
    assert back.open_image(uid(8)).read() == jpg(8)


def test_rows_without_a_label_or_of_one_image_are_left_out_and_impossible_labels_set_aside(tmp_path, caplog):
    rows = [row(1, 0, 1), row(1, 2, 3, has_label=False), row(1, 4, 4), row(1, 5, 6, (1.0, 1.0))]
    folder = write(tmp_path / "v2", "train", rows, without=("jpg_0", "jpg_1"))
    with pytest.raises(RatingError, match=r"row 4: label_0 is 1\.0, label_1 1\.0; 1 and 0"):
        load_ratings(folder)
    data = load_ratings(folder, quarantine=tmp_path / "bad.jsonl")
    assert len(data.choices["train"]) == 1 and data.open_image is None
    assert "2 rows without a label, or of one image twice" in caplog.text
    assert (tmp_path / "bad.jsonl").read_text().count("\n") == 1


def test_one_split_alone_is_divided_by_whole_prompts(tmp_path):
    pairs = [(p, user, 10 * p + user % 3, 10 * p + 3 + user % 2) for p in range(60) for user in range(8)]
    rows = [row(user, first, second, caption=f"p{p}") for p, user, first, second in pairs]
    folder = write(tmp_path / "v2", "train", rows, without=("jpg_0", "jpg_1"))
    choices = load_ratings(folder, split_seed=0).choices
    parts: dict = {}
    for split, table in choices.items():
        for prompt in table.prompt.unique():
            parts.setdefault(prompt, set()).add(split.split("_")[0].replace("support", "train"))
    assert len(parts) == 60 and all(len(of) == 1 for of in parts.values())
    seen, unseen = set(choices["train"].participant_id.unique()), set(choices["test_unseen"].participant_id.unique())
    assert seen and unseen and not seen & unseen


def test_images_of_a_folder(tmp_path):
    folder = write(tmp_path / "v2", "train", [row(1, 0, 1)], without=("jpg_0", "jpg_1"))
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for number in range(2):
        (tmp_path / "images" / "deep" / f"{uid(number)}.jpg").write_bytes(jpg(number))
    data = load_ratings(folder, images=tmp_path / "images")
    assert data.open_image(uid(1)).read() == jpg(1)
    with pytest.raises(RatingError, match=r"row 1: no image of .* is called"):
        load_ratings(folder, images=tmp_path / "v2")
    with pytest.raises(RatingError, match="is not a folder"):
        load_ratings(folder, images=tmp_path / "nowhere")
