"""The app as a Space on the Hub: a folder with all it needs, written and pushed.

`app.py` calls [`pamela_hf.app.space`], which reads the settings; this package goes along as `pamela_hf/`, so that the
Space runs what was tried. Keys of README.md: https://huggingface.co/docs/hub/spaces-config-reference and
https://huggingface.co/docs/hub/spaces-oauth.
"""

import hashlib
import importlib.metadata
import os
import re
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from huggingface_hub import SpaceCardData

from ..files.folders import walk
from ..files.writing import scratch_folder
from ..hub.cards import DATASET_TEMPLATE, MODEL_TEMPLATES, SPACE_TEMPLATE, card_template, license_fields, render_card
from ..hub.transfer import HubError, PushResult, push_folder
from .pictures import cleaned_picture

PACKAGE = Path(__file__).parents[1]
CODE = PACKAGE.name
GRADIO = "6.31.0"  # that the app was tried with, where none is installed here
# what setup.cfg names, and what the page Prompt needs; gradio and the packages for signing in come with the Space
REQUIRED = (
    "torch", "transformers", "huggingface_hub", "datasets", "accelerate", "safetensors", "filelock", "tokenizers",
    "numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "threadpoolctl", "pillow", "jinja2", "pyyaml", "tqdm",
    "diffusers",
)  # fmt: skip
TEMPLATES = (*MODEL_TEMPLATES, DATASET_TEMPLATE)
PAGES = f"{CODE}/app/pages"
SPACE_FILES = (
    "README.md", "app.py", "requirements.txt", "images/*.png", "images/*.jpg",
    f"{CODE}/*.py", f"{CODE}/*/*.py", f"{CODE}/*/*/*.py", *(f"{CODE}/{name}" for name in TEMPLATES),
    *(f"{PAGES}/*.{kind}" for kind in ("html", "css", "js", "svg", "png", "webmanifest")),
)  # fmt: skip
MAX_BYTES = 1_000_000_000  # of pictures; the Hub asks to keep a Space's repository below 1 GB
MAX_DESCRIPTION = 60  # letters of `short_description`
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_APP = '''\
"""The app of pamela_hf as a Space. README.md lists the settings; a variable of the Space comes before one of these."""

from pamela_hf.app.space import serve_space

SETTINGS = {settings}

if __name__ == "__main__":
    serve_space(SETTINGS)
'''


@dataclass(frozen=True)
class SpaceOptions:
    """What a Space is written with.

    Attributes:
        title: what its page is called; default "What do you like?".
        model: Hub id of a trained model; default: a blank base.
        ratings: `owner/name` of the private dataset that answers are kept in; default: none.
        license: as the Hub writes it; default: apache-2.0, the code's, or "other" where pictures go along.
        scopes: what else visitors are asked to grant, names of https://huggingface.co/docs/hub/spaces-oauth; default:
            none, their profile alone, which is always included.
    """

    title: str = "What do you like?"
    model: str | None = None
    ratings: str | None = None
    license: str | None = None
    scopes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("model", "ratings"):
            value = getattr(self, name)
            if value is not None and not _HUB_ID.fullmatch(value):
                raise HubError(
                    f"{name}={value!r} must be owner/name on the Hub, where the Space finds it. "
                    + ("Push it first: pamela push model DIR OWNER/NAME." if name == "model" else "Choose such a name.")
                )
        if not self.title.strip() or not self.title.isprintable() or len(self.title) > 80:
            raise HubError(f"title={self.title[:80]!r} must be 1 to 80 printable letters.")


def push_space(
    images: str | os.PathLike,
    repo_id: str,
    options: SpaceOptions | None = None,
    *,
    private: bool = True,
    dry_run: bool = False,
    token: str | None = None,
) -> PushResult:
    """Writes a Space and pushes it as one commit; arguments and errors as in [`write_space`] and
    [`pamela_hf.hub.transfer.push_folder`].

    Args:
        images: folder of pictures, which go along; or Hub id of a dataset of image files.
        repo_id: `owner/name` of the Space.
        options: [`SpaceOptions`]; default: its defaults.
        private: a new Space is private; default: True.
        dry_run: write and scan, but send nothing; default: False.
        token: access token; default: the one that `huggingface_hub` finds.

    Raises:
        HubError: no pictures; see `push_folder`.
    """
    with scratch_folder("pamela-space") as staged:
        left_out = write_space(staged, images, repo_id, options)
        done = push_folder(
            staged,
            repo_id,
            "space",
            allow=SPACE_FILES,
            private=private,
            message=f"Upload {repo_id.rpartition('/')[2]}",
            dry_run=dry_run,
            token=token,
        )
    return replace(done, left_out=[*done.left_out, *left_out])


