"""Real photo programs and small libraries, for the tests of photos."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pamela_hf.photos.xmp import write_packet

needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
needs_exiv2 = pytest.mark.skipif(shutil.which("exiv2") is None, reason="exiv2 is not installed")


def exiftool(*arguments: object) -> str:
    """Runs exiftool and returns what it printed; fails where it fails."""
    done = subprocess.run(["exiftool", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tags(path: Path) -> dict[str, object]:
    """What exiftool reads of a file, numbers as numbers."""
    return json.loads(exiftool("-j", "-n", "-G1", path))[0]


def exiv2(*arguments: object) -> str:
    """Runs exiv2 and returns what it printed; fails where it fails."""
    done = subprocess.run(["exiv2", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def save_photo(path: Path, seed: int = 0, brightness: float = 0.5, size: tuple[int, int] = (64, 48)) -> Path:
    """A photo of few large areas, all of one brightness around `brightness`, so that no two are near-duplicates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = np.clip(rng.normal(brightness, 0.25, (6, 8, 3)), 0, 1) * 255
    Image.fromarray(coarse.astype(np.uint8)).resize(size, Image.Resampling.NEAREST).save(path)
    return path


def add_stars(path: Path, stars: int) -> Path:
    """A sidecar `IMG.jpg.xmp` with stars."""
    sidecar = path.with_name(path.name + ".xmp")
    sidecar.write_bytes(write_packet(None, {}, rating=stars))
    return sidecar


def make_library(folder: Path, photos: int = 40, rated: int = 24) -> Path:
    """Photos of all brightnesses; the brighter, the more stars."""
    for number in range(photos):
        brightness = 0.1 + 0.8 * ((number * 7) % photos) / photos
        path = save_photo(folder / f"20{number % 3:02d}" / f"IMG_{number:03d}.jpg", number, brightness)
        if number < rated:
            add_stars(path, 1 + int((brightness - 0.1) / 0.8 * 5))
    return folder
