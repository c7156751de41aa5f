"""Own ratings as CSV."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import RatingError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8), name.replace("a", "red").replace("b", "blue").replace("c", "green")).save(
            tmp_path / "pictures" / f"{name}.png"
        )
    return tmp_path


def write(folder, text, encoding="utf-8"):
    path = folder / "mine.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_the_smallest_file(folder):
    data = load_ratings(write(folder, "image,score\npictures/a.png,1\n./pictures/b.png,5\n"))
    table = data.splits["train"]
    assert table.participant_id.tolist() == ["me", "me"]
    assert table.image_id.tolist() == ["pictures/a.png", "pictures/b.png"]
    assert data.level_values == {"mine": (1.0, 2.0, 3.0, 4.0, 5.0)}
    assert data.open_image("pictures/a.png").read() == (folder / "pictures/a.png").read_bytes()


def test_a_path_may_be_written_in_full_and_comes_out_relative(folder):
    path = write(folder, f"image,score\n{folder}/pictures/a.png,1\n{folder}/pictures/../pictures/b.png,5\n")
    for images in (None, folder / "pictures"):
        names = load_ratings(path, images=images).splits["train"].image_id.tolist()
        assert names == (["a.png", "b.png"] if images else ["pictures/a.png", "pictures/b.png"])
    (folder / "elsewhere").mkdir()
    with pytest.raises(RatingError, match="leads out"):
        load_ratings(path, images=folder / "elsewhere")


def test_half_steps_are_told_what_to_do_on_a_stated_scale_too(folder):
    with pytest.raises(RatingError, match=r"score is 1\.5; allowed on scale 'mine': 1, 2, 3.*double every one"):
        load_ratings(write(folder, "image,score\npictures/a.png,1.5\n"), rating_min=1, rating_max=3)


def test_all_columns_another_separator_and_a_byte_order_mark(folder):
    text = "\ufeffimage;score;participant;prompt;age;gender;style;colour\n"
    text += "a.png;2;ann;a cat;44;female;;red\nb.png;4;bob;;;;Cubism;\n"
    table = load_ratings(write(folder, text), images=folder / "pictures", name="mine2").splits["train"]
    assert table.participant_id.tolist() == ["ann", "bob"]
    assert table.age.tolist()[0] == 44 and table.age.isna().tolist() == [False, True]
    assert table.prompt.isna().tolist() == [False, True] and table["style"].tolist()[1] == "Cubism"
    assert table.rating_scale.unique().tolist() == ["mine2"]


def test_ids_of_an_embeddings_file(folder):
    save_file(
        {"image_embeds": np.zeros((2, 3), np.float16)}, folder / "e.safetensors", {"image_ids": json.dumps(["x", "y"])}
    )
    path = write(folder, "image,score\nx,1\ny,2\n")
    data = load_ratings(path, embeddings=folder / "e.safetensors", participant="ann")
    assert data.embeddings == folder / "e.safetensors"
    assert data.splits["train"].participant_id.unique().tolist() == ["ann"]
    with pytest.raises(RatingError, match=r"mine\.csv, row 2: image is 'x', which is not a file below"):
        load_ratings(path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "lacks image, score"),
        ("image\npictures/a.png\n", r"mine\.csv, row 1: the header \['image'\] lacks score"),
        ("image,score,score\n", "score twice"),
        ("image,score\n", "holds no rows"),
        ("image,score\npictures/a.png,abc\npictures/b.png,1\n", r"row 2: score is 'abc'; a finite integer"),
        ("image,score\npictures/a.png,nan\n", r"row 2: score is 'nan'"),
        ("image,score\npictures/a.png,1e400\n", r"row 2: score is "),
        ("image,score\npictures/a.png,\n", r"row 2: score is missing"),
        ("image,score\npictures/a.png,3.5\n", r"row 2: score is 3\.5; a finite integer is needed\. .*double every one"),
        ("image;score\npictures/a.png;3,5\n", r"row 2: score is 3\.5; a finite integer is needed\. .*double every one"),
        ("image,score\n,3\n", r"row 2: image is missing"),
        ("image,score\n../secret.png,3\n", r"row 2: image is '\.\./secret\.png'.*leads out"),
        ("image,score\n/etc/passwd,3\n", r"leads out"),
        ("image,score\npictures/a.png,1\n\npictures/z.png,3\n", r"row 4: image is 'pictures/z\.png', which is not"),
        ("image,score\npictures/a.png,1\npictures/a.png,2\n", r"row 3: participant 'me' rates image .* again"),
        ("image,score\npictures/a.png,1,2\n", r"row 2: 3 fields; the header has 2"),
        ("image,score,age\npictures/a.png,1,old\n", r"row 2: age is 'old'"),
        ("image,score\npictures/a.png,3\npictures/b.png,3\n", r"run from 3 to 3.*--rating-min"),
        ("image,score\npictures/a.png,1\npictures/b.png,1000\n", r"2 to 101 levels"),
    ],
)
def test_each_fault_names_file_row_and_value(folder, text, message):
    with pytest.raises(RatingError, match=message):
        load_ratings(write(folder, text))


def test_not_utf8_and_bad_options(folder):
    with pytest.raises(RatingError, match="not UTF-8"):
        load_ratings(write(folder, "image,score\nä.png,1\n", "utf-16-le"))
    path = write(folder, "image,score\npictures/a.png,1\n")
    with pytest.raises(RatingError, match="is not a folder"):
        load_ratings(path, images=folder / "none")
    with pytest.raises(RatingError, match="is not a file"):
        load_ratings(path, embeddings=folder / "none.safetensors")
    (folder / "bad.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(RatingError, match=r"bad\.safetensors: no embeddings"):
        load_ratings(path, embeddings=folder / "bad.safetensors")


def test_quarantine_keeps_the_good_rows(folder):
    path = write(folder, "image,score\npictures/a.png,1\npictures/b.png,nan\npictures/c.png,3\n")
    data = load_ratings(path, quarantine=folder / "new" / "bad.jsonl")
    assert data.splits["train"].score.tolist() == [1, 3]
    (line,) = [json.loads(line) for line in (folder / "new/bad.jsonl").read_text().splitlines()]
    assert (line["row"], line["values"]["image_id"]) == (3, "pictures/b.png") and "score is 'nan'" in line["problem"]
