"""A person's stars, written beside the folder's pictures as `pamela taste --write-xmp` writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..photos.library import read_library
from ..photos.write_back import Prediction, write_sidecars
from .pictures import PictureFolder

STARS = (1.0, 5.0)


@dataclass(frozen=True)
class Written:
    """What became of it.

    Attributes:
        written: how many sidecars hold the person's stars now.
        kept: how many pictures kept the rating that somebody gave them; their sidecars hold the prediction alone.
        problems: sidecars that could not be written, and why.
    """

    written: int = 0
    kept: int = 0
    problems: list[str] = field(default_factory=list)


def write_stars(folder: PictureFolder, predictions: Mapping[str, Prediction]) -> Written:
    """Writes stars and predictions into sidecars. A rating that a person gave a picture, in whatever program, stays;
    the pictures themselves are not opened for writing.

    Args:
        folder: the pictures.
        predictions: id → prediction, in stars.
    """
    library = read_library(folder.folder, progress=False)
    wanted = [photo for photo in library.photos if photo.name in predictions]
    count, problems = write_sidecars(wanted, predictions, with_stars=True)
    kept = sum(photo.stars.rating is not None for photo in wanted)
    return Written(count - kept, kept, [f"{path.name}: {why}" for path, why in problems])


def as_stars(score: float, std: float, levels: tuple[float, float]) -> Prediction:
    """A score and its standard deviation on a scale from `levels[0]` to `levels[1]`, as stars."""
    length = (STARS[1] - STARS[0]) / (levels[1] - levels[0])
    value = STARS[0] + (score - levels[0]) * length
    return Prediction(min(max(value, STARS[0]), STARS[1]), std * length)
