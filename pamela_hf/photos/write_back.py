"""Predictions in sidecars beside the photos, so that photo programs can sort by them. Originals are never opened for
writing.

A sidecar that is there is changed in our own properties alone ([`pamela_hf.photos.xmp.write_packet`]) and replaced
whole or not at all. A new one is named `IMG.jpg.xmp`, as darktable, digiKam and Immich do, unless the folder's sidecars
are all named `IMG.xmp`, as Lightroom's are.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from ..files.images import RAW_SUFFIXES
from ..files.writing import write_bytes
from .library import Photo
from .stars import read_opinions
from .xmp import MAX_BYTES, Packet, XmpError, read_packet, write_packet


@dataclass(frozen=True)
class Prediction:
    """`score` and `std` of one photo, in stars."""

    score: float
    std: float

    @property
    def stars(self) -> int:
        """The nearest whole star, 1 … 5."""
        return int(min(max(round(self.score), 1), 5))


def write_sidecars(
    photos: Iterable[Photo],
    predictions: Mapping[str, Prediction],
    with_stars: bool = False,
    progress: bool = False,
) -> tuple[int, list[tuple[Path, str]]]:
    """Writes each photo's prediction into its sidecar.

    Args:
        photos: photos of a library.
        predictions: photo's name → prediction; photos without one are left alone.
        with_stars: write `xmp:Rating`, too, where no person gave the photo a rating.
        progress: show a progress bar.

    Returns:
        How many sidecars hold the predictions now, and sidecar and reason of each that could not be written.
    """
    written, problems = 0, []
    habits: dict[Path, bool] = {}
    for photo in tqdm(photos, "writing sidecars", disable=not progress):
        if photo.name not in predictions:
            continue
        place = sidecar_of(photo, habits)
        try:
            _write(place, photo, predictions[photo.name], with_stars)
            written += 1
        except (XmpError, OSError) as error:
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            problems.append((place, reason))
    return written, problems


def sidecar_of(photo: Photo, habits: dict[Path, bool]) -> Path:
    """The sidecar that counts first, or where a new one goes. `habits`: folder → whether its sidecars are named
    without the picture's suffix, filled in as folders are seen."""
    if photo.sidecars:
        return photo.sidecars[0]
    file = photo.files[0]
    folder = file.parent
    if folder not in habits:
        habits[folder] = _names_stems(folder)
    # without the suffix, one sidecar would belong to several pictures
    if habits[folder] and file.suffix.lower() in RAW_SUFFIXES:
        return file.with_suffix(".xmp")
    return file.with_name(file.name + ".xmp")


def _names_stems(folder: Path) -> bool:
    try:
        names = [name.lower() for name in os.listdir(folder)]
    except OSError:
        return False
    pictures = set(names)
    bases = [name[: -len(".xmp")] for name in names if name.endswith(".xmp")]
    return bool(bases) and not any(base in pictures for base in bases)


def _write(place: Path, photo: Photo, prediction: Prediction, with_stars: bool) -> None:
    before = None
    if place.exists():
        with open(place, "rb") as file:
            before = file.read(MAX_BYTES + 1)
    packet = read_packet(before) if before is not None and before.strip() else Packet()
    values = {"score": f"{prediction.score:.2f}", "std": f"{prediction.std:.2f}"}
    rating = None
    own = packet.stars is not None and packet.rating == packet.stars  # ours of an earlier run
    if with_stars and photo.stars.rating is None and not _rated_meanwhile(photo):
        values["stars"], rating = str(prediction.stars), prediction.stars
    elif own:
        values["stars"] = str(packet.stars)  # still ours, though not asked for again
    data = write_packet(before, values, rating)
    if data != before:
        write_bytes(os.path.realpath(place), data)  # a link goes on leading to its file


def _rated_meanwhile(photo: Photo) -> bool:
    """Whether a person has rated the photo since the library was read."""
    opinions = read_opinions([], photo.sidecars, [])
    ours = {one.ours for one in opinions if one.ours is not None}
    return any(one.rating and one.rating not in ours for one in opinions)
