"""Folders of pictures: one walk for every command, and one way to find the file that a table's cell names.

[`walk`] goes through a folder and what lies in it, sorted. It leaves alone, by rule: names that begin with a dot
(`._a.png`, `.thumbnails/`), and the folders that programs keep beside pictures (`IGNORED_FOLDERS`, `….lrdata`). A
picture is known by its name (`IMAGE_SUFFIXES`), a file without any ending by its first bytes; all else is left out.
"""

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .escaping import writable_name
from .images import has_image_name, looks_like_image

IGNORED_FOLDERS = frozenset(
    {
        "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin", "lost+found",
        "system volume information", "__macosx", "ipod photo cache",
    }
)  # fmt: skip
"""Folders of network drives and systems, in lower case: previews and deleted files."""
IGNORED_ENDINGS = (".lrdata", ".lrlibrary", ".cocatalog", ".cosessiondb", ".aplibrary")
"""Folders of photo programs that hold previews."""


@dataclass(frozen=True, slots=True)
class Found:
    """A picture of a walk.

    Attributes:
        path: where it is.
        name: its path below the folder, with forward slashes; bytes that are not UTF-8 are written as `\\xff`.
        problem: why it cannot be read, in words; None if it can be tried.
    """

    path: Path
    name: str
    problem: str | None = None


def is_ignored(name: str, is_folder: bool = False) -> bool:
    """Whether a file or folder of this name is left alone by rule."""
    lower = name.lower()
    return name.startswith(".") or (is_folder and (lower in IGNORED_FOLDERS or lower.endswith(IGNORED_ENDINGS)))


