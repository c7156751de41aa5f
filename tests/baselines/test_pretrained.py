"""Rivals trained elsewhere, at toy size: real networks with random weights, loaded and scored as users would."""

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoTokenizer, CLIPModel, SiglipVisionModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from pamela_hf.baselines import available_baselines, load_baseline
from pamela_hf.baselines._pixels import PixelScorer
from pamela_hf.baselines.pyiqa import PyIQA
from pamela_hf.embeddings import Embeddings
from pamela_hf.encoder import FrozenEncoder, compute_embeddings
from pamela_hf.evaluation.evaluate import evaluate, run
from pamela_hf.files.images import open_image_checked
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.simulation.world import write_world

PRETRAINED = {
    "hpsv3", "hpsv2", "pickscore", "imagereward", "qalign", "laion_aesthetics", "aesthetic_predictor", "pyiqa",
    "clip_similarity", "siglip_similarity",
}  # fmt: skip


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    """A real CLIP with random weights, in the layout of a Hub repository."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import CLIPConfig, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        **small,
        "projection_dim": 24,
        "vocab_size": 96,
        "max_position_embeddings": 20,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    vision = {**small, "image_size": 16, "patch_size": 4, "projection_dim": 24}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    ).save_pretrained(folder)  # fmt: skip
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=96, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["a red house by the sea", "an old oil painting of a cat"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=20
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Ratings of the simulated demo world with their images, and no features."""
    out = tmp_path_factory.mktemp("pretrained") / "world"
    write_world(out, people=14, images=80, ratings=700, seed=3, size=32, progress=False)
    return out


@pytest.fixture
def data(world):
    """The world's ratings; `opened` lists the images asked for."""
    ratings = load_ratings(world)
    opened = []

    def open_image(image_id):
        opened.append(image_id)
        return ratings.open_image(image_id)

    counted = dataclasses.replace(ratings, open_image=open_image)
    counted.opened = opened
    return counted


@pytest.fixture(scope="module")
def foreign() -> Embeddings:
    """Features of none of the rivals' encoders."""
    return Embeddings(["x"], np.ones((1, 4), np.float32))


def pictures(data, table):
    return [open_image_checked(data.open_image(str(image_id))) for image_id in table.image_id]


def test_every_rival_states_where_it_comes_from():
    assert set(available_baselines()) >= PRETRAINED
    for name in PRETRAINED:
        module = load_baseline("pyiqa:niqe").fit.func.__module__ if name == "pyiqa" else load_baseline(name).__name__
        origin = sys.modules[module].ORIGIN
        assert "/" in origin.weights and origin.licence and origin.gpu_gb > 0, name
        assert origin.revision is None or len(origin.revision) == 40, name


def test_pickscore_is_what_its_authors_example_computes(clip_folder, data, foreign):
    """The lines of their README, on the same weights."""
    table = data.splits["val_seen"].head(20)
    scorer = load_baseline(f"pickscore:{clip_folder}").fit(data.splits["train"], foreign, data=data)
    assert (scorer.name, scorer.personal) == (f"pickscore:{clip_folder.name}", False)
    scores = scorer.predict(table, foreign).scores
    model = CLIPModel.from_pretrained(clip_folder).eval()
    processor, tokenizer = (
        CLIPImageProcessorPil.from_pretrained(clip_folder),
        AutoTokenizer.from_pretrained(clip_folder),
    )
    expected = []
    for image, prompt in zip(pictures(data, table), table.prompt):
        tokens = tokenizer(prompt, padding=True, truncation=True, max_length=20, return_tensors="pt")
        tokens.pop("token_type_ids", None)
        with torch.no_grad():
            a = model.get_image_features(**processor(image, return_tensors="pt")).pooler_output[0]
            b = model.get_text_features(**tokens).pooler_output[0]
        expected.append(float(model.logit_scale.exp().detach() * torch.cosine_similarity(a, b, dim=0)))
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    low, high = scorer.score_range
    assert np.ptp(scores) > 0 and low == -high and high == pytest.approx(float(model.logit_scale.exp().detach()))


