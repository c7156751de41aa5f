"""Features of the frozen encoder: computed once per image and prompt, kept in one file, verified before use.

The file (`embeddings.safetensors`) holds `image_embeds (N, D)` and `text_embeds (N, Dt)`, row `i` of both belonging to
`image_ids[i]` of its header, together with the encoder's id, revision, preprocessing fingerprint and a sha256 over the
contents. Images without a prompt have a zero text row and are listed in `no_prompt_ids`.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .files.config import ParseError, read_json
from .files.escaping import printable
from .files.writing import replacing_file

if TYPE_CHECKING:
    from .model.configuration_pamela import PamelaConfig

DEFAULT_ENCODER = "google/siglip2-so400m-patch14-384"
EMBEDDINGS_NAME = "embeddings.safetensors"
MAX_HEADER = 100 << 20  # bytes; safetensors' own limit
MAX_WIDTH = 65_536  # numbers of a feature
MAX_FEATURE = 1e6
MAX_ID = 4096  # letters of an id
COPIED_ROWS = 4096  # of a file that is read, at a time
FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # of a number, by its type in a safetensors file


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
        backbone: name of the encoder that made them; `None` = not stated.
        revision: that encoder's revision; `None` = not stated.
        preprocessing: fingerprint of that encoder's preprocessing; `None` = not stated.
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
            [self.source_keys[row] for row in rows] if self.source_keys else [],
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
        with replacing_file(path) as staged:
            save_file(tensors, staged, metadata=header)


def _hash(header: dict[str, str], *features: np.ndarray | None) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for value in features:
        if value is not None:
            digest.update(np.ascontiguousarray(value, "<f4").reshape(-1).view(np.uint8))  # no copy of large files
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
        header, types = _checked_header(path)
        ids = _ids(header, "image_ids")
        features = _float_features(path, types)
        out = Embeddings(
            ids,
            features["image_embeds"],
            features.get("text_embeds"),
            _ids(header, "no_prompt_ids"),
            header.get("backbone"),
            header.get("revision"),
            header.get("preprocessing"),
            _ids(header, "source_keys"),
        )
        _check_contents(out)
    except (SafetensorError, ParseError, OSError) as error:
        what = printable(str(error), 200)
        raise EmbeddingError(f"{path} is damaged ({what}). Delete it and run `pamela embed` again.") from None
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


def _float_features(path: Path, types: dict[str, str]) -> dict[str, np.ndarray]:
    """Tensor's name → float32 array, a copy: the file's own memory changes when somebody writes into the file."""
    by_torch = "BF16" in types.values()  # which NumPy does not have; PyTorch takes seconds to import
    with safe_open(path, framework="pt" if by_torch else "numpy") as file:
        if by_torch:
            return {name: np.array(file.get_tensor(name).float()) for name in types}
        return {name: _copied(file.get_slice(name)) for name in types}


def _copied(tensor: Any) -> np.ndarray:
    """A safetensors slice as float32 array, some rows at a time: a whole one would be in memory three times."""
    out = np.empty(tensor.get_shape(), np.float32)
    for start in range(0, len(out), COPIED_ROWS):
        end = min(start + COPIED_ROWS, len(out))
        out[start:end] = tensor[start:end]
    return out


def _checked_header(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """(what the header says, tensor's name → type) of an embeddings file, before anything of it is loaded.

    Source: https://github.com/huggingface/safetensors#format (8 bytes of length, JSON, tensors).

    Raises:
        ParseError: its header is not JSON, or of lies. EmbeddingError: it holds something else than features.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise ParseError(f"its header would have {length:,} bytes")
        header = read_json(file.read(length), max_bytes=MAX_HEADER, max_depth=3)
    if not isinstance(header, dict):
        raise ParseError("its header is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ParseError("its __metadata__ is not an object of texts")
    if "image_embeds" not in header or "image_ids" not in metadata:
        names = ", ".join(map(printable, sorted(header)[:5]))
        raise EmbeddingError(f"it lacks image_embeds or the header's image_ids; it holds {names or 'nothing'}.")
    if extra := sorted(set(header) - {"image_embeds", "text_embeds"}):
        raise EmbeddingError(
            f"it holds a tensor {printable(extra[0], 60)!r}; image_embeds and text_embeds are allowed."
        )
    for name in ("backbone", "revision", "preprocessing"):
        if len(metadata.get(name, "")) > MAX_ID or not metadata.get(name, "").isprintable():
            raise EmbeddingError(f"{name} in its header is not a name of at most {MAX_ID} printable letters.")
    for name, tensor in header.items():
        _check_tensor(name, tensor, size - 8 - length)
    return metadata, {name: tensor["dtype"] for name, tensor in header.items()}


def _check_tensor(name: str, tensor: Any, most: int) -> None:
    """Raises EmbeddingError unless a header's entry is that of a matrix of floats within the file's `most` bytes."""
    known = isinstance(tensor, dict) and tensor.keys() == {"dtype", "shape", "data_offsets"}
    if not known or not isinstance(tensor["dtype"], str) or tensor["dtype"] not in FLOAT_BYTES:
        kind = printable(str(tensor.get("dtype")), 20) if isinstance(tensor, dict) else "nothing"
        raise EmbeddingError(f"{name} is of type {kind}; allowed: {', '.join(FLOAT_BYTES)}.")
    for key in ("shape", "data_offsets"):
        pair = tensor[key]
        if not isinstance(pair, list) or len(pair) != 2 or any(type(n) is not int or n < 0 for n in pair):
            raise EmbeddingError(f"{name} has {key} {printable(str(pair), 60)}; two whole numbers are needed.")
    (rows, width), (start, end) = tensor["shape"], tensor["data_offsets"]
    if not 1 <= width <= MAX_WIDTH:
        raise EmbeddingError(f"{name} is {width} wide; allowed: 1 to {MAX_WIDTH}.")
    if end > most or end - start != rows * width * FLOAT_BYTES[tensor["dtype"]]:
        raise EmbeddingError(f"{name} of shape ({rows}, {width}) would lie at bytes {start} to {end} of {most}.")


def _ids(header: dict[str, str], key: str) -> list[str]:
    """A header's JSON list of ids: texts, or whole numbers as some clients write them."""
    values = read_json(header.get(key, "[]"), max_bytes=MAX_HEADER, max_depth=1)
    if not isinstance(values, list) or any(type(value) not in (str, int) for value in values):
        raise EmbeddingError(f"{key} in its header is not a JSON list of texts.")
    ids = [str(value) for value in values]
    if (long := next((i for i in ids if not 1 <= len(i) <= MAX_ID), None)) is not None:
        raise EmbeddingError(
            f"{key} in its header holds {printable(long, 60)!r}, of {len(long)} letters; at most {MAX_ID}."
        )
    return ids


def _check_contents(embeddings: Embeddings) -> None:
    """Raises EmbeddingError for what no encoder makes."""
    for name, value in (("image_embeds", embeddings.image_embeds), ("text_embeds", embeddings.text_embeds)):
        if value is not None and value.size and (largest := float(max(value.max(), -value.min()))) > MAX_FEATURE:
            raise EmbeddingError(f"{name} holds a value of {largest:.3g}; encoders' are far below {MAX_FEATURE:g}.")
    if unknown := sorted(set(embeddings.no_prompt_ids) - set(embeddings.image_ids)):
        raise EmbeddingError(f"no_prompt_ids holds {printable(unknown[0], 60)!r}, which is none of image_ids.")
    if embeddings.source_keys and len(embeddings.source_keys) != len(embeddings):
        raise EmbeddingError(f"source_keys holds {len(embeddings.source_keys)} of {len(embeddings)} images.")


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


def check_encoder(config: "PamelaConfig", embeddings: Embeddings, where: str = "the embeddings") -> None:
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
