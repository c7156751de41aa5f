"""The recipes of CONTRIBUTING.md, each in a copy of the package with its one new file."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from releases import write_image

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPE = re.compile(
    r"### (.+?)\n\n`(pamela_hf/[\w/]+\.py)`:\n\n```python\n(.*?)```\n.*?Use it:\n\n```python\n(.*?)```", re.S
)
RECIPES = RECIPE.findall(TEXT)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "pamela_hf", folder / "pamela_hf", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_every_kind_of_file_that_is_found_by_its_name_has_a_recipe():
    kinds = {str(Path(path).parent.relative_to("pamela_hf")) for _, path, _, _ in RECIPES}
    found_by_name = {"ratings/sources", "baselines", "refiners", "commands", "rewards"}
    assert kinds == found_by_name
    assert len(RECIPES) == TEXT.count("### ")


@pytest.mark.parametrize(("title", "path", "file", "use"), RECIPES, ids=[title for title, *_ in RECIPES])
def test_a_recipe_works_as_it_stands(title, path, file, use, copy, tmp_path, reward_folder):
    if not (copy / path).parent.is_dir():
        pytest.skip(f"{Path(path).parent} does not exist in this checkout")
    assert not (ROOT / path).exists()
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "model").symlink_to(reward_folder)
    (copy / path).write_text(file, encoding="utf-8")
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run([sys.executable, "-c", use], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    if "commands" in path:
        assert done.stdout == "2\n"


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:tests|scripts|model_card|dataset_card)/[\w./]+)`", TEXT)))
)
def test_every_path_exists(path):
    assert (ROOT / path).exists() or path == "scripts/count_people.py"  # the recipe's own


def test_every_room_that_is_named_exists():
    table = TEXT.split("| you want to change")[1].split("\n\n")[0]
    for name in re.findall(r"`(\w+(?:/\w+)*(?:/|\.py))`", table):
        assert (ROOT / "pamela_hf" / name).exists() or (ROOT / name).exists(), name
