"""What people really have, at the doors that span several rooms: folders to score, tables, exports to prepare."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from pictures import encoded, huge_png, picture
from PIL import Image
from processes import peak_of
from toys import with_encoder

from pamela_hf.cli import main
from pamela_hf.heads.answers import collect
from pamela_hf.scoring import PamelaScorer, score_folder

MOST_MEGABYTES = 700  # one picture of 64 megapixels at three bytes each, and the copies that a processor makes of it


@pytest.fixture(scope="module")
def scorer(siglip_encoder, tmp_path_factory) -> PamelaScorer:
    folder = tmp_path_factory.mktemp("scorer")
    return PamelaScorer.from_pretrained(with_encoder(siglip_encoder, folder), device="cpu")


def test_one_bad_image_never_ends_the_run(scorer, tmp_path):
    folder = tmp_path / "photos"
    (folder / "album.png").mkdir(parents=True)
    for i, name in enumerate(["a.png", "album.png/b.jfif", "=c.bmp", "d.gif", "e.tif", "f.avif"]):
        formats = {"jfif": "JPEG", "bmp": "BMP", "gif": "GIF", "tif": "TIFF", "avif": "AVIF", "png": "PNG"}
        (folder / name).write_bytes(encoded(picture(i), formats[name.rpartition(".")[2]]))
    (folder / "panorama.jpg").write_bytes(encoded(Image.new("L", (12_000, 6_000), 90), "JPEG"))
    (folder / "broken.jpg").touch()
    (folder / "cut.png").write_bytes(encoded(picture(1, (200, 200)))[:-20])
    (folder / "gone.jpg").symlink_to("nothing.jpg")
    (folder / "large.png").write_bytes(huge_png(20_000, 20_000, rows=3))
    (folder / "._a.png").write_bytes(b"AppleDouble")
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as stream:
        stream.write(encoded(picture(9)))
    output = tmp_path / "scores.csv"
    table = score_folder(scorer, folder, output, progress=False, batch_size=3)
    scored = {"a.png", "album.png/b.jfif", "=c.bmp", "d.gif", "e.tif", "f.avif", "panorama.jpg", "caf\\xe9.png"}
    assert set(table["image"]) == scored
    written = pd.read_csv(output)
    assert "'=c.bmp" in set(written["image"]) and list(written.columns) == ["image", "score", "std"]
    assert written["score"].is_monotonic_decreasing
    skipped = pd.read_csv(tmp_path / "scores.skipped.csv").set_index("image")["reason"]
    assert set(skipped.index) == {"broken.jpg", "cut.png", "gone.jpg", "large.png"}
    assert "empty file" in skipped["broken.jpg"] and "does not exist" in skipped["gone.jpg"]
    assert "cut off" in skipped["cut.png"] and "64 megapixels" in skipped["large.png"]
    one_by_one = scorer.score(folder / "a.png").scores[0]
    assert table.set_index("image")["score"]["a.png"] == pytest.approx(one_by_one, abs=1e-5)
    for name in skipped.index:
        (folder / name).unlink()
    score_folder(scorer, folder, output, progress=False)
    assert sorted(os.listdir(tmp_path)) == ["photos", "scores.csv"]  # the list of an earlier run is gone, too


def test_prompts_name_images_as_every_other_table_does(scorer, tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "e\u0301.png").write_bytes(encoded(picture(1)))
    (folder / "-b.png").write_bytes(encoded(picture(2)))
    expected = score_folder(scorer, folder, prompts="a cat", progress=False)
    prompts = tmp_path / "prompts.csv"
    for written in ("deep\\\u00e9.png", f"{folder}/deep/\u00e9.png", "./deep/e\u0301.png"):
        prompts.write_text(
            f"File Name;Caption, in English;Prompt\n{written};x;a cat\n'-b.png;y;a cat\n", encoding="utf-16"
        )
        table = score_folder(scorer, folder, prompts=prompts, progress=False)
        pd.testing.assert_frame_equal(table, expected)
    frame = pd.DataFrame({"image": ["-b.png", "deep/\u00e9.png"], "prompt": "a cat"})
    pd.testing.assert_frame_equal(score_folder(scorer, folder, prompts=frame, progress=False), expected)


def test_what_can_be_known_is_known_before_the_first_score(scorer, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    monkeypatch.setattr(scorer, "score", lambda *args, **kwargs: pytest.fail("scored"))
    for arguments, message in [
        ({"images": tmp_path / "nowhere"}, "nowhere does not exist"),
        ({"user": "dan"}, "'dan' is not among"),
        ({"scale": "moons"}, "'moons'"),
        ({"output": tmp_path / "a.txt"}, "must end in"),
        ({"output": tmp_path}, "must end in|is a folder"),
        ({"prompts": pd.DataFrame({"image": ["z.png"], "prompt": ["x"]})}, "z.png"),
        ({"prompts": pd.DataFrame({"image": ["../a.png"], "prompt": ["x"]})}, "leads out"),
    ]:
        with pytest.raises((ValueError, OSError), match=message):
            score_folder(scorer, **{"images": tmp_path, "progress": False, **arguments})


def test_an_interrupted_run_leaves_nothing(scorer, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded(picture()))

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(scorer, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_folder(scorer, tmp_path, tmp_path / "out.csv", progress=False)
    assert os.listdir(tmp_path) == ["a.png"]


def test_the_command_names_a_folder_that_does_not_exist_and_what_it_left_out(siglip_encoder, tmp_path, capsys):
    model = with_encoder(siglip_encoder, tmp_path / "model")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a\x1b[2J.png").write_bytes(encoded(picture()))
    (tmp_path / "photos" / "b.png").touch()
    with pytest.raises(SystemExit, match="--images nowhere does not exist"):
        main(["score", "--model", str(model), "--images", "nowhere", "--output", str(tmp_path / "s.csv")])
    main(["score", "--model", str(model), "--images", str(tmp_path / "photos"), "--output", str(tmp_path / "s.csv")])
    out = capsys.readouterr().out
    assert "1 images scored" in out and "1 could not be read" in out and "b.png: an empty file" in out
    assert "\x1b" not in out and "a\\x1b[2J.png" in out
    assert pd.read_csv(tmp_path / "s.csv")["image"].tolist() == ["a\x1b[2J.png"]


def test_a_table_in_python_means_what_the_command_line_reads(scorer, tmp_path, monkeypatch):
    for i, name in enumerate("ab"):
        (tmp_path / f"{name}.png").write_bytes(encoded(picture(i)))
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"File": ["a.png", "b.png"], "Stars": [4, 2], "Prompt": ["a cat", None]})
    answers = collect(scorer, frame, {}, [])
    assert answers.scores.tolist() == [4, 2]
    assert answers.text_embeds[0].any() and not answers.text_embeds[1].any()
    with pytest.raises(ValueError, match="2 participants"):
        collect(scorer, frame.assign(user=["ann", "bob"]), {}, [])


LARGE = """
import sys
from pamela_hf.scoring import PamelaScorer, score_folder
scorer = PamelaScorer.from_pretrained(sys.argv[1], device="cpu")
scorer.score(sys.argv[3])  # the encoder is loaded
before = peak()
table = score_folder(scorer, sys.argv[2], progress=False)
print(len(table), table["score"].max() - table["score"].min(), peak() - before)
"""


def score_large(scorer, tmp_path, count: int) -> None:
    """Scores so many PNGs of 64 megapixels in a process of its own: what one takes, they take."""
    scorer.save_pretrained(tmp_path / "model")
    (tmp_path / "small.png").write_bytes(encoded(picture()))
    (tmp_path / "many").mkdir()
    large = huge_png(8_000, 8_000)
    for number in range(count):
        (tmp_path / "many" / f"{number}.png").write_bytes(large)
    asked = tmp_path / "model", tmp_path / "many", tmp_path / "small.png"
    scored, apart, megabytes = peak_of(LARGE, *asked, seconds=1200)
    print(f"{scored:.0f} PNGs of 64 megapixels scored at {megabytes:.0f} MB")
    assert scored == count and apart < 1e-5 and megabytes < MOST_MEGABYTES


def test_large_images_are_not_in_memory_at_once(scorer, tmp_path):
    score_large(scorer, tmp_path, 3)


@pytest.mark.faults
def test_many_large_images_are_not_in_memory_at_once(scorer, tmp_path):
    """A batch of the largest pictures: files of 62 KB."""
    score_large(scorer, tmp_path, 32)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_scores_on_a_full_disk_are_one_line_and_leave_nothing(scorer, tmp_path, suffix):
    """On a real file system without a free byte, in a name space of its own."""
    code = """
import os, sys
from pathlib import Path
from pamela_hf.cli import main
folder = Path(sys.argv[1]).parent
with open(folder / "filler", "wb", buffering=0) as file:
    try:
        while file.write(bytes(1 << 10)):
            pass
    except OSError:
        pass
try:
    main(["score", "--model", sys.argv[2], "--images", sys.argv[3], "--output", sys.argv[1], "--device", "cpu"])
except SystemExit as stopped:
    print(stopped.code)
print(sorted(os.listdir(folder)))
"""
    scorer.save_pretrained(tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for number in range(60):
        (tmp_path / "photos" / f"{'long' * 20}{number}.png").write_bytes(encoded(picture(number)))
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o size=64k tmpfs "{small}" && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("mounting in a name space of one's own is not allowed here")
    command += [sys.executable, "-c", code, str(small / f"scores{suffix}"), str(tmp_path / "model")]
    done = subprocess.run([*command, str(tmp_path / "photos")], capture_output=True, text=True)
    message, left = done.stdout.splitlines()
    assert message.startswith(f"error: {small}: scores{suffix} could not be written: No space left on device."), message
    assert "another disk" in message and left == "['filler']"
