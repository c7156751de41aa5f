"""Wide tables: images × people."""

import numpy as np
import pandas as pd
import pytest
from releases import write_image, write_text

from pamela_hf.embeddings import Embeddings
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import RatingError

WIDE = "image,P1,p2,Ann B.\nbeach.jpg,5,NA,4\nstreet.jpg,2,3,\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("beach.jpg", "street.jpg"):
        write_image(tmp_path / name)
    return tmp_path


def as_set(data):
    table = data.splits["train"]
    return set(zip(table.participant_id, table.image_id, table.score))


EXPECTED = {
    ("P1", "beach.jpg", 5), ("Ann B.", "beach.jpg", 4), ("P1", "street.jpg", 2), ("p2", "street.jpg", 3),
}  # fmt: skip


@pytest.mark.parametrize("name", ["wide.csv", "semicolons.csv", "people.csv", "book.xlsx"])
def test_every_cell_is_a_rating_of_its_person(folder, name):
    path, options = folder / name, {}
    frame = pd.DataFrame({"image": ["beach.jpg", "street.jpg"], "P1": [5, 2], "p2": [None, 3], "Ann B.": [4, None]})
    if name == "wide.csv":
        write_text(path, WIDE)
    elif name == "semicolons.csv":
        write_text(path, WIDE.replace(",", ";"))
    elif name == "people.csv":
        frame.set_index("image").T.rename_axis("participant").to_csv(path)
        options = {"rows": "people"}
    else:
        frame.to_excel(path, index=False)
    data = load_ratings(path, source="wide", **options)
    assert as_set(data) == EXPECTED
    assert data.open_image("beach.jpg").read() == (folder / "beach.jpg").read_bytes()
    assert data.level_values == {path.stem: (2, 3, 4, 5)}


def test_images_known_by_their_features_other_columns_and_metadata(tmp_path):
    Embeddings(["Dog 1", "Sea 2"], np.eye(2)).save(tmp_path / "embeddings.safetensors")
    write_text(tmp_path / "w.csv", "Theme,Category,p1,p2,mean\nDog 1,animal,1,7,4\nSea 2,scene,3,2,2.5\n")
    with pytest.raises(RatingError, match=r"lacks image"):
        load_ratings(tmp_path / "w.csv", source="wide")
    with pytest.raises(RatingError, match=r"row 3: score is 2\.5"):
        load_ratings(tmp_path / "w.csv", source="wide", column="Theme")
    data = load_ratings(tmp_path / "w.csv", source="wide", column="Theme", ignore="mean", rating_min=1, rating_max=7)
    assert as_set(data) == {("p1", "Dog 1", 1), ("p2", "Dog 1", 7), ("p1", "Sea 2", 3), ("p2", "Sea 2", 2)}
    assert set(data.splits["train"].group) == {"animal", "scene"}
    with pytest.raises(RatingError, match=r"ignore names 'median'"):
        load_ratings(tmp_path / "w.csv", source="wide", column="Theme", ignore="median")


def test_bad_cells_are_named(folder):
    write_text(folder / "w.csv", "image,p1,p2\nbeach.jpg,good,2\nmissing.jpg,1,2\n")
    with pytest.raises(RatingError, match=r"w\.csv, row 2: score is 'good'"):
        load_ratings(folder / "w.csv", source="wide")
    data = load_ratings(folder / "w.csv", source="wide", quarantine=folder / "bad.jsonl", rating_min=1, rating_max=5)
    assert as_set(data) == {("p2", "beach.jpg", 2)}
    assert (folder / "bad.jsonl").read_text().count("missing.jpg") >= 2
    with pytest.raises(RatingError, match=r"rows is 'columns'; a row of a wide table is one of images, people"):
        load_ratings(folder / "w.csv", source="wide", rows="columns")
