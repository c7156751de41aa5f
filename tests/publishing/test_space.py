"""A Space as it is written and pushed: an exact list of files, private, with nothing of this machine in it."""

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from app_client import paint_pictures
from PIL import Image
from pushes import CLI

from pamela_hf.app.space import SETTINGS
from pamela_hf.hub.transfer import HubError
from pamela_hf.publishing.space import PACKAGE, REQUIRED, SpaceOptions, push_space, write_space

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Four pictures, one of them twice, one with a comment, and a file that is none."""
    folder = paint_pictures(tmp_path_factory.mktemp("pictures"), 3)
    (folder / "copy of Canary.png").write_bytes((folder / "001.png").read_bytes())
    Image.new("RGB", (20, 10), "red").save(folder / "by Canary.jpg", comment=b"Canary was here")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def written(tmp_path: Path, *args: object) -> Path:
    folder = tmp_path / "space"
    folder.mkdir()
    write_space(folder, *args)
    return folder


def card_of(text: str) -> dict:
    return yaml.safe_load(text.split("---")[1])


def test_a_push_is_exactly_the_space_and_private(pictures, hub_server, fresh_process):
    arguments = ["space", str(pictures), "me/rate", "--model", "me/pamela", "--ratings", "me/answers", "--title", "Hi"]
    said = fresh_process(CLI, json.dumps([[*arguments, "--dry-run"], arguments, arguments]))
    assert hub_server.repos["space", "me/rate"].private and "Private:" in said and "broken.png" in said
    assert hub_server.commits("me/rate", "space") == 1, "the second push changes nothing"
    files = hub_server.files("me/rate", "space")
    code = {f"pamela_hf/{file.relative_to(PACKAGE).as_posix()}" for file in PACKAGE.rglob("*.py")}
    pages = {f"pamela_hf/app/pages/{file.name}" for file in (PACKAGE / "app" / "pages").iterdir()}
    cards = {f"pamela_hf/{kind}_card/{name}.md" for kind, name in [
        ("model", "template"), ("model", "head"), ("model", "pipeline"), ("model", "space"), ("dataset", "template"),
    ]}  # fmt: skip
    images = {name for name in files if name.startswith("images/")}
    assert set(files) == {"README.md", "app.py", "requirements.txt", *code, *pages, *cards, *images}
    assert len(images) == 4 and all(re.fullmatch(r"images/[0-9a-f]{24}\.(png|jpg)", name) for name in images)
    everything = b"".join(files.values())
    assert b"Canary" not in everything and str(Path.home()).encode() not in everything


def test_the_readme_is_what_the_hub_reads(pictures, tmp_path):
    options = SpaceOptions("It's “yours”: {{ x }}", "me/pamela", scopes=("email",))
    folder = written(tmp_path, pictures, "me/rate", options)
    text = (folder / "README.md").read_text(encoding="utf-8")
    card = card_of(text)
    assert card["title"] == "It's “yours”: {{ x }}" and card["sdk"] == "gradio" and card["app_file"] == "app.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", card["sdk_version"]) and card["python_version"].startswith("3.")
    assert card["hf_oauth"] is True and card["hf_oauth_scopes"] == ["email"] and card["models"] == ["me/pamela"]
    assert card["license"] == "other" and 0 < len(card["short_description"]) <= 60
    assert {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"} >= {
        card["colorFrom"],
        card["colorTo"],
    }
    assert all(f"`PAMELA_{name}`" in text for name in SETTINGS), "every setting is documented"
    plain = card_of((written(tmp_path / "b", "me/pictures", "me/rate") / "README.md").read_text())
    assert plain["datasets"] == ["me/pictures"] and plain["license"] == "apache-2.0" and "models" not in plain
    assert "hf_oauth_scopes" not in plain, "the profile alone, which is always included"


@pytest.fixture(autouse=True)
def _folders(tmp_path):
    (tmp_path / "b").mkdir()


def test_app_py_is_short_and_runs_with_its_own_copy(pictures, tmp_path):
    title = "\"'''\\ {0}"
    folder = written(tmp_path, pictures, "me/rate", SpaceOptions(title, "me/pamela", "me/answers"))
    text = (folder / "app.py").read_text()
    assert len(text.splitlines()) <= 15
    code = "import app, pamela_hf, json; print(json.dumps([app.SETTINGS, pamela_hf.__file__]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    settings, package = json.loads(done.stdout)
    assert settings == {"PAMELA_TITLE": title, "PAMELA_MODEL": "me/pamela", "PAMELA_RATINGS": "me/answers"}
    assert Path(package).is_relative_to(folder)


def test_requirements_are_those_of_the_package(pictures, tmp_path):
    lines = (written(tmp_path, pictures, "me/rate") / "requirements.txt").read_text().split()
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    needed = {re.split(r"[<>=]", line)[0] for line in config["options"]["install_requires"].split()}
    assert {*needed, "diffusers"} == set(REQUIRED) == {line.partition("==")[0] for line in lines}
    assert not any("+" in line or "gradio" in line for line in lines), "the Space's sdk_version says which gradio"


def test_the_same_pictures_have_the_same_names(pictures, tmp_path):
    one, two = written(tmp_path, pictures, "me/a"), written(tmp_path / "b", pictures, "me/b")
    assert sorted(p.name for p in (one / "images").iterdir()) == sorted(p.name for p in (two / "images").iterdir())


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ("no/such/place", {}, "owner/name"), ("", {}, "no picture"),
        (None, {"model": "runs/my/model"}, "Push it first"), (None, {"model": "./model"}, "Push it first"),
        (None, {"ratings": "answers"}, "owner/name"), (None, {"title": "a\nb"}, "printable"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_space_is_refused(pictures, tmp_path, images, options, words):
    (tmp_path / "empty").mkdir()
    place = pictures if images is None else images or tmp_path / "empty"
    with pytest.raises(HubError, match=words):
        push_space(place, "me/rate", SpaceOptions(**options), dry_run=True)
