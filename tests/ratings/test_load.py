"""A million ratings, many choices and a large archive: time and memory, measured in a process of their own."""

import json
import zipfile

import numpy as np
import pytest
from pictures import encoded
from PIL import Image
from processes import peak_of
from releases import rating, write_release

from pamela_hf.embeddings import Embeddings

IMAGES = 5000
PREPARED = """
import sys, time
import pamela_hf.ratings.preparation as preparation
before, start = peak(), time.monotonic()
data = preparation.prepare(sys.argv[1], sys.argv[2])
rows = sum(map(len, data.splits.values())) + sum(map(len, data.choices.values()))
print(rows, time.monotonic() - start, peak() - before)
"""
READ = """
import sys, time
from pamela_hf.files.images import verify_image
from pamela_hf.ratings.builder import load_ratings
before, start = peak(), time.monotonic()
data = load_ratings(sys.argv[1])
images = data.images().image_id
size = sum(len(verify_image(data.open_image(name), name)) for name in images)
print(len(images), size / 1e9, time.monotonic() - start, peak() - before)
"""


def write_ratings(folder, count: int):
    """A release in its own layout, known by its embeddings."""
    rows = [rating("p", n, 1 + n % 5) for n in range(IMAGES)]
    write_release(folder, {"train": rows}, images=False, embeddings=True)
    with open(folder / "annotations/pamela_train.json", "w") as file:
        for n in range(count):
            file.write("[" if n == 0 else ",")
            json.dump(rating(f"p{n // 1000}", n * 7 % IMAGES, 1 + n % 5), file)
        file.write("]")
    return folder


def write_table(folder, header: str, rows):
    """A CSV of one's own beside the embeddings of its images."""
    folder.mkdir()
    names = [f"{image}.png" for image in range(IMAGES)]
    vectors = np.random.default_rng(0).normal(size=(IMAGES, 8))
    Embeddings(names, vectors.astype(np.float32)).save(folder / "embeddings.safetensors")
    with open(folder / "mine.csv", "w") as file:
        file.write(header + "\n")
        file.writelines(row + "\n" for row in rows)
    return folder / "mine.csv"


@pytest.mark.faults
def test_a_million_ratings_fit_in_memory_and_time(tmp_path):
    """In the released layout, and as a CSV that is divided into splits; 600,000 choices."""
    release = write_ratings(tmp_path / "release", 500_000)
    csv = write_table(
        tmp_path / "csv",
        "participant,image,score,prompt",
        (f"p{n // 1000},{n * 7 % IMAGES}.png,{1 + n % 5},thing {n * 7 % IMAGES}" for n in range(1_000_000)),
    )
    choices = write_table(
        tmp_path / "choices",
        "participant,preferred,other",
        (f"p{n // 1000},{n * 7 % IMAGES}.png,{(n * 7 + 1 + n % 11) % IMAGES}.png" for n in range(600_000)),
    )
    for what, place, least in (("ratings", release, 500_000), ("ratings", csv, 900_000), ("choices", choices, 200_000)):
        rows, seconds, megabytes = peak_of(PREPARED, place, tmp_path / f"{what}-of-{place.stem}", seconds=1200)
        print(f"{rows:.0f} {what} of {place.name} prepared in {seconds:.0f} s and {megabytes:.0f} MB")
        assert rows >= least and megabytes <= 400 and seconds <= 120


@pytest.mark.faults
def test_a_large_archive_is_read_in_place(tmp_path):
    """2.6 GB: 5,000 PNGs of noise, each read whole and checked."""
    release = write_ratings(tmp_path / "release", IMAGES)
    (release / "embeddings.safetensors").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (416, 416, 3), np.uint8)
    picture = encoded(Image.fromarray(noise), "PNG")
    assert 5e5 < len(picture) < 5.4e5
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.write(release / "annotations/pamela_train.json", "annotations/pamela_train.json")
        for image in range(IMAGES):
            archive.writestr(f"images/{image}.png", picture)
    images, gigabytes, seconds, megabytes = peak_of(READ, tmp_path / "r.zip", seconds=600)
    (tmp_path / "r.zip").unlink()  # pytest keeps the folder
    print(f"{images:.0f} PNGs, {gigabytes:.1f} GB, read from an archive in {seconds:.0f} s and {megabytes:.0f} MB")
    assert images == IMAGES and gigabytes > 2.5 and seconds <= 60 and megabytes <= 150
