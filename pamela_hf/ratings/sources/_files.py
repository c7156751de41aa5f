"""A folder, or a zip read in place, as one set of files that no name leads out of."""

import hashlib
import os
import stat
import struct
import threading
import zipfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from safetensors import SafetensorError, safe_open

from ...files.config import read_json
from ...files.hashing import sha256_of
from ..table import RatingError

MAX_MEMBERS = 500_000
MAX_MEMBER_BYTES = 8 << 30
MAX_TOTAL_BYTES = 256 << 30
MAX_RATIO = 200  # uncompressed / compressed; annotations reach about 60, a bomb 1,000
_END_REGION = 22 + (1 << 16) + 76  # the end record with its longest comment, and those of ZIP64 before it
RATIO_APPLIES_FROM = 1 << 20  # bytes: a small file may well be all zeros


def inner_path(name: str) -> str:
    """`name` without ``./``, as a path inside the set.

    Raises:
        ValueError: it is absolute, climbs out with ``..``, or is not a portable name.
    """
    if not name or "\\" in name or any(ord(letter) < 32 for letter in name) or len(name) > 1024:
        raise ValueError(f"{name[:80]!r} is not a usable file name (relative, with forward slashes)")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or (name[1:2] == ":" and name[0].isalpha()):
        raise ValueError(f"{name[:80]!r} leads out of its folder (relative names without '..' are allowed)")
    return str(path)


class Files:
    """Files below a folder or in a zip archive, by relative name with forward slashes.

    Args:
        path: the folder or the zip.

    Raises:
        RatingError: `path` is neither; or an archive has a single member that is unsafe (absolute or ``..``
            name, link or device, encrypted, overlapping, doubled, or inflating beyond reason): nothing of
            such an archive is read.
    """

    def __init__(self, path: Path):
        self.path = path
        self.is_zip = not path.is_dir()
        self._resolved = path.resolve()
        self._lock = threading.Lock()
        self._zip: zipfile.ZipFile | None = None
        self._opened_by = -1
        if self.is_zip:
            try:
                archive = self._archive()
                self._members = {inner_path(info.filename): info for info in _checked(archive) if not info.is_dir()}
            except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError, RuntimeError) as error:
                self.close()
                if isinstance(error, RatingError):
                    raise RatingError(f"{path}: {error} The archive is refused whole; unpack and check it.") from None
                raise RatingError(f"{path}: not a readable zip archive ({error}). Download it again.") from error

    def __getstate__(self) -> dict:
        return {"path": self.path}  # an open file does not travel to another process

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["path"])

    def _archive(self) -> zipfile.ZipFile:
        # A forked process shares the parent's file offset: it has to open the archive for itself.
        with self._lock:
            if self._zip is None or self._opened_by != os.getpid():
                _check_directory(self.path)
                self._zip = zipfile.ZipFile(self.path)
                self._opened_by = os.getpid()
            return self._zip

    def close(self) -> None:
        """Closes the archive; it is opened again when needed."""
        if self._zip is not None:
            self._zip.close()
            self._zip = None

    def names(self, folder: str) -> list[str]:
        """Files below `folder`, sorted; empty if there is no such folder."""
        if self.is_zip:
            return sorted(name for name in self._members if name.startswith(folder + "/"))
        found = []
        for parent, _, names in os.walk(self.path / folder):
            inside = Path(parent).relative_to(self.path)
            found += [(inside / name).as_posix() for name in names]
        return sorted(found)

    def folders_with(self, folder: str) -> list[str]:
        """Where a folder of that name lies, at the top or one level below: its parents ("" = the top)."""
        if self.is_zip:
            parents = {PurePosixPath(name).parent for name in self._members}
            found = {str(parent.parent) for parent in parents if parent.name == folder and len(parent.parts) <= 2}
            return sorted("" if name == "." else name for name in found if not name.startswith("__MACOSX"))
        if (self.path / folder).is_dir():
            return [""]
        return sorted(path.parent.name for path in self.path.glob(f"*/{folder}") if path.is_dir())

    def has(self, name: str) -> bool:
        """Whether there is such a file; a link out of the folder is none. `name` went through `inner_path`."""
        if self.is_zip:
            return name in self._members
        place = self.path / name
        try:
            return place.is_file() and place.resolve().is_relative_to(self._resolved)
        except OSError:  # a name longer than the file system allows
            return False

    def open(self, name: str) -> BinaryIO:
        """The file's bytes as a seekable stream. Raises RatingError for a link out of the folder."""
        if self.is_zip:
            return self._archive().open(self._members[name])
        if not (self.path / name).resolve().is_relative_to(self._resolved):
            raise RatingError(f"{self.label(name)} is a link out of its folder. Put the file itself there.")
        return open(self.path / name, "rb")

    def digest(self, names: list[str], *, content: bool = True) -> str:
        """Hash over names and contents (a zip's own checksums stand for them); else over names and sizes."""
        digest = hashlib.sha256()
        for name in names:
            if self.is_zip:
                info = self._members[name]
                part = f"{info.file_size} {info.CRC if content else ''}"
            elif content:
                with self.open(name) as stream:
                    part = sha256_of(stream).hexdigest()
            else:
                part = str((self.path / name).stat().st_size)
            digest.update(f"{name}\0{part}\0".encode())
        return digest.hexdigest()

    def label(self, name: str) -> str:
        """The file's name for messages."""
        return f"{self.path}/{name}"