def test_each_image_is_opened_once_and_its_batch_does_not_matter(clip_folder, data, foreign):
    table = data.splits["val_seen"]
    one, many = (load_baseline(f"pickscore:{clip_folder}").fit(None, foreign, data=data) for _ in range(2))
    one.batch_size = 1
    scores = many.predict(table, foreign).scores
    assert sorted(data.opened) == sorted(table.image_id.unique()) and len(table) > len(data.opened)
    many.predict(table.sample(frac=1, random_state=0), foreign)
    assert len(data.opened) == table.image_id.nunique()
    np.testing.assert_allclose(one.predict(table, foreign).scores, scores, atol=1e-4)
    other = table.head(1).assign(prompt="an entirely different prompt")
    assert many.predict(other, foreign).scores[0] != scores[0]


def test_similarity_reads_cached_features_where_they_are_its_own(siglip_encoder, clip_folder, data, tmp_path):
    images = data.images()
    made = compute_embeddings(
        FrozenEncoder(siglip_encoder), images.image_id.astype(str).tolist(), data.open_image, images.prompt.tolist(),
        tmp_path / "embeddings.safetensors", progress=False,
    )  # fmt: skip
    table = data.splits["test_seen"]
    without_images = dataclasses.replace(data, open_image=None)
    fit = load_baseline(f"siglip_similarity:{siglip_encoder}").fit
    cached = fit(None, made, data=without_images).predict(table, made).scores
    features = made.rows(table.image_id.astype(str))
    image, text = (torch.from_numpy(x[features]).double() for x in (made.image_embeds, made.text_embeds))
    np.testing.assert_allclose(cached, torch.cosine_similarity(image, text), atol=1e-6)
    assert np.ptp(cached) > 0 and np.abs(cached).max() <= 1
    # another encoder's features don't serve: the images are opened, or asked for
    data.opened.clear()
    altered = dataclasses.replace(made, revision="another")
    np.testing.assert_allclose(fit(None, altered, data=data).predict(table, altered).scores, cached, atol=1e-5)
    assert sorted(data.opened) == sorted(table.image_id.unique())
    with pytest.raises(ValueError, match="came without image files"):
        load_baseline(f"clip_similarity:{clip_folder}").fit(None, made, data=without_images)
    # features of a Hub id are known by id and revision, and no weights are needed then
    clip = load_baseline("clip_similarity")
    of_clip = dataclasses.replace(made, backbone=clip.ORIGIN.weights, revision=clip.ORIGIN.revision)
    scorer = clip.fit(None, of_clip, data=without_images)
    np.testing.assert_allclose(scorer.predict(table, of_clip).scores, cached)
    assert scorer.identity == f"{clip.ORIGIN.weights}@{clip.ORIGIN.revision}"
    with pytest.raises(OSError, match="needs the weights openai/clip-vit-large-patch14 at revision 32bd6428"):
        clip.fit(None, dataclasses.replace(of_clip, revision="0" * 40), data=data)


def published_head(kind: str, width: int) -> torch.nn.Sequential:
    """The two heads' layers as their authors write them, narrower."""
    linear, drop = torch.nn.Linear, torch.nn.Dropout
    torch.manual_seed(1)
    if kind == "laion":
        return torch.nn.Sequential(
            linear(width, 20), drop(0.2), linear(20, 12), drop(0.2), linear(12, 8), drop(0.1), linear(8, 4),
            linear(4, 1),
        ).eval()  # fmt: skip
    return torch.nn.Sequential(
        linear(width, 20), drop(0.5), linear(20, 12), drop(0.5), linear(12, 8), drop(0.5), linear(8, 4), drop(0.2),
        linear(4, 1),
    ).eval()  # fmt: skip


def test_laion_aesthetics_is_its_head_on_clips_normalized_features(
    clip_folder, siglip_encoder, data, foreign, tmp_path
):
    head = published_head("laion", 24)
    torch.save({f"layers.{key}": value for key, value in head.state_dict().items()}, tmp_path / "head.pth")
    fit = load_baseline(f"laion_aesthetics:{tmp_path / 'head.pth'}").fit
    scorer = fit(None, foreign, encoder=str(clip_folder), data=data)
    table = data.splits["val_seen"].head(12)
    scores = scorer.predict(table.assign(prompt=None), foreign).scores  # it reads no prompt
    model, processor = CLIPModel.from_pretrained(clip_folder).eval(), CLIPImageProcessorPil.from_pretrained(clip_folder)
    with torch.no_grad():
        features = model.get_image_features(**processor(pictures(data, table), return_tensors="pt")).pooler_output
        expected = head(features / features.norm(dim=-1, keepdim=True))[:, 0]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert np.ptp(scores) > 0 and scorer.score_range == (1.0, 10.0)
    assert scorer.identity == f"head.pth on {clip_folder.name}"
    wide = FrozenEncoder(clip_folder).embed_images(pictures(data, table.head(1)))[:, :20]
    with pytest.raises(ValueError, match="width 24, the encoder gives 20"):
        scorer.score_features(wide, None)
    with pytest.raises(OSError, match="could not be loaded"):  # never a random encoder in the place of the right one
        fit(None, foreign, encoder=str(siglip_encoder), data=data)


