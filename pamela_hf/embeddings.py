"""Features of the frozen encoder: computed once per image and prompt, kept in one file, verified before use.

The file (`embeddings.safetensors`) holds `image_embeds (N, D)` and `text_embeds (N, Dt)`, row `i` of both belonging to
`image_ids[i]` of its header, together with the encoder's id, revision, preprocessing fingerprint and a sha256 over the
contents. Images without a prompt have a zero text row and are listed in `no_prompt_ids`.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm.auto import tqdm
from transformers import AutoModel

from .configuration_pamela import LOCAL_ENCODER, PamelaConfig
from .images import open_image_checked
from .loading import folder_or_repository, usable_device
from .modeling_pamela import encode_images, encode_prompts
from .processing_pamela import load_preprocessors, preprocessing_fingerprint, tokenize_prompts

EMBEDDINGS_NAME = "embeddings.safetensors"
DEFAULT_ENCODER = "google/siglip2-so400m-patch14-384"


class EmbeddingError(ValueError):
    """An embeddings file that is damaged, incomplete, or made by another encoder."""


@dataclass
class Embeddings:
    """Features of N images and their prompts.

    Attributes:
        image_ids: N unique ids.
        image_embeds: `(N, D)` float32.
        text_embeds: `(N, Dt)` float32, or `None`; a row of zeros = no prompt.
        no_prompt_ids: images without a prompt.
        backbone, revision, preprocessing: which encoder made them; `None` = not stated.
        source_keys: sha256 of each image's bytes and prompt, in the order of `image_ids`; empty = not known.
    """

    image_ids: list[str]
    image_embeds: np.ndarray
    text_embeds: np.ndarray | None = None
    no_prompt_ids: list[str] = field(default_factory=list)
    backbone: str | None = None
    revision: str | None = None
    preprocessing: str | None = None
    source_keys: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._row = {image_id: i for i, image_id in enumerate(self.image_ids)}
        if len(self._row) != len(self.image_ids):
            raise EmbeddingError("image_ids holds an id more than once; each image has one row.")
        for name in ("image_embeds", "text_embeds"):
            value = getattr(self, name)
            if value is None:
                continue
            if value.ndim != 2 or len(value) != len(self.image_ids):
                raise EmbeddingError(f"{name} has shape {value.shape}; expected ({len(self.image_ids)}, D).")
            if not np.isfinite(value).all():
                bad = self.image_ids[int(np.flatnonzero(~np.isfinite(value).all(1))[0])]
                raise EmbeddingError(f"{name} of image {bad!r} is not finite; embed that image again.")
            setattr(self, name, np.ascontiguousarray(value, np.float32))

    def __len__(self) -> int:
        return len(self.image_ids)

    def rows(self, image_ids: Iterable[str]) -> np.ndarray:
        """Rows `(n,)` int64 of images. Raises EmbeddingError naming the ones that have none."""
        image_ids = list(image_ids)
        out = np.fromiter((self._row.get(i, -1) for i in image_ids), np.int64, len(image_ids))
        if (out < 0).any():
            missing = sorted({image_ids[i] for i in np.flatnonzero(out < 0)})
            raise EmbeddingError(
                f"{len(missing)} images have no embedding, such as {', '.join(map(repr, missing[:3]))}. "
                "Run `pamela embed` on the same data again; it adds what is missing."
            )
        return out

    def subset(self, image_ids: Sequence[str]) -> "Embeddings":
        """The same features of some of the images, in the order given."""
        rows, keep = self.rows(image_ids), set(image_ids)
        return Embeddings(
            list(image_ids),
            self.image_embeds[rows],
            None if self.text_embeds is None else self.text_embeds[rows],
            [i for i in self.no_prompt_ids if i in keep],
            self.backbone,
            self.revision,
            self.preprocessing,
        )

    def content_hash(self) -> str:
        """sha256 over ids and features."""
        return _hash({"image_ids": json.dumps(self.image_ids)}, self.image_embeds, self.text_embeds)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the file whole or not at all."""
        header = {"image_ids": json.dumps(self.image_ids), "no_prompt_ids": json.dumps(self.no_prompt_ids)}
        if self.source_keys:
            header["source_keys"] = json.dumps(self.source_keys)
        for name in ("backbone", "revision", "preprocessing"):
            if getattr(self, name):
                header[name] = getattr(self, name)
        header["sha256"] = _hash(header, self.image_embeds, self.text_embeds)
        tensors = {"image_embeds": self.image_embeds}
        if self.text_embeds is not None:
            tensors["text_embeds"] = self.text_embeds
        path = Path(path)
        part = path.with_name(path.name + ".part")
        save_file(tensors, part, metadata=header)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)


def _hash(header: dict[str, str], *features: np.ndarray | None) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for value in features:
        if value is not None:
            digest.update(value.astype("<f4").tobytes())
    return digest.hexdigest()


