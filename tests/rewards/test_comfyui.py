"""ComfyUI's nodes: the same scores as the scorer, in both of its node APIs.

COMFYUI=/path/to/ComfyUI runs the test of the current API with ComfyUI's own; otherwise with its interface only.
"""

import asyncio
import importlib
import importlib.util
import os
import sys
import types

import numpy as np
import pytest
import torch

from pamela_hf.heads import UserHead
from pamela_hf.rewards.comfyui.pack import write_pack
from pamela_hf.scoring import PamelaScorer


@pytest.fixture(scope="module")
def scorer(reward_folder) -> PamelaScorer:
    return PamelaScorer.from_pretrained(reward_folder, device="cpu")


@pytest.fixture
def batch(images) -> torch.Tensor:
    """An IMAGE as ComfyUI's own loader makes it: `(4, 24, 20, 3)` float 0–1."""
    return torch.from_numpy(np.stack([np.asarray(image.resize((20, 24))) for image in images]).astype(np.float32) / 255)


def load_pack(folder):
    """A pack as ComfyUI's `load_custom_node` imports it."""
    spec = importlib.util.spec_from_file_location("pamela_pack", folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def classic(tmp_path, monkeypatch):
    """The pack's nodes where ComfyUI has no V3 API."""
    monkeypatch.setitem(sys.modules, "comfy_api", None)
    write_pack(tmp_path / "pamela")
    return load_pack(tmp_path / "pamela").NODE_CLASS_MAPPINGS


def run(node, **inputs):
    made = node()
    return getattr(made, node.FUNCTION)(**inputs)


def test_the_nodes_score_as_the_scorer_does(classic, reward_folder, scorer, batch, tmp_path):
    reward, person = run(classic["PamelaLoadReward"], model=reward_folder, user="ann")
    reward.scorer.model.cpu()
    pixels = [(picture * 255).round().byte().numpy() for picture in batch]
    asked = {"reward": reward, "images": batch, "prompt": "a photo of a cat", "person": person}
    scores, std, text = run(classic["PamelaScore"], **asked)
    expected = scorer.score(pixels, "a photo of a cat", "ann")
    np.testing.assert_allclose(scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(std, expected.std, atol=1e-5)
    assert text.splitlines()[0] == f"{scores[0]:.3f} ± {std[0]:.3f}"
    features = np.random.default_rng(0).normal(size=(6, scorer.config.image_embed_dim)).astype(np.float32)
    UserHead.fit(scorer, [(one, 1 + i % 5) for i, one in enumerate(features)], name="eva").save(tmp_path / "eva")
    (head,) = run(classic["PamelaLoadHead"], reward=reward, head=str(tmp_path / "eva"))
    scores, _, _ = run(classic["PamelaScore"], reward=reward, images=batch, person=head)
    np.testing.assert_allclose(scores, scorer.score(pixels, user=head).scores, atol=1e-5)


def test_the_best_of_several_prompts_batches(classic, reward_folder, scorer, batch):
    reward, _ = run(classic["PamelaLoadReward"], model=reward_folder, user="bob")
    node = classic["PamelaPickBest"]
    assert node.INPUT_IS_LIST and node.OUTPUT_IS_LIST == (False, True, True)
    prompts = ["a photo of a cat", "the sea at night"]
    best, scores, texts = run(node, reward=[reward], images=[batch[:2], batch[2:]], k=[3], prompts=prompts)
    pixels = [(picture * 255).round().byte().numpy() for picture in batch]
    asked = [prompts[0]] * 2 + [prompts[1]] * 2
    expected = scorer.score(pixels, asked, "bob").scores
    order = np.argsort(-expected)[:3]
    torch.testing.assert_close(best, batch[order])
    np.testing.assert_allclose(scores, expected[order], atol=1e-5)
    assert texts == [asked[i] for i in order]
    with pytest.raises(ValueError, match="several sizes"):
        run(node, reward=[reward], images=[batch[:1], batch[:1, :16]], k=[2])


def test_variants_of_a_prompt_follow_the_seed(classic):
    node = classic["PamelaPromptVariants"]
    (first,) = run(node, prompt="a cottage by the sea", n=5, seed=3)
    assert first[0] == "a cottage by the sea" and len(set(first)) == 6
    assert run(node, prompt="a cottage by the sea", n=5, seed=3)[0] == first
    assert run(node, prompt="a cottage by the sea", n=5, seed=4)[0] != first


def interface(monkeypatch):
    """`comfy_api.latest` as far as a node pack uses it (Comfy-Org/ComfyUI, comfy_api/latest/_io.py)."""

    class Port:
        def __init__(self, id, **options):
            self.id, self.options = id, options

    class Schema(types.SimpleNamespace):
        pass

    def of_type(name):
        return types.SimpleNamespace(io_type=name, Input=Port, Output=Port)

    class ComfyNode:
        @classmethod
        def GET_SCHEMA(cls):
            return cls.define_schema()

    class NodeOutput:
        def __init__(self, *args):
            self.args, self.result = args, args

    io = types.SimpleNamespace(
        String=of_type("STRING"), Int=of_type("INT"), Float=of_type("FLOAT"), Image=of_type("IMAGE"), Custom=of_type,
        Schema=Schema, ComfyNode=ComfyNode, NodeOutput=NodeOutput,
    )  # fmt: skip
    latest = types.ModuleType("comfy_api.latest")
    latest.io, latest.ComfyExtension = io, type("ComfyExtension", (), {})
    package = types.ModuleType("comfy_api")
    package.latest = latest
    monkeypatch.setitem(sys.modules, "comfy_api", package)
    monkeypatch.setitem(sys.modules, "comfy_api.latest", latest)


def test_the_current_api(monkeypatch, tmp_path, reward_folder, scorer, batch):
    if place := os.environ.get("COMFYUI"):
        monkeypatch.syspath_prepend(place)
    else:
        interface(monkeypatch)
    monkeypatch.delitem(sys.modules, "pamela_hf.rewards.comfyui.v3", raising=False)
    write_pack(tmp_path / "pamela")
    extension = asyncio.run(load_pack(tmp_path / "pamela").comfy_entrypoint())
    nodes = {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}
    assert sorted(nodes) == [
        "PamelaLoadHead", "PamelaLoadReward", "PamelaPickBest", "PamelaPromptVariants", "PamelaScore"
    ]  # fmt: skip
    if place:
        info = nodes["PamelaPickBest"].GET_NODE_INFO_V1()
        assert info["output_is_list"] == [False, True, True] and "k" in info["input"]["required"]
        assert "person" in info["input"]["optional"] and info["output"][0] == "IMAGE"
    reward, person = nodes["PamelaLoadReward"].execute(model=reward_folder, user="ann").args
    scores = nodes["PamelaScore"].execute(reward=reward, images=batch, person=person).args[0]
    pixels = [(picture * 255).round().byte().numpy() for picture in batch]
    np.testing.assert_allclose(scores, scorer.score(pixels, user="ann").scores, atol=1e-5)


def test_the_pack_replaces_an_older_one_and_nothing_else(tmp_path):
    folder = tmp_path / "pamela"
    files = ["README.md", "__init__.py", "pyproject.toml", "requirements.txt"]
    assert write_pack(folder) == write_pack(folder) == files
    (folder / "mine.py").write_text("x = 1")
    with pytest.raises(ValueError, match=r"holds mine\.py"):
        write_pack(folder)
    with pytest.raises(ValueError, match="is a file"):
        write_pack(folder / "mine.py")
    assert (folder / "mine.py").read_text() == "x = 1"
