"""Label Studio's JSON export."""

import json
import re

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


def test_json_min_and_csv_say_the_same_as_json(folder):
    (folder / "images" / "photo.jpg").write_bytes((folder / "images" / "1a2b-cat.png").read_bytes())
    image = "/data/upload/83/8e6a2a7c-photo.jpg"
    minimal = {"id": 1, "annotation_id": 5, "annotator": 10, "lead_time": 3.2, "created_at": "…", "image": image,
               "prompt": "a cat", "liking": [{"rating": 4}]}  # fmt: skip
    other = {**minimal, "annotator": 11, "annotation_id": 6, "liking": [{"rating": 2}]}
    tasks = [task(1, image, annotation(10, result(4)), annotation(11, result(2)), prompt="a cat")]
    expected = read_source(find_source(write(folder, tasks), None, images=folder / "images"))
    paths = [write_text(folder / "min.json", json.dumps([minimal, other]))]
    columns = [
        "annotation_id",
        "annotator",
        "created_at",
        "id",
        "image",
        "lead_time",
        "liking",
        "prompt",
        "was_cancelled",
    ]
    for name, sign in {"export.csv": ",", "export.tsv": "\t"}.items():
        lines = [sign.join(columns)]
        for row in (minimal, other, {**other, "annotator": 12, "was_cancelled": "True"}):
            cells = [
                '"' + (json.dumps(row[c]) if c == "liking" else str(row.get(c, ""))).replace('"', '""') + '"'
                for c in columns
            ]
            lines.append(sign.join(cells))
        paths.append(write_text(folder / name, "\n".join(lines) + "\n"))
    for path in paths:
        table = read_source(find_source(path, None, images=folder / "images")).splits["train"]
        for column in ("participant_id", "image_id", "score", "prompt"):
            assert table[column].tolist() == expected.splits["train"][column].tolist(), (path, column)
    assert expected.splits["train"].image_id.tolist() == ["photo.jpg"] * 2  # found without the upload's prefix


def test_the_latest_of_one_person_s_annotations_counts(folder, caplog):
    first, second = annotation(10, result(1)), annotation(10, result(5))
    tasks = [task(1, "1a2b-cat.png", {**second, "updated_at": "2026-02-01T00:00:00Z"},
                  {**first, "updated_at": "2026-01-01T00:00:00Z"}, annotation(11, result(2)))]  # fmt: skip
    table = read_source(find_source(write(folder, tasks), None, images=folder / "images")).splits["train"]
    assert table.participant_id.tolist() == ["10", "11"] and table.score.tolist() == [5, 2]
    assert "1 annotations were replaced by a later one" in caplog.text


def test_windows_names(folder):
    tasks = [task(1, "deep\\dog.png", annotation(1, result(4))), task(2, "1a2b-cat.png", annotation(1, result(2)))]
    table = read_source(find_source(write(folder, tasks), None, images=folder / "images")).splits["train"]
    assert table.image_id.tolist() == ["deep/dog.png", "1a2b-cat.png"]


def pair(selected="left", to_name="image1,image2"):
    return {"from_name": "pw", "to_name": to_name, "type": "pairwise", "value": {"selected": selected}}


def test_pairwise_choices(folder):
    data = {"image1": "1a2b-cat.png", "image2": "deep/dog.png", "prompt": "pets"}
    late = {**annotation(7, pair("right")), "updated_at": "2026-02-01"}
    early = {**annotation(7, pair("left")), "updated_at": "2026-01-01"}
    full = [{"id": 1, "data": data, "annotations": [late, early, annotation(8, pair("left"))]}]
    other_keys = {"a": data["image1"], "b": data["image2"], "prompt": "pets"}
    named = [{"id": 1, "data": other_keys, "annotations": [annotation(7, pair("right", "a,b")),
                                                           annotation(8, pair("left", ["a", "b"]))]}]  # fmt: skip
    minimal = [{**data, "annotator": who, "annotation_id": who, "pw": [{"selected": side}]}
               for who, side in ((7, "right"), (8, "left"))]  # fmt: skip
    for tasks in (full, named, minimal):
        table = load_ratings(write(folder, tasks), images=folder / "images").choices["train"]
        assert table.participant_id.tolist() == ["7", "8"]
        assert table.preferred_id.tolist() == ["deep/dog.png", "1a2b-cat.png"]
        assert table.other_id.tolist() == ["1a2b-cat.png", "deep/dog.png"]
        assert not table.tie.any() and table.prompt.tolist() == ["pets", "pets"]
    unknown = [{"id": 1, "data": {"x": 1, "y": 2}, "annotations": [annotation(7, pair())]}]
    with pytest.raises(RatingError, match=r"row 1: data lacks image1 or image2.*\['x', 'y'\].*left_key="):
        load_ratings(write(folder, unknown), images=folder / "images")
    keyed = [{"id": 1, "data": other_keys, "annotations": [annotation(7, pair())]}]
    table = load_ratings(write(folder, keyed), images=folder / "images", left_key="a", right_key="b").choices["train"]
    assert table.preferred_id.tolist() == ["1a2b-cat.png"]
    with pytest.raises(RatingError, match="selected is 'both'; left or right"):
        load_ratings(write(folder, [{"id": 1, "data": data, "annotations": [annotation(7, pair("both"))]}]),
                     images=folder / "images")  # fmt: skip


def test_ratings_go_before_pairwise_choices_unless_these_are_named(folder):
    data = {"image": "1a2b-cat.png", "image1": "1a2b-cat.png", "image2": "deep/dog.png"}
    tasks = [{"id": 1, "data": data, "annotations": [annotation(7, pair(), result(4)), annotation(8, result(2))]}]
    both = load_ratings(write(folder, tasks), images=folder / "images")
    assert both.splits["train"].score.tolist() == [4, 2] and both.choices == {}
    chosen = load_ratings(write(folder, tasks), images=folder / "images", control="pw")
    assert chosen.splits == {} and len(chosen.choices["train"]) == 1


def test_malformed_tasks_are_set_aside_with_their_rows(folder):
    good = task(1, "1a2b-cat.png", annotation(1, result(4)), annotation(2, result(2)))
    bad = {
        "result is '5'; a list": [{"completed_by": 1, "result": 5}],
        "a result is .*type is text": [
            annotation(1, {"type": ["rating"], "from_name": "liking", "value": {"rating": 3}})
        ],
        "a result is 'x'": [annotation(1, "x")],
        "an annotation is '7'": [7],
        "annotations is 'x'; a list": "x",
        "liking is missing": [annotation(1, {"type": "rating", "from_name": "liking", "value": {}})],
    }
    tasks = [good, *({**task(i, "1a2b-cat.png"), "annotations": a} for i, a in enumerate(bad.values(), 2)), "text"]
    path = write(folder, tasks)
    data = load_ratings(path, images=folder / "images", quarantine=folder / "bad.jsonl", control="liking")
    assert data.splits["train"].score.tolist() == [4, 2]
    lines = [json.loads(line) for line in (folder / "bad.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(2, len(tasks) + 1))
    for message, line in zip([*bad, "the row is 'text'"], lines):
        assert re.search(message, line["problem"]), line
    with pytest.raises(RatingError, match=r"export\.json, row 2: result is '5'"):
        load_ratings(path, images=folder / "images", control="liking")
