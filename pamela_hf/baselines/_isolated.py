"""Rivals whose authors' code asks for versions that cannot live beside this package: each in a Python of its own."""

import json
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..embeddings import Embeddings
from ..hub.scan import environment_without_secrets
from ..ratings.table import RatingData
from ._pixels import Origin, PixelScorer, images_of

WORKER = Path(__file__).with_name("_worker.py")


class IsolatedScorer(PixelScorer):
    """Hands images to a process that loads the weights once and scores as long as this object lives.

    Args:
        name: of the rival, and of its loader in `worker`.
        origin: what it is.
        python: the interpreter of an environment that has the authors' code; `None` = the one that runs this.
        open_image: image_id → RGB image.
        install: what pip installs into such an environment, for the error message.
        options: further words for the loader.
        worker: the script, see `_worker.py`.

    Raises:
        RuntimeError: the process does not start, or the package or its weights cannot be loaded there.
    """

    batch_size = 8

    def __init__(
        self,
        name: str,
        origin: Origin,
        python: str | None,
        open_image: Callable[[str], Image.Image] | None,
        install: str,
        *options: str,
        worker: Path = WORKER,
    ):
        self.origin = origin
        super().__init__(name, open_image)
        how = (
            f"{name} runs through {origin.package} in an environment of its own, with the weights {origin.weights} "
            f"(licence: {origin.licence}). Make one where the Hub is reachable: python -m venv ENV; "
            f"ENV/bin/pip install {install}; and name its Python: {name}:ENV/bin/python."
        )
        command = [python or sys.executable, str(worker), name, origin.weights, origin.revision or "main", *options]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment_without_secrets()
            )
        except OSError as error:
            raise RuntimeError(f"{command[0]!r} cannot be started ({error.strerror}). {how}") from error
        weakref.finalize(self, _stop, self._process)
        self._answer(how)

    def score_images(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            paths = [f"{folder}/{i}.png" for i in range(len(images))]
            for image, path in zip(images, paths):
                image.save(path, compress_level=1)
            try:
                self._process.stdin.write(json.dumps({"images": paths, "prompts": list(prompts)}) + "\n")
                self._process.stdin.flush()
            except BrokenPipeError:  # it has ended; reading its answer says so
                pass
            return np.array(self._answer(), dtype=np.float64)

    def _answer(self, how: str = "") -> list[float]:
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise RuntimeError(f"{self.name}: its process ended with {code}; its last words are above. {how}")
        message = json.loads(line)
        if "error" in message:
            raise RuntimeError(f"{self.name}: {message['error']}. {how}")
        return message["scores"]


def _stop(process: subprocess.Popen) -> None:
    with suppress(BrokenPipeError):
        process.stdin.close()  # the worker reads the end of its input and ends
    process.stdout.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def isolated_fit(name: str, origin: Origin, install: str) -> Callable[..., IsolatedScorer]:
    """The `fit` of a rival in a Python of its own; arguments as of [`IsolatedScorer`]."""

    def fit(
        train: pd.DataFrame,
        embeddings: Embeddings,
        *,
        seed: int = 0,
        variant: str | None = None,
        data: RatingData | None = None,
        **context: Any,
    ) -> IsolatedScorer:
        """Starts the environment's Python, which loads the weights; `train` and `seed` change nothing.

        Args:
            variant: the Python of an environment that has the package.
            data: the ratings, with their images.

        Raises:
            ValueError: ratings without images. RuntimeError: no such Python, no package or no weights there.
        """
        return IsolatedScorer(name, origin, variant, images_of(data, name), install)

    return fit
