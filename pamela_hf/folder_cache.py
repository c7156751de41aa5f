"""Features of a folder's images, kept from run to run: what score, embed and taste share.

Two files: `embeddings.safetensors` (see [`pamela_hf.embeddings`]), a row for each file, and beside it
`embeddings.safetensors.index.json`: size, time of last change and content hash of each file, the difference hash of
each content. A file whose size and time are as they were is not read again; a changed or new one is read and hashed,
and encoded only if no file ever seen there had the same content, so that a moved photo costs nothing. A run that is cut
off goes on where it stopped: finished rows lie in `embeddings.safetensors.partial/` until the file is complete.

JPEGs are decoded at a reduced size, see [`pamela_hf.encoder.FrozenEncoder.reduced_side`]: reading a photograph of 12
megapixels takes a quarter of the time then. [`PamelaScorer.score`], and `pamela score` without a file of features,
decode all pixels: scores differ by as much as those of a JPEG that was saved again.

One file goes with one folder: names are relative to it. Commands that look at different parts of it, `taste` at photos
and `score` at all files, leave each other's rows as they are. Of another folder, one above or below included, the same
file is filled anew with that folder's rows; what has the same content is read and hashed, but not encoded again.
"""

import hashlib
import io
import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from .embeddings import EmbeddingError, Embeddings, load_embeddings
from .files.folders import walk
from .files.images import ImageError, open_image_checked
from .files.writing import locked, write_text
from .ratings.near_duplicates import difference_hash

FORMAT = 1
PART_ROWS = 256  # how much is encoded again, at most, after a run that was cut off
WORKERS = min(8, os.cpu_count() or 1)


class Source(Protocol):
    """An encoder that is loaded only when there is something to encode.

    Attributes:
        encoder: the [`pamela_hf.encoder.FrozenEncoder`].
        made_by: what features made by it say of their origin: `backbone`, `revision`, `preprocessing`.
        stamp: what it is known by without loading it.
    """

    @property
    def encoder(self) -> Any: ...

    @property
    def made_by(self) -> Mapping[str, str | None]: ...

    @property
    def stamp(self) -> str: ...


