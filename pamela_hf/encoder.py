"""The frozen image–text encoder: the only place that turns images and prompts into features."""

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoModel

from .embeddings import EmbeddingError, Embeddings, load_embeddings
from .files.images import open_image_checked
from .files.locations import folder_or_repository
from .files.writing import claimed
from .model.configuration_pamela import LOCAL_ENCODER
from .model.modeling_pamela import encode_images, encode_prompts
from .model.processing_pamela import load_preprocessors, preprocessing_fingerprint, tokenize_prompts

DEFAULT_ENCODER = "google/siglip2-so400m-patch14-384"


def default_device() -> torch.device:
    """CUDA if there is one, else MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def usable_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name (None: `default_device`), once it has been seen to work. Raises ValueError otherwise."""
    if name is None:
        return default_device()
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        what = str(error).splitlines()[0]
        raise ValueError(f"device={str(name)!r} is not here ({what}). Leave it out: {default_device()} is.") from None


def check_encoder_folder(folder: str | os.PathLike, embeddings: Embeddings) -> None:
    """Raises EmbeddingError unless the encoder in `folder` made `embeddings`, in whatever precision it ran;
    FileNotFoundError if it is none."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"encoder={str(folder)!r} is no folder. Name the one that made the features.")
    made = embeddings.revision
    precisions = (torch.float32, torch.bfloat16, torch.float16) if made else ()
    hashes = (weights_hash(AutoModel.from_pretrained(folder, dtype=d, use_safetensors=True)) for d in precisions)
    same = made is None or made in hashes  # a cast of the weights has a hash of its own
    fingerprint = preprocessing_fingerprint(*load_preprocessors(str(folder)))
    if not same or embeddings.preprocessing not in (None, fingerprint):
        what = "its preprocessing differs" if same else "its weights differ"
        raise EmbeddingError(
            f"encoder={str(folder)!r} did not make the features: {what}. Name the folder that they were "
            f"made with, or embed with this one: pamela embed --encoder {folder}"
        )


class FrozenEncoder:
    """An encoder with its preprocessing: images or prompts in, pooled features out.

    Args:
        backbone: Hub id or folder of any `AutoModel` with `get_image_features` and `get_text_features`.
        revision: commit or tag.
        device, dtype: where and in what precision it runs (default: CUDA, MPS or CPU; float32).

    Raises:
        OSError: no such folder or repository. ValueError: a device that is not here. EmbeddingError: no such encoder.
    """

    def __init__(
        self,
        backbone: str = DEFAULT_ENCODER,
        revision: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = torch.float32,
        **kwargs: Any,
    ):
        device = usable_device(device)
        with folder_or_repository(backbone):
            where = {"revision": revision, "dtype": dtype, "use_safetensors": True, **kwargs}
            self.model = AutoModel.from_pretrained(backbone, **where)
        missing = [m for m in ("get_image_features", "get_text_features") if not hasattr(self.model, m)]
        if missing:
            raise EmbeddingError(
                f"backbone={str(backbone)!r} loads as {type(self.model).__name__}, which lacks {missing[0]}. "
                f"Use an image–text encoder such as {DEFAULT_ENCODER!r}."
            )
        self.model.to(device).requires_grad_(False).eval()
        self.image_processor, self.tokenizer = load_preprocessors(backbone, revision, **kwargs)
        self.preprocessing = preprocessing_fingerprint(self.image_processor, self.tokenizer)
        # A folder of this machine is no name to write down: the encoder is then known by its weights.
        local = Path(backbone).is_dir()
        self.name = LOCAL_ENCODER if local else str(backbone)
        self.revision = weights_hash(self.model) if local else revision

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Any]) -> np.ndarray:
        """`(B, D)` float32 of PIL images. Halves the batch when memory runs out."""
        return _halving(self._embed_images, list(images))

    @torch.inference_mode()
    def embed_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        """`(B, Dt)` float32 of prompts."""
        return _halving(self._embed_prompts, list(prompts))

    def _embed_images(self, images: list[Any]) -> np.ndarray:
        inputs = self.image_processor(images, return_tensors="pt").to(self.model.device, self.model.dtype)
        return encode_images(self.model, **inputs).float().cpu().numpy()

    def _embed_prompts(self, prompts: list[str]) -> np.ndarray:
        config = self.model.config
        inputs = tokenize_prompts(self.tokenizer, prompts, getattr(config, "text_config", config), config.model_type)
        inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
        return encode_prompts(self.model, **inputs).float().cpu().numpy()


def compute_embeddings(
    encoder: FrozenEncoder,
    image_ids: Sequence[str],
    open_image: Callable[[str], IO[bytes] | str | os.PathLike],
    prompts: Sequence[str | None],
    output: str | os.PathLike,
    batch_size: int = 32,
    progress: bool = True,
) -> Embeddings:
    """Embeds every image and every prompt once and writes `output`; a run that was cut off goes on where it stopped.

    Args:
        encoder: the frozen encoder.
        image_ids: N unique ids. open_image: id → an open binary file or a path. prompts: N, `None` = no prompt.
        output: the file to write. Finished batches lie in `<output>.partial/` until it is complete; features already
            in `output` are kept where encoder, image and prompt are the same.
        batch_size: images a forward pass.

    Raises:
        ValueError: an image that cannot be read, named. EmbeddingError: `output` was made by another encoder.
        InUseError: another process embeds into `output`.
    """
    partial = Path(f"{os.fspath(output)}.partial")
    with claimed(partial):
        return _compute_embeddings(
            encoder, image_ids, open_image, prompts, Path(output), partial, batch_size=batch_size, progress=progress
        )


def _compute_embeddings(
    encoder: FrozenEncoder,
    image_ids: Sequence[str],
    open_image: Callable[[str], IO[bytes] | str | os.PathLike],
    prompts: Sequence[str | None],
    output: Path,
    partial: Path,
    *,
    batch_size: int,
    progress: bool,
) -> Embeddings:
    stamp = {"backbone": encoder.name, "revision": encoder.revision, "preprocessing": encoder.preprocessing}
    done = _finished_parts(output, partial, stamp)
    number = len(list(partial.glob("*.safetensors")))
    prompts = [p if p and p.strip() else None for p in prompts]
    keys: list[str] = []
    queue: dict[str, tuple[Any, str | None]] = {}
    text_of: dict[str | None, np.ndarray] = {}

    def flush() -> None:
        nonlocal number
        if not queue:
            return
        new = sorted({p or "" for _, p in queue.values()} - set(text_of))
        if new:
            text_of.update(zip(new, encoder.embed_prompts(new)))
        features = encoder.embed_images([image for image, _ in queue.values()])
        text = np.stack([text_of[p or ""] * bool(p) for _, p in queue.values()])
        part = Embeddings(list(queue), features, text, **stamp)  # rows are named by their contents while under way
        part.save(partial / f"{number:06d}.safetensors")
        done.update((key, (part, row)) for row, key in enumerate(queue))
        number += 1
        queue.clear()

    for image_id, prompt in zip(tqdm(image_ids, "embedding images", disable=not progress), prompts, strict=True):
        data = _read(open_image(image_id))
        key = hashlib.sha256(data + b"\0" + (prompt or "").encode()).hexdigest()
        keys.append(key)
        if key not in done and key not in queue:
            queue[key] = (open_image_checked(io.BytesIO(data), name=image_id), prompt)
            if len(queue) == batch_size:
                flush()
    flush()
    picked = [done[key] for key in keys]
    result = Embeddings(
        list(image_ids),
        np.stack([part.image_embeds[row] for part, row in picked]),
        np.stack([part.text_embeds[row] for part, row in picked]),
        [i for i, p in zip(image_ids, prompts) if p is None],
        **stamp,
        source_keys=keys,
    )
    result.save(output)
    shutil.rmtree(partial, ignore_errors=True)  # its lock is still held
    return result


def _halving(function: Callable[[list[Any]], np.ndarray], items: list[Any]) -> np.ndarray:
    try:
        return function(items)
    except torch.OutOfMemoryError:
        if len(items) == 1:
            raise
    # outside the handler, so that the failed attempt's tensors are free
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return np.concatenate([_halving(function, items[:middle]), _halving(function, items[middle:])])


def _read(source: IO[bytes] | str | os.PathLike) -> bytes:
    if isinstance(source, (str, os.PathLike)):
        return Path(source).read_bytes()
    with source:
        return source.read()


def _finished_parts(output: Path, partial: Path, stamp: dict[str, str | None]) -> dict[str, tuple[Embeddings, int]]:
    """Rows that are there already, by the sha256 of image and prompt: a changed image is never served stale."""
    done: dict[str, tuple[Embeddings, int]] = {}
    for file in [*([output] if output.exists() else []), *sorted(partial.glob("*.safetensors"))]:
        try:
            part = load_embeddings(file)
        except EmbeddingError:
            if file == output:
                raise
            file.unlink()  # cut off while it was written; its images are embedded again
            continue
        for what, value in stamp.items():
            if getattr(part, what) != value:
                raise EmbeddingError(
                    f"{file} was made with {what} {getattr(part, what)!r}, not {value!r}. "
                    "Choose another --output, or delete it to embed everything anew."
                )
        keys = part.source_keys if file == output else part.image_ids
        done.update((key, (part, row)) for row, key in enumerate(keys))
    return done


def weights_hash(model: torch.nn.Module) -> str:
    """First 16 hex digits of the sha256 over a model's weights in float32."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
