"""An image folder with metadata.csv or metadata.jsonl."""

import json

import pytest
from releases import write_image, write_text

from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import RatingError


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_beside_the_pictures_and_in_their_folders(tmp_path, kind):
    folder = tmp_path / "mine"
    rows = [("a.png", 4, "ann"), ("deep\\b.png", 2, "ann"), ("./a.png", 1, "bob")]
    for below in ("train", "test"):
        write_image(folder / below / "a.png")
        write_image(folder / below / "deep" / "b.png")
        if kind == "csv":
            text = "file_name,score,user\n" + "".join(f"{name},{score},{who}\n" for name, score, who in rows)
        else:
            text = "".join(json.dumps({"file_name": n, "rating": s, "rater": w}) + "\n" for n, s, w in rows)
        write_text(folder / below / f"metadata.{kind}", text)
    data = load_ratings(folder)
    table = data.splits["train"]
    assert table.image_id.tolist() == [f"{b}/{n}" for b in ("test", "train") for n in ("a.png", "deep/b.png", "a.png")]
    assert table.score.tolist() == [4, 2, 1] * 2 and table.participant_id.tolist() == ["ann", "ann", "bob"] * 2
    assert data.open_image("train/deep/b.png").read(4) == b"\x89PNG" and data.releases == {}


def test_bad_rows_are_named_and_set_aside(tmp_path):
    write_image(tmp_path / "a.png")
    lines = ['{"file_name": "a.png", "score": 4}', "{nonsense", '{"file_name": "../x.png", "score": 3}', "7", "",
             '{"file_name": "z.png", "score": 3}', '{"file_name": "a.png", "score": 2, "user": "bob"}']  # fmt: skip
    write_text(tmp_path / "metadata.jsonl", "\n".join(lines) + "\n")
    with pytest.raises(RatingError, match=r"metadata\.jsonl, row 2: the line is not JSON"):
        load_ratings(tmp_path)
    data = load_ratings(tmp_path, quarantine=tmp_path.parent / "bad.jsonl")
    assert data.splits["train"].score.tolist() == [4, 2]
    assert data.splits["train"].participant_id.tolist() == ["me", "bob"]
    found = [json.loads(line) for line in (tmp_path.parent / "bad.jsonl").read_text().splitlines()]
    assert [line["row"] for line in found] == [2, 3, 4, 6] and "leads out" in found[1]["problem"]
    (tmp_path / "metadata.jsonl").unlink()
    write_text(tmp_path / "metadata.csv", "file_name,caption\na.png,x\n")
    with pytest.raises(RatingError, match="lacks score"):
        load_ratings(tmp_path)
