"""FLICKR-AES as its authors release it: a header with spaces, images in 40K/."""

import pytest
from releases import write_image, write_text

from pamela_hf.ratings.builder import find_source, load_ratings, read_source
from pamela_hf.ratings.table import RatingError

TEXT = """worker, imagePair, score
A11EAQQ,farm1_1_2.jpg,3
A2BBBBB,farm1_1_2.jpg,5
A2BBBBB,farm2_3_4.jpg,1
A3CCCCC,farm2_3_4.jpg,4
A3CCCCC,farm5_5_6.jpg,2
"""


@pytest.fixture
def release(tmp_path):
    write_text(tmp_path / "FLICKR-AES_image_labeled_by_each_worker.csv", TEXT)
    for name in ("farm1_1_2.jpg", "farm2_3_4.jpg", "farm5_5_6.jpg"):
        write_image(tmp_path / "40K" / name)
    return tmp_path


def test_ratings_of_identified_workers(release):
    data = load_ratings(release)
    table = data.splits["train"]
    assert table.participant_id.tolist() == ["A11EAQQ", "A2BBBBB", "A2BBBBB", "A3CCCCC", "A3CCCCC"]
    assert table.score.tolist() == [3, 5, 1, 4, 2] and data.level_values == {"flickr_aes": (1.0, 2.0, 3.0, 4.0, 5.0)}
    assert data.open_image("farm1_1_2.jpg").read(2) == b"\xff\xd8"


def test_the_protocol_holds_workers_and_their_images_out(release, tmp_path):
    ids = write_text(tmp_path / "workers.txt", "A3CCCCC\n")
    data = read_source(find_source(release, "flickr_aes", test_workers=ids))
    pairs = {split: list(zip(t.participant_id, t.image_id)) for split, t in data.splits.items()}
    assert pairs == {
        "train": [("A11EAQQ", "farm1_1_2.jpg"), ("A2BBBBB", "farm1_1_2.jpg")],
        "test_seen": [("A2BBBBB", "farm2_3_4.jpg")],
        "test_unseen": [("A3CCCCC", "farm2_3_4.jpg"), ("A3CCCCC", "farm5_5_6.jpg")],
    }
    with pytest.raises(RatingError, match="none of them is among the workers"):
        find_source(release, "flickr_aes", test_workers=write_text(tmp_path / "w.txt", "nobody"))


def test_a_name_that_leads_out_of_the_images_is_refused(release):
    path = release / "FLICKR-AES_image_labeled_by_each_worker.csv"
    path.write_text(TEXT.replace("farm5_5_6.jpg", "../workers.txt"))
    with pytest.raises(RatingError, match=r"row 6: .*leads out of its folder"):
        load_ratings(release)
