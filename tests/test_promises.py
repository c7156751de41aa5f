"""Fast samples of what PROMISES asks of the core, where no other file has them; the whole under `faults`."""

import ast
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import peak_of
from promises import PROMISES
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
    print(f"{n} mutated files of features: an error, or nothing changed")


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


# -- the table of proofs -----------------------------------------------------------------------------------------------
def test_every_proof_exists_and_every_marked_test_is_a_proof():
    """`make faults` runs what `promises.py` lists, and nothing else is marked."""
    here = Path(__file__).parent
    functions, marked = set(), set()
    for file in here.rglob("test_*.py"):
        text = file.read_text(encoding="utf-8")
        if "mark.faults" not in text and not any(str(file.relative_to(here)) in p.test for p in proofs()):
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                name = f"{file.relative_to(here).as_posix()}::{node.name}"
                functions.add(name)
                if any("mark.faults" in ast.unparse(decorator) for decorator in node.decorator_list):
                    marked.add(name)
    named = [proof.test for proof in proofs()]
    assert len(named) == len(set(named)) and set(named) <= functions and marked <= set(named)
    assert [promise.number for promise in PROMISES] == list(range(1, 26))


def proofs() -> list:
    return [proof for promise in PROMISES for proof in promise.proofs]


# -- features: a stranger's header -----------------------------------------------------------------------------------
def with_header(path, change) -> None:
    """An embeddings file whose header `change` made: a function of the header's dict to text or another dict."""
    Embeddings([f"i{i}" for i in range(6)], np.ones((6, 4)), np.ones((6, 2))).save(path)
    whole = path.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    changed = change(json.loads(whole[8 : 8 + size]))
    text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + size :])


def meta(**values):
    """Entries of the header's metadata, and no sha256: the schema is looked at first."""

    def change(header):
        kept = {k: v for k, v in header["__metadata__"].items() if k == "image_ids"}
        return {**header, "__metadata__": {**kept, **values}}

    return change


def tensor(**values):
    return lambda header: {**header, "image_embeds": {**header["image_embeds"], **values}}


IDS = json.dumps([f"i{i}" for i in range(6)])
HOSTILE_HEADERS = {
    "deep ids": meta(image_ids="[" * 100_000),
    "deep header": lambda h: b'{"a":' * 50_000,
    "digits": meta(image_ids="[" + "9" * 5000 + "]"),
    "digits in a shape": lambda h: json.dumps(h).replace("[6, 4]", "[6, " + "9" * 5000 + "]").encode(),
    "float4": tensor(dtype="F4"),
    "text dtype": tensor(dtype="text"),
    "int8": tensor(dtype="I8"),
    "list dtype": tensor(dtype=["F32"]),
    "width 0": tensor(shape=[6, 0], data_offsets=[0, 0]),
    "width 10^9": tensor(shape=[6, 10**9]),
    "three axes": tensor(shape=[6, 2, 2]),
    "negative": tensor(shape=[-6, -4]),
    "offsets": tensor(data_offsets=[0, 10**12]),
    "backwards": tensor(data_offsets=[96, 0]),
    "a string of ids": meta(image_ids='"abcdef"'),
    "a dict of ids": meta(image_ids='{"a": 1}'),
    "ids of lists": meta(image_ids="[[1]]"),
    "ids of None": meta(image_ids="[null, null, null, null, null, null]"),
    "ids twice": meta(image_ids='["a","a","b","c","d","e"]'),
    "no ids": meta(image_ids=""),
    "ids too few": meta(image_ids='["a"]'),
    "an id of 5,000": meta(image_ids=json.dumps(["x" * 5000] * 6)),
    "half a letter": meta(image_ids='["\\ud800","b","c","d","e","f"]'),
    "empty id": meta(image_ids='["","b","c","d","e","f"]'),
    "unknown without": meta(no_prompt_ids='["x"]'),
    "keys of others": meta(source_keys='["x"]'),
    "escape": meta(backbone="\x1b[31mx/y"),
    "long name": meta(backbone="x" * 5000),
    "metadata of numbers": lambda h: {**h, "__metadata__": {"image_ids": 5}},
    "metadata list": lambda h: {**h, "__metadata__": []},
    "a list": lambda h: [h],
    "another tensor": lambda h: {**h, "more": h["text_embeds"]},
    "a key twice": lambda h: json.dumps(h).replace("{", '{"image_embeds": {}, ', 1).encode(),
    "extra key": tensor(more=1),
    "nothing": lambda h: b"{}",
    "no json": lambda h: b"\xff\xfe",
    "empty": lambda h: b"",
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE_HEADERS)
def test_a_strangers_header_is_our_own_short_error(tmp_path, what):
    path = tmp_path / "embeddings.safetensors"
    with_header(path, HOSTILE_HEADERS[what])
    with pytest.raises(EmbeddingError, match=r"embeddings\.safetensors") as caught:
        load_embeddings(path)
    assert len(str(caught.value)) < 600 and str(caught.value).isprintable()


def test_a_header_of_ids_alone_is_read_and_numbers_are_ids(tmp_path):
    path = tmp_path / "embeddings.safetensors"
    with_header(path, meta(image_ids="[1, 2, 3, 4, 5, 6]"))
    assert load_embeddings(path).image_ids == list("123456")


