"""An Argilla dataset as rg.Dataset.to_disk writes it."""

import base64
import json

import pytest
from releases import write_image, write_text

from pamela_hf.ratings.builder import find_source, load_ratings, read_source
from pamela_hf.ratings.table import RatingError

ANN, BOB = "0b1f2a4e-6d0e-4b8e-9a10-1a2b3c4d5e6f", "7c9d8e1f-2a3b-4c5d-8e9f-0a1b2c3d4e5f"


def record(number, image, answers, question="liking", **fields):
    return {
        "id": f"rec-{number}",
        "fields": {"image": image, "prompt": f"prompt {number}", **fields},
        "metadata": {},
        "suggestions": {},
        "responses": {question: [{"value": value, "user_id": user} for user, value in answers]},
        "vectors": {},
        "_server_id": "5e6f0b1f-2a4e-4d0e-8b8e-1a2b3c4d9a10",
    }


def question(name, kind="rating", options=(1, 2, 3, 4, 5)):
    settings = {"type": kind, "options": [{"value": value} for value in options]}
    return {"id": None, "name": name, "title": name, "description": None, "required": True, "settings": settings}


def write_dataset(folder, records, questions, fields=("image",)):
    settings = {
        "guidelines": None,
        "questions": questions,
        "fields": [{"id": None, "name": name, "settings": {"type": "image"}} for name in fields]
        + [{"id": None, "name": "prompt", "settings": {"type": "text", "use_markdown": False}}],
        "vectors": [], "metadata": [], "allow_extra_metadata": False,
    }  # fmt: skip
    write_text(folder / ".argilla" / "settings.json", json.dumps(settings))
    write_text(folder / ".argilla" / "dataset.json", "{}")
    write_text(folder / "records.json", json.dumps(records))
    return folder


def test_ratings_of_files_and_of_inline_images(tmp_path):
    inline = write_image(tmp_path / "x.png").read_bytes()
    write_image(tmp_path / "data" / "pictures" / "b.png")
    uri = "data:image/png;base64," + base64.b64encode(inline).decode()
    records = [
        record(1, uri, [(ANN, 4), (BOB, 1)]),
        record(2, "https://example.com/pictures/b.png", [(ANN, 5)]),
        record(3, "b.png", []),
    ]
    folder = write_dataset(tmp_path / "data", records, [question("liking"), question("why", "text", ())])
    data = read_source(find_source(folder, None, images=folder / "pictures"))
    table = data.splits["train"]
    assert table.participant_id.tolist() == [ANN, BOB, ANN] and table.score.tolist() == [4, 1, 5]
    assert table.image_id.tolist() == ["rec-1", "rec-1", "rec-2"] and table.prompt.tolist()[2] == "prompt 2"
    assert data.level_values == {"data": (1.0, 2.0, 3.0, 4.0, 5.0)} and data.releases == {}
    assert data.open_image("rec-1").read() == inline and data.open_image("rec-2").read(4) == b"\x89PNG"


def test_several_questions_have_to_be_told_apart(tmp_path):
    write_image(tmp_path / "a.png")
    records = [record(1, "a.png", [(ANN, 7)], question="style")]
    write_dataset(tmp_path, records, [question("liking"), question("style", options=(1, 4, 7, 10))])
    with pytest.raises(RatingError, match=r"question=None; it has as rating question: \['liking', 'style'\]"):
        load_ratings(tmp_path)
    data = read_source(find_source(tmp_path, None, question="style"))
    assert list(data.level_values.values()) == [(1.0, 4.0, 7.0, 10.0)]


def test_bad_records_are_named(tmp_path):
    for image, answers, message in [
        ("a.png", [(ANN, 9)], r"records\.json, row 1: liking is 9"),
        ("../../secret.png", [(ANN, 3)], "leads out of its folder"),
        ("b.png", [(ANN, 3)], "there is no image"),
        (None, [(ANN, 3)], "field 'image' is missing"),
        ("a.png", [(None, 3)], "user_id is missing"),
    ]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        write_image(folder / "a.png")
        write_dataset(folder, [record(1, image, answers)], [question("liking")])
        with pytest.raises(RatingError, match=message):
            load_ratings(folder)


def test_only_submitted_responses_count_in_either_form(tmp_path):
    write_image(tmp_path / "a.png")
    by_question = record(1, "a.png", [(ANN, 4), (BOB, 1)])
    for response, status in zip(by_question["responses"]["liking"], ("submitted", "discarded")):
        response["status"] = status
    by_user = record(2, "a.png", [])
    by_user["responses"] = [
        {"values": {"liking": {"value": 2}}, "status": "submitted", "user_id": ANN},
        {"values": {"liking": {"value": 5}}, "status": "draft", "user_id": BOB},
        {"values": {}, "status": "discarded", "user_id": BOB},
        {"values": None, "status": "discarded", "user_id": BOB},
    ]
    write_dataset(tmp_path, [by_question, by_user], [question("liking")])
    table = load_ratings(tmp_path).splits["train"]
    assert table.score.tolist() == [4, 2] and table.participant_id.tolist() == [ANN, ANN]


def test_malformed_responses_are_set_aside_with_their_rows(tmp_path):
    write_image(tmp_path / "a.png")
    records = [record(0, "a.png", [(ANN, 4)])]
    for number, responses in enumerate(({"liking": 5}, {"liking": [5]}, 7, [7], [{"values": 7}]), 1):
        records.append({**record(number, "a.png", []), "responses": responses})
    write_dataset(tmp_path, [*records, 5], [question("liking")])
    with pytest.raises(RatingError, match=r"records\.json, row 2: the responses are '5'"):
        load_ratings(tmp_path)
    data = load_ratings(tmp_path, quarantine=tmp_path / "bad.jsonl")
    assert data.splits["train"].score.tolist() == [4]
    rows = [json.loads(line)["row"] for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert rows == [2, 3, 4, 5, 6, 7]
