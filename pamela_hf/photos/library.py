"""A folder of photos: which there are, RAW and JPEG as one, and the stars each of them has."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm.auto import tqdm

from ..files.folders import Found, walk
from ..files.images import RAW_SUFFIXES
from .apple import SUFFIX, read_favourites
from .stars import Stars, read_opinions, resolve
from .takeout import TakeoutError, is_favourite, match_json

_CAMERA_SUFFIXES = frozenset({".jpg", ".jpeg", ".heic", ".heif", ".hif"})  # what cameras write beside a RAW
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
        folder: where they are.
        photos: the photos, in the order of their names.
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
        picks: pick flags count as likes where there are no stars; default: they do not count.
        labels: colour label → stars that it counts as where there are no stars; default: no label counts.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: no such folder. ImportError: Apple Photos without osxphotos.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"folder={str(folder)!r} is not a folder. Name the one with your photos.")
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
    skipped = Path(leave_out).resolve() if leave_out is not None else None
    folders: dict[Path, list[Found] | None] = {}  # None: a folder that is left out
    for found in walk(root):
        place = found.path.parent
        if place not in folders:
            folders[place] = None if _is_left_out(place, root, skipped) else []
        pictures = folders[place]
        if pictures is None:
            continue
        if found.problem is None and not _is_text(str(found.path)):
            found = replace(found, problem="its name is not UTF-8; rename it")
        if found.problem is not None:
            problems.append((found.path, found.problem))
            continue
        pictures.append(found)
    photos: list[Photo] = []
    for place, pictures in folders.items():
        if not pictures:
            continue
        try:
            beside = os.listdir(place)
        except OSError as error:
            problems.append((place, error.strerror or str(error)))
            beside = []
        photos += _photos_of_folder(place, pictures, beside)
    return photos


def _is_left_out(place: Path, root: Path, skipped: Path | None) -> bool:
    """Whether a folder lies in a photo program's own library, or in `skipped`."""
    if place != root and any(part.lower().endswith(SUFFIX) for part in place.relative_to(root).parts):
        return True
    return skipped is not None and place.resolve().is_relative_to(skipped)


def _photos_of_folder(place: Path, pictures: list[Found], beside: list[str]) -> list[Photo]:
    """Photos of one folder. `beside`: names of all its files."""
    found_of = {found.path.name: found for found in pictures}
    stems: dict[str, list[str]] = defaultdict(list)
    for name in sorted(found_of):
        stems[os.path.splitext(name)[0].lower()].append(name)
    groups = [group for names in stems.values() for group in _pairs(names)]
    json_of = match_json(found_of, [name for name in beside if name.lower().endswith(".json")])
    sidecars_of = _sidecars_of(groups, [name for name in beside if name.lower().endswith(".xmp")])
    photos = []
    for group, sidecars in zip(groups, sidecars_of):
        shown = found_of[group[-1]]
        photo = Photo(shown.name, shown.path, [found_of[name].path for name in group])
        photo.sidecars = [place / name for name in sidecars]
        photo.json = next((place / json_of[name] for name in group if name in json_of), None)
        photos.append(photo)
    return photos


def _pairs(names: list[str]) -> list[list[str]]:
    """Files of one stem as photos: a RAW and what the camera wrote beside it are one, RAW first."""
    if len(names) == 1:
        return [names]
    raws = [name for name in names if _suffix(name) in RAW_SUFFIXES]
    beside = [name for name in names if _suffix(name) in _CAMERA_SUFFIXES]
    if len(raws) == 1 and len(beside) == 1:
        return [raws + beside, *([name] for name in names if name not in raws + beside)]
    return [[name] for name in names]


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


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


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
