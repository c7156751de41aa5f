"""The values that rivals' authors publish for their own examples: with the real weights only, over the real net.

    HF_HUB_OFFLINE=0 python -m pytest -m hub tests/baselines/test_published_values.py

PickScore, HPSv2.1, HPSv3, LAION Aesthetics v2 and aesthetic-predictor-v2.5 publish none that could be found.
"""

import os
import urllib.request

import numpy as np
import pandas as pd
import pytest

from pamela_hf.baselines import load_baseline
from pamela_hf.embeddings import Embeddings
from pamela_hf.ratings.table import RatingData

pytestmark = [
    pytest.mark.hub,
    pytest.mark.skipif(os.environ.get("HF_HUB_OFFLINE") == "1", reason="needs weights: set HF_HUB_OFFLINE=0"),
]
FEATURES = Embeddings(["x"], np.ones((1, 2), np.float32))


def environment(rival: str) -> str:
    """The Python of the rival's own environment."""
    variable = f"{rival.upper()}_PYTHON"
    if variable not in os.environ:
        pytest.skip(f"set {variable} to the Python of an environment that has {rival}'s package")
    return f"{rival}:{os.environ[variable]}"


def scores(name: str, address: str, images: list[str], prompt: str | None, **options: str) -> np.ndarray:
    data = RatingData("example", {}, {}, open_image=lambda image_id: urllib.request.urlopen(address + image_id))
    scorer = load_baseline(name).fit(None, FEATURES, data=data, **options)
    return scorer.predict(pd.DataFrame({"image_id": images, "prompt": prompt}), FEATURES).scores


def test_imagereward_readme():
    prompt = "a painting of an ocean with clouds and birds, day time, low depth field effect"
    address = "https://raw.githubusercontent.com/THUDM/ImageReward/main/assets/images/"
    found = scores(environment("imagereward"), address, [f"{i}.webp" for i in range(1, 5)], prompt)
    published = [0.5811622738838196, 0.2745276093482971, -1.4131819009780884, -2.029569625854492]
    np.testing.assert_allclose(found, published, atol=0.02)  # "slightly different depending on the compute device"


def test_qalign_model_card():
    address = "https://raw.githubusercontent.com/Q-Future/Q-Align/main/fig/"
    found = scores(environment("qalign"), address, ["singapore_flyer.jpg"], None, task="quality")
    np.testing.assert_allclose(found, [1.911], atol=0.02)