def load_embeddings(path: str | os.PathLike) -> Embeddings:
    """Reads and verifies an embeddings file (or the one in a ratings folder).

    Raises:
        FileNotFoundError: there is none.
        EmbeddingError: it is damaged, or its contents are not those its header was written for.
    """
    path = Path(path)
    path = path / EMBEDDINGS_NAME if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Make it with: pamela embed --data {path.parent}")
    try:
        with safe_open(path, framework="pt") as file:  # NumPy has no bfloat16
            header = file.metadata() or {}
            names = set(file.keys())
            if "image_embeds" not in names or "image_ids" not in header:
                raise EmbeddingError(f"{path} lacks image_embeds or the header's image_ids; it holds {sorted(names)}.")
            # a copy: the file's own memory changes when somebody writes into the file
            image_embeds = np.array(file.get_tensor("image_embeds").float())
            text_embeds = np.array(file.get_tensor("text_embeds").float()) if "text_embeds" in names else None
        out = Embeddings(
            [str(i) for i in json.loads(header["image_ids"])],
            image_embeds,
            text_embeds,
            [str(i) for i in json.loads(header.get("no_prompt_ids", "[]"))],
            header.get("backbone"),
            header.get("revision"),
            header.get("preprocessing"),
            json.loads(header.get("source_keys", "[]")),
        )
    except (SafetensorError, json.JSONDecodeError, TypeError) as error:
        raise EmbeddingError(f"{path} is damaged ({error}). Delete it and run `pamela embed` again.") from error
    except EmbeddingError as error:
        raise EmbeddingError(f"{path}: {error}") from None
    # Ours always carry a hash over everything. Files made elsewhere say image_ids alone, besides PyTorch's "format": of
    # one that says more, a missing hash may be a damaged one.
    header.pop("format", None)
    stated = header.pop("sha256", None if set(header) == {"image_ids"} else "")
    if stated == "":
        raise EmbeddingError(
            f"{path} has no sha256 over what it says. Run `pamela embed` again; of a file made elsewhere keep "
            "image_ids alone."
        )
    if stated is not None and stated != _hash(header, out.image_embeds, out.text_embeds):
        raise EmbeddingError(f"{path} does not hold what was written (sha256 differs). Run `pamela embed` again.")
    return out


def join_embeddings(parts: dict[str, Embeddings]) -> Embeddings:
    """Features of several sources, ids as `source/id`. Raises EmbeddingError where two were made by other encoders."""
    first_name, first = next(iter(parts.items()))
    for name, part in parts.items():
        for what in ("backbone", "revision", "preprocessing"):
            a, b = getattr(first, what), getattr(part, what)
            if a and b and a != b:
                raise EmbeddingError(f"{what} of {first_name!r} is {a!r}, of {name!r} {b!r}: use one encoder for both.")
        for what in ("image_embeds", "text_embeds"):
            a, b = getattr(first, what), getattr(part, what)
            if (a is None) != (b is None) or (a is not None and a.shape[1] != b.shape[1]):
                shapes = [None if x is None else x.shape for x in (a, b)]
                raise EmbeddingError(f"{what} of {first_name!r} and {name!r} have shapes {shapes[0]}, {shapes[1]}.")
    return Embeddings(
        [f"{name}/{i}" for name, part in parts.items() for i in part.image_ids],
        np.concatenate([p.image_embeds for p in parts.values()]),
        None if first.text_embeds is None else np.concatenate([p.text_embeds for p in parts.values()]),
        [f"{name}/{i}" for name, part in parts.items() for i in part.no_prompt_ids],
        first.backbone,
        first.revision,
        first.preprocessing,
    )


def check_encoder(config: PamelaConfig, embeddings: Embeddings, where: str = "the embeddings") -> None:
    """Raises EmbeddingError saying what differs between a model's encoder and the one that made `embeddings`."""
    text_dim = 0 if embeddings.text_embeds is None else embeddings.text_embeds.shape[1]
    differing = []
    for name, mine, theirs in [
        ("encoder", config.backbone, embeddings.backbone),
        ("revision", config.backbone_revision, embeddings.revision),
        ("preprocessing", config.preprocessing, embeddings.preprocessing),
    ]:
        if mine and theirs and mine != theirs:
            differing.append(f"{name} (model {mine!r}, embeddings {theirs!r})")
    if config.image_embed_dim != embeddings.image_embeds.shape[1]:
        differing.append(f"image width (model {config.image_embed_dim}, embeddings {embeddings.image_embeds.shape[1]})")
    if config.text_embed_dim and text_dim and config.text_embed_dim != text_dim:
        differing.append(f"text width (model {config.text_embed_dim}, embeddings {text_dim})")
    if differing:
        raise EmbeddingError(
            f"{where} were not made by this model's encoder: {'; '.join(differing)}. "
            f"Embed the images with {config.backbone or 'the encoder of the training data'}."
        )


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


def weights_hash(model: torch.nn.Module) -> str:
    """First 16 hex digits of the sha256 over a model's weights in float32."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


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
    """
    output = Path(output)
    stamp = {"backbone": encoder.name, "revision": encoder.revision, "preprocessing": encoder.preprocessing}
    partial = output.with_name(output.name + ".partial")
    done = _finished_parts(output, partial, stamp)
    partial.mkdir(parents=True, exist_ok=True)
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
    shutil.rmtree(partial)
    return result


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