@pytest.mark.parametrize("value", [3e38, -3e38, 1e7, float("nan"), float("inf")])
def test_features_that_no_encoder_makes_are_refused(tmp_path, value):
    path = tmp_path / "embeddings.safetensors"
    features = torch.ones(6, 4)
    features[3, 2] = value
    save_file({"image_embeds": features}, path, metadata={"image_ids": IDS})
    with pytest.raises(EmbeddingError, match=r"holds a value of|is not finite"):
        load_embeddings(path)


def test_hostile_headers_cost_no_memory(tmp_path):
    paths = []
    for number, change in enumerate(HOSTILE_HEADERS.values()):
        paths.append(tmp_path / f"{number}.safetensors")
        with_header(paths[-1], change)
    code = """
import json, sys
from pamela_hf.embeddings import EmbeddingError, load_embeddings
paths, before, refused = json.loads(sys.argv[1]), peak(), 0
for path in paths:
    try:
        load_embeddings(path)
    except EmbeddingError:
        refused += 1
print(refused, peak() - before)
"""
    refused, megabytes = peak_of(code, json.dumps([str(path) for path in paths]))
    print(f"{refused:.0f} refusals cost {megabytes:.1f} MB")
    assert refused == len(HOSTILE_HEADERS) >= 35 and megabytes < 50


# -- weights ---------------------------------------------------------------------------------------------------------
def check_weights(folder, n: int, seed: int) -> int:
    """Mutates a model's file of weights `n` times; each is refused by an error that says so, or changes no weight.
    Returns how many were tried."""
    tiny().save_pretrained(folder)
    file, right = folder / "model.safetensors", PamelaRewardModel.from_pretrained(folder).state_dict()
    whole, rng, refused, harmless = file.read_bytes(), np.random.default_rng(seed), 0, 0
    size = struct.unpack("<Q", whole[:8])[0]
    for kind in range(n):
        changed = bytearray(whole)
        if kind % 3 == 0:  # one bit, anywhere in the numbers
            changed[rng.integers(8 + size, len(whole))] ^= 1 << int(rng.integers(8))
        elif kind % 3 == 1:
            changed = changed[: rng.integers(0, len(whole))]
        else:
            changed[rng.integers(0, 8 + size)] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        try:
            loaded = PamelaRewardModel.from_pretrained(folder).state_dict()
        except (ValueError, OSError) as error:
            assert any(word in str(error) for word in ("weights", "safetensors", "damaged")), error
            refused += 1
        else:  # a bit of the header that means nothing, such as the spaces at its end
            assert kind % 3 == 2 and all(torch.equal(right[name], loaded[name]) for name in right)
            harmless += 1
    file.write_bytes(whole)
    print(f"{refused + harmless} altered weights: {refused} refused, {harmless} changes that change nothing")
    assert refused >= 0.9 * n
    return refused + harmless


def test_altered_weights_are_refused(tmp_path):
    """PROMISES 22, for a model."""
    assert check_weights(tmp_path, 60, seed=0) == 60


@pytest.mark.faults
def test_altered_weights_are_refused_two_thousand_times(tmp_path):
    assert check_weights(tmp_path, 2000, seed=1) == 2000


# -- batches ---------------------------------------------------------------------------------------------------------
def check_batches(reward_folder, tmp_path, batches: int) -> float:
    """Scores of pictures in random batches, in random order, with random company; the largest difference from each
    picture's score alone."""
    from PIL import Image

    from pamela_hf.scoring import PamelaScorer

    rng = np.random.default_rng(0)
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
    paths = []
    for number in range(24):
        paths.append(tmp_path / f"{number}.png")
        shape = (*rng.integers(12, 60, 2), 3)
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(paths[-1])
    prompts = [None if number % 5 == 0 else f"a photo of a cat {number}" for number in range(24)]
    users = [scorer.config.users[number % 3] if number % 4 else None for number in range(24)]
    alone = np.array([scorer.score([p], [t], user=[u]).scores[0] for p, t, u in zip(paths, prompts, users)])
    assert np.ptp(alone) > 0.05  # they do differ
    worst = 0.0
    for _ in range(batches):
        chosen = rng.permutation(24)[: rng.integers(2, 25)]
        got = scorer.score(
            [paths[i] for i in chosen], [prompts[i] for i in chosen], user=[users[i] for i in chosen],
            batch_size=int(rng.integers(1, 25)),
        ).scores  # fmt: skip
        worst = max(worst, float(np.abs(got - alone[chosen]).max()))
    print(f"{batches} random batches of pictures: scores differ by {worst:.1e} at most")
    return worst


def test_a_pictures_score_does_not_depend_on_its_batch(reward_folder, tmp_path):
    assert check_batches(reward_folder, tmp_path, 20) <= 1e-5


@pytest.mark.faults
def test_a_pictures_score_does_not_depend_on_two_hundred_batches(reward_folder, tmp_path):
    """PROMISES 23, from pixels."""
    assert check_batches(reward_folder, tmp_path, 200) <= 1e-5
