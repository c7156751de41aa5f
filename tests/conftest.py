"""Shared fixtures: tiny real encoders, a small world of ratings with features, a small trained reward."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch
from PIL import Image
from toys import TINY_MODEL, save_tiny_encoder, write_ratings
from tqdm import tqdm

# tqdm's usual lock is shared by forks, and a fork that a test kills would never give it back
os.register_at_fork(after_in_child=lambda: tqdm.set_lock(threading.RLock()))


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    """Bit-identical results hold for one thread; every test starts from the same random state."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


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


@pytest.fixture(scope="session")
def ratings_folder(tmp_path_factory) -> Path:
    return write_ratings(tmp_path_factory.mktemp("ratings") / "toy")


@pytest.fixture(scope="module")
def data(ratings_folder):
    """The toy ratings, as they are loaded."""
    from pamela_hf.ratings.builder import load_ratings

    return load_ratings(ratings_folder)


@pytest.fixture(scope="module")
def features(data):
    """Their images' features."""
    from pamela_hf.embeddings import load_embeddings

    return load_embeddings(data.embeddings)


@pytest.fixture(scope="session")
def trained_folder(ratings_folder, tmp_path_factory) -> Path:
    """A small reward trained on the toy ratings, as `scripts/train.py` writes it."""
    from pamela_hf.training.config import TrainingConfig
    from pamela_hf.training.train import load_sources, train

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
    from toys import with_encoder

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

    from pamela_hf.simulation.pipeline import SimulatedPipeline

    return around(SimulatedPipeline(size=32), reward_folder)
