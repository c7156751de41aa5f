"""A folder of photos: which there are, RAW and JPEG as one, and the stars each of them has."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from .apple import SUFFIX, read_favourites
from .stars import Stars, read_opinions, resolve
from .takeout import TakeoutError, is_favourite, match_json

# Left alone: what photo programs and servers keep beside the photos (Synology, QNAP, Lightroom, Apple, Capture One).
TOOL_FOLDERS = {"@eadir", "#recycle", "lost+found", "__macosx"}
TOOL_SUFFIXES = (".lrdata", ".photoslibrary", ".lrlibrary", ".cocatalog")
RAW_SUFFIXES = (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".rw2", ".orf", ".pef", ".srw")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".tif", ".tiff", ".gif", ".bmp")
_CAMERA_SUFFIXES = (".jpg", ".jpeg", ".heic", ".heif")  # what cameras write beside a RAW
_DUPLICATE = re.compile(r"(.+)_\d{2,}(\.[^.]+)", re.DOTALL)


@dataclass
class Photo:
    """One photo of a library.

    Attributes:
        name: path of its picture below the library, with `/`.
        path: that picture; of RAW and JPEG the JPEG, which is decoded faster.
        files: all its picture files, RAW first.
        sidecars: its XMP files, in the order in which they count.
        json: Takeout's file, if there is one.
        stars: what counts of all opinions on it.
    """

    name: str
    path: Path
    files: list[Path]
    sidecars: list[Path] = field(default_factory=list)
    json: Path | None = None
    stars: Stars = field(default_factory=Stars)


@dataclass
class Library:
    """A folder's photos.

    Attributes:
        folder: where they are. photos: in the order of their names.
        problems: file and reason, of each that could not be read.
    """

    folder: Path
    photos: list[Photo]
    problems: list[tuple[Path, str]]

    def counts(self) -> dict[str, int]:
        """`photos`, `rated` (with stars or rejected), `liked` (without stars), `unrated`, `conflicts` (opinions with
        different ratings), and one entry a source of ratings."""
        stars = [photo.stars for photo in self.photos]
        rated = sum(one.rating is not None for one in stars)
        liked = sum(one.liked is not None for one in stars)
        return {
            "photos": len(stars),
            "rated": rated,
            "liked": liked,
            "unrated": len(stars) - rated - liked,
            "conflicts": sum(one.conflict for one in stars),
            **Counter(one.source for one in stars if one.source is not None),
        }


def read_library(
    folder: str | os.PathLike,
    *,
    leave_out: str | os.PathLike | None = None,
    picks: bool = False,
    labels: Mapping[str, float] | None = None,
    progress: bool = True,
) -> Library:
    """Walks a folder and reads the stars of its photos; pictures are not decoded.

    Hidden folders and those of photo programs (`@eaDir`, `Previews.lrdata`, …) are left alone; the owner's links are
    followed, each file counting once.

    Args:
        folder: a folder of photos, or a `.photoslibrary` of Apple Photos.
        leave_out: a folder below it that holds no photos: our own output.
        picks: pick flags count as likes where there are no stars. labels: colour label → stars, likewise.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: no such folder. ImportError: Apple Photos without osxphotos.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"folder={str(folder)!r} is no folder. Name the one with your photos.")
    problems: list[tuple[Path, str]] = []
    favourites: dict[Path, bool] = {}
    if root.suffix.lower() == SUFFIX:
        favourites = dict(read_favourites(root))
        photos = [Photo(_name(path, root), path, [path]) for path in favourites]
    else:
        photos = find_photos(root, leave_out, problems)
    for photo in tqdm(photos, "reading stars", disable=not progress):
        opinions = read_opinions(photo.files, photo.sidecars, problems)
        favourite = favourites.get(photo.path, False)
        if photo.json is not None:
            try:
                favourite = is_favourite(photo.json)
            except (TakeoutError, OSError) as error:
                problems.append((photo.json, str(error)))
        photo.stars = resolve(opinions, favourite, picks, labels)
    return Library(root, sorted(photos, key=lambda photo: photo.name), problems)