def test_aesthetic_predictor_is_its_head_on_the_vision_models_pooled_output(siglip_encoder, data, foreign, tmp_path):
    head = published_head("v2.5", 32)
    save_file({f"scoring_head.{k}": v for k, v in head.state_dict().items()}, tmp_path / "head.safetensors")
    fit = load_baseline(f"aesthetic_predictor:{tmp_path / 'head.safetensors'}").fit
    scorer = fit(None, foreign, encoder=str(siglip_encoder), data=data)
    table = data.splits["val_seen"].head(12)
    model = SiglipVisionModel.from_pretrained(siglip_encoder).eval()  # the class that the authors' package extends
    processor = SiglipImageProcessorPil.from_pretrained(siglip_encoder)
    with torch.no_grad():
        features = model(**processor(pictures(data, table), return_tensors="pt")).pooler_output
        expected = head(features / features.norm(dim=-1, keepdim=True))[:, 0]
    np.testing.assert_allclose(scorer.predict(table, foreign).scores, expected, atol=1e-5)


def test_a_head_with_activations_is_refused_not_read_as_linear(clip_folder, data, foreign, tmp_path):
    """The published ReLU variant has its layers at other places."""
    head = published_head("laion", 24)
    places = dict(zip((0, 2, 4, 6, 7), (0, 3, 6, 9, 11)))
    state = {}
    for key, value in head.state_dict().items():
        place, part = key.split(".")
        state[f"layers.{places[int(place)]}.{part}"] = value
    save_file(state, tmp_path / "relu.safetensors")
    with pytest.raises(ValueError, match="linear layers at these places"):
        load_baseline("laion_aesthetics").fit(None, foreign, variant=str(tmp_path / "relu.safetensors"), data=data)


class _Canary:
    def __reduce__(self):
        return (Path.touch, (Path("canary"),))


def test_a_heads_pickle_runs_no_code(data, foreign, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"layers.0.weight": _Canary()}, tmp_path / "head.pth")
    with pytest.raises(OSError, match="could not be loaded"):
        load_baseline("laion_aesthetics").fit(None, foreign, variant="head.pth", data=data)
    assert not Path("canary").exists()


class Darkness(torch.nn.Module):
    """A metric as `pyiqa.create_metric` makes them: (1, 3, H, W) in 0..1, lower is better, 1..5 by chance."""

    lower_better, score_range = True, "~1, 5"

    def forward(self, x):
        assert x.ndim == 4 and x.shape[:2] == (1, 3) and x.min() >= 0 and x.max() <= 1
        return 5 - 4 * x.mean(dim=(1, 2, 3), keepdim=True)


def test_a_metrics_direction_and_range_count_and_its_scores_are_no_ratings(data, foreign):
    table = data.splits["val_seen"]
    fits = {name: PyIQA(name, Darkness(), None) for name in ("darkness", "brightness")}
    fits["brightness"].higher_is_better = True
    for scorer in fits.values():
        scorer._open_image = lambda image_id: open_image_checked(data.open_image(image_id))
    assert fits["darkness"].score_range == (1.0, 5.0) and not fits["darkness"].higher_is_better
    brightness = np.array([np.asarray(image).mean() / 255 for image in pictures(data, table)])
    np.testing.assert_allclose(fits["darkness"].predict(table, foreign).scores, 5 - 4 * brightness, atol=1e-5)
    report = evaluate(list(fits.values()), data, foreign, splits=["val_seen"], bootstrap=0)
    cells = report["splits"]["val_seen"]
    assert cells["darkness"]["user_srocc"]["value"] == pytest.approx(-cells["brightness"]["user_srocc"]["value"])
    assert cells["darkness"]["user_srocc"]["value"] != 0
    for metric in ("rmse", "coverage_80"):  # a range of 1..5 is not yet the scale that these people rated on
        assert np.isnan(cells["darkness"][metric]["value"]), metric
    assert report["meta"]["scorers"]["darkness"]["score_range"] == [1.0, 5.0]


