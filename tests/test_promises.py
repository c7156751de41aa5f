"""Fast samples of what PROMISES asks of the core, where no other file has them; the whole under `faults`."""

import json
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from pamela_hf import PamelaConfig, PamelaRewardModel
from pamela_hf.embeddings import EmbeddingError, Embeddings, load_embeddings
from pamela_hf.model.modeling_pamela import PamelaRewardOutput


def mutate(whole: bytes, rng: np.random.Generator) -> bytes:
    """One random change of a safetensors file: bytes flipped, cut, a header length or header of lies."""
    kind = rng.integers(5)
    if kind == 0:
        data = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 8)):
            data[at] ^= int(rng.integers(1, 256))
        return bytes(data)
    if kind == 1:
        return whole[: rng.integers(0, len(whole))]
    if kind == 2:  # a header that says it is huge
        return struct.pack("<Q", int(rng.integers(1 << 20, 1 << 62))) + whole[8:]
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    if kind == 3:  # a tensor that says it is huge
        header["image_embeds"]["shape"] = [int(rng.integers(1 << 30)), int(rng.integers(1 << 30))]
    else:
        header["image_embeds"]["data_offsets"] = [0, int(rng.integers(1 << 40))]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + whole[8 + size :]


def check_mutations(path, n: int, seed: int) -> None:
    Embeddings([f"i{i}" for i in range(6)], np.ones((6, 4)), np.ones((6, 2))).save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(seed)
    for _ in range(n):
        changed = mutate(whole, rng)
        if changed == whole:
            continue
        path.write_bytes(changed)
        try:
            loaded = load_embeddings(path)
        except EmbeddingError:
            continue
        assert (loaded.image_embeds == 1).all() and (loaded.text_embeds == 1).all()  # a change that changes nothing


def test_malformed_features_cost_an_error_not_memory(tmp_path):
    check_mutations(tmp_path / "embeddings.safetensors", 2000, seed=0)


@pytest.mark.faults
def test_malformed_features_hundred_thousand_times(tmp_path):
    check_mutations(tmp_path / "embeddings.safetensors", 100_000, seed=1)


class Canary:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def tiny() -> PamelaRewardModel:
    torch.manual_seed(0)
    config = PamelaConfig(image_embed_dim=6, text_embed_dim=0, users=["a", "b"], hidden_size=8, num_fusion_members=2)
    return PamelaRewardModel(config).eval()


def test_weights_with_a_wrong_shape_or_as_a_pickle_are_refused(tmp_path):
    tiny().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    state["user_embedding.weight"] = torch.zeros(9, 8)
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(RuntimeError):
        AutoModel.from_pretrained(tmp_path)
    file.unlink()
    for name in ("pytorch_model.bin", "model.bin", "model.pt", "model.safetensors"):
        with open(tmp_path / name, "wb") as stream:
            pickle.dump(Canary(tmp_path / "ran"), stream)
        for load in (AutoModel.from_pretrained, PamelaRewardModel.from_pretrained):
            with pytest.raises((OSError, ValueError, SafetensorError)):
                load(tmp_path)
    with pytest.raises(ValueError, match="safetensors files only"):
        AutoModel.from_pretrained(tmp_path, use_safetensors=False)
    assert not (tmp_path / "ran").exists()


def test_a_config_cannot_name_code_or_paths(tmp_path):
    tiny().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for hostile in ("../../secrets", "/etc", "https://example.org/x", "a/b/c", "..", ""):
        (tmp_path / "config.json").write_text(json.dumps({**config, "backbone": hostile}))
        with pytest.raises(ValueError, match="backbone"):
            AutoModel.from_pretrained(tmp_path)


def test_the_encoder_is_the_same_after_training_steps(siglip_encoder):
    from pamela_hf.encoder import weights_hash

    model = tiny()
    encoder = AutoModel.from_pretrained(siglip_encoder)
    model = PamelaRewardModel(PamelaConfig(image_embed_dim=32, text_embed_dim=0, users=["a"], hidden_size=8))
    model.set_backbone(encoder)
    before = weights_hash(encoder)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        out = model.train()(pixel_values=torch.randn(2, 3, 16, 16), labels=torch.tensor([0, 4]))
        out.loss.backward()
        optimizer.step()
    assert weights_hash(encoder) == before


def test_extreme_features_give_finite_scores():
    model = tiny()
    out: PamelaRewardOutput = model(image_embeds=torch.tensor([[0.0] * 6, [1e30] * 6, [-1e-30] * 6]))
    assert out.scores.isfinite().all() and out.std.isfinite().all()
