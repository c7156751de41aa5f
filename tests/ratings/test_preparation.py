"""From any source to a Parquet folder: typed when loaded, whole or absent, replaced only on request."""

import importlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from processes import killed
from releases import rating, small_splits, write_release

from pamela_hf.files.images import ImageError
from pamela_hf.ratings.builder import IMAGE_FEATURES, RATING_FEATURES, load_ratings
from pamela_hf.ratings.preparation import prepare
from pamela_hf.ratings.table import RatingError

SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_ratings.py"


def script(*arguments):
    """Runs scripts/prepare_ratings.py in this process; what it exits with, None if it went well."""
    main = importlib.import_module("pamela_hf.cli").main
    try:
        main([str(argument) for argument in arguments], command="prepare-ratings")
    except SystemExit as stopped:
        return stopped.code
    return None


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """What `datasets` caches without being told where stays out of the home folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path / "PAMELA", small_splits())


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


def test_load_dataset_gives_typed_splits_and_images(release, tmp_path, cache, capsys):
    out = tmp_path / "out"
    assert script(release, out, "--quiet") is None
    assert "train" in capsys.readouterr().out
    ratings = datasets.load_dataset(str(out), cache_dir=cache)
    assert list(ratings) == ["train", "val_seen", "test_seen", "test_unseen"]
    assert all(table.features == RATING_FEATURES for table in ratings.values())
    assert ratings["train"][0]["score"] == 2.0 and ratings["train"][0]["style"] is None
    images = datasets.load_dataset(str(out), "images", cache_dir=cache)["images"]
    assert images.features == IMAGE_FEATURES and images[0]["image"].size == (16, 12)
    assert np.array_equal(np.asarray(images[0]["image"]), np.asarray(Image.open(release / "images/1.png")))
    assert len(datasets.load_dataset(str(out), "images", split="all", cache_dir=cache)) == 7
    streamed = next(iter(datasets.load_dataset(str(out), "images", split="images", streaming=True)))
    assert streamed["image"].size == (16, 12)
    card = (out / "README.md").read_text()
    assert "rating_scales" in card and "anonymous" not in card and str(tmp_path) not in card
    assert not any(str(tmp_path).encode() in file.read_bytes() for file in out.rglob("*") if file.is_file())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["PAMELA", "cache", "out"]


def test_embeddings_come_along_and_images_may_be_missing(tmp_path, cache):
    folder = write_release(tmp_path / "r", small_splits(), images=False, embeddings=True)
    prepare(folder, tmp_path / "out")
    assert (tmp_path / "out/embeddings.safetensors").read_bytes() == (folder / "embeddings.safetensors").read_bytes()
    images = datasets.load_dataset(str(tmp_path / "out"), "images", split="images", cache_dir=cache)
    assert images[0]["image"] is None and images.features == IMAGE_FEATURES
    data = load_ratings(tmp_path / "out")
    assert data.open_image is None and data.embeddings == tmp_path / "out/embeddings.safetensors"


def test_an_existing_folder_is_replaced_only_on_request_and_never_served_stale(release, tmp_path, cache):
    out = tmp_path / "out"
    prepare(release, out)
    assert datasets.load_dataset(str(out), cache_dir=cache)["val_seen"]["score"] == [2.0]
    (release / "annotations/pamela_val_seen.json").write_text(json.dumps([rating("p1", 6, 3)]))
    assert "exists" in script(release, out, "--quiet")
    assert load_ratings(out).splits["val_seen"].score.tolist() == [2.0]
    assert script(release, out, "--quiet", "--overwrite") is None
    assert datasets.load_dataset(str(out), cache_dir=cache)["val_seen"]["score"] == [3.0]
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/photo.txt").write_text("mine")
    with pytest.raises(RatingError, match="will not be overwritten"):
        prepare(release, tmp_path / "precious", overwrite=True)
    (tmp_path / "empty").mkdir()
    prepare(release, tmp_path / "empty")


@pytest.mark.parametrize("fault", ["row", "image", "json", "missing"])
def test_a_failure_leaves_nothing(release, tmp_path, fault):
    image = release / "images/5.png"
    if fault == "row":
        (release / "annotations/pamela_val_seen.json").write_text(json.dumps([rating("p1", 6, 99)]))
    elif fault == "image":
        image.write_bytes(image.read_bytes()[:60])
    elif fault == "missing":
        image.unlink()
    else:
        (release / "annotations/pamela_val_seen.json").write_text("[{")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((RatingError, ImageError)):
        prepare(release, tmp_path / "out", quarantine=tmp_path / "bad.jsonl" if fault == "json" else None)
    assert sorted(tmp_path.rglob("*")) == before


def killed_runs(release, tmp_path, times):
    """SIGKILLs `prepare` at random points of its writing: the folder is whole or not there, and the next run cleans up
    what is left."""
    out, rng = tmp_path / "mine" / "out", np.random.default_rng(0)
    start = time.monotonic()
    prepare(release, tmp_path / "whole")
    seconds = time.monotonic() - start
    expected = {path.relative_to(tmp_path / "whole"): path.read_bytes() for path in files_in(tmp_path / "whole")}
    kills = whole = part_way = 0
    tries = 0
    while kills < times and tries < 4 * times:
        tries += 1
        was_killed = killed(lambda: prepare(release, out), lambda: True, float(rng.uniform(0, seconds)))
        kills += was_killed
        left = sorted(path.name for path in out.parent.iterdir()) if out.parent.exists() else []
        part_way += any(name.startswith(".out.part-") for name in left)
        if out.exists():
            assert {path.relative_to(out): path.read_bytes() for path in files_in(out)} == expected
            whole += was_killed
            shutil.rmtree(out)
    prepare(release, out)
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # no orphan of any of them
    assert {path.relative_to(out): path.read_bytes() for path in files_in(out)} == expected
    print(f"{kills} kills: {part_way} in mid-write, {whole} after the rename; none left a torn folder or an orphan")
    assert kills >= times and part_way >= times // 6


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_killed_it_leaves_the_whole_or_nothing(release, tmp_path):
    killed_runs(release, tmp_path, 12)


@pytest.mark.faults
def test_killed_it_leaves_the_whole_or_nothing_200_times(release, tmp_path):
    killed_runs(release, tmp_path, 200)


def own_csv(tmp_path, people=8, images=40):
    rng = np.random.default_rng(0)
    for k in range(images // 2):  # every second image is a copy of the one before, saved anew
        pixels = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize(
            (96, 96), Image.Resampling.BICUBIC
        )
        pixels.save(tmp_path / f"{2 * k}.png")
        pixels.resize((80, 80)).save(tmp_path / f"{2 * k + 1}.jpg", quality=80)
    names = [f"{k}.{'png' if k % 2 == 0 else 'jpg'}" for k in range(images)]
    rows = [f"{name},{(k * p) % 5 + 1},p{p}" for k, name in enumerate(names) for p in range(people)]
    (tmp_path / "own.csv").write_text("image,score,participant\n" + "\n".join(rows))
    return tmp_path / "own.csv"


def test_own_ratings_are_split_with_copies_together(tmp_path):
    path = own_csv(tmp_path)
    data = prepare(path, tmp_path / "out", seed=1)
    assert {"train", "val_seen", "test_seen", "test_unseen", "support_unseen"} <= set(data.splits)
    part = {}
    for split, table in data.splits.items():
        for image in table.image_id.unique():
            part.setdefault(image, set()).add(split.split("_")[0].replace("support", "train"))
    assert all(len(parts) == 1 for parts in part.values())
    for k in range(20):
        assert part.get(f"{2 * k}.png") == part.get(f"{2 * k + 1}.jpg")
    assert list(prepare(path, tmp_path / "all", split_by="none").splits) == ["train"]
    assert set(prepare(path, tmp_path / "image", split_by="image").splits) == {"train", "val_seen", "test_seen"}
    with pytest.raises(RatingError, match=r"split_by is 'user'; allowed: user\+image, image, none"):
        prepare(path, tmp_path / "x", split_by="user")


def test_quarantine_option(release, tmp_path):
    (release / "annotations/pamela_val_seen.json").write_text(json.dumps([rating("p1", 6, 2), rating("p2", 6, None)]))
    bad = tmp_path / "bad.jsonl"
    assert script(release, tmp_path / "out", "--quiet", "--quarantine", bad) is None
    assert json.loads(bad.read_text())["problem"].startswith("original_score is missing")
    assert len(load_ratings(tmp_path / "out").splits["val_seen"]) == 1


def test_an_edited_prepared_folder_is_checked_again(release, tmp_path):
    out = tmp_path / "out"
    prepare(release, out)
    card = out / "README.md"
    card.write_text(card.read_text().replace("  - 5\n", "", 1))
    with pytest.raises(RatingError, match=r"train-00000-of-00001\.parquet, row 4: score is 5\.0; allowed .*1, 2, 3, 4"):
        load_ratings(out)
    card.write_text("---\nrating_scales: 5\n---\n")
    with pytest.raises(RatingError, match="rating_scales"):
        load_ratings(out)
    card.unlink()
    assert load_ratings(out).level_values == {"pamela": (1.0, 2.0, 3.0, 4.0, 5.0)}
    parquet = out / "ratings/train-00000-of-00001.parquet"
    parquet.write_bytes(parquet.read_bytes()[:-40])
    with pytest.raises(RatingError, match="no readable Parquet"):
        load_ratings(out)


def test_images_beside_one_known_by_its_embedding_alone_are_kept(tmp_path):
    from pamela_hf.embeddings import Embeddings

    for i in range(2):
        Image.new("RGB", (8, 8), (90 * i, 0, 0)).save(tmp_path / f"{i}.png")
    Embeddings(["e", "0.png", "1.png"], np.eye(3)).save(tmp_path / "embeddings.safetensors")
    (tmp_path / "mine.csv").write_text("image,score\ne,1\n0.png,2\n1.png,3\n")
    prepare(tmp_path / "mine.csv", tmp_path / "out", split_by="none")
    data = load_ratings(tmp_path / "out")
    assert data.open_image("0.png").read() == (tmp_path / "0.png").read_bytes()
    with pytest.raises(KeyError):
        data.open_image("e")


def test_embeddings_made_elsewhere_divide_ratings(tmp_path):
    import torch
    from safetensors.torch import save_file

    ids, value = [f"i{i}" for i in range(20)], torch.randn(20, 16).bfloat16()
    header = {"image_ids": json.dumps(ids), "format": "pt"}
    save_file({"image_embeds": value}, tmp_path / "embeddings.safetensors", metadata=header)
    (tmp_path / "mine.csv").write_text("image,score\n" + "".join(f"{i},{1 + n % 5}\n" for n, i in enumerate(ids)))
    prepare(tmp_path / "mine.csv", tmp_path / "out")
    assert "train" in load_ratings(tmp_path / "out").splits


def test_many_images_fill_several_files(release, tmp_path, monkeypatch, cache):
    monkeypatch.setattr("pamela_hf.ratings.sources.prepared.GROUP_BYTES", 900)
    monkeypatch.setattr("pamela_hf.ratings.sources.prepared.FILE_BYTES", 2000)
    prepare(release, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out/images").iterdir())
    assert len(names) > 1 and names[0] == f"all-00000-of-{len(names):05d}.parquet"
    data = load_ratings(tmp_path / "out")
    for image in range(1, 8):
        assert data.open_image(str(image)).read() == (release / f"images/{image}.png").read_bytes()
    assert len(datasets.load_dataset(str(tmp_path / "out"), "images", split="images", cache_dir=cache)) == 7


def test_the_script_itself_teaches():
    assert len(SCRIPT.read_text().splitlines()) <= 80
    run = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "prepare-ratings PAMELA.zip" in run.stdout and "--quarantine" in run.stdout
