"""AI Horde ratings, in a file with the export's columns."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from releases import write_image

from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import RatingError

IDS = ["3bfcd9cf-26ea-4303-bbe1-b095853f5360", "5f47c66c-51d4-4f2c-a872-a68518f44adb"]


def row(image, user, rating, artifacts=0, trusted=True, kudos=120.0):
    return {
        "id": IDS[image], "ratings_count": 5, "rating": rating, "kudos": kudos, "account_age": 86400,
        "usage_requests": 12, "created_at": None, "client_agent": "ArtBot", "artifacts": artifacts,
        "user_id": user, "trusted": trusted,
    }  # fmt: skip


@pytest.fixture
def export(tmp_path):
    rows = [row(0, "a1f", 10), row(1, "a1f", 1, None), row(0, "c9e", 4, 5, False), row(1, "anon", 7, kudos=-50.0)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "diffusiondb_export.parquet")
    return tmp_path


def test_ratings_of_known_users_on_ten_levels(export, caplog):
    data = load_ratings(export)
    table = data.splits["train"]
    assert table.participant_id.tolist() == ["a1f", "a1f", "c9e"] and table.score.tolist() == [10, 1, 4]
    assert table.image_id.tolist() == [IDS[0], IDS[1], IDS[0]]
    assert data.level_values == {"ai_horde": tuple(range(1, 11))} and data.choices == {}
    assert "1 anonymous ratings" in caplog.text
    assert load_ratings(export / "diffusiondb_export.parquet").splits["train"].equals(table)


def test_artifacts_and_trusted_users(export):
    data = load_ratings(export, score="artifacts")
    assert data.splits["train"].score.tolist() == [0, 5]
    assert data.level_values == {"ai_horde_artifacts": tuple(range(6))}
    assert load_ratings(export, trusted="yes").splits["train"].participant_id.tolist() == ["a1f", "a1f"]
    with pytest.raises(RatingError, match=r"score is 'beauty'; it is one of rating, artifacts"):
        load_ratings(export, score="beauty")
    with pytest.raises(RatingError, match=r"trusted is 'maybe'"):
        load_ratings(export, trusted="maybe")


def test_images_are_found_by_uuid_and_a_second_rating_is_set_aside(export, tmp_path):
    rows = [row(0, "a1f", 3), row(1, "a1f", 2), row(0, "a1f", 9)]
    pq.write_table(pa.Table.from_pylist(rows), export / "diffusiondb_export.parquet")
    for image in IDS:
        write_image(tmp_path / "images" / "part-000001" / f"{image}.png")
    with pytest.raises(RatingError, match=r"row 3: participant 'a1f' rates image .* again"):
        load_ratings(export, images=tmp_path / "images")
    data = load_ratings(export, images=tmp_path / "images", quarantine=tmp_path / "bad.jsonl")
    assert len(data.splits["train"]) == 2
    assert data.open_image(IDS[1]).read() == (tmp_path / "images" / "part-000001" / f"{IDS[1]}.png").read_bytes()
