"""From a library's stars to a head, a ranking and a report."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from photo_tools import add_stars, make_library, save_photo
from toys import save_tiny_encoder

from pamela_hf.embeddings import Embeddings
from pamela_hf.folder_cache import EncoderSource
from pamela_hf.heads.head import UserHead
from pamela_hf.photos.held_out import FOLDS, hold_out
from pamela_hf.photos.suggest import suggest_photos
from pamela_hf.photos.taste import STARS, Choices, learn_taste, load_base
from pamela_hf.photos.xmp import read_packet
from pamela_hf.scoring import PamelaScorer


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = make_library(tmp_path_factory.mktemp("photos") / "my 'library' ü", photos=60, rated=40)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    return folder


@pytest.fixture(scope="module")
def output(library, siglip_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("taste") / "ann"
    learn_taste(library, "ann", folder, encoder=str(siglip_encoder), device="cpu", progress=False)
    return folder


def learn(library, output, siglip_encoder, name="ann", **options):
    return learn_taste(
        library, name, output, **{"encoder": str(siglip_encoder), "device": "cpu", "progress": False, **options}
    )


def test_the_contract(library, output):
    ranking = pd.read_csv(output / "ranking.csv")
    assert list(ranking.columns) == ["image", "score", "std", "stars"] and len(ranking) == 60
    assert ranking["score"].is_monotonic_decreasing and (ranking["std"] > 0).all()
    assert ranking["stars"].notna().sum() == 40 and set(ranking["stars"].dropna()) == {1, 2, 3, 4, 5}
    assert all((library / name).is_file() for name in ranking["image"])
    skipped = pd.read_csv(output / "skipped.csv")
    assert skipped["image"].tolist() == ["broken.jpg"]
    assert (output / "embeddings.safetensors").is_file()


def test_it_learned_and_the_head_works_on_its_base(library, output):
    ranking = pd.read_csv(output / "ranking.csv")
    fresh = ranking[ranking["stars"].isna()]
    brightness = {f"IMG_{n:03d}.jpg": (n * 7) % 60 for n in range(60)}
    truth = [brightness[name.split("/")[-1]] for name in fresh["image"]]
    assert fresh["score"].corr(pd.Series(truth, fresh.index), "spearman") > 0.5
    scorer = PamelaScorer.from_pretrained(output / "base", device="cpu")
    head = UserHead.load(output / "head", scorer)
    scores = scorer.score([library / name for name in ranking["image"][:5]], user=head).scores
    np.testing.assert_allclose(scores, ranking["score"][:5], atol=2e-3)
    assert all(name not in (output / "head" / "head.json").read_text() for name in ("IMG_", "library"))


def test_the_summary_is_honest(output):
    first, *rest = json.loads((output / "taste.json").read_text())["summary"]
    assert "in the right order" in first and "ridge regression" in first and "95 % interval" in first
    assert any("20 of 61 photos have no stars" in text or "21 of 61 photos have no stars" in text for text in rest)
    assert any("blank" in text for text in rest)


def test_the_report_shows_each_photo_once_and_opens_originals(library, output):
    html = (output / "report.html").read_text()
    assert "Best without stars" in html and "Least liked" in html
    assert "<script" not in html and "my%20%27library%27%20%C3%BC" in html
    shown = re.findall(r'src="([^"]+)"', html)
    sheet = html.split("<h2>")[1]  # one sheet shows a photo once
    assert len(re.findall("<img", sheet)) == len(set(re.findall(r'src="([^"]+)"', sheet))) > 3
    assert {f"{output.name}/{one}" for one in shown} == {
        p.relative_to(output.parent).as_posix() for p in (output / ".thumbnails").glob("*.jpg")
    }


def test_a_second_run_looks_only_and_a_changed_star_counts(library, siglip_encoder, tmp_path):
    folder = shutil.copytree(library, tmp_path / "library")
    first = learn(folder, tmp_path / "out", siglip_encoder)
    def written() -> dict[Path, int]:  # locks aside: older releases of filelock open them anew
        files = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.suffix != ".lock"]
        return {p: p.stat().st_mtime_ns for p in files}

    times = written()
    second = learn(folder, tmp_path / "out", siglip_encoder)
    assert second.unchanged and not first.unchanged
    assert written() == times
    pd.testing.assert_frame_equal(second.ranking, first.ranking, check_dtype=False)
    add_stars(folder / "2000" / "IMG_000.jpg", 5)
    third = learn(folder, tmp_path / "out", siglip_encoder)
    assert not third.unchanged and third.ranking.set_index("image")["stars"]["2000/IMG_000.jpg"] == 5


def test_a_second_run_does_not_wait_for_the_model_s_libraries(library, output, siglip_encoder):
    command = [sys.executable, "-X", "importtime", "-m", "pamela_hf.cli", "taste", str(library), "--name", "ann"]
    arguments = ["--output", str(output), "--encoder", str(siglip_encoder), "--quiet"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    assert "Nothing has changed" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pamela_hf.folder_cache" in imported and not imported & {"torch", "transformers", "scipy", "sklearn"}


def test_an_encoder_that_lies_in_the_base_is_neither_loaded_nor_written_again(
    library, siglip_encoder, tmp_path, monkeypatch
):
    from pamela_hf import folder_cache

    folder = shutil.copytree(library, tmp_path / "library")
    learn(folder, tmp_path / "out", siglip_encoder)
    weights = tmp_path / "out" / "base" / "encoder" / "model.safetensors"
    before = weights.stat()
    add_stars(folder / "2000" / "IMG_000.jpg", 5)
    with monkeypatch.context() as patch:
        patch.setattr(folder_cache.EncoderSource, "encoder", property(lambda _: pytest.fail("it was loaded")))
        result = learn(folder, tmp_path / "out", siglip_encoder)
    after = weights.stat()
    assert not result.unchanged and (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    scorer = PamelaScorer.from_pretrained(tmp_path / "out" / "base", device="cpu")
    head = UserHead.load(tmp_path / "out" / "head", scorer)
    names = result.ranking["image"][:5]
    scores = scorer.score([folder / name for name in names], user=head).scores
    np.testing.assert_allclose(scores, result.ranking["score"][:5], atol=2e-3)
    (weights.parent / "config.json").unlink()  # an encoder of other weights is written
    other = save_tiny_encoder(tmp_path / "other", "siglip2")
    learn(folder, tmp_path / "out", other, embeddings=tmp_path / "other.safetensors")
    assert weights.stat().st_ino != before.st_ino and (weights.parent / "config.json").is_file()


def test_one_output_is_one_persons_library(library, output, siglip_encoder, tmp_path):
    with pytest.raises(ValueError, match="holds the taste of 'ann', not of 'bob'"):
        learn(library, output, siglip_encoder, name="bob")
    make_library(tmp_path / "other", photos=8, rated=8)
    with pytest.raises(ValueError, match="belongs to the library"):
        learn(tmp_path / "other", output, siglip_encoder)
    with pytest.raises(ValueError, match="is a file"):
        learn(library, output / "ranking.csv", siglip_encoder)


def test_nothing_to_learn_from_is_said(siglip_encoder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no photos"):
        learn(tmp_path / "empty", tmp_path / "out", siglip_encoder)
    make_library(tmp_path / "plain", photos=4, rated=0)
    with pytest.raises(ValueError, match="pamela suggest"):
        learn(tmp_path / "plain", tmp_path / "out", siglip_encoder)
    with pytest.raises(ValueError, match="no path"):
        learn(tmp_path / "plain", tmp_path / "out", siglip_encoder, name="../ann")
    with pytest.raises(ValueError, match="unrated='maybe'"):
        Choices(unrated="maybe")


def test_few_stars_have_no_figures(siglip_encoder, tmp_path):
    make_library(tmp_path / "few", photos=8, rated=3)
    result = learn(tmp_path / "few", tmp_path / "out", siglip_encoder)
    assert result.summary[0].startswith("Too few photos") and len(result.ranking) == 8


def test_a_trained_base_and_favourites_with_dislikes(reward_folder, tmp_path):
    folder = make_library(tmp_path / "library", photos=30, rated=0)
    for number, photo in enumerate(sorted(folder.rglob("*.jpg"))):
        values = {"photoTakenTime": {}, **({"favorited": True} if number % 3 == 0 else {})}
        photo.with_name(photo.name + ".json").write_text(json.dumps(values))
    options = {"model": reward_folder, "device": "cpu", "progress": False}
    choices = Choices(unrated="as-dislikes")
    result = learn_taste(folder, "zoe", tmp_path / "out", choices=choices, **options)
    assert "everyone's taste" in "".join(result.summary) and result.ranking["stars"].isna().all()
    assert any("count as disliked" in text for text in result.summary)
    assert not (tmp_path / "out" / "base").exists()


def test_near_duplicates_stay_together():
    rng = np.random.default_rng(0)
    # twins of random pictures with random stars: only a method that saw a photo's twin could do better than chance
    values = np.repeat(rng.normal(size=(60, 100)).astype(np.float32), 2, axis=0)
    stars = np.repeat(rng.integers(1, 6, 60), 2).astype(float)
    names = [f"{i}" for i in range(120)]
    features = Embeddings(names, values)
    scorer = load_base(None, features, EncoderSource("none/none"), Path("none"))
    twins = {name: i // 2 for i, name in enumerate(names)}
    apart = {name: i for i, name in enumerate(names)}
    ratings = list(zip(names, stars))
    honest, naive = (hold_out(scorer, ratings, [], features, g, STARS, False) for g in (twins, apart))
    assert honest.groups == 60 and naive.groups == 120 and FOLDS == 5
    for method in ("your taste", "ridge regression"):
        assert honest.figures[method]["srocc"]["value"] < 0.3
    assert naive.figures["ridge regression"]["srocc"]["value"] > 0.6
    assert honest.figures["mean"]["pairs"]["value"] == 0.5 and honest.figures["mean"]["srocc"]["value"] == 0


def test_write_xmp_after_an_unchanged_run(library, siglip_encoder, tmp_path):
    folder = shutil.copytree(library, tmp_path / "library")
    learn(folder, tmp_path / "out", siglip_encoder)
    result = learn(folder, tmp_path / "out", siglip_encoder, write_xmp=True, stars=True)
    assert result.sidecars == 60
    packet = read_packet((folder / "2000" / "IMG_000.jpg.xmp").read_bytes())
    assert packet.stars is None and packet.score is not None  # it has a person's stars
    again = learn(folder, tmp_path / "out", siglip_encoder)
    assert again.unchanged  # our own stars are nobody's opinion


def test_the_output_may_lie_inside_the_library(library, siglip_encoder, tmp_path):
    folder = shutil.copytree(library, tmp_path / "library")
    for _ in range(2):
        result = learn(folder, folder / "taste", siglip_encoder)
        assert len(result.ranking) == 60
    assert result.unchanged


def test_suggestions_are_unstarred_and_none_twice(library, output, siglip_encoder, tmp_path):
    folder = shutil.copytree(library, tmp_path / "library")
    shutil.copy(folder / "2000" / "IMG_057.jpg", folder / "copy.jpg")
    options = {"encoder": str(siglip_encoder), "device": "cpu", "progress": False}
    found = suggest_photos(folder, "ann", tmp_path / "out", 50, **options)
    names = [path.relative_to(folder).as_posix() for path in found.photos]
    assert 0 < len(names) <= 20 and len(set(names)) == len(names)
    assert not any((folder / (name + ".xmp")).exists() for name in names)
    assert not {"copy.jpg", "2000/IMG_057.jpg"} <= set(names) and "broken.jpg" not in names
    assert pd.read_csv(tmp_path / "out" / "suggestions.csv")["image"].tolist() == names
    page = (tmp_path / "out" / "suggestions.html").read_text()
    assert "Star these next" in page and "±" in page and "expected so far" in page
    assert pd.read_csv(tmp_path / "out" / "skipped.csv")["image"].tolist() == ["broken.jpg"]


def test_suggestions_before_any_star(siglip_encoder, tmp_path):
    make_library(tmp_path / "library", photos=12, rated=0)
    options = {"encoder": str(siglip_encoder), "device": "cpu", "progress": False}
    found = suggest_photos(tmp_path / "library", "ann", tmp_path / "out", 5, **options)
    assert len(found.photos) == 5
    page = (tmp_path / "out" / "suggestions.html").read_text()
    assert "±" not in page and "expected so far" not in page, "of nobody, all photos are expected to please alike"
    save_photo(tmp_path / "library" / "x.jpg", 77)
    with pytest.raises(ValueError, match="n=0"):
        suggest_photos(tmp_path / "library", "ann", tmp_path / "out", 0, **options)


def test_the_commands(library, siglip_encoder, tmp_path, capsys):
    from pamela_hf.cli import main

    arguments = [str(library), "--name", "ann", "--output", str(tmp_path / "out"), "--encoder", str(siglip_encoder)]
    main(["taste", *arguments, "--quiet", "--device", "cpu"])
    assert "photos ranked in" in capsys.readouterr().out
    main(["suggest", *arguments, "--quiet", "--device", "cpu", "-n", "3"])
    assert len(capsys.readouterr().out.splitlines()) == 3
    with pytest.raises(SystemExit, match="--write-xmp"):
        main(["taste", *arguments, "--stars"])


def test_embed_fills_the_cache_that_taste_uses(library, siglip_encoder, tmp_path, capsys):
    from pamela_hf.cli import main

    cache, encoder = tmp_path / "photos.safetensors", ["--encoder", str(siglip_encoder), "--device", "cpu"]
    with pytest.raises(SystemExit, match="--output FILE"):
        main(["embed", "--images", str(library), *encoder])
    main(["embed", "--images", str(library), "--output", str(cache), *encoder])
    printed = capsys.readouterr().out
    assert "60 images (32 features), 60 encoded now" in printed and "1 could not be read" in printed
    assert pd.read_csv(tmp_path / "photos.skipped.csv")["image"].tolist() == ["broken.jpg"]
    before = cache.stat().st_mtime_ns
    learn(library, tmp_path / "out", siglip_encoder, embeddings=cache)
    main(["embed", "--images", str(library), "--output", str(cache), *encoder])
    assert "0 encoded now" in capsys.readouterr().out and cache.stat().st_mtime_ns == before