@dataclass
class EncoderSource:
    """An encoder by its name.

    Attributes:
        backbone: Hub id or folder.
        revision: commit or tag; default: the newest.
        device: where it runs, see [`pamela_hf.encoder.FrozenEncoder`]; default: CUDA, MPS or CPU.
        dtype: in what precision it runs, see [`pamela_hf.encoder.FrozenEncoder`]; default: "float32".
    """

    backbone: str
    revision: str | None = None
    device: Any = None
    dtype: str = "float32"

    @cached_property
    def encoder(self) -> Any:
        from .encoder import FrozenEncoder

        return FrozenEncoder(self.backbone, self.revision, self.device, self.dtype)

    @cached_property
    def made_by(self) -> dict[str, str | None]:
        encoder = self.encoder
        return {"backbone": encoder.name, "revision": encoder.revision, "preprocessing": encoder.preprocessing}

    @cached_property
    def stamp(self) -> str:
        """Of a folder, a hash of its files' names, sizes and times."""
        folder = Path(self.backbone)
        what: list[Any] = [self.revision, self.dtype]
        if folder.is_dir():
            files = sorted(path for path in folder.iterdir() if path.is_file())
            what += [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
        else:
            what.append(self.backbone)
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()


@dataclass
class FolderFeatures:
    """Features of the files that could be read.

    Attributes:
        embeddings: a row for each, `image_ids` the names they were given under.
        hashes: name → [`pamela_hf.ratings.near_duplicates.difference_hash`].
        skipped: name → why the file could not be read.
        encoded: how many images the encoder took this time.
    """

    embeddings: Embeddings
    hashes: dict[str, int]
    skipped: dict[str, str]
    encoded: int = 0


@dataclass
class _Index:
    encoder: str | None = None
    files: dict[str, list[Any]] = field(default_factory=dict)  # name → size, mtime in ns, key
    hashes: dict[str, int] = field(default_factory=dict)  # key → difference hash

    @classmethod
    def read(cls, path: Path) -> "_Index":
        """The index, or an empty one where it is missing or damaged: files are then hashed again."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != FORMAT:
                return cls()
            hashes = {key: int(text, 16) for key, text in values["hashes"].items()}
            files = {name: [int(size), int(time), str(key)] for name, (size, time, key) in values["files"].items()}
            return cls(values["encoder"], files, hashes)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def text(self) -> str:
        hashes = {key: f"{value:x}" for key, value in self.hashes.items()}
        return json.dumps({"format": FORMAT, "encoder": self.encoder, "files": self.files, "hashes": hashes})


@dataclass
class _Read:
    """One file as it was read: its index entry, and if its content is new what the encoder takes of the picture."""

    name: str
    entry: list[Any]
    prepared: Any = None
    difference_hash: int | None = None


class _Rows:
    """Rows by content key: those of the finished file, of parts of a run that was cut off, and new ones."""

    def __init__(self, output: Path):
        self.output, self.partial = output, output.with_name(output.name + ".partial")
        self.kept: Embeddings | None = load_embeddings(output) if output.exists() else None
        self.rows: dict[str, np.ndarray] = {}
        self.parts: list[Embeddings] = [] if self.kept is None else [self.kept]
        if self.kept is not None:
            self.rows.update(zip(self.kept.source_keys, self.kept.image_embeds))
        for file in sorted(self.partial.glob("*.safetensors")):
            try:
                part = load_embeddings(file)
            except EmbeddingError:
                file.unlink()  # cut off while it was written; its images are encoded again
                continue
            self.parts.append(part)
            self.rows.update(zip(part.image_ids, part.image_embeds))
        self.fresh: dict[str, np.ndarray] = {}
        self.written = len(list(self.partial.glob("*.safetensors")))

    def check(self, made_by: Mapping[str, str | None]) -> dict[str, str | None]:
        """`made_by`, with what the rows say where it is silent. Raises EmbeddingError where they differ."""
        agreed = dict(made_by)
        for part in self.parts:
            for what, value in agreed.items():
                other = getattr(part, what)
                if value is not None and other is not None and other != value:
                    raise EmbeddingError(
                        f"{self.output} was made with {what} {other!r}, not {value!r}. Choose another file, or delete "
                        "it to encode everything anew."
                    )
                agreed[what] = value if value is not None else other
        return agreed

    def add(self, keys: Sequence[str], features: np.ndarray, made_by: Mapping[str, str | None]) -> None:
        self.fresh.update(zip(keys, features))
        self.rows.update(zip(keys, features))
        if len(self.fresh) >= PART_ROWS:
            self.flush(made_by)

    def flush(self, made_by: Mapping[str, str | None]) -> None:
        """Puts what was encoded since the last time on disk."""
        if not self.fresh:
            return
        self.partial.mkdir(parents=True, exist_ok=True)
        Embeddings(list(self.fresh), np.stack(list(self.fresh.values())), **made_by).save(
            self.partial / f"{self.written:06d}.safetensors"
        )
        self.written += 1
        self.fresh.clear()


def content_key(data: bytes) -> str:
    """What a file's content is known by: the key of an image without a prompt in `compute_embeddings`, decoded fast."""
    return hashlib.sha256(data + b"\0\0fast").hexdigest()


def embed_folder(
    folder: str | os.PathLike,
    output: str | os.PathLike,
    source: Source,
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> FolderFeatures:
    """Features of all pictures of a folder, walked as [`pamela_hf.files.folders.walk`] does.

    Args:
        folder: a folder, or one picture.
        output: see [`embed_files`].
        source: the encoder.
        batch_size: images a forward pass.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: `folder` does not exist. EmbeddingError: as [`embed_files`].
        ValueError: no picture there, or none that can be read.
    """
    files: dict[str, Path] = {}
    problems: dict[str, str] = {}
    for found in walk(folder):
        if found.problem is not None:
            problems[found.name] = f"{found.problem}."
        else:
            files[found.name] = found.path
    if not files:
        first = f": {_first(problems)}" if problems else ""
        raise ValueError(f"{folder} holds no images that can be read{first}. Name the folder that they are in.")
    root = Path(folder) if Path(folder).is_dir() else Path(folder).parent
    result = embed_files(files, output, source, folder=root, batch_size=batch_size, progress=progress)
    result.skipped = problems | result.skipped
    return result


def embed_files(
    files: Mapping[str, str | os.PathLike],
    output: str | os.PathLike,
    source: Source,
    *,
    folder: str | os.PathLike | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> FolderFeatures:
    """Features of image files, from `output` where their contents are known there, else from the encoder.

    Files are read, decoded and brought to the encoder's size by [`WORKERS`] threads while it works, so that no more
    than so many pictures are in memory at full size. Another process that uses the same `output` waits.

    Args:
        files: name → path of each image file; the names become `image_ids`.
        output: the embeddings' file to read and to write.
        source: the encoder.
        folder: what names are relative to: rows of other files stay in `output` while the file is there unchanged.
            Default: they are dropped.
        batch_size: images a forward pass.
        progress: show a progress bar.

    Raises:
        EmbeddingError: `output` is damaged or was made by another encoder.
        ValueError: not one file can be read.
    """
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with locked(output):
        return _embed_files(files, output, source, None if folder is None else Path(folder), batch_size, progress)


def _embed_files(
    files: Mapping[str, str | os.PathLike],
    output: Path,
    source: Source,
    folder: Path | None,
    batch_size: int,
    progress: bool,
) -> FolderFeatures:
    place = output.with_name(output.name + ".index.json")
    index, rows = _Index.read(place), _Rows(output)
    known = {name: entry for name, entry in index.files.items() if entry[2] in rows.rows and entry[2] in index.hashes}
    unread, skipped = _changed(files, known)
    entries = {name: known[name] for name in files if name not in unread and name not in skipped}
    made_by: dict[str, str | None] = {}
    if rows.kept is not None and index.encoder == source.stamp:
        made_by = _made_by(rows.kept)
    elif rows.parts:
        made_by = rows.check(source.made_by)
    encoded = 0
    try:
        for batch in _batches(unread, _Reader(rows, index, source), entries, skipped, batch_size, progress):
            if not encoded:
                made_by = rows.check(source.made_by)
            features = source.encoder.encode_prepared([read.prepared for read in batch]).cpu().numpy()
            rows.add([read.entry[2] for read in batch], features, made_by)
            encoded += len(batch)
    except BaseException:
        rows.flush(made_by)
        raise
    if not entries:
        raise ValueError(f"None of the {len(files)} images can be read; the first: {_first(skipped)}.")
    others = _still_there(index.files, files, known, folder)
    index.encoder, index.files = source.stamp, {name: entries[name] for name in files if name in entries}
    return _finish(index, rows, place, made_by, others, skipped, encoded)


def _still_there(
    indexed: Mapping[str, list[Any]], asked: Mapping[str, Any], known: Mapping[str, Any], folder: Path | None
) -> dict[str, list[Any]]:
    """Index entries of the other files of the folder that are unchanged."""
    kept = {}
    for name, entry in indexed.items() if folder is not None else ():
        if name in asked or name not in known:
            continue
        try:
            stat = os.stat(folder / name)
        except (OSError, ValueError):
            continue
        if [stat.st_size, stat.st_mtime_ns] == entry[:2]:
            kept[name] = entry
    return kept


def _made_by(embeddings: Embeddings) -> dict[str, str | None]:
    return {what: getattr(embeddings, what) for what in ("backbone", "revision", "preprocessing")}


def _finish(
    index: _Index,
    rows: _Rows,
    place: Path,
    made_by: Mapping[str, str | None],
    others: Mapping[str, list[Any]],
    skipped: dict[str, str],
    encoded: int,
) -> FolderFeatures:
    """Writes the two files, if anything is new. `others`: index entries that stay beside those asked for."""
    asked = list(index.files)
    index.files |= others
    names = list(index.files)
    keys = [index.files[name][2] for name in names]
    index.hashes = {key: index.hashes[key] for key in dict.fromkeys(keys)}
    result = rows.kept
    if result is None or result.image_ids != names or result.source_keys != keys:
        features = np.stack([rows.rows[key] for key in keys])
        result = Embeddings(names, features, None, names, **made_by, source_keys=keys)
        result.save(rows.output)
    text = index.text()
    if not place.is_file() or place.read_text(encoding="utf-8") != text:
        write_text(place, text)
    shutil.rmtree(rows.partial, ignore_errors=True)
    if others:
        result = result.subset(asked)
    return FolderFeatures(result, {name: index.hashes[key] for name, key in zip(asked, keys)}, skipped, encoded)


def _changed(
    files: Mapping[str, str | os.PathLike], known: Mapping[str, list[Any]]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Files to read, and those that vanished: name → path, name → reason."""
    unread, skipped = {}, {}
    for name, path in files.items():
        try:
            stat = os.stat(path)
        except OSError as error:
            skipped[name] = error.strerror or str(error)
            continue
        if known.get(name, [None, None])[:2] != [stat.st_size, stat.st_mtime_ns]:
            unread[name] = Path(path)
    return unread, skipped


def _batches(
    unread: Mapping[str, Path],
    reader: "_Reader",
    entries: dict[str, list[Any]],
    skipped: dict[str, str],
    batch_size: int,
    progress: bool,
) -> Iterator[list[_Read]]:
    """Files with new content in batches; the index entries of all that were read are added to `entries`."""
    batch: dict[str, _Read] = {}
    for read in _read_ahead(unread, reader, skipped, progress):
        key = read.entry[2]
        entries[read.name] = read.entry
        if read.difference_hash is not None:
            reader.index.hashes[key] = read.difference_hash
        if read.prepared is None or key in reader.rows.rows or key in batch:
            continue
        batch[key] = read
        if len(batch) == batch_size:
            yield list(batch.values())
            batch = {}
    if batch:
        yield list(batch.values())


def _read_ahead(
    unread: Mapping[str, Path], reader: "_Reader", skipped: dict[str, str], progress: bool
) -> Iterator[_Read]:
    """Files as they are read by threads, in their order, a few ahead."""
    waiting: deque[tuple[str, Future]] = deque()
    todo = iter(unread.items())
    with (
        ThreadPoolExecutor(WORKERS) as pool,
        tqdm(total=len(unread), desc="encoding photos", disable=not progress) as bar,
    ):
        while True:
            while len(waiting) < 2 * WORKERS and (item := next(todo, None)) is not None:
                waiting.append((item[0], pool.submit(reader.read, *item)))
            if not waiting:
                return
            name, future = waiting.popleft()
            bar.update()
            try:
                read = future.result()
            except (ImageError, OSError) as error:
                reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
                skipped[name] = reason.removeprefix(f"{name}: ")
                continue
            yield read


@dataclass
class _Reader:
    """Reads files for the encoder, in several threads."""

    rows: _Rows
    index: _Index
    source: Source
    ready: bool = False  # whether the encoder is loaded
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, name: str, path: Path) -> _Read:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
            data = file.read()
        key = content_key(data)
        entry = [stat.st_size, stat.st_mtime_ns, key]
        known = key in self.rows.rows
        if known and key in self.index.hashes:
            return _Read(name, entry)
        if not known and not self.ready:  # an encoder is not loaded for a file that is broken
            open_image_checked(io.BytesIO(data), name=name, smallest_side=1)
        side = None if known else self.encoder().reduced_side()
        picture = open_image_checked(io.BytesIO(data), name=name, smallest_side=side)
        prepared = None if known else self.encoder().prepare_image(np.asarray(picture), name)
        return _Read(name, entry, prepared, difference_hash(picture))

    def encoder(self) -> Any:
        with self.lock:  # loaded by the first thread that needs it
            encoder = self.source.encoder
            self.ready = True
            return encoder


def _first(skipped: Mapping[str, str]) -> str:
    name, reason = next(iter(skipped.items()), ("", "there is none"))
    return f"{name}: {reason}" if name else reason
