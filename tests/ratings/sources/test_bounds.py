"""Sizes of outside files are bounded before anything is kept, and unreadable images are set aside."""

import json
import subprocess
import sys
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from releases import write_image, write_text

from pamela_hf.files.images import ImageError
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.preparation import prepare
from pamela_hf.ratings.sources import _files
from pamela_hf.ratings.table import RATING_SCHEMA, RatingError


def peak_megabytes(code: str, *arguments: str) -> tuple[int, str]:
    """How far a fresh process's memory rises while it runs `code`, and what it prints."""
    text = (
        "import re, sys\n"
        "from pamela_hf.ratings.builder import load_ratings\n"
        "from pamela_hf.ratings.table import RatingError\n"
        "def high():\n"
        "    return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()).group(1)) >> 10\n"
        "before = high()\n"
        f"{code}\n"
        "print(high() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", text, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    *lines, peak = done.stdout.splitlines()
    return int(peak), "\n".join(lines)


def bomb(folder, text, rows):
    """A prepared folder whose one text is repeated by its number in a dictionary."""
    (folder / "ratings").mkdir(parents=True)
    columns = {field.name: pa.nulls(rows, field.type) for field in RATING_SCHEMA}
    columns |= {
        "participant_id": pa.array(["ann"] * rows), "image_id": pa.array([f"i{i}" for i in range(rows)]),
        "rating_scale": pa.array(["mine"] * rows),
        "score": pa.array([float(1 + i % 5) for i in range(rows)], pa.float32()),
        "prompt": pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [text]),
    }  # fmt: skip
    table = pa.table(columns)
    pq.write_table(table, folder / "ratings" / "train-0.parquet", compression="zstd")
    write_text(folder / "README.md", "---\nrating_scales:\n  mine: [1, 2, 3, 4, 5]\n---\n")
    return folder


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_small_parquet_file_that_unpacks_to_gigabytes_is_refused(tmp_path):
    folder = bomb(tmp_path / "bomb", "x" * (4 << 20), 3_000)
    assert (folder / "ratings/train-0.parquet").stat().st_size < 100_000
    code = "try: load_ratings(sys.argv[1])\nexcept RatingError as error: print(error)"
    peak, message = peak_megabytes(code, str(folder))
    assert "column prompt holds a text of 4,194,304 bytes" in message and peak < 200
    peak, message = peak_megabytes(code, str(bomb(tmp_path / "long", "y" * 19_000, 20_000)))
    assert message == "" and peak < 200  # 380 MB if each row had its own text


def test_an_archive_of_too_many_members_is_refused_before_it_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "MAX_MEMBERS", 50)
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(51):
            archive.writestr(f"annotations/{number}.txt", "")
    monkeypatch.setattr(zipfile, "ZipFile", lambda *args: pytest.fail("the directory was parsed"))
    with pytest.raises(RatingError, match=r"many\.zip: 51 members or more; at most 50"):
        load_ratings(path)
    data = bytearray(path.read_bytes())  # the end record claims fewer than there are
    end = data.rfind(b"PK\x05\x06")
    data[end + 8 : end + 12] = b"\1\0\1\0"
    path.write_bytes(data)
    with pytest.raises(RatingError, match="51 members or more"):
        load_ratings(path)


def test_quarantine_sets_aside_rows_whose_image_is_unreadable(tmp_path):
    for name in "abcd":
        write_image(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-12])
    path = write_text(
        tmp_path / "mine.csv", "image,score,user\na.png,1,x\nb.png,2,x\nb.png,3,y\nc.png,4,x\nd.png,5,x\n"
    )
    with pytest.raises(ImageError, match=r"b\.png: damaged image"):
        prepare(path, tmp_path / "out", split_by="none")
    data = prepare(path, tmp_path / "out", split_by="none", quarantine=tmp_path / "bad.jsonl")
    assert data.splits["train"].image_id.tolist() == ["a.png", "c.png", "d.png"]
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == [3, 4] and all("cut off" in line["problem"] for line in lines)