def find_photos(
    root: Path, leave_out: str | os.PathLike | None = None, problems: list[tuple[Path, str]] | None = None
) -> list[Photo]:
    """The photos below a folder with their sidecars, stars unread; what cannot be listed is added to `problems`."""
    problems = [] if problems is None else problems
    skipped = os.path.realpath(leave_out) if leave_out is not None else None
    seen_folders, seen_files = set(), set()
    photos = []

    def note(error: OSError) -> None:
        problems.append((Path(error.filename or root), error.strerror or str(error)))

    for place, folders, files in os.walk(root, followlinks=True, onerror=note):
        real = os.path.realpath(place)
        if real in seen_folders or real == skipped:
            folders.clear()
            continue
        seen_folders.add(real)
        folders[:] = sorted(name for name in folders if not _is_tools(name))
        photos += _photos_of_folder(root, Path(place), files, seen_files, problems)
    return photos


def _photos_of_folder(
    root: Path, place: Path, files: list[str], seen: set[str], problems: list[tuple[Path, str]]
) -> list[Photo]:
    pictures: dict[str, list[str]] = defaultdict(list)  # stem → names
    sidecars = [name for name in files if name.lower().endswith(".xmp")]
    # a file before links to it: its sidecars stand beside it
    for name in sorted(files, key=lambda name: (os.path.islink(place / name), name)):
        if name.startswith(".") or not name.lower().endswith(RAW_SUFFIXES + PICTURE_SUFFIXES):
            continue
        if not _is_text(name) or not _is_text(str(place)):
            problems.append((place / name, "its name is not UTF-8; rename it"))
            continue
        real = os.path.realpath(place / name)
        if real not in seen:
            seen.add(real)
            pictures[os.path.splitext(name)[0].lower()].append(name)
    groups = [group for names in pictures.values() for group in _pairs(names)]
    json_of = match_json(
        (name for group in groups for name in group), (name for name in files if name.lower().endswith(".json"))
    )
    sidecars_of = _sidecars_of(groups, sidecars)
    photos = []
    for number, group in enumerate(groups):
        shown = place / group[-1]
        photo = Photo(_name(shown, root), shown, [place / name for name in group])
        photo.sidecars = [place / name for name in sidecars_of[number]]
        photo.json = next((place / json_of[name] for name in group if name in json_of), None)
        photos.append(photo)
    return photos


def _pairs(names: list[str]) -> list[list[str]]:
    """Files of one stem as photos: a RAW and what the camera wrote beside it are one, RAW first."""
    raws = [name for name in names if name.lower().endswith(RAW_SUFFIXES)]
    beside = [name for name in names if name.lower().endswith(_CAMERA_SUFFIXES)]
    if len(raws) == 1 and len(beside) == 1:
        return [raws + beside, *([name] for name in names if name not in raws + beside)]
    return [[name] for name in names]


def _sidecars_of(groups: list[list[str]], sidecars: list[str]) -> list[list[str]]:
    """XMP files of each group, in the order in which they count."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for sidecar in sorted(sidecars):
        by_name[sidecar[: -len(".xmp")].lower()].append(sidecar)
    known = {name.lower() for group in groups for name in group}
    duplicates: dict[str, list[str]] = defaultdict(list)
    for base, found in by_name.items():
        match = _DUPLICATE.fullmatch(base)
        if match and base not in known:
            duplicates["".join(match.groups())] += found
    result = []
    for group in groups:
        full = [name.lower() for name in group]
        stems = list(dict.fromkeys(os.path.splitext(name)[0] for name in full))
        order = [by_name[name] for name in full] + [by_name[stem] for stem in stems]
        order += [duplicates[name] for name in full]
        result.append([sidecar for found in order for sidecar in found])
    return result


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _is_tools(name: str) -> bool:
    return name.startswith(".") or name.lower() in TOOL_FOLDERS or name.lower().endswith(TOOL_SUFFIXES)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
