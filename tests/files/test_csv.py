"""The one reader of CSV files: every command takes what spreadsheets write, and refuses the rest in the same words."""

import pandas as pd
import pytest

from pamela_hf.evaluation.noise_ceiling import read_repeats
from pamela_hf.files.csv import SYNONYMS, open_table, read_number
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
    assert image.resolve() == tmp_path / "a.png"


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


@pytest.mark.parametrize(
    "text",
    [
        "image,score,prompt\na.png,4,\"one, two\"\n",
        'image;score;"prompt, in English"\na.png;4;x\n',
        "image\tscore\tprompt, in English\na.png\t4\tone, two\n",
        "image;score;a,b,c,d,e\na.png;4;x\n",
        "image=score\na.png=4\n",
        "sep=;\nimage;score\na.png;4\n",
        "image,score,,\na.png,4,,\n",
        "File Name;Rating\na.png;4\n",
        "file-name,STARS\na.png,4\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_separator_is_the_one_that_gives_the_needed_columns(tmp_path, text, encoding):
    (tmp_path / "mine.csv").write_text(text, encoding=encoding)
    ((number, row),) = open_table(tmp_path / "mine.csv", ("image", "score")).rows()
    assert (row["image"], row["score"], None in row) == ("a.png", "4", False) and number == 2 + text.startswith("sep")
    assert read_ratings_csv(tmp_path / "mine.csv")[0] == [(tmp_path / "a.png", 4)]


def test_every_synonym_means_the_same_and_two_readings_are_refused(tmp_path):
    for name, others in SYNONYMS.items():
        for other in others:
            frame = pd.DataFrame({other.replace("_", " ").title(): ["x"]})
            assert open_table(frame, (name,)).names == [name]
    path = tmp_path / "mine.csv"
    for text, message in {
        "image,score,user,rater\n": "columns 'user' and 'rater', and each could be the participant",
        "image,file,score\n": "columns 'image' and 'file', and each could be the image",
        "image,score;stars\n": "could be separated|lacks",
        "image,score,score\n": "has score twice",
    }.items():
        path.write_text(text + "1,2,3,4\n")
        for read in (read_ratings_csv, load_ratings):
            with pytest.raises(ValueError, match=message):
                read(path)


def test_two_participants_are_not_one_head_and_one_may_be_chosen(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("image,score,Rater\na.png,4,ann\na.png,1,bob\nb.png,2,bob\n")
    with pytest.raises(ValueError, match=r"2 participants \('ann', 'bob'\).*--user NAME \(participant=NAME\)"):
        read_ratings_csv(path)
    assert [score for _, score in read_ratings_csv(path, participant="bob")[0]] == [1, 2]
    with pytest.raises(ValueError, match="no row of participant 'cem'"):
        read_ratings_csv(path, participant="cem")
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    assert load_ratings(path).splits["train"].participant_id.tolist() == ["ann", "bob", "bob"]


def test_a_name_means_the_same_file_at_every_door(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "e\u0301.png").touch()
    path = tmp_path / "mine.csv"
    for written in ("deep/e\u0301.png", "./deep/\u00e9.png", "deep\\\u00e9.png", f"{tmp_path}/deep/\u00e9.png"):
        path.write_text(f"image,score\n{written},4\nx.png,5\n", encoding="utf-8")
        assert read_ratings_csv(path)[0][0][0] == tmp_path / "deep" / "e\u0301.png"
        table = load_ratings(path, quarantine=tmp_path / "bad.jsonl", rating_min=1, rating_max=5).splits["train"]
        assert table.image_id.tolist() == ["deep/e\u0301.png"]


def test_bounds_come_before_memory(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"column{i}" for i in range(100_000)) + "\n")
    with pytest.raises(ValueError, match=r"65,536 characters or more.*'column0'") as refused:
        read_ratings_csv(path)
    assert len(str(refused.value)) < 400
    path.write_text(",".join(f"c{i}" for i in range(2_000)) + "\n")
    with pytest.raises(ValueError, match=r"\(2,000 columns\) has too many columns") as refused:
        load_ratings(path)
    assert len(str(refused.value)) < 400
    path.write_text("image,score\na.png,1\n" + "x" * (2 << 20))
    with pytest.raises(ValueError, match=r"a line of 1,048,576 characters or more|field larger"):
        read_ratings_csv(path)


def test_a_workbook_and_a_table_in_memory_are_read_as_a_csv_is(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["Image", "Rating", None], ["a.png", 4, None], [None, None, None], ["b.png", 2.5, None]):
        book.active.append(row)
    book.save(tmp_path / "mine.xlsx")
    assert read_ratings_csv(tmp_path / "mine.xlsx")[0] == [(tmp_path / "a.png", 4), (tmp_path / "b.png", 2.5)]
    frame = pd.DataFrame({"Image": ["a.png", "b.png"], "Rating": [4, pd.NA], "User": ["ann", None]})
    rows = [row for _, row in open_table(frame, ("image", "score"), ("participant",)).rows()]
    assert [list(row.values()) for row in rows] == [["a.png", 4, "ann"], ["b.png", "", ""]]
    (tmp_path / "bad.xlsx").write_bytes(b"PK\x03\x04nonsense")
    with pytest.raises(ValueError, match=r"bad\.xlsx: not a readable workbook"):
        read_ratings_csv(tmp_path / "bad.xlsx")


def test_cells_that_were_escaped_for_spreadsheets_come_back(tmp_path):
    (tmp_path / "mine.csv").write_text("image,score\n'=a.png,4\n'-b.png,2\n'c.png,1\n")
    assert [path.name for path, _ in read_ratings_csv(tmp_path / "mine.csv")[0]] == ["=a.png", "-b.png", "'c.png"]


def test_a_file_that_is_not_utf_8_is_read_in_the_fallback_encoding_or_refused(tmp_path):
    path = tmp_path / "old.csv"
    path.write_bytes("image,score\nCézanne.jpg,4\n".encode("latin-1"))
    rows = list(open_table(path, ("image", "score"), fallback="latin-1").rows())
    assert rows == [(2, {"image": "Cézanne.jpg", "score": "4"})]
    with pytest.raises(ValueError, match="UTF-8"):
        list(open_table(path, ("image", "score")).rows())
    path.write_text("image,score\nCézanne.jpg,4\n", encoding="utf-8")
    assert list(open_table(path, ("image", "score"), fallback="latin-1").rows()) == rows
