"""PARA as its README describes it."""

import pytest
from releases import write_image, write_text

from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import RatingError

RATINGS = (
    "sessionId,imageName,userId,aestheticScore,qualityScore,compositionScore,colorScore,dofScore,contentScore,"
    "lightScore,isObjectEmphasis,imageEmotion,difficultyOfJudgment,contentPreference,willingnessToShare,semantic\n"
)
TAIL = "3.4,3,3,3,3,3,0,neutral,0,3,3"
PEOPLE = (
    "userId,age,gender,EducationalLevel,artExperience,photographyExperience,personality-E,personality-A,"
    "personality-N,personality-O,personality-C\n"
    "A5a8e1,18-21,female,university,beginner,competent,7,6,4,8,7\n"
    "B77c02,30-34,male,junior_college,expert,expert,5,5,5,5,5\n"
)


@pytest.fixture
def release(tmp_path):
    rows = [
        f"session1,iaa_pub1_.jpg,A5a8e1,3.5,{TAIL},portrait",
        f"session1,iaa_pub1_.jpg,B77c02,1.0,{TAIL},portrait",
        f"session2,iaa_pub1_.jpg,A5a8e1,5,{TAIL},food",
        f"session2,iaa_pub1_.jpg,B77c02,4.5,{TAIL},food",
    ]
    write_text(tmp_path / "annotation" / "PARA-Images.csv", RATINGS + "\n".join(rows) + "\n")
    write_text(tmp_path / "annotation" / "PARA-UserInfo.csv", PEOPLE)
    for part, session in (("Train", "session1"), ("Test", "session2")):
        text = f"imageName,sessionId,semantic,aestheticScore_mean\niaa_pub1_.jpg,{session},food,3.1\n"
        write_text(tmp_path / "annotation" / f"PARA-Giaa{part}.csv", text)
        write_image(tmp_path / "imgs" / session / "iaa_pub1_.jpg")
    return tmp_path


def test_half_steps_people_and_the_releases_splits(release):
    data = load_ratings(release)
    assert data.level_values == {"para": (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)}
    assert {split: table.score.tolist() for split, table in data.splits.items()} == {
        "train": [3.5, 1.0], "test_seen": [5.0, 4.5],
    }  # fmt: skip
    row = data.splits["train"].iloc[0]
    assert row.participant_id == "A5a8e1" and row.image_id == "session1/iaa_pub1_.jpg"
    assert (row.age_binned, row.gender, row.group) == ("18-21", "female", "portrait")
    assert data.open_image("session2/iaa_pub1_.jpg").read(2) == b"\xff\xd8"
    assert data.releases[""].license == "other"


def test_people_held_out_by_name(release, tmp_path):
    from pamela_hf.ratings.builder import find_source, read_source

    ids = write_text(tmp_path / "test_users.txt", "B77c02\n")
    data = read_source(find_source(release, "para", test_users=ids))
    assert {split: table.participant_id.tolist() for split, table in data.splits.items()} == {
        "train": ["A5a8e1"], "test_seen": ["A5a8e1"], "test_unseen": ["B77c02"], "support_unseen": ["B77c02"],
    }  # fmt: skip
    (release / "annotation" / "PARA-GiaaTest.csv").unlink()
    with pytest.raises(RatingError, match="test_users needs"):
        find_source(release, "para", test_users=ids)
    with pytest.raises(RatingError, match="holds no id"):
        find_source(release, "para", test_users=write_text(tmp_path / "none.txt", "\n"))


def test_a_score_between_the_steps_and_a_missing_column_are_refused(release):
    path = release / "annotation" / "PARA-Images.csv"
    text = path.read_text()
    path.write_text(text.replace("A5a8e1,3.5", "A5a8e1,3.7"))
    with pytest.raises(RatingError, match=r"PARA-Images\.csv, row 2: aestheticScore is 3\.7; allowed"):
        load_ratings(release)
    path.write_text(text.replace("aestheticScore", "score"))
    with pytest.raises(RatingError, match="lacks aestheticScore"):
        load_ratings(release)