def walk(folder: str | os.PathLike, *, follow_links: bool = True) -> Iterator[Found]:
    """The pictures in a folder and below, sorted by the parts of their paths, as they are found.

    Memory grows with the largest single folder and the number of links, never with the number of pictures.

    Args:
        folder: a folder, or one picture.
        follow_links: whether links lead further (the owner's own folder); each file and folder is met once, under its
            own name where that lies in `folder` too, so that loops end. False (a folder from elsewhere): links are
            left out.

    Raises:
        FileNotFoundError: `folder` does not exist. OSError: it cannot be listed.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist. Give a folder of images, or one image.")
    if not folder.is_dir():
        yield Found(folder, writable_name(folder.name), _problem(folder))
        return
    yield from _Walk(folder, follow_links).below(folder, PurePosixPath())


class _Walk:
    """One walk: what it has met so far."""

    def __init__(self, folder: Path, follow_links: bool):
        self._root = folder.resolve()
        self._follow = follow_links
        self._folders: set[tuple[int, int]] = set()
        self._files: set[tuple[int, int]] = set()  # those only that can be met twice

    def below(self, folder: Path, inside: PurePosixPath, linked: bool = False) -> Iterator[Found]:
        try:
            if self._met(folder, self._folders):
                return
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if not inside.parts:
                raise
            yield Found(folder, writable_name(f"{inside}/"), f"the folder cannot be listed ({error.strerror})")
            return
        for entry in entries:
            try:
                yield from self._entry(entry, inside, linked)
            except (OSError, RuntimeError) as error:  # it vanished, or a link goes in circles
                if has_image_name(entry.name):
                    path, name = Path(entry.path), writable_name(str(inside / entry.name))
                    yield Found(path, name, "a link that leads to itself" if _is_loop(error) else _problem(path))

    def _entry(self, entry: os.DirEntry, inside: PurePosixPath, linked: bool) -> Iterator[Found]:
        is_folder = entry.is_dir()
        if is_ignored(entry.name, is_folder):
            return
        path, name = Path(entry.path), inside / entry.name
        is_link = entry.is_symlink()
        if is_link:
            if not self._follow:
                return
            if self._is_walked_anyway(path):
                return
        if is_folder:
            yield from self.below(path, name, linked or is_link)
            return
        status = _status(entry)
        if status is None or not stat.S_ISREG(status.st_mode):
            if has_image_name(entry.name):
                yield Found(path, writable_name(str(name)), _problem(path))
            return
        if not _is_picture(path):
            return
        if (linked or is_link or status.st_nlink > 1) and self._met(path, self._files):
            return
        yield Found(path, writable_name(str(name)))

    def _is_walked_anyway(self, link: Path) -> bool:
        """Whether what a link stands for lies in the folder itself, where it is met under its own name."""
        target = link.resolve(strict=True)
        if not target.is_relative_to(self._root):
            return False
        parts = target.relative_to(self._root).parts
        return not any(is_ignored(part, True) for part in parts[:-1]) and not (
            parts and is_ignored(parts[-1], target.is_dir())
        )

    @staticmethod
    def _met(path: Path, known: set[tuple[int, int]]) -> bool:
        status = path.stat()
        key = (status.st_dev, status.st_ino)
        if key in known:
            return True
        known.add(key)
        return False


def _status(entry: os.DirEntry) -> os.stat_result | None:
    try:
        return entry.stat()
    except FileNotFoundError:
        return None


def _is_picture(path: Path) -> bool:
    if os.path.splitext(path.name)[1]:
        return has_image_name(path.name)
    try:
        with open(path, "rb") as stream:
            return looks_like_image(stream.read(16))
    except OSError:
        return False


def _is_loop(error: OSError | RuntimeError) -> bool:
    return isinstance(error, RuntimeError) or error.errno == errno.ELOOP  # Python before 3.13 raises the former


def _problem(path: Path) -> str | None:
    if path.is_symlink() and not path.exists():
        return "a link to a file that does not exist"
    if not path.exists():
        return "it does not exist any more"
    return None if path.is_file() else "not a regular file"


class NameFinder:
    """The files below a folder, found by what a table's cell says, the same way at every door.

    A name may be relative, with or without `./`; absolute, of a file below the folder; a `file://` address; written
    with Windows' backslashes; composed or decomposed (Unicode NFC or NFD), whatever form the disk has.

    Args:
        folder: what relative names start from; no name leads out of it.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self._listings: dict[Path, dict[str, list[str]]] = {}

    def find(self, written: str) -> str:
        """The name below the folder, with forward slashes, as it is on the disk; whether the file exists or not.

        Raises:
            ValueError: no name, a name that leads out of the folder, or one that two files could be meant by.
        """
        name = self._on_disk(relative_name(written, self.folder))
        if "\\" in written and not os.path.lexists(self.folder / name):
            name = self._on_disk(relative_name(written.replace("\\", "/"), self.folder))
        return name

    def _on_disk(self, inside: PurePosixPath) -> str:
        if os.path.lexists(self.folder / inside):
            return str(inside)
        place, parts = self.folder, []
        for number, part in enumerate(inside.parts):
            if not os.path.lexists(place / part):
                alike = self._listing(place).get(unicodedata.normalize("NFC", part), [])
                if len(alike) > 1:
                    raise ValueError(f"{str(inside)!r} could be {' or '.join(map(ascii, alike))}; rename one of them")
                if not alike:
                    return str(PurePosixPath(*parts, *inside.parts[number:]))
                part = alike[0]
            parts.append(part)
            place = place / part
        return str(PurePosixPath(*parts))

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listings:
            names: dict[str, list[str]] = {}
            try:
                for name in sorted(os.listdir(folder)):
                    names.setdefault(unicodedata.normalize("NFC", name), []).append(name)
            except OSError:
                pass
            self._listings[folder] = names
        return self._listings[folder]


def relative_name(written: str, folder: Path) -> PurePosixPath:
    """`written` as a path below `folder`, without `.` and `..`.

    Raises:
        ValueError: it is empty, leads out of `folder`, or is a path of another machine.
    """
    if not written.strip() or "\0" in written or len(written) > 4096:
        raise ValueError(f"{written[:80]!r} is not a file's name")
    if written.lower().startswith("file://"):
        written = url2pathname(urlsplit(written).path)
    if os.sep == "/" and PureWindowsPath(written).drive:
        raise ValueError(f"{written[:200]!r} is a path of another computer; name images by their paths in {folder}")
    path = written
    if os.path.isabs(path):
        path = next(
            (
                os.path.relpath(os.path.normpath(path), start)
                for start in (os.path.abspath(folder), os.path.realpath(folder))
                if os.path.normpath(path).startswith(os.path.join(start, ""))
            ),
            "..",
        )
    inside = PurePosixPath(Path(os.path.normpath(path)).as_posix())
    if inside.is_absolute() or ".." in inside.parts or not inside.parts:
        raise ValueError(f"{written[:200]!r} leads out of the folder {folder}")
    return inside


def name_key(written: str) -> str:
    """What names that mean the same file have in common, where there is no folder to look into: forward slashes, no
    `./`, composed letters (NFC)."""
    return unicodedata.normalize("NFC", os.path.normpath(written.replace("\\", "/")).replace("\\", "/"))