MAX_HEADER = 100 << 20  # bytes; safetensors' own limit


def embedded_ids(embeddings: Path) -> set[str]:
    """The image ids of an embeddings.safetensors: its header metadata ``image_ids``, a JSON list.

    Raises:
        RatingError: no safetensors file, or one without image_ids.
    """
    try:
        with safe_open(str(embeddings), framework="numpy") as file:
            image_ids = read_json((file.metadata() or {})["image_ids"], max_bytes=MAX_HEADER, max_depth=1)
        if not isinstance(image_ids, list):
            raise ValueError("it is not a list")
        return {str(image_id) for image_id in image_ids}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise RatingError(
            f"{embeddings}: no embeddings with a header entry image_ids, a JSON list ({error!r}). Write it again "
            "with `pamela embed`, or remove it."
        ) from None


def _check_directory(path: Path) -> None:
    """Refuses an archive whose directory is too large to list, before any of it is parsed.

    The end record says where the directory lies and how long it is (PKWARE APPNOTE 4.3.16; of ZIP64, 4.3.14). Entries
    are counted by their signature, whatever number the record claims.

    Raises:
        RatingError: more than `MAX_MEMBERS` members.
    """
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        start = max(0, size - _END_REGION)
        stream.seek(start)
        tail = stream.read(_END_REGION)
        end = tail.rfind(b"PK\x05\x06")
        if end < 0 or len(tail) < end + 22:
            return  # zipfile says that this is not an archive
        claimed, length = struct.unpack_from("<H", tail, end + 10)[0], struct.unpack_from("<L", tail, end + 12)[0]
        stop = start + end
        large = tail.rfind(b"PK\x06\x06", 0, end)
        if large >= 0 and len(tail) >= large + 56:
            claimed, length = struct.unpack_from("<QQ", tail, large + 32)
            stop = start + large
        members, overlap = 0, b""
        if claimed <= MAX_MEMBERS:
            stream.seek(max(0, stop - length))
            left = min(length, stop)
            while left > 0 and members <= MAX_MEMBERS and (block := stream.read(min(left, 1 << 20))):
                members += (overlap + block).count(b"PK\x01\x02")
                overlap, left = block[-3:], left - len(block)
    if max(claimed, members) > MAX_MEMBERS:
        raise RatingError(f"{max(claimed, members)} members or more; at most {MAX_MEMBERS} are allowed.")


def _checked(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The archive's members, if every one of them is safe to read."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise RatingError(f"{len(members)} members; at most {MAX_MEMBERS} are allowed.")
    if (total := sum(info.file_size for info in members)) > MAX_TOTAL_BYTES:
        raise RatingError(f"its members make {total} bytes unpacked; at most {MAX_TOTAL_BYTES} are allowed.")
    names = set()
    end = 0
    for info in sorted(members, key=lambda info: info.header_offset):
        name, kind = info.orig_filename, info.external_attr >> 16
        try:
            inside = inner_path(name)
        except ValueError as error:
            raise RatingError(f"member {error}.") from None
        if inside in names:  # in whatever spelling: ./a and a//b are a and a/b
            raise RatingError(f"member {name!r} occurs twice.")
        names.add(inside)
        if stat.S_IFMT(kind) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise RatingError(f"member {name!r} is a link or device; plain files are allowed.")
        if info.flag_bits & 0x1:
            raise RatingError(f"member {name!r} is encrypted.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RatingError(f"member {name!r} has compression {info.compress_type}; stored and deflated are allowed.")
        if info.file_size > MAX_MEMBER_BYTES:
            raise RatingError(f"member {name!r} has {info.file_size} bytes; at most {MAX_MEMBER_BYTES} are allowed.")
        if info.file_size > RATIO_APPLIES_FROM and info.file_size > MAX_RATIO * info.compress_size:
            raise RatingError(
                f"member {name!r} inflates {info.file_size / max(info.compress_size, 1):.0f} times; at most "
                f"{MAX_RATIO} times is allowed."
            )
        if info.header_offset < end:
            raise RatingError(f"member {name!r} overlaps another.")
        end = info.header_offset + 30 + info.compress_size
        try:
            archive.open(info).close()  # compares the member's own header with the directory's entry
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
            raise RatingError(f"member {name!r}: {error}.") from None
    return members