def write_space(
    folder: Path, images: str | os.PathLike, repo_id: str, options: SpaceOptions | None = None
) -> list[str]:
    """Writes a Space's files: README.md, app.py, requirements.txt, this package, the pictures.

    Args:
        folder: an empty folder.
        images: folder of pictures, written as `images/` under names made of their contents; or Hub id of a dataset.
        repo_id: `owner/name` of the Space.
        options: [`SpaceOptions`]; default: its defaults.

    Returns:
        Pictures that could not be read, and are left out.

    Raises:
        HubError: no folder and no Hub id; no picture that can be read; more than 1 GB of them.
    """
    options = options or SpaceOptions()
    dataset = None if Path(images).is_dir() else str(images)
    if dataset is not None and not _HUB_ID.fullmatch(dataset):
        raise HubError(f"{dataset} is neither a folder of pictures nor the id of a dataset (owner/name). Name one.")
    count, left_out = (0, []) if dataset else _write_pictures(Path(images), folder / "images")
    settings = {"PAMELA_IMAGES": dataset, "PAMELA_TITLE": options.title, "PAMELA_MODEL": options.model}
    settings = {name: value for name, value in (settings | {"PAMELA_RATINGS": options.ratings}).items() if value}
    lines = "".join(f"    {name!r}: {value!r},\n" for name, value in settings.items())
    (folder / "app.py").write_text(_APP.format(settings=f"{{\n{lines}}}"), encoding="utf-8")
    (folder / "requirements.txt").write_text(requirements(), encoding="utf-8")
    (folder / "README.md").write_text(_card(repo_id, options, dataset, count), encoding="utf-8")
    _copy_package(folder)
    return left_out


def requirements() -> str:
    """requirements.txt: the versions that are installed here, without which build of them it is."""
    lines = []
    for name in REQUIRED:
        try:
            lines.append(f"{name}=={importlib.metadata.version(name).partition('+')[0]}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(name)
    return "\n".join(lines) + "\n"


def _gradio() -> str:
    try:
        return importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError:
        return GRADIO


def _card(repo_id: str, options: SpaceOptions, dataset: str | None, count: int) -> str:
    license = options.license or ("apache-2.0" if dataset else "other")
    data = SpaceCardData(
        title=options.title,
        emoji="🖼️",
        colorFrom="indigo",
        colorTo="pink",
        sdk="gradio",
        sdk_version=_gradio(),
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file="app.py",
        fullWidth=True,
        header="mini",
        short_description="Rate pictures, see your taste, take it along"[:MAX_DESCRIPTION],
        **license_fields(license, f"https://huggingface.co/spaces/{repo_id}"),
        hf_oauth=True,
        hf_oauth_expiration_minutes=480,
        **({"hf_oauth_scopes": list(options.scopes)} if options.scopes else {}),
        models=[options.model] if options.model else None,
        datasets=[dataset] if dataset else None,
        tags=["pamela", "personalization", "image-aesthetics"],
    )
    return render_card(
        SPACE_TEMPLATE,
        data,
        title=options.title,
        model=options.model,
        dataset=dataset,
        ratings=options.ratings,
        n_pictures=f"{count:,}",
        sdk_version=_gradio(),
    )


def _write_pictures(source: Path, target: Path) -> tuple[int, list[str]]:
    """(how many pictures were written, names of those that could not be)."""
    target.mkdir()
    left_out, size = [], 0
    for found in walk(source, follow_links=False):
        try:
            data, is_png = cleaned_picture(found.path.read_bytes(), found.name)
        except (HubError, OSError):
            left_out.append(found.name)
            continue
        suffix = "png" if is_png or data.startswith(b"\x89PNG") else "jpg"
        file = target / f"{hashlib.sha256(data).hexdigest()[:24]}.{suffix}"
        size += 0 if file.exists() else len(data)
        if size > MAX_BYTES:
            raise HubError(
                f"{source} holds more than {MAX_BYTES / 1e9:g} GB of pictures, too much for a Space. Push them as a "
                "dataset of image files, and give its id in place of the folder."
            )
        file.write_bytes(data)
    count = sum(1 for _ in target.iterdir())
    if not count:
        raise HubError(f"{source} holds no picture that can be read. Name the folder that they are in.")
    return count, left_out


def _copy_package(folder: Path) -> None:
    pages = (file for file in (PACKAGE / "app" / "pages").iterdir() if file.is_file())
    for file in [*PACKAGE.rglob("*.py"), *pages]:
        place = folder / CODE / file.relative_to(PACKAGE)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    for name in TEMPLATES:
        place = folder / CODE / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(card_template(name), encoding="utf-8")
