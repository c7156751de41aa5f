"""The one reader of CSV files: every command takes what spreadsheets write, and refuses the rest in the same words."""

import pytest

from pamela_hf.evaluation.noise_ceiling import read_repeats
from pamela_hf.files.csv import read_number
from pamela_hf.heads.csv import read_choices_csv, read_ratings_csv
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.study.csv import read_choices


@pytest.fixture(params=["german", "tabs", "capitals"])
def written(request, tmp_path):
    """Writes rows (the header first) as some spreadsheet would, with empty rows at the end."""

    def write(*rows):
        rows = [*rows, [""] * len(rows[0]), [""] * len(rows[0])]
        if request.param == "capitals":
            text = "\n".join([", ".join(rows[0]).title(), *(" , ".join(row) for row in rows[1:])])
        else:
            sign = ";" if request.param == "german" else "\t"
            text = "\ufeff" + "\r\n".join(sign.join(row) for row in rows) + "\r\n"
        path = tmp_path / "mine.csv"
        path.write_text(text, encoding="utf-8", newline="")
        return path

    return write


def test_every_command_reads_what_spreadsheets_write(written, ratings_folder):
    (a, first), (b, second) = read_ratings_csv(written(["image", "score"], ["a.png", "4"], ["b.png", "2"]))[0]
    assert (a.name, first, b.name, second) == ("a.png", 4, "b.png", 2)
    ((a, b),) = read_choices_csv(written(["preferred", "other"], ["a.png", "b.png"]))
    assert (a.name, b.name) == ("a.png", "b.png")
    study = read_choices(
        written(["participant", "left", "right", "choice", "time"], ["ann", "self", "none", "left", "7"]), ["Time"]
    )
    assert study.choice.tolist() == [1] and study.left.tolist() == ["self"]
    data = load_ratings(ratings_folder)
    person, image = data.splits["train"][["participant_id", "image_id"]].iloc[0]
    again = read_repeats(written(["participant", "image", "score"], [person, image, "3"]), data)
    assert again.second.tolist() == [3] and again.image_id.tolist() == [image]


def test_what_is_no_utf8_and_rows_of_another_width_are_refused_everywhere(tmp_path, ratings_folder):
    data, path = load_ratings(ratings_folder), tmp_path / "mine.csv"
    for columns, read in {
        "image,score": read_ratings_csv,
        "preferred,other": read_choices_csv,
        "participant,left,right,choice": read_choices,
        "participant,image,score": lambda path: read_repeats(path, data),
    }.items():
        path.write_bytes(f"{columns}\n{'ä,' * columns.count(',')}1\n".encode("latin-1"))
        with pytest.raises(ValueError, match=r"not UTF-8 text .*Save it as 'CSV UTF-8'"):
            read(path)
        path.write_text(f"{columns}\n{'1,' * columns.count(',')}1,2\n")
        with pytest.raises(ValueError, match=r"row 2: .*(fields; the header has|more or fewer fields)"):
            read(path)


def test_a_full_path_below_a_folder_named_relatively(tmp_path, monkeypatch):
    (tmp_path / "mine.csv").write_text(f"image,score\n{tmp_path}/a.png,4\n")
    monkeypatch.chdir(tmp_path)
    ((image, _),) = read_ratings_csv("mine.csv")[0]
    assert image == tmp_path / "a.png"


def test_ratings_may_be_likes_and_come_with_prompts_and_metadata(written):
    rows = ["a", "True", "a cat", "animal", "x"], ["b", "false", "", "", "y"], ["c", "4", "", "scene", ""]
    path = written(["image", "score", "prompt", "Group", "style"], *rows)
    pairs, prompts, metadata = read_ratings_csv(path, is_path=False, fields=["group"])
    assert pairs == [("a", True), ("b", False), ("c", 4)] and [type(score) for _, score in pairs[:2]] == [bool, bool]
    assert prompts == {"a": "a cat"} and metadata == {"a": {"group": "animal"}, "c": {"group": "scene"}}
    assert read_ratings_csv(path, is_path=False)[2] == {}


def test_numbers_have_a_point_or_a_comma():
    assert [read_number(text) for text in ("4", "4.50", "4,5", "-1,25", "1e1", "3.0")] == [4, 4.5, 4.5, -1.25, 10, 3]
    assert {read_number(text) for text in ("1,000", "", "nan", "inf", "1_0", "4,", "four", "٣")} == {None}
