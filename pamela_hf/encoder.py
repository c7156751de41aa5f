"""The frozen image–text encoder: the only place that turns images and prompts into features."""

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from .embeddings import EmbeddingError, Embeddings, load_embeddings
from .files.images import open_image_checked
from .files.locations import folder_or_repository
from .files.writing import claimed
from .model.configuration_pamela import LOCAL_ENCODER
from .model.encoder_pamela import (
    encode_images,
    encode_prompts,
    load_encoder,
    load_encoder_config,
    load_preprocessors,
    preprocessing_fingerprint,
    tokenize_prompts,
)
from .model.modeling_pamela import PamelaRewardModel
from .model.processing_pamela import PamelaProcessor

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
        raise ValueError(
            f"device={str(name)!r} is not available ({what}). Leave it out: {default_device()} is used then."
        ) from None


def check_encoder_folder(folder: str | os.PathLike, embeddings: Embeddings) -> None:
    """Checks that the encoder in a folder made some features, in whatever precision it ran.

    Args:
        folder: of the encoder.
        embeddings: the features.

    Raises:
        EmbeddingError: another encoder made them. FileNotFoundError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"encoder={str(folder)!r} is not a folder. Name the one that made the features.")
    made = embeddings.revision
    precisions = (torch.float32, torch.bfloat16, torch.float16) if made else ()
    hashes = (weights_hash(load_encoder(str(folder), dtype=dtype)) for dtype in precisions)
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

    The only way from pixels or text to features outside of the model's own `forward`: device, precision, tokens,
    preprocessing, and smaller batches where memory runs out. Threads may share one.

    Args:
        backbone: Hub id or folder of an encoder of the [`pamela_hf.model.configuration_pamela.ENCODER_KINDS`].
        revision: commit or tag; default: the newest.
        device: where it runs; default: CUDA, MPS or CPU.
        dtype: in what precision it runs.
        kwargs: for `from_pretrained`: `token`, `cache_dir`, `local_files_only`, `subfolder`.

    Raises:
        OSError: no such folder or repository.
        ValueError: a device that is not available.
        EmbeddingError: it is not an image–text encoder.
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
            try:
                config = load_encoder_config(backbone, revision=revision, **kwargs)
            except ValueError as error:
                raise EmbeddingError(str(error)) from error
            model = load_encoder(backbone, config, revision=revision, dtype=dtype, **kwargs)
        model.to(device).requires_grad_(False).eval()
        self._take(model, *load_preprocessors(backbone, revision, config=config, **kwargs))
        self.preprocessing = preprocessing_fingerprint(self.image_processor, self.tokenizer)
        # The path of a folder on this machine is not written down: the encoder is then known by its weights.
        local = Path(backbone).is_dir()
        self.name = LOCAL_ENCODER if local else str(backbone)
        self.revision = weights_hash(model) if local else revision

    @classmethod
    def of(cls, model: PamelaRewardModel, processor: PamelaProcessor) -> "FrozenEncoder":
        """The encoder of a loaded reward model: the model's own, on its device, loaded now if it was not needed yet.

        Args:
            model: names the encoder.
            processor: has its preprocessing.

        Raises:
            ValueError: the model names no encoder. OSError: it cannot be loaded.
        """
        encoder, config = cls.__new__(cls), model.config
        encoder._take(model.load_backbone(), processor.image_processor, processor.tokenizer)
        encoder.name, encoder.revision = config.backbone, config.backbone_revision
        encoder.preprocessing = config.preprocessing
        return encoder

    def _take(self, model: torch.nn.Module, image_processor: Any, tokenizer: Any) -> None:
        self.model, self.image_processor, self.tokenizer = model, image_processor, tokenizer

    def embed_images(self, images: Sequence[Any]) -> np.ndarray:
        """Features of images as an array.

        Args:
            images: B upright RGB PIL images.

        Returns:
            `(B, D)` float32.
        """
        return in_halves(self._embed_images, images, np.concatenate)

    def embed_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        """Features of B prompts as an array `(B, Dt)` float32."""
        return self.encode_prompts(prompts).cpu().numpy()

    def _embed_images(self, images: list[Any]) -> np.ndarray:
        return self._encode(self.prepare_images(images)).cpu().numpy()

    def prepare_images(self, images: Sequence[Any]) -> dict[str, torch.Tensor]:
        """What the encoder takes of upright RGB PIL images, on the CPU: `pixel_values (B, …)`, and what else it needs.
        Another thread may make it while the encoder is busy."""
        return dict(self.image_processor(list(images), return_tensors="pt"))

    def encode_images(self, images: Sequence[Any]) -> torch.Tensor:
        """Features `(B, D)` float32 of upright RGB PIL images, on the encoder's device."""
        return in_halves(lambda part: self._encode(self.prepare_images(part)), images, torch.cat)

    def encode_prepared(self, prepared: Sequence[Mapping[str, torch.Tensor]]) -> torch.Tensor:
        """Features `(B, D)` float32, on the encoder's device, of B images, each as [`prepare_images`] made it."""

        def encode(part: list[Mapping[str, torch.Tensor]]) -> torch.Tensor:
            return self._encode({name: torch.cat([one[name] for one in part]) for name in part[0]})

        return in_halves(encode, prepared, torch.cat)

    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Features `(B, Dt)` float32 of prompts, on the encoder's device."""
        return in_halves(self._encode_prompts, prompts, torch.cat)

    @torch.no_grad()
    def _encode(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return encode_images(self.model, **inputs).float()

    @torch.no_grad()
    def _encode_prompts(self, prompts: list[str]) -> torch.Tensor:
        return encode_prompts(self.model, **tokenize_prompts(self.tokenizer, prompts, self.model.config)).float()


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


def in_halves(function: Callable[[list[Any]], Any], items: Sequence[Any], join: Callable[[list[Any]], Any]) -> Any:
    """`function(items)`; where memory runs out, in two halves, and so on: every item once, in order.

    Args:
        function: takes a list of items that is not empty.
        items: at least one.
        join: puts the results of two halves, a list, together.

    Raises:
        torch.OutOfMemoryError: there is no room for a single item.
    """
    items = list(items)
    try:
        return function(items)
    except torch.OutOfMemoryError:
        if len(items) == 1:
            raise
    # outside the handler, so that the failed attempt's tensors are free
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return join([in_halves(function, items[:middle], join), in_halves(function, items[middle:], join)])


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