class Broken(PixelScorer):
    origin = SimpleNamespace(weights="none", revision=None)

    def score_images(self, images, prompts):
        return np.full(len(images), np.nan)


def test_what_cannot_be_scored_is_refused(clip_folder, data, foreign, monkeypatch):
    table, name = data.splits["val_seen"], f"pickscore:{clip_folder}"
    with pytest.raises(ValueError, match="one finite score each"):
        Broken("broken", lambda image_id: Image.new("RGB", (4, 4))).predict(table, foreign)
    scorer = load_baseline(name).fit(None, foreign, data=data)
    silent = table.assign(prompt=table.prompt.astype(object).where(np.arange(len(table)) != 5))
    with pytest.raises(ValueError, match=rf"{table.image_id.iloc[5]}' has none \(1 rows\)"):
        scorer.predict(silent, foreign)
    for missing in (None, dataclasses.replace(data, open_image=None)):
        with pytest.raises(ValueError, match="scores pixels"):
            load_baseline(name).fit(None, foreign, data=missing)
    with pytest.raises(
        OSError, match=r"needs the weights yuvalkirstain/PickScore_v1 at revision a4e4367c.*hf download"
    ):
        load_baseline("pickscore").fit(None, foreign, data=data)
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    for name, extra in (("pyiqa:niqe", "pyiqa"), ("hpsv2", "hpsv2")):
        with pytest.raises(RuntimeError, match=rf"pip install 'pamela_hf\[{extra}\]'"):
            load_baseline(name).fit(None, foreign, data=data)


def test_variants_are_named_after_a_colon():
    with pytest.raises(ValueError, match="such as 'pyiqa:musiq'"):
        load_baseline("pyiqa")
    with pytest.raises(ValueError, match="one kind only"):
        load_baseline("ridge:x")
    with pytest.raises(ValueError, match="'nothing' does not exist"):
        load_baseline("nothing:x")
    assert load_baseline("pickscore:folder").fit.keywords == {"variant": "folder"}


def test_judged_beside_a_model_on_the_demos_world(world, clip_folder, siglip_encoder, tmp_path):
    from toys import TINY_MODEL

    from pamela_hf.training.config import TrainingConfig
    from pamela_hf.training.train import train

    data = load_ratings(world)
    images = data.images()
    made = compute_embeddings(
        FrozenEncoder(siglip_encoder), images.image_id.astype(str).tolist(), data.open_image, images.prompt.tolist(),
        tmp_path / "embeddings.safetensors", progress=False,
    )  # fmt: skip
    config = TrainingConfig(epochs=1, users_per_batch=4, images_per_user=8, model=TINY_MODEL)
    train(config, data, made, tmp_path / "model", encoder=siglip_encoder, progress=False)
    names = [f"pickscore:{clip_folder}", f"siglip_similarity:{siglip_encoder}", "ridge"]
    report = run(
        tmp_path / "model", world, tmp_path / "eval", baselines=names, splits=["val_seen"], bootstrap=20,
        embeddings=tmp_path / "embeddings.safetensors",
    )  # fmt: skip
    cells = report["splits"]["val_seen"]
    pickscore, similarity = f"pickscore:{clip_folder.name}", f"siglip_similarity:{siglip_encoder.name}"
    assert set(cells) == {"pamela", "pamela@no_user", "pamela@wrong_user", pickscore, similarity, "ridge"}
    assert report["meta"]["simulated"] and f"pamela - {pickscore}" in report["differences"]["val_seen"]
    for name in (pickscore, similarity):
        assert np.isfinite(cells[name]["user_srocc"]["value"]) and np.isnan(cells[name]["rmse"]["value"])
    text = (tmp_path / "eval" / "report.json").read_text()
    assert str(clip_folder.parent) not in text and str(siglip_encoder.parent) not in text
    assert report["meta"]["scorers"][pickscore]["identity"] == clip_folder.name  # not the weights that were not used
