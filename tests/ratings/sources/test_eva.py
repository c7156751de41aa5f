"""EVA, in files as its README describes them."""

import pytest
from releases import write_image, write_text

from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import RatingError

VOTES = """"image_id"="user_id"="score"="difficulty"="visual"="composition"="quality"="semantic"="vote_time"\
="1"="2"="3"="4"
"10040"="E1773"="8"="3"="3"="3"="2"="4"="12.5"="1"="0"="0"="1"
"10040"="C76"="0"="1"="1"="2"="1"="1"="8.25"="0"="1"="0"="0"
"10041"="E1773"="10"="4"="4"="4"="4"="4"="9"="1"="1"="1"="1"
"""
USERS = """"id"="age"="region"="photographic_level_id"="gender_id"="eyecheck"
"E1773"="1987"="FR"="1"="2"="0"
"C76"="n/a"="XX"="0"="1"="1,2"
"""


@pytest.fixture
def release(tmp_path):
    write_text(tmp_path / "data/votes_filtered.csv", VOTES)
    write_text(tmp_path / "data/users.csv", USERS)
    write_text(tmp_path / "data/region_index.csv", '"BE"="Belgium"\n"FR"="France"\n')
    write_text(tmp_path / "data/image_content_category.csv", '"id","category"\n"10040","1"\n"10041","5"\n')
    write_image(tmp_path / "images/EVA_together/10040.jpg")
    write_image(tmp_path / "images/EVA_together/10041.jpg")
    return tmp_path


def test_votes_people_and_categories(release):
    data = load_ratings(release)
    table = data.splits["train"]
    assert table.participant_id.tolist() == ["E1773", "C76", "E1773"] and table.score.tolist() == [8, 0, 10]
    assert data.level_values == {"eva": tuple(range(11))}
    assert table.group.tolist() == ["animals", "animals", "still life"]
    assert table.age_binned.tolist()[0] == "born 1980s" and table.age_binned.isna().tolist() == [False, True, False]
    assert table.gender.tolist() == ["female", "male", "female"]
    assert table.nationality.tolist() == ["France", "XX", "France"]
    assert data.open_image("10041").read() == (release / "images/EVA_together/10041.jpg").read_bytes()


def test_a_bad_vote_is_named(release):
    write_text(release / "data/votes_filtered.csv", VOTES.replace('"10"="4"', '"11"="4"'))
    with pytest.raises(RatingError, match=r"votes_filtered\.csv, row 4: score is 11; allowed on scale 'eva'"):
        load_ratings(release)
    write_text(release / "data/votes_filtered.csv", VOTES.replace("10041", "10042"))
    with pytest.raises(RatingError, match=r"row 4: no image of .*images is called '10042'"):
        load_ratings(release)


def test_without_its_further_tables(release):
    for name in ("users", "region_index", "image_content_category"):
        (release / f"data/{name}.csv").unlink()
    table = load_ratings(release).splits["train"]
    assert len(table) == 3 and table.group.isna().all() and table.gender.isna().all()
