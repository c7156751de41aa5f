"""Apple Photos' library, through osxphotos (extra `photos`, on macOS): which photos are favourites.

`PhotosDB(dbfile=…).photos(images=True, movies=False)` and `PhotoInfo.path`, `.favorite` are documented at
github.com/RhetTbull/osxphotos (API_README). Photos has no stars; the library is opened read-only.
"""

from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".photoslibrary"


def read_favourites(library: Path) -> Iterator[tuple[Path, bool]]:
    """Files of the library's pictures that are on this machine, and whether each is a favourite.

    Args:
        library: the `.photoslibrary` folder.

    Raises:
        ImportError: osxphotos is missing.
    """
    try:
        import osxphotos
    except ImportError:
        raise ImportError(
            f"{library} is a library of Apple Photos, which osxphotos reads on macOS: pip install 'pamela_hf[photos]'"
        ) from None
    for photo in osxphotos.PhotosDB(dbfile=str(library)).photos(images=True, movies=False):
        if photo.path is not None:  # otherwise it is in iCloud alone
            yield Path(photo.path), bool(photo.favorite)
