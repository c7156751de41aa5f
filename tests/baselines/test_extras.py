"""Rivals that run through open_clip and pyiqa, where those are installed (`pip install 'pamela_hf[hpsv2,pyiqa]'`)."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pamela_hf.baselines import load_baseline
from pamela_hf.embeddings import Embeddings
from pamela_hf.ratings.table import RatingData

FEATURES = Embeddings(["x"], np.ones((1, 2), np.float32))


@pytest.fixture
def data() -> RatingData:
    rng = np.random.default_rng(0)
    files = {}
    for i in range(3):
        noise = rng.integers(0, 40 * (i + 1), (64 + 8 * i, 96, 3), dtype=np.uint8)  # of different sizes and contrasts
        Image.fromarray(noise).save(file := io.BytesIO(), "PNG")
        files[f"i{i}"] = file.getvalue()
    table = pd.DataFrame({"image_id": list(files), "prompt": ["a cat", "a dog by the sea", "x"]})
    return RatingData("toy", {"train": table}, {}, open_image=lambda image_id: io.BytesIO(files[image_id]))


def test_hpsv2_is_the_cosine_of_its_checkpoints_features(data, tmp_path, monkeypatch):
    open_clip = pytest.importorskip("open_clip")
    from pamela_hf.baselines import hpsv2

    small = {"layers": 1, "width": 32}
    config = {
        "embed_dim": 16,
        "vision_cfg": {**small, "image_size": 28, "head_width": 16, "patch_size": 14},
        "text_cfg": {**small, "context_length": 77, "vocab_size": 49408, "heads": 2},
    }
    (tmp_path / "tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny.json")
    model = open_clip.create_model("tiny").eval()
    torch.save({"epoch": 1, "state_dict": model.state_dict()}, tmp_path / "hps.pt")  # as the authors saved theirs
    loaded = hpsv2.load("hpsv2", str(tmp_path / "hps.pt"), "tiny")
    scorer = hpsv2.HPSv2("hpsv2", *loaded, None)
    images = [Image.open(data.open_image(image_id)) for image_id in data.splits["train"].image_id]
    prompts = data.splits["train"].prompt.tolist()
    with torch.no_grad():
        pixels = torch.stack([loaded[1](image) for image in images])
        text = model.encode_text(open_clip.get_tokenizer("tiny")(prompts))
        expected = torch.cosine_similarity(model.encode_image(pixels), text)
    np.testing.assert_allclose(scorer.score_images(images, prompts), expected, atol=1e-5)
    # nothing of a picture is cut off: its longer side fits, and black fills the rest
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    white = loaded[1](Image.new("RGB", (56, 28), "white")) * std + mean
    assert white[:, 7:21].min() > 0.99 and white[:, :7].abs().max() < 1e-4 and white[:, 21:].abs().max() < 1e-4


def test_a_metric_of_pyiqa_by_its_name(data):
    pyiqa = pytest.importorskip("pyiqa")
    table = data.splits["train"]
    for name, higher in (("piqe", False), ("entropy", True)):  # these two have no weights
        scorer = load_baseline(f"pyiqa:{name}").fit(None, FEATURES, data=data)
        metric = pyiqa.create_metric(name, device="cpu")
        images = [np.asarray(Image.open(data.open_image(i)), np.float32) / 255 for i in table.image_id]
        expected = [float(metric(torch.from_numpy(x).permute(2, 0, 1)[None])) for x in images]
        np.testing.assert_allclose(scorer.predict(table, FEATURES).scores, expected, rtol=1e-6)
        assert scorer.higher_is_better is higher and np.ptp(expected) > 0
    for name in ("psnr", "fid", "nothing"):  # needs a reference, judges sets, does not exist
        with pytest.raises(ValueError, match=r"scores one image by itself; it has .*niqe"):
            load_baseline(f"pyiqa:{name}").fit(None, FEATURES, data=data)
