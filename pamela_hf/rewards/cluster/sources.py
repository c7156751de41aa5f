"""Where the images of a run come from, as a Ray dataset of rows.

A row has the columns of [`schema`]: `image`, its name; its bytes in `data`, or where it lies in `path`, or in `problem`
why it cannot be read; `prompt` and the model's metadata fields as far as they are known. Rows are what the order of
files and of rows in them makes them: a block that is lost with its machine is read again and is the same.

- **Folder**: walked as on one machine where it is local (all machines must see it), else listed; or a pattern such as
  `s3://bucket/*.jpg`.
- **Parquet**: a file or folder with the columns `image` (bytes, a path or URL, or both as `datasets` stores them),
  `image_id` (default: the path), `prompt` and metadata. Paths are relative to the folder of the Parquet files.
- **WebDataset**: a `.tar`, a folder of them without pictures beside them, or a pattern such as
  `s3://bucket/train-*.tar`. Files of one sample share their name up to the first dot; `.txt` is its prompt, `.json` may
  hold `prompt` and metadata. A picture is called `TAR/name.suffix`.
  Source: https://github.com/webdataset/webdataset#the-webdataset-format
"""

import json
import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...files.escaping import writable_name
from ...files.folders import is_ignored, walk
from ...files.images import MAX_FILE_BYTES, has_image_name

OWN = ("image", "data", "path", "problem")
TABLE_BYTES = 64 << 20  # of pictures that are held at once while a tar is read
TABLE_ROWS = 256
READING = {"num_cpus": 0}  # the encoder's actors may have taken all of them


