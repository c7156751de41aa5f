"""The command fit-user: a CSV in, a head out; what is refused is one clear line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pamela_hf import PamelaScorer, UserHead
from pamela_hf.cli import main
from pamela_hf.embeddings import load_embeddings


@pytest.fixture
def command(trained_folder, ratings_folder, tmp_path):
    csv = tmp_path / "mine.csv"
    csv.write_text("image,score\n" + "".join(f"img{i:03d},{1 + i % 5}\n" for i in range(10)))
    return ["fit-user", "--model", str(trained_folder), "--ratings", str(csv), "--output", str(tmp_path / "head"),
            "--embeddings", str(ratings_folder / "embeddings.safetensors")], csv  # fmt: skip


def test_fits_and_writes_a_head(command, tmp_path, capsys):
    main([*command[0], "--name", "ann"])
    assert "10 ratings" in capsys.readouterr().out
    assert json.loads((tmp_path / "head" / "head.json").read_text())["about"]["ratings"] == 10


def test_the_csv_may_tell_likes_and_what_kind_of_image_it_is(command, tmp_path, trained_folder, ratings_folder):
    arguments, csv = command
    kinds = PamelaScorer.from_pretrained(trained_folder).config.metadata["group"]
    rated = [(f"img{i:03d}", i % 3 == 0, kinds[i % len(kinds)]) for i in range(10)]
    csv.write_text("image,score,group,weather\n" + "".join(f"{i},{str(s).lower()},{k},fair\n" for i, s, k in rated))
    main([*arguments, "--name", "ann"])
    metadata = {image: {"group": kind} for image, _, kind in rated}
    told = {"name": "ann", "embeddings": load_embeddings(ratings_folder / "embeddings.safetensors")}
    liked = [(image, score) for image, score, _ in rated]
    saved = UserHead.load(tmp_path / "head").row
    np.testing.assert_allclose(saved, UserHead.fit(trained_folder, liked, metadata=metadata, **told).row, atol=1e-6)
    assert np.abs(saved - UserHead.fit(trained_folder, liked, **told).row).max() > 1e-4


def test_choices_alone_will_do_and_nothing_will_not(command, tmp_path, capsys):
    arguments, csv = command
    csv.write_text("preferred,other\n" + "".join(f"img{i:03d},img{i + 10:03d}\n" for i in range(10)))
    arguments[arguments.index("--ratings")] = "--choices"
    main([*arguments, "--name", "ann"])
    assert "10 choices" in capsys.readouterr().out and (tmp_path / "head" / "head.json").is_file()
    at = arguments.index("--choices")
    with pytest.raises(SystemExit, match="Give --ratings CSV, --choices CSV, or both"):
        main([*arguments[:at], *arguments[at + 2 :], "--name", "ann"])


def test_prompts_and_metadata_of_chosen_images(command, tmp_path, trained_folder, ratings_folder):
    arguments, csv = command
    kinds = PamelaScorer.from_pretrained(trained_folder).config.metadata["group"]
    pairs = [(f"img{i:03d}", f"img{i + 10:03d}") for i in range(10)]
    csv.write_text("preferred,other\n" + "".join(f"{a},{b}\n" for a, b in pairs))
    arguments[arguments.index("--ratings")] = "--choices"
    metadata = {image: {"group": kinds[i % 2]} for i, image in enumerate(image for pair in pairs for image in pair)}
    told = tmp_path / "told.csv"
    told.write_text("image,group\n" + "".join(f"{image},{facts['group']}\n" for image, facts in metadata.items()))
    main([*arguments, "--name", "ann", "--prompts", str(told)])
    given = {"name": "ann", "embeddings": load_embeddings(ratings_folder / "embeddings.safetensors")}
    row = UserHead.fit(trained_folder, choices=pairs, metadata=metadata, **given).row
    np.testing.assert_allclose(UserHead.load(tmp_path / "head").row, row, atol=1e-6)
    told.write_text("image,weather\nimg001,fair\n")
    with pytest.raises(SystemExit, match=r"lacks prompt\. Needed: image, prompt or .*group"):
        main([*arguments, "--name", "ann", "--prompts", str(told)])


@pytest.mark.parametrize(
    ("text", "extra", "message"),
    [
        ("image,score\nimg001,9\n", [], "allowed: 1..5"),
        ("image,score\nimg001,good\n", [], "row 2: score 'good' is not a number, true or false"),
        ("Photo;Stars\n", [], "holds no answers. Add rows below the header Photo,Stars"),
        ("image,score,Rater\nimg001,3,a\nimg002,4,b\n", [], "2 participants .*remove the column Rater if"),
        ("depicted,score\nimg001,3\n", [], r"lacks image\. Needed: image, score"),
        ("image,score\nimg001,3\n", ["--rating-min", "1"], "Give both"),
        ("image,score\nimg001,3\n", ["--name", "a/b"], "no path"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(command, tmp_path, text, extra, message):
    arguments, csv = command
    csv.write_text(text)
    with pytest.raises(SystemExit, match=message):
        main([*arguments, "--name", "ann", *extra])
    assert not (tmp_path / "head").exists()


def test_a_path_may_not_leave_its_folder(trained_folder, tmp_path):
    csv = tmp_path / "mine.csv"
    csv.write_text("image,score\n../../etc/passwd,3\n")
    with pytest.raises(SystemExit, match="leads out of the folder"):
        main(["fit-user", "--model", str(trained_folder), "--ratings", str(csv), "--name", "a", "--output",
              str(tmp_path / "head")])  # fmt: skip


def test_without_a_model_the_base_is_made_of_the_images_own_features(tmp_path, siglip_encoder, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "mine.csv").write_text("image,score\n" + "".join(f"{i}.png,{i % 5 + 1}\n" for i in range(8)))
    given = ["--ratings", str(tmp_path / "mine.csv"), "--name", "me", "--output", str(tmp_path / "me")]
    main(["fit-user", *given, "--images", str(folder), "--encoder", str(siglip_encoder), "--device", "cpu"])
    assert "blank base" in capsys.readouterr().out
    base, out = str(tmp_path / "me-base"), tmp_path / "scores.csv"
    main(["score", "--model", base, "--images", str(folder), "--head", str(tmp_path / "me"), "--output", str(out)])
    scores = pd.read_csv(out)
    assert len(scores) == 12 and scores.score.std() > 0.01
    features = str(Path(base) / "embeddings.safetensors")
    (tmp_path / "mine.csv").write_text("image,score\n0.png,0\n1.png,10\n2.png,7\n")
    main(["fit-user", *given, "--embeddings", features, "--rating-min", "0", "--rating-max", "10"])
    assert PamelaScorer.from_pretrained(base).score_range == (0, 10)
