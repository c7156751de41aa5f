"""The app as a Space: its settings from the environment, read here and nowhere else, and where its answers are kept.

`pamela push space` writes the Space; the table of settings in its README.md (`model_card/space.md`) is of these.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..hub.transfer import pull_folder
from .base import default_store
from .keeping import is_repository
from .server import AppSettings, serve
from .visitors import CALLBACK, LOGIN, LOGOUT

SETTINGS = ("MODEL", "IMAGES", "ENCODER", "TITLE", "STORE", "RATINGS", "PIPELINE")  # each PAMELA_…
DATA = Path("/data")  # where a Space's storage is mounted unless its owner chose another place
NETWORK = ("fuse", "nfs", "9p")  # file systems without the locks that a database needs
FLEETING = ("overlay", "tmpfs", "devtmpfs", "ramfs")  # emptied at every restart
_PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
_MOUNTS = Path("/proc/mounts")

EPHEMERAL = (
    "This Space keeps nothing: its disk is emptied at every restart, and answers are gone then. Take yours along "
    "(You → CSV, or your head) before you leave."
)
ANYBODY = "Nobody signs in here: whoever knows the name that you rate under can see and change its answers."


@dataclass(frozen=True)
class Space:
    """What a Space tells the app about itself (https://huggingface.co/docs/hub/spaces-overview, "Helper environment
    variables").

    Attributes:
        id: `owner/name`.
        hosts: names it is known by: `NAME.hf.space`, and domains of its owner's.
        sign_in: visitors sign in with their Hugging Face account.
        keeps: answers survive a restart: their disk does, or they are kept elsewhere.
    """

    id: str
    hosts: tuple[str, ...]
    sign_in: bool
    keeps: bool

    @property
    def paths(self) -> tuple[str, ...]:
        """Routes that the app has here and nowhere else."""
        return (LOGIN, CALLBACK, LOGOUT) if self.sign_in else ()

    def notice(self) -> str | None:
        """What every visitor should know; `None` if nothing."""
        said = [text for text, holds in ((EPHEMERAL, not self.keeps), (ANYBODY, not self.sign_in)) if holds]
        return " ".join(said) or None


def settings_from(environment: Mapping[str, str], defaults: Mapping[str, str]) -> AppSettings:
    """The app's settings on a Space, or wherever the Space's folder is started.

    Args:
        environment: the process's; `PAMELA_MODEL`, `PAMELA_IMAGES`, `PAMELA_ENCODER`, `PAMELA_TITLE`, `PAMELA_STORE`,
            `PAMELA_RATINGS`, `PAMELA_PIPELINE`; of a Space `SPACE_ID`, `SPACE_HOST`, `OAUTH_CLIENT_ID`; of Gradio
            `GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT`.
        defaults: the same names, for what the environment does not set.

    Raises:
        ValueError: a default of an unknown name.
    """
    if unknown := sorted(set(defaults) - {f"PAMELA_{name}" for name in SETTINGS}):
        raise ValueError(f"{unknown[0]!r} is not a setting; there are {', '.join(f'PAMELA_{n}' for n in SETTINGS)}.")
    said = {name: environment.get(f"PAMELA_{name}") or defaults.get(f"PAMELA_{name}") for name in SETTINGS}
    images = pictures_folder(said["IMAGES"] or "images")
    is_space = bool(environment.get("SPACE_ID") and environment.get("SPACE_HOST"))
    store, ratings, keeps = _places(images, said["STORE"], said["RATINGS"])
    space = None
    if is_space:
        hosts = tuple(name.strip() for name in environment["SPACE_HOST"].lower().split(",") if name.strip())
        space = Space(environment["SPACE_ID"], hosts, bool(environment.get("OAUTH_CLIENT_ID")), keeps)
    return AppSettings(
        images=images,
        model=said["MODEL"],
        encoder=said["ENCODER"],
        store=str(store),
        host=environment.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if is_space else "127.0.0.1"),
        port=int(environment.get("GRADIO_SERVER_PORT") or 7860),
        pipeline=said["PIPELINE"] or "procedural",
        title=said["TITLE"],
        ratings=ratings,
        space=space,
    )


def serve_space(defaults: Mapping[str, str] | None = None) -> None:
    """Runs the app with the environment's settings until the process is asked to stop.

    Args:
        defaults: as in [`settings_from`]; default: none.
    """
    if os.environ.get("SPACE_ID"):
        os.environ.setdefault("SYSTEM", "spaces")  # what Gradio knows a Space by
    serve(settings_from(os.environ, defaults or {}))


def pictures_folder(images: str) -> str:
    """The folder of pictures: as given, or those of a dataset on the Hub, downloaded."""
    if not is_repository(images):
        return images
    found = [suffix for kind in _PICTURES for suffix in (kind, kind.upper())]
    allow = [f"{folder}*.{suffix}" for folder in ("", "*/", "*/*/") for suffix in found]
    return str(pull_folder(images, "dataset", allow=allow))


def _places(images: str, store: str | None, ratings: str | None) -> tuple[Path, str | None, bool]:
    """(the database, where answers are kept beside it, whether they survive a restart).

    A disk that is mounted at /data takes the database itself. A Storage Bucket there takes files alone.
    """
    system = filesystem(DATA, _mounts()) if os.access(DATA, os.W_OK) else None
    kept = system is not None and not system.startswith(FLEETING)
    if kept and store is None and not system.startswith(NETWORK):
        return DATA / "pamela" / "answers.db", ratings, True
    if kept and ratings is None and store is None:
        ratings = str(DATA / "pamela")
    return Path(store) if store else default_store(images), ratings, ratings is not None or _is_elsewhere(store)


def _is_elsewhere(store: str | None) -> bool:
    """Whether a database that the owner placed lies outside what is surely emptied: the Space's own folder and home."""
    if store is None:
        return False
    place = Path(store).resolve()
    return not any(place.is_relative_to(folder.resolve()) for folder in (Path.cwd(), Path.home()))


def filesystem(place: Path, mounts: Iterable[str]) -> str | None:
    """The kind of file system that is mounted exactly at a place; `None` if none is.

    Args:
        place: a folder.
        mounts: lines as in /proc/mounts (proc(5)): device, place, kind, options …
    """
    kinds = [fields[2] for line in mounts if len(fields := line.split()) > 2 and fields[1] == str(place)]
    return kinds[-1] if kinds else None


def _mounts() -> list[str]:
    return _MOUNTS.read_text(encoding="utf-8").splitlines() if _MOUNTS.is_file() else []
