"""The frozen image–text encoder: the only place that turns images and prompts into features."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from .embeddings import DEFAULT_ENCODER, EmbeddingError, Embeddings, load_embeddings
from .files.images import ImageError, open_image_checked
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

READ_AT_ONCE = 4
"""Images that a process reads before it hands them on: with few, all of them are busy until the encoder has enough."""


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
        return self.encode_batch(self.prepare_images(images)).cpu().numpy()

    def prepare_images(self, images: Sequence[Any]) -> dict[str, torch.Tensor]:
        """What the encoder takes of images, on the CPU: `pixel_values (B, …)`, and what else it needs. Another thread
        may make it while the encoder is busy.

        Args:
            images: B upright RGB PIL images, or arrays `(H, W, 3)` uint8 of their pixels: of a large picture the array
                alone, the PIL image let go, costs a third less memory.
        """
        if any(isinstance(image, np.ndarray) for image in images):
            arrays = [np.asarray(image) for image in images]
            return dict(self.image_processor(arrays, input_data_format="channels_last", return_tensors="pt"))
        return dict(self.image_processor(list(images), return_tensors="pt"))

    def prepare_image(self, image: np.ndarray, name: str) -> dict[str, torch.Tensor]:
        """[`prepare_images`] of one picture `(H, W, 3)`. Raises ImageError, with its `name`, for a shape that is not
        taken."""
        try:
            return self.prepare_images([image])
        except (ValueError, ArithmeticError) as error:  # 9,000 × 1 pixels
            size = f"{image.shape[1]} × {image.shape[0]}"
            raise ImageError(f"{name}: the encoder does not take a picture of {size} pixels ({error}).") from None

    def encode_images(self, images: Sequence[Any]) -> torch.Tensor:
        """Features `(B, D)` float32 of upright RGB PIL images, on the encoder's device."""
        return in_halves(lambda part: self.encode_batch(self.prepare_images(part)), images, torch.cat)

    def encode_prepared(self, prepared: Sequence[Mapping[str, torch.Tensor]]) -> torch.Tensor:
        """Features `(B, D)` float32, on the encoder's device, of B images, each as [`prepare_images`] made it."""

        def encode(part: list[Mapping[str, torch.Tensor]]) -> torch.Tensor:
            return self.encode_batch({name: torch.cat([one[name] for one in part]) for name in part[0]})

        return in_halves(encode, prepared, torch.cat)

    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Features `(B, Dt)` float32 of prompts, on the encoder's device."""
        return in_halves(self._encode_prompts, prompts, torch.cat)

    def image_side(self) -> int:
        """Pixels of the longer side of what the encoder takes of an image; of one that keeps an image's shape, of a
        square."""
        processor = self.image_processor
        size = getattr(processor, "crop_size", None) or getattr(processor, "size", None) or {}
        sides = [value for key, value in dict(size).items() if key in ("height", "width", "shortest_edge")]
        patches, patch = getattr(processor, "max_num_patches", None), getattr(processor, "patch_size", None)
        if patches and isinstance(patch, int):
            sides = [round(patches**0.5) * patch]
        return max([int(side) for side in sides if side], default=448)

    def reduced_side(self) -> int:
        """Pixels that both sides of a photograph keep at least where it is decoded at a reduced size: twice what the
        encoder takes, as Pillow's `thumbnail` keeps. Of 12 megapixels of 1/f noise the 224 × 224 that an encoder takes
        then differ by .5 of 255 in the root mean square, as much as after saving the JPEG once more at quality 90."""
        return 2 * self.image_side()

    @torch.no_grad()
    def encode_batch(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Features `(B, D)` float32, on the encoder's device, of what [`prepare_images`] made of B images."""
        return encode_images(self.model, **inputs).float()

    @torch.no_grad()
    def _encode_prompts(self, prompts: list[str]) -> torch.Tensor:
        return encode_prompts(self.model, **tokenize_prompts(self.tokenizer, prompts, self.model.config)).float()


@dataclass(frozen=True)
class Embedding:
    """How [`compute_embeddings`] goes about it.

    Attributes:
        batch_size: images a forward pass.
        workers: processes that read, decode and preprocess images while the encoder is busy; 0 = none, `None` = one a
            core (at most 8) where there are some batches of images and the system can fork.
        fast_decoding: JPEGs are decoded at a reduced size, of at least twice what the encoder takes: several times as
            fast for photographs. Features then differ a little from those of [`PamelaScorer.score`], which decodes all
            pixels.
        progress: show a progress bar.
    """

    batch_size: int = 32
    workers: int | None = None
    fast_decoding: bool = False
    progress: bool = True

    def workers_for(self, images: int) -> int:
        """The number of processes for so many images."""
        if self.workers is not None:
            return self.workers
        can_fork = sys.platform == "linux"  # elsewhere a function that opens images would have to be sent to them
        return min(8, os.cpu_count() or 1) if can_fork and images >= 4 * self.batch_size else 0


def compute_embeddings(
    encoder: FrozenEncoder,
    image_ids: Sequence[str],
    open_image: Callable[[str], IO[bytes] | str | os.PathLike],
    prompts: Sequence[str | None],
    output: str | os.PathLike,
    batch_size: int = 32,
    progress: bool = True,
    *,
    workers: int | None = None,
    fast_decoding: bool = False,
    skipped: list[tuple[str, str]] | None = None,
) -> Embeddings:
    """Embeds every image and every prompt once and writes `output`; a run that was cut off goes on where it stopped.

    Images are read, decoded and preprocessed by other processes while the encoder is busy. The same picture with the
    same prompt, whatever it is called, is embedded once.

    Args:
        encoder: the frozen encoder.
        image_ids: N unique ids.
        open_image: id → an open binary file or a path.
        prompts: N, `None` = no prompt.
        output: the file to write. Finished batches lie in `<output>.partial/` until it is complete; features already
            in `output` are kept where encoder, image and prompt are the same.
        batch_size: images a forward pass.
        progress: show a progress bar.
        workers: processes that prepare images, see [`Embedding`].
        fast_decoding: JPEGs are decoded at a reduced size, see [`Embedding`].
        skipped: a list that (id, reason) of images that cannot be read are added to; they are then left out. Default:
            the first of them ends the run.

    Raises:
        ValueError: an image that cannot be read, named. EmbeddingError: `output` was made by another encoder.
        InUseError: another process embeds into `output`.
    """
    partial = Path(f"{os.fspath(output)}.partial")
    how = Embedding(batch_size, workers, fast_decoding, progress)
    with claimed(partial):
        run = _EmbeddingRun(encoder, Path(output), partial, how)
        result = run.embed(image_ids, open_image, [p if p and p.strip() else None for p in prompts], skipped)
        result.save(output)
        shutil.rmtree(partial, ignore_errors=True)  # its lock is still held
    return result


class _EmbeddingRun:
    """One run of [`compute_embeddings`]."""

    def __init__(self, encoder: FrozenEncoder, output: Path, partial: Path, how: Embedding):
        self.encoder, self.partial, self.how = encoder, partial, how
        self.stamp = {"backbone": encoder.name, "revision": encoder.revision, "preprocessing": encoder.preprocessing}
        self.done = _finished_parts(output, partial, self.stamp)
        self.number = len(list(partial.glob("*.safetensors")))
        self.queue: dict[str, tuple[dict[str, torch.Tensor], np.ndarray]] = {}  # by key: inputs, prompt's features

    def embed(
        self,
        image_ids: Sequence[str],
        open_image: Callable[[str], IO[bytes] | str | os.PathLike],
        prompts: list[str | None],
        skipped: list[tuple[str, str]] | None,
    ) -> Embeddings:
        if len(prompts) != len(image_ids):
            raise ValueError(f"prompts has {len(prompts)} entries for {len(image_ids)} images; give one each.")
        texts = _PromptFeatures(self.encoder, prompts, self.how.batch_size)
        keys: list[str | None] = []
        bar = tqdm(total=len(image_ids), desc="embedding images", disable=not self.how.progress)
        for batch in self._prepared(_Images(self.encoder, image_ids, open_image, prompts, self.done, self.how)):
            if batch.problems and skipped is None:
                raise next(iter(batch.problems.values()))
            first = len(keys)
            keys += [None if i in batch.problems else key for i, key in enumerate(batch.keys)]
            for i, error in batch.problems.items():
                name = image_ids[first + i]
                skipped.append((name, str(error).removeprefix(f"{name}: ")))
            self._take(batch, first, texts)
            bar.update(len(batch.keys))
        self._encode()
        bar.close()
        kept = [i for i, key in enumerate(keys) if key is not None]
        if not kept:
            raise ValueError(f"none of {len(keys)} images can be read. The first: {skipped[0][1] if skipped else ''}")
        picked = [self.done[keys[i]] for i in kept]
        return Embeddings(
            [image_ids[i] for i in kept],
            np.stack([part.image_embeds[row] for part, row in picked]),
            np.stack([part.text_embeds[row] for part, row in picked]),
            [image_ids[i] for i in kept if prompts[i] is None],
            **self.stamp,
            source_keys=[keys[i] for i in kept],
        )

    def _prepared(self, images: "_Images") -> Iterable["_Batch"]:
        """Batches of prepared images, in order."""
        workers = self.how.workers_for(len(images.ids))
        device = next(self.encoder.model.parameters()).device
        at_once = min(READ_AT_ONCE, self.how.batch_size)
        return DataLoader(
            images,
            batch_size=at_once,
            collate_fn=_first,  # `_Images` gives whole batches
            num_workers=workers,
            prefetch_factor=-(-2 * self.how.batch_size // at_once) if workers else None,
            multiprocessing_context="fork" if workers else None,
            worker_init_fn=_give_way if device.type == "cpu" else None,
            pin_memory=device.type == "cuda",
        )

    def _take(self, batch: "_Batch", first: int, texts: "_PromptFeatures") -> None:
        """Queues what of a batch is new, and encodes whenever there is enough; `first`: number of its first image."""
        for row, place in enumerate(batch.prepared):
            key = batch.keys[place]
            if key not in self.done and key not in self.queue:
                inputs = {name: value[row : row + 1] for name, value in batch.inputs.items()}
                self.queue[key] = (inputs, texts.of(first + place))
            if len(self.queue) == self.how.batch_size:
                self._encode()

    def _encode(self) -> None:
        """Encodes what is queued and keeps it on the disk."""
        if not self.queue:
            return
        features = self.encoder.encode_prepared([inputs for inputs, _ in self.queue.values()])
        text = np.stack([text for _, text in self.queue.values()])
        # rows are named by their contents while under way
        part = Embeddings(list(self.queue), features.cpu().numpy(), text, **self.stamp)
        part.save(self.partial / f"{self.number:06d}.safetensors")
        self.done.update((key, (part, row)) for row, key in enumerate(self.queue))
        self.number += 1
        self.queue.clear()


@dataclass
class _Batch:
    """Some images on their way to the encoder.

    Attributes:
        keys: sha256 of each image's bytes and prompt; "" where it cannot be read.
        prepared: which of them are in `inputs`, in order; the others are embedded already.
        inputs: what the encoder takes of these; empty if there are none.
        problems: which cannot be read, and why.
    """

    keys: list[str]
    prepared: list[int]
    inputs: dict[str, torch.Tensor]
    problems: dict[int, ImageError]

    def pin_memory(self) -> "_Batch":
        """The same in memory that a GPU copies from at once: `DataLoader` calls it."""
        return replace(self, inputs={name: value.pin_memory() for name, value in self.inputs.items()})


class _Images(Dataset):
    """Images by number, a batch at a time: read, known by their contents, decoded and preprocessed."""

    def __init__(
        self,
        encoder: FrozenEncoder,
        ids: Sequence[str],
        open_image: Callable[[str], IO[bytes] | str | os.PathLike],
        prompts: list[str | None],
        done: Mapping[str, Any],
        how: Embedding,
    ):
        self.ids, self.open_image, self.prompts = ids, open_image, prompts
        self.encoder, self.fast = encoder, how.fast_decoding
        self.done = frozenset(done)  # as it is at the start: what is done meanwhile is another process's
        self.side = encoder.reduced_side() if how.fast_decoding else None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitems__(self, numbers: list[int]) -> list[_Batch]:
        batch = _Batch([], [], {}, {})
        inputs = []
        for place, number in enumerate(numbers):
            try:
                data = _read(self.open_image(self.ids[number]))
                batch.keys.append(self._key(data, self.prompts[number]))
                if batch.keys[-1] in self.done or batch.keys[-1] in batch.keys[:-1]:
                    continue
                image = open_image_checked(data, self.ids[number], smallest_side=self.side)
                inputs.append(self.encoder.prepare_image(np.asarray(image), self.ids[number]))
                batch.prepared.append(place)
            except (ImageError, OSError) as error:
                if not isinstance(error, ImageError):
                    error = ImageError(f"{self.ids[number]}: cannot be opened ({error.strerror or error}).")
                batch.keys[place:] = [""]
                batch.problems[place] = error
        if inputs:
            batch.inputs = {name: torch.cat([one[name] for one in inputs]) for name in inputs[0]}
        return [batch]

    def _key(self, data: bytes, prompt: str | None) -> str:
        digest = hashlib.sha256(data)
        digest.update(b"\0" + (prompt or "").encode() + (b"\0fast" if self.fast else b""))
        return digest.hexdigest()


def _first(batches: list[_Batch]) -> _Batch:
    return batches[0]


def _give_way(_worker: int) -> None:
    """Lets an encoder on the same cores go first: a product waits for the slowest of its threads."""
    os.nice(19)


class _PromptFeatures:
    """Features of prompts, by number. Those of the next thousand images are encoded together, each distinct one once,
    in batches of about one length: a batch is padded to its longest."""

    AHEAD = 1024

    def __init__(self, encoder: FrozenEncoder, prompts: list[str | None], batch_size: int):
        self.encoder, self.prompts, self.batch_size = encoder, prompts, batch_size
        self.known: dict[str, np.ndarray] = {}
        self.empty: np.ndarray | None = None

    def of(self, number: int) -> np.ndarray:
        """`(Dt,)`, zeros where there is no prompt."""
        prompt = self.prompts[number]
        if prompt is None:
            if self.empty is None:
                some = next(iter(self.known.values()), None)
                self.empty = np.zeros_like(self.encoder.embed_prompts([""])[0] if some is None else some)
            return self.empty
        if prompt not in self.known:
            ahead = {text for text in self.prompts[number : number + self.AHEAD] if text is not None}
            new = sorted(ahead - set(self.known), key=lambda text: (len(text), text))
            for start in range(0, len(new), self.batch_size):
                some = new[start : start + self.batch_size]
                self.known.update(zip(some, self.encoder.embed_prompts(some)))
        return self.known[prompt]


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
