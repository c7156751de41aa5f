"""LAPIS as its authors release it."""

import pytest
from releases import write_image, write_text

from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import RatingError

HEADER = (
    "image_filename,participant_id,rating,age,nationality,demo_gender,demo_edu,demo_colorblind,Art Interest VAIAK,"
    "artist,style,genre\n"
)
ROWS = [
    "boris-kustodiev_shells-1918.jpg,12,73,34.0,Belgian,female,Master,No,3.2,Boris Kustodiev,Realism,still_life",
    "boris-kustodiev_shells-1918.jpg,13,20.0,,,,,,,Boris Kustodiev,Realism,still_life",
    "paul-klee_x-1914.jpg,12,0,34.0,Belgian,female,Master,No,3.2,Paul Klee,Cubism,abstract",
    "joan-miró_y-1920.jpg,13,100,,,,,,,Joan Miró,Surrealism,abstract",
]


@pytest.fixture
def release(tmp_path):
    # the release mixes encodings: this file is Latin-1
    write_text(tmp_path / "annotation" / "LAPIS_PIAA.csv", HEADER + "\n".join(ROWS) + "\n", "latin-1")
    for row in ROWS:
        write_image(tmp_path / "images" / row.split(",")[0])
    return tmp_path


def write_splits(release):
    names = [row.split(",")[0] for row in ROWS]
    for split, name in (("Train", names[0]), ("Val", names[2]), ("Test", names[3])):
        text = f"image_filename,style,mean_response\n{name},x,50.0\n"
        write_text(release / "annotation" / f"LAPIS_GIAA_{split}split.csv", text)


def test_slider_attributes_and_the_releases_splits(release):
    write_splits(release)
    data = load_ratings(release)
    assert {split: len(table) for split, table in data.splits.items()} == {"train": 2, "val_seen": 1, "test_seen": 1}
    assert data.level_values == {"lapis": tuple(float(level) for level in range(101))}
    train = data.splits["train"]
    assert train.participant_id.tolist() == ["12", "13"] and train.score.tolist() == [73, 20]
    assert train.age.tolist()[0] == 34 and train.age.isna().tolist() == [False, True]
    assert train.iloc[0][["nationality", "gender", "group", "style"]].tolist() == [
        "Belgian", "female", "still_life", "Realism",
    ]  # fmt: skip
    assert data.splits["test_seen"].image_id.tolist() == ["joan-miró_y-1920.jpg"]
    assert data.open_image("paul-klee_x-1914.jpg").read(2) == b"\xff\xd8"
    assert data.releases[""].url.startswith("https://github.com/") and data.releases[""].license == "other"


def test_without_split_files_it_is_unsplit_and_with_some_it_is_refused(release):
    assert list(load_ratings(release).splits) == ["train"]
    write_splits(release)
    (release / "annotation" / "LAPIS_GIAA_Valsplit.csv").unlink()
    with pytest.raises(RatingError, match=r"LAPIS_GIAA_Valsplit\.csv is missing"):
        load_ratings(release)


def test_ratings_of_images_in_no_split_are_counted(release, caplog):
    write_splits(release)
    text = "image_filename,style,mean_response\nother.jpg,x,50.0\n"
    write_text(release / "annotation" / "LAPIS_GIAA_Testsplit.csv", text + ROWS[2].split(",")[0] + ",x,1\n")
    write_text(release / "annotation" / "LAPIS_GIAA_Valsplit.csv", text + ROWS[2].split(",")[0] + ",x,1\n")
    assert len(load_ratings(release, splits=["train"]).splits["train"]) == 2
    assert "1 ratings of images that are in no split" in caplog.text


def test_rows_the_release_is_known_to_hold_can_be_set_aside(release, tmp_path):
    with open(release / "annotation" / "LAPIS_PIAA.csv", "a", encoding="latin-1") as file:
        file.write(ROWS[0] + "\n" + "lost.jpg,12,5,34,Belgian,female,,,,x,y,z\n")
    with pytest.raises(RatingError, match=r"LAPIS_PIAA\.csv, row 6: participant '12' rates image .* again"):
        load_ratings(release)
    data = load_ratings(release, quarantine=tmp_path / "bad.jsonl")
    assert len(data.splits["train"]) == 4 and len((tmp_path / "bad.jsonl").read_text().splitlines()) == 2
