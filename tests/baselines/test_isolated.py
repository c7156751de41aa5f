"""Rivals in a Python of their own: one process for all images, and whatever goes wrong there is said here."""

import importlib.util
import io
import os
import textwrap
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pamela_hf.baselines import load_baseline
from pamela_hf.baselines._isolated import WORKER, IsolatedScorer
from pamela_hf.baselines._pixels import Origin
from pamela_hf.embeddings import Embeddings
from pamela_hf.ratings.table import RatingData

ORIGIN = Origin("someone/weights", None, "MIT", 1, "their-package==1.0")
FEATURES = Embeddings(["x"], np.ones((1, 2), np.float32))


def scorer_with(tmp_path, body: str) -> IsolatedScorer:
    """A scorer whose worker is `body`, which defines `load`."""
    script = tmp_path / "worker.py"
    serve = f"import sys; sys.path.insert(0, {str(WORKER.parent)!r}); from _worker import serve"
    script.write_text(f"{serve}\n{textwrap.dedent(body)}\nserve(load)\n")
    image = Image.new("RGB", (6, 4))

    def open_image(image_id):
        return Image.fromarray(np.full((4, 6, 3), int(image_id[1:]), np.uint8)) if image_id != "black" else image

    return IsolatedScorer("rival", ORIGIN, None, open_image, "their-package==1.0", worker=script)


def table(n: int) -> pd.DataFrame:
    return pd.DataFrame({"image_id": [f"i{k}" for k in range(n)], "prompt": [f"Häuser\n№ {k % 3}" for k in range(n)]})


def test_one_process_loads_once_and_scores_every_batch(tmp_path):
    scorer = scorer_with(
        tmp_path,
        """
        import os, sys
        from pathlib import Path
        def load():
            print("packages print what they like", flush=True)
            os.system("echo and so do their children")
            with open(Path(__file__).with_name("loads"), "a") as file:
                file.write("x")
            from PIL import Image
            def score(images, prompts):
                print("noise", flush=True)
                return [Image.open(i).getpixel((0, 0))[1] + len(p) / 100 for i, p in zip(images, prompts)]
            return score
        """,
    )
    asked = table(30)
    scores = scorer.predict(asked, FEATURES).scores
    np.testing.assert_allclose(scores, np.arange(30) + asked.prompt.str.len() / 100)
    np.testing.assert_allclose(scorer.predict(asked[::-1], FEATURES).scores, scores[::-1])
    assert (tmp_path / "loads").read_text() == "x"
    process = scorer._process
    del scorer
    deadline = time.time() + 10
    while process.poll() is None and time.time() < deadline:
        time.sleep(0.02)
    assert process.poll() == 0  # it ends with the scorer


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def load():\n    import a_package_nobody_has", "No module named 'a_package_nobody_has'"),
        ("def load():\n    raise OSError('no connection to the Hub')", "no connection to the Hub"),
        ("import os\ndef load():\n    os._exit(7)", "ended with 7"),
    ],
)
def test_a_rival_that_does_not_load_says_what_it_needs(tmp_path, body, message):
    with pytest.raises(RuntimeError, match=message) as raised:
        scorer_with(tmp_path, body)
    for part in ("their-package==1.0", "someone/weights", "licence: MIT", "rival:ENV/bin/python"):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("raise MemoryError('CUDA out of memory')", "CUDA out of memory"),
        ("os._exit(9)", "ended with 9"),
        ("return [1.0]", "one finite score each"),
        ("return [float('nan')] * len(images)", "one finite score each"),
    ],
)
def test_a_failure_while_scoring_is_no_score(tmp_path, line, message):
    scorer = scorer_with(
        tmp_path, f"import os\ndef load():\n    def score(images, prompts):\n        {line}\n    return score"
    )
    with pytest.raises((RuntimeError, ValueError), match=message):
        scorer.predict(table(3), FEATURES)


@pytest.mark.parametrize(
    ("name", "package", "weights"),
    [
        ("hpsv3", "hpsv3", "MizzenAI/HPSv3"),
        ("imagereward", "ImageReward", "THUDM/ImageReward"),
    ],
)
def test_without_its_package_a_rival_names_package_weights_and_environment(name, package, weights):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed here")
    data = RatingData("toy", {}, {}, open_image=lambda image_id: io.BytesIO())
    with pytest.raises(RuntimeError, match=f"No module named '{package}'") as raised:
        load_baseline(name).fit(None, FEATURES, data=data)
    assert weights in str(raised.value) and f"{name}:ENV/bin/python" in str(raised.value)
    with pytest.raises(RuntimeError, match="cannot be started"):
        load_baseline(f"{name}:{os.sep}no{os.sep}python").fit(None, FEATURES, data=data)
    with pytest.raises(ValueError, match="scores pixels"):
        load_baseline(name).fit(None, FEATURES)


def test_qalign_is_asked_for_one_of_its_tasks_without_a_prompt():
    data = RatingData("toy", {}, {}, open_image=lambda image_id: io.BytesIO())
    module = load_baseline("qalign")
    assert not module.QAlign.uses_prompt and not module.QAlign.rating_units
    with pytest.raises(ValueError, match=r"task='beauty'.*aesthetics, quality"):
        module.fit(None, FEATURES, data=data, task="beauty")
    with pytest.raises(RuntimeError, match=r"cannot be started.*q-future/one-align.*transformers==4\.36\.1"):
        module.fit(None, FEATURES, data=data, variant=f"{os.sep}no{os.sep}python")


def test_the_process_gets_no_access_token(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_never_to_be_passed_on")
    body = """
    import os
    def load():
        return lambda images, prompts: [float("hf_never" in str(dict(os.environ)))] * len(images)
    """
    assert (scorer_with(tmp_path, body).predict(table(2), FEATURES).scores == 0).all()
