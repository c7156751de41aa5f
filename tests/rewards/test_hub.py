"""The reward as a transformers pipeline, an endpoint's handler and a script alone; in a folder as it is published."""

import base64
import io
import json
import subprocess
import sys

import numpy as np
import pytest

from pamela_hf import PamelaProcessor, PamelaRewardModel
from pamela_hf.heads import UserHead
from pamela_hf.rewards.hub import FILES, TASK, add_hub_files
from pamela_hf.scoring import PamelaScorer


@pytest.fixture(scope="module")
def published(reward_folder, tmp_path_factory):
    """The reward's folder as `pamela push` puts it together."""
    folder = tmp_path_factory.mktemp("published") / "model"
    PamelaRewardModel.from_pretrained(reward_folder).save_pretrained(folder)
    PamelaProcessor.from_pretrained(reward_folder).save_pretrained(folder)
    add_hub_files(folder)
    return folder


@pytest.fixture(scope="module")
def scorer(reward_folder) -> PamelaScorer:
    return PamelaScorer.from_pretrained(reward_folder, device="cpu")


def test_a_registered_pipeline(reward_folder, scorer, images, tmp_path):
    from transformers import pipeline

    rate = pipeline(task=TASK, model=reward_folder, device="cpu")
    images[0].save(tmp_path / "a.png")
    score, std = scorer.score(images[0], "a photo of a cat", "ann")
    for image in (images[0], str(tmp_path / "a.png")):
        found = rate(image, user="ann", prompt="a photo of a cat")
        assert found == {"score": pytest.approx(score[0], abs=1e-5), "std": pytest.approx(std[0], abs=1e-5)}
    many = rate(images, user="bob")
    np.testing.assert_allclose([one["score"] for one in many], scorer.score(images, user="bob").scores, atol=1e-5)
    features = np.random.default_rng(0).normal(size=(6, scorer.config.image_embed_dim)).astype(np.float32)
    head = UserHead.fit(scorer, [(one, 1 + i % 5) for i, one in enumerate(features)], name="eva")
    assert rate(images[0], user=head)["score"] == pytest.approx(scorer.score(images[0], user=head).scores[0], abs=1e-5)
    with pytest.raises(ValueError, match="who= is not an argument"):
        rate(images[0], who="ann")


def test_the_published_folder_works_without_this_package(published, scorer, images, fresh_process, tmp_path):
    images[0].save(tmp_path / "a.png")
    code = """
import base64, json, sys
from transformers import pipeline
rate = pipeline(task="personal-image-reward", model=sys.argv[1], trust_remote_code=True, device="cpu")
print(json.dumps(rate(sys.argv[2], user="ann")))
sys.path.insert(0, sys.argv[1])
from handler import EndpointHandler
image = base64.b64encode(open(sys.argv[2], "rb").read()).decode()
handle = EndpointHandler(sys.argv[1])
request = {"images": [image, "-", "data:image/png;base64," + image], "prompts": ["a cat", None, None]}
print(json.dumps(handle({"inputs": {**request, "users": ["ann", None]}})))
print(json.dumps(handle({"inputs": image})))
print(json.dumps(handle({"inputs": {"images": [image], "users": ["dan"]}})))
print(json.dumps(handle({"inputs": {"images": []}})))
"""
    lines = fresh_process(code, published, tmp_path / "a.png", with_package=False).strip().splitlines()[-5:]
    rated, grid, one, unknown, empty = map(json.loads, lines)
    assert rated["score"] == pytest.approx(scorer.score(images[0], user="ann").scores[0], abs=1e-5)
    expected = scorer.score([images[0]] * 2, ["a cat", None], users=["ann", None]).scores
    np.testing.assert_allclose([grid["scores"][0], grid["scores"][2]], expected, atol=1e-5)
    assert grid["scores"][1] == [None, None] and list(grid["errors"]) == ["1"] and grid["users"] == ["ann", None]
    assert one["scores"][0][0] == pytest.approx(scorer.score(images[0]).scores[0], abs=1e-5)
    assert "'dan' is not among" in unknown["error"] and "must be a list" in empty["error"]


def test_the_script_scores_a_folder_alone(published, scorer, images, tmp_path):
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(images):
        image.save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "cut.png").write_bytes(b"\x89PNG")
    command = [sys.executable, published / "score_images.py", published, tmp_path / "photos", tmp_path / "out.csv"]
    done = subprocess.run([*map(str, command), "--user", "ann"], capture_output=True, text=True, check=True)
    assert "4 images scored" in done.stdout and "1 left out" in done.stdout and "cut.png" in done.stderr
    rows = [line.split(",") for line in (tmp_path / "out.csv").read_text().split()]
    assert rows[0] == ["image", "score", "std"]
    scores = scorer.score(images, user="ann").scores
    assert [row[0] for row in rows[1:]] == [f"{i}.png" for i in np.argsort(-scores)]
    np.testing.assert_allclose([float(row[1]) for row in rows[1:]], np.sort(scores)[::-1], atol=1e-5)


def test_its_files_import_nothing_of_this_package(published):
    for name in FILES:
        text = (published / name).read_text()
        assert "import pamela_hf" not in text.replace("`import pamela_hf.rewards.hub`", "") and "from ." not in text
    assert "transformers" in (published / "requirements.txt").read_text()


def test_the_handler_decodes_what_the_server_decodes(images):
    from pamela_hf.rewards.hub.handler import decode

    stream = io.BytesIO()
    images[0].save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode()
    for sent in (text, f"data:image/png;base64,{text}"):
        assert np.array_equal(decode(sent), images[0])
    for wrong in ("/etc/passwd", "http://example.org/a.png", "AAAA", 3, ""):
        with pytest.raises(ValueError):
            decode(wrong)
