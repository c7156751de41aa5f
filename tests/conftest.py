"""Shared fixtures: tiny real encoders, a small world of ratings with features, a small trained reward."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch
from PIL import Image

PROMPTS = ["a photo of a cat", "a painting of a dog in the rain", "the sea at night", "an old red car"]


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    """Bit-identical results hold for one thread; every test starts from the same random state."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


def save_tiny_encoder(folder: Path, family: str) -> Path:
    """A real SigLIP (fixed-size images) or SigLIP2 (NaFlex) model at toy size with random weights, as a folder."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import (
        PreTrainedTokenizerFast,
        Siglip2Config,
        Siglip2Model,
        SiglipConfig,
        SiglipModel,
    )
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    text = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": 16, "projection_size": 32, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4,
    }  # fmt: skip
    torch.manual_seed(0)
    if family == "siglip":
        model = SiglipModel(SiglipConfig(text_config=text, vision_config={**vision, "image_size": 16}))
        SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    else:
        model = Siglip2Model(Siglip2Config(text_config=text, vision_config={**vision, "num_patches": 16}))
        Siglip2ImageProcessorPil(patch_size=4, max_num_patches=16).save_pretrained(folder)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Replace("▁", " ")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=64, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(PROMPTS, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=16,
        padding_side="left",
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="session", params=["siglip", "siglip2"])
def any_encoder(request, tmp_path_factory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def siglip_encoder(tmp_path_factory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("siglip"), "siglip")


@pytest.fixture
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (20 + 3 * i, 24, 3), np.uint8)) for i in range(4)]


def write_ratings(folder: Path, people: int = 10, images: int = 60, levels: int = 5, seed: int = 0) -> Path:
    """A folder in the released layout with features: each person's taste is a direction in feature space."""
    from pamela_hf.embeddings import Embeddings

    rng = np.random.default_rng(seed)
    width, text_width = 8, 4
    features = rng.normal(size=(images, width)).astype(np.float32)
    text = rng.normal(size=(images, text_width)).astype(np.float32)
    text[0] = 0  # an image without a prompt
    common = rng.normal(size=width)
    ids = [f"img{i:03d}" for i in range(images)]
    half = int(images * 0.6)
    rows: dict[str, list[dict]] = {s: [] for s in ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")}
    for person in range(people):
        liking = features @ (common + rng.normal(size=width))
        seen = person < int(people * 0.7)
        scores = np.digitize(liking, np.quantile(liking, np.arange(1, levels) / levels)) + 1
        for i in range(images):
            if seen:
                split = "train" if i < half else "val_seen" if i % 2 else "test_seen"
            elif i < half:
                continue
            else:
                split = "val_unseen" if person % 2 else "test_unseen"
            prompt = None if i == 0 else PROMPTS[i % 4]
            rows[split].append(
                {
                    "participant_id": f"p{person:02d}",
                    "image_id": ids[i],
                    "image_path": f"images/{ids[i]}.png",
                    "original_score": int(scores[i]),
                    "image_metadata": {
                        "prompt": prompt,
                        "group": "animal" if i % 3 else "scene",
                        "style": None,
                        "type": "Art" if i % 2 else "Photorealism",
                    },
                    "user_demographics": {
                        "age": 20 + 10 * (person % 3),
                        "age_binned": f"{20 + 10 * (person % 3)}-{29 + 10 * (person % 3)}",
                        "gender": "female" if person % 2 else "male",
                        "nationality": "Belgium",
                    },
                }
            )
    (folder / "annotations").mkdir(parents=True)
    for split, items in rows.items():
        (folder / "annotations" / f"toy_{split}.json").write_text(json.dumps(items))
    Embeddings(ids, features, text, ids[:1]).save(folder / "embeddings.safetensors")
    return folder


@pytest.fixture(scope="session")
def ratings_folder(tmp_path_factory) -> Path:
    return write_ratings(tmp_path_factory.mktemp("ratings") / "toy")


@pytest.fixture(scope="module")
def data(ratings_folder):
    """The toy ratings, as they are loaded."""
    from pamela_hf.builder import load_ratings

    return load_ratings(ratings_folder)


@pytest.fixture(scope="module")
def features(data):
    """Their images' features."""
    from pamela_hf.embeddings import load_embeddings

    return load_embeddings(data.embeddings)


TINY_MODEL = {
    "hidden_size": 16, "num_fusion_members": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "interaction_rank": 8, "image_dropout": 0.0,
}  # fmt: skip


@pytest.fixture(scope="session")
def trained_folder(ratings_folder, tmp_path_factory) -> Path:
    """A small reward trained on the toy ratings, as `scripts/train.py` writes it."""
    from pamela_hf.training import load_sources, train
    from pamela_hf.training_config import TrainingConfig

    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("trained") / "model"
    config = TrainingConfig(
        epochs=15, users_per_batch=4, images_per_user=8, learning_rate=1e-2, user_learning_rate=5e-2,
        row_prior_std=1.0, user_dropout=0.1, model=TINY_MODEL,
    )  # fmt: skip
    train(config, *load_sources([ratings_folder]), output, progress=False)
    return output


@pytest.fixture(scope="session")
def hub_server():
    """A Hub on loopback; use `fresh_process` to run clients of it."""
    from hub_server import HubServer

    server = HubServer()
    yield server
    server.close()


@pytest.fixture
def fresh_process(hub_server, tmp_path) -> Callable[..., str]:
    """Runs Python code as a stranger would, in a new process that knows only `hub_server`; returns what it printed.

    The code finds `arguments` in sys.argv[1:]. With `with_package=False` it cannot import pamela_hf. `environment`
    adds variables; `check=False` returns output and errors of a process that fails.
    """

    def run(
        code: str,
        *arguments: object,
        with_package: bool = True,
        check: bool = True,
        seconds: float = 300,
        **environment: str,
    ) -> str:
        if not with_package:
            code = 'import sys\nsys.modules["pamela_hf"] = None\n' + code
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
        env = {**kept, **hub_server.environment(tmp_path), **environment}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        # the folder is empty: no file of this checkout is importable by chance
        place = tmp_path / "elsewhere"
        place.mkdir(exist_ok=True)
        done = subprocess.run(command, env=env, cwd=place, capture_output=True, text=True, timeout=seconds)
        if check and done.returncode:
            pytest.fail(f"the process ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")
        return done.stdout if check else done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def reward_folder(siglip_encoder, tmp_path_factory) -> str:
    """A reward with an encoder and people who differ (untrained: what it likes is arbitrary but fixed)."""
    from test_modeling_pamela import with_encoder

    from pamela_hf.scoring import PamelaScorer

    folder = with_encoder(siglip_encoder, tmp_path_factory.mktemp("reward"))
    scorer = PamelaScorer.from_pretrained(folder, device="cpu")
    torch.manual_seed(3)
    torch.nn.init.normal_(scorer.model.user_embedding.weight[1:], std=2.0)
    scorer.model.config.base_identity = None
    scorer.model.save_pretrained(folder)
    return folder


@pytest.fixture
def pipe(reward_folder):
    """A prompt pipeline around the procedural one."""
    from tiny_pipelines import around

    from pamela_hf.simulated_pipeline import SimulatedPipeline

    return around(SimulatedPipeline(size=32), reward_folder)
