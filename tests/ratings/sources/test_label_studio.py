"""Label Studio's JSON export."""

import json

import pytest
from releases import write_image, write_text

from pamela_hf.ratings.builder import find_source, load_ratings, read_source
from pamela_hf.ratings.table import RatingError


def result(value, name="liking", kind="rating"):
    return {"id": "Dx_aB91ISN", "from_name": name, "to_name": "img", "type": kind, "value": {kind: value}}


def annotation(user, *results, skipped=False):
    return {"id": 1001, "completed_by": user, "was_cancelled": skipped, "ground_truth": False, "result": list(results)}


def task(number, image, *annotations, **data):
    return {
        "id": number, "project": 83, "data": {"image": image, **data}, "annotations": list(annotations),
        "predictions": [{"model_version": "m", "result": [result(1)]}],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name in ("1a2b-cat.png", "deep/dog.png"):
        write_image(tmp_path / "images" / name)
    return tmp_path


def write(folder, tasks):
    return write_text(folder / "export.json", json.dumps(tasks))


def test_uploads_local_storage_and_who_annotated(folder):
    email = {"id": 7, "email": "jo@mail.net", "first_name": "Jo", "last_name": "Doe"}
    tasks = [
        task(
            1, "/data/upload/83/1a2b-cat.png", annotation(10, result(4)), annotation(email, result(2)), prompt="a cat"
        ),
        task(2, "/data/local-files/?d=deep%2Fdog.png", annotation(10, result(5)), annotation(11, skipped=True)),
        task(3, "https://example.com/x/1a2b-cat.png?sig=1", annotation(12)),
    ]
    data = read_source(find_source(write(folder, tasks), None, images=folder / "images"))
    table = data.splits["train"]
    assert table.participant_id.tolist() == ["10", "7", "10"] and table.score.tolist() == [4, 2, 5]
    assert table.image_id.tolist() == ["1a2b-cat.png", "1a2b-cat.png", "deep/dog.png"]
    assert table.prompt.tolist()[0] == "a cat" and table.prompt.isna().tolist() == [False, False, True]
    assert data.level_values == {"export": (2.0, 3.0, 4.0, 5.0)} and data.releases == {}
    assert data.open_image("deep/dog.png").read(4) == b"\x89PNG"
    assert "jo@mail.net" not in table.to_csv()


def test_the_scale_can_be_given_and_several_controls_told_apart(folder):
    tasks = [task(1, "1a2b-cat.png", annotation(1, result(4), result(3.0, "sharp", "number")))]
    path = write(folder, tasks)
    with pytest.raises(RatingError, match=r"control=None; its ratings are named \['liking', 'sharp'\]"):
        load_ratings(path)
    options = {"images": folder / "images", "rating_min": 1, "rating_max": 10}
    data = read_source(find_source(path, None, control="sharp", **options))
    assert data.splits["train"].score.tolist() == [3] and len(data.level_values["export"]) == 10


def test_bad_tasks_are_named(folder):
    for image, value, message in [
        ("1a2b-cat.png", "4", "row 1: liking is '4'"),
        ("../export.json", 4, "leads out of its folder"),
        ("/data/local-files/?d=/../../x", 4, "leads out of its folder"),
        ("gone.png", 4, "there is no image"),
        (None, 4, r"data\.image is missing"),
    ]:
        with pytest.raises(RatingError, match=message):
            read_source(find_source(write(folder, [task(1, image, annotation(1, result(value)))]), None,
                                    images=folder / "images"))  # fmt: skip