@dataclass
class Source:
    """Images at one place, not yet read.

    Attributes:
        fs: the fsspec file system.
        root: the place in it.
        url: as it was given.
        fields: the model's metadata fields.
    """

    fs: Any
    root: str
    url: str
    fields: Sequence[str]

    def dataset(self, facts: Mapping[str, Mapping[str, str]] | None, rows_at_once: int) -> Any:
        """The rows as a `ray.data.Dataset`; for the arguments see [`open_images`]."""
        files = self._files()
        parquet = [path for path in files if path.endswith(".parquet")]
        pictures = [] if parquet else self._pictures(files)
        tars = [] if parquet or pictures else [path for path in files if path.endswith(".tar")]
        if facts is not None and (tars or parquet):
            raise ValueError(
                f"prompts: {self.url} holds {'WebDataset tars' if tars else 'Parquet'}, where prompts and metadata "
                "stand beside the images. Leave the table out."
            )
        if not (parquet or pictures or tars):
            raise ValueError(f"{self.url} holds no images, Parquet files or tars.")
        if tars:
            return self._tars(tars)
        return self._parquet(parquet) if parquet else self._folder(pictures, facts or {}, rows_at_once)

    def _files(self) -> list[str]:
        """The place itself, what its pattern means, or all files below it but hidden ones and those of folders that are
        left alone."""
        if "*" in self.root:
            return sorted(self.fs.glob(self.root))
        if self.fs.isfile(self.root):
            return [self.root]
        start = len(self.root.rstrip("/")) + 1
        return [path for path in sorted(self.fs.find(self.root)) if not _is_hidden(path[start:])]

    def _pictures(self, files: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of image files."""
        if is_local(self.fs) and "*" not in self.root:
            return self._walked()
        below = f"{self.root.rstrip('/')}/"
        return [
            {"image": writable_name(self._name(path, below)), "path": self.fs.unstrip_protocol(path)}
            for path in files if has_image_name(path)
        ]  # fmt: skip

    @staticmethod
    def _name(path: str, below: str) -> str:
        return path.removeprefix(below) if path.startswith(below) else posixpath.basename(path)

    def _folder(
        self, rows: list[dict[str, Any]], facts: Mapping[str, Mapping[str, str]], rows_at_once: int
    ) -> Any:
        import ray.data

        if missing := set(facts) - {row["image"] for row in rows}:
            raise ValueError(f"prompts: the table names {min(missing)!r}, which is not an image of {self.url}.")
        tables = [
            self._table({**row, **facts.get(row["image"], {})} for row in rows[start : start + rows_at_once])
            for start in range(0, len(rows), rows_at_once)
        ]
        return ray.data.from_arrow(tables)

    def _walked(self) -> list[dict[str, Any]]:
        return [
            {"image": one.name, "problem": f"{one.problem}."} if one.problem else
            {"image": one.name, "path": str(one.path.absolute())}
            for one in walk(self.root)
        ]  # fmt: skip

    def _parquet(self, paths: list[str]) -> Any:
        import pyarrow.dataset
        import ray.data

        names = pyarrow.dataset.dataset(paths, filesystem=self.fs, format="parquet").schema.names
        if "image" not in names:
            raise ValueError(f"{self.url} has the columns {names}; image is needed (bytes, or a path).")
        columns = [name for name in ("image", "image_id", "prompt", *self.fields) if name in names]
        found = ray.data.read_parquet(paths, filesystem=self.fs, columns=columns, **READING)
        folder = self.root if self.fs.isdir(self.root) else posixpath.dirname(self.root)
        place = self.fs.unstrip_protocol(folder)
        return found.map_batches(partial(_parquet_rows, self, place), batch_format="pyarrow", **READING)

    def _tars(self, paths: list[str]) -> Any:
        import ray.data

        tables = [pa.table({"tar": [path]}) for path in paths]
        return ray.data.from_arrow(tables).map_batches(
            partial(_tar_rows, self), batch_size=1, batch_format="pyarrow", **READING
        )

    def _table(self, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        return pa.Table.from_pylist(list(rows), schema(self.fields))


def open_images(
    images: str,
    fields: Sequence[str] = (),
    facts: Mapping[str, Mapping[str, str]] | None = None,
    rows_at_once: int = 256,
) -> Any:
    """Images as a Ray dataset, see this module's description.

    Args:
        images: path or fsspec URL of a folder, Parquet, tars, or a picture.
        fields: the model's metadata fields.
        facts: image's name → its `prompt` and metadata, for a folder.
        rows_at_once: of a folder's images, how many make a block.

    Raises:
        FileNotFoundError: nothing is there. ValueError: no images there; Parquet without these columns; `facts` for
            something else than a folder. ImportError: the file system's package is missing; fsspec names it.
    """
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(str(images))
    if not (fs.glob(root) if "*" in root else fs.exists(root)):
        raise FileNotFoundError(f"{images} does not exist. Give a folder of images, Parquet or tars, or their URL.")
    return Source(fs, root, str(images), fields).dataset(facts, rows_at_once)


def schema(fields: Sequence[str]) -> pa.Schema:
    """Types of the columns."""
    types = {"image": pa.string(), "data": pa.binary(), "path": pa.string(), "problem": pa.string()}
    return pa.schema([*types.items(), *((name, pa.string()) for name in ("prompt", *fields))])


def _parquet_rows(source: Source, place: str, table: pa.Table) -> pa.Table:
    """Rows of a part of a Parquet file; `place`: URL of the folder that paths are relative to."""
    rows = []
    for row in table.to_pylist():
        image, name = row.pop("image"), row.pop("image_id", None)
        image = image if isinstance(image, dict) else {"bytes" if isinstance(image, bytes) else "path": image}
        data, path = image.get("bytes"), image.get("path")
        if name is None and not path:
            raise ValueError(f"{source.url}: images of bytes alone need names; add a column image_id.")
        known = {key: str(value) for key, value in row.items() if value is not None}
        known["image"] = writable_name(str(path if name is None else name))
        if data is not None:
            known["data"] = data
        elif path:
            known["path"] = path if "://" in path or Path(path).is_absolute() else f"{place}/{path}"
        else:
            known["problem"] = "neither bytes nor a path."
        rows.append(known)
    return source._table(rows)


def _tar_rows(source: Source, table: pa.Table) -> Iterator[pa.Table]:
    """Rows of the tars that a table names, a few at a time. Of a damaged tar come the pictures before the damage, then
    a row that says what is wrong."""
    for tar in table["tar"].to_pylist():
        rows: list[dict[str, Any]] = []
        size = 0
        for row in _tar_samples(source, tar):
            rows.append(row)
            size += len(row.get("data") or b"")
            if size >= TABLE_BYTES or len(rows) == TABLE_ROWS:
                yield source._table(rows)
                rows, size = [], 0
        yield source._table(rows)


def _tar_samples(source: Source, path: str) -> Iterator[dict[str, Any]]:
    tar = source._name(path, f"{source.root.rstrip('/')}/")
    pictures: list[dict[str, Any]] = []  # of the sample that is being read
    known: dict[str, str] = {}
    key = None
    try:
        with source.fs.open(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                if not member.isfile() or is_ignored(name):
                    continue
                stem, _, suffix = name.partition(".")
                if (folder, stem) != key:
                    yield from ({**known, **picture} for picture in pictures)
                    key, pictures, known = (folder, stem), [], {}
                if has_image_name(name):
                    pictures.append(_tar_picture(archive, member, tar))
                elif suffix in ("txt", "json") and member.size < 1 << 20:
                    known.update(_tar_facts(archive.extractfile(member).read(), suffix, source.fields))
    except (tarfile.TarError, OSError, EOFError) as error:
        yield from ({**known, **picture} for picture in pictures)
        yield {"image": tar, "problem": f"the tar is damaged ({str(error)[:100]}); what follows in it is left out."}
        return
    yield from ({**known, **picture} for picture in pictures)


def _tar_picture(archive: tarfile.TarFile, member: tarfile.TarInfo, tar: str) -> dict[str, Any]:
    name = writable_name(f"{tar}/{member.name}")
    if member.size > MAX_FILE_BYTES:
        return {"image": name, "problem": f"more than {MAX_FILE_BYTES >> 20} MiB; save the image smaller."}
    return {"image": name, "data": archive.extractfile(member).read()}


def _tar_facts(data: bytes, suffix: str, fields: Sequence[str]) -> dict[str, str]:
    """What a sample's `.txt` or `.json` says; nothing where it cannot be read."""
    try:
        text = data.decode("utf-8")
        if suffix == "txt":
            return {"prompt": text.strip()}
        found = json.loads(text)
        return {name: str(found[name]) for name in ("prompt", *fields) if found.get(name) is not None}
    except (ValueError, AttributeError, RecursionError):
        return {}


def is_local(fs: Any) -> bool:
    """Whether an fsspec file system is this machine's own."""
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(fs, LocalFileSystem)


def _is_hidden(name: str) -> bool:
    """Whether a file's own name, or that of a folder above it, is left alone by rule."""
    *folders, file = name.split("/")
    return is_ignored(file) or any(is_ignored(folder, True) for folder in folders)
