"""Google Takeout's JSON files, by the names it gives them."""

import json

import pytest

from pamela_hf.photos.takeout import TakeoutError, is_favourite, match_json


def test_names_old_new_cut_and_numbered():
    long = "IMG_20200920_131207_BURST_COVER_EFFECTS.jpg"  # 43 letters: three are left of .supplemental-metadata
    longest = "a" * 60 + ".jpg"
    photos = ["a.jpg", "a(1).jpg", "b.png", "c.jpg", long, "d.jpg", "d-edited.jpg", longest, "e.jpg", "alone.jpg"]
    files = {
        "a.jpg": "a.jpg.supplemental-metadata.json",
        "a(1).jpg": "a.jpg.supplemental-metadata(1).json",
        "b.png": "b.png.suppl.json",
        "c.jpg": "c.jpg.json",
        long: f"{long}.su.json",
        "d.jpg": "d.jpg..json",
        longest: "a" * 46 + ".json",
        "e.jpg": "e.jpg.s.json",
    }
    found = match_json(photos, [*files.values(), "metadata.json", "print-subscriptions.json", "x.jpg.json"])
    assert found == {**files, "d-edited.jpg": "d.jpg..json"}


def test_favourites(tmp_path):
    path = tmp_path / "a.json"
    for values, favourite in [({"favorited": True}, True), ({}, False), ({"favorited": "yes"}, False)]:
        path.write_text(json.dumps({"title": "a.jpg", "photoTakenTime": {"timestamp": "1"}, **values}))
        assert is_favourite(path) is favourite
    for text in ('{"title": "an album"}', "[]", "{", "[" * 100_000, "\0", '{"photoTakenTime": "' + "x" * (1 << 20)):
        path.write_text(text)
        with pytest.raises(TakeoutError):
            is_favourite(path)
