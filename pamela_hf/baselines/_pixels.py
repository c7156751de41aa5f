"""What rivals share that score pixels with weights trained elsewhere: their images, each scored once, and refusals."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType

import numpy as np
import pandas as pd
from PIL import Image
from safetensors import SafetensorError
from tqdm.auto import tqdm

from ..embeddings import Embeddings
from ..files.images import open_image_checked
from ..ratings.table import RatingData
from ..scoring import Predictions


@dataclass(frozen=True)
class Origin:
    """Where a rival comes from.

    Attributes:
        weights: their public id on the Hub, or their address.
        revision: the commit the weights are read at; None: the newest.
        licence: of code and weights, as their owners state it.
        gpu_gb: GPU memory it takes, estimated from the number of its parameters, not measured.
        package: the pip requirement it runs through; None: transformers alone.
        extra: this package's extra that installs `package`; None: nothing to install, or an environment of its own.
    """

    weights: str
    revision: str | None
    licence: str
    gpu_gb: float
    package: str | None = None
    extra: str | None = None


class PixelScorer(ABC):
    """Scores pairs of image and prompt; everyone gets the same score.

    The scores are on the rival's own scale: no probabilities, and no rmse even where the ends of its range happen to
    be those of the rating scale (`rating_units`). A subclass declares the facts below and `score_images`.

    Args:
        name: as reports call it.
        open_image: image_id → RGB image, see `images_of`; None: it is never asked.
        weights: what was loaded, where it is not `origin.weights`: another Hub id, or a path.

    Attributes:
        identity: those weights and their commit, for the report; of a path the last part alone.
    """

    origin: Origin
    personal = False
    rating_units = False
    higher_is_better: bool = True
    score_range: tuple[float, float] | None = None
    uses_prompt: bool = True
    batch_size: int = 16

    def __init__(self, name: str, open_image: Callable[[str], Image.Image] | None, weights: str | None = None):
        self.name = name
        self.identity = identity_of(weights, self.origin)
        self._open_image = open_image
        self._scores: dict[tuple[str, str | None], float] = {}

    @abstractmethod
    def score_images(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """Scores `(B,)` of B RGB images, each with its prompt (empty where `uses_prompt` is False)."""

    def predict(self, ratings: pd.DataFrame, embeddings: Embeddings) -> Predictions:
        """One score for each row; every distinct pair of image and prompt is scored once in the scorer's life.

        Raises:
            ValueError: an image without a prompt where the rival needs one; a score that is not finite.
            ImageError: an image that cannot be read.
        """
        pairs = self.pairs(ratings)
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._scores]
        starts = range(0, len(new), self.batch_size)
        for start in tqdm(starts, f"{self.name} (batches of {self.batch_size})", disable=not new):
            batch = new[start : start + self.batch_size]
            images = [self._open_image(image_id) for image_id, _ in batch]
            scores = np.asarray(self.score_images(images, [prompt or "" for _, prompt in batch]), dtype=np.float64)
            if scores.shape != (len(batch),) or not np.isfinite(scores).all():
                ids = [image_id for image_id, _ in batch]
                raise ValueError(f"{self.name} gave {scores.tolist()} for {ids}; one finite score each is expected.")
            self._scores |= dict(zip(batch, scores.tolist()))
        return Predictions(np.array([self._scores[pair] for pair in pairs]))

    def pairs(self, ratings: pd.DataFrame) -> list[tuple[str, str | None]]:
        """(image_id, prompt) of each row; None for the prompt where it does not matter to this rival."""
        ids = ratings["image_id"].astype(str).tolist()
        if not self.uses_prompt:
            return [(image_id, None) for image_id in ids]
        prompts = ratings["prompt"].astype(object)
        if (missing := prompts.isna()).any():
            first = ratings["image_id"].astype(str)[missing].iloc[0]
            raise ValueError(
                f"{self.name} scores an image together with its prompt, and image {first!r} has none ({missing.sum()} "
                "rows). Give it one, or compare with a rival that looks at images alone, such as laion_aesthetics."
            )
        return list(zip(ids, prompts.tolist()))


def identity_of(weights: str | None, origin: Origin) -> str:
    """Weights and commit; of a path its last part, since reports name no folder of the machine."""
    if weights in (None, origin.weights):
        return "@".join(filter(None, (origin.weights, origin.revision)))
    return Path(weights).name if Path(weights).exists() else weights


def images_of(data: RatingData | None, name: str) -> Callable[[str], Image.Image]:
    """image_id → upright RGB image, from the ratings' own files. Raises ValueError where they came without images."""
    if data is None or data.open_image is None:
        source = "no ratings were given" if data is None else f"the ratings {data.name!r} came without image files"
        raise ValueError(
            f"{name} scores pixels, and {source}. Prepare the ratings from a source that has the images "
            "(pamela prepare-ratings), or compare with a rival that reads cached embeddings, such as ridge."
        )

    def open_image(image_id: str) -> Image.Image:
        with data.open_image(image_id) as stream:
            return open_image_checked(stream, name=image_id)

    return open_image


def variant_name(module: str, variant: str | None) -> str:
    """What reports call a rival: its module, and the last part of the variant if one was named."""
    name = module.rpartition(".")[2]
    return f"{name}:{Path(variant).name}" if variant else name


def required_package(module: str, name: str, origin: Origin) -> ModuleType:
    """Imports what a rival runs through. Raises RuntimeError naming the extra where it is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        raise RuntimeError(
            f"{name} runs through {origin.package} (licence: {origin.licence}), which cannot be imported: {error}. "
            f"Install it with: pip install 'pamela_hf[{origin.extra}]'"
        ) from error


@contextmanager
def loading(name: str, weights: str, revision: str | None, licence: str, instead: str) -> Iterator[None]:
    """Turns a failure to load `weights` into an OSError that names them and says how to get them."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, ImportError, UnpicklingError, SafetensorError) as error:
        at = f" at revision {revision}" if revision else ""
        raise OSError(
            f"{name} needs the weights {weights}{at} (licence: {licence}), which could not be loaded: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason was given.'} {instead}"
        ) from error
