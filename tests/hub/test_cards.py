"""Cards are found wherever the package lies, and carry what the Hub reads."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCardData

from pamela_hf.heads.summary import head_card
from pamela_hf.hub.cards import (
    DATASET_TEMPLATE,
    MODEL_TEMPLATES,
    PAPER_URL,
    card_template,
    license_fields,
    render_card,
)

ROOT = Path(__file__).parents[2]
CARDS = """
import sys
from pathlib import Path
import pamela_hf
from pamela_hf.heads.summary import head_card
from pamela_hf.hub.cards import DATASET_TEMPLATE, MODEL_TEMPLATES, card_template
print(Path(pamela_hf.__file__).parents[1])
for name in (*MODEL_TEMPLATES, DATASET_TEMPLATE):
    assert card_template(name).startswith("---\\n{{ card_data }}"), name
assert "one person's taste" in head_card("ann", None, "0" * 64, {"ratings": 3})
"""


def front(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def test_every_template_of_the_repository_is_known_and_installed():
    cards = {
        f"{p.parent.name}/{p.name}" for folder in ("model_card", "dataset_card") for p in (ROOT / folder).glob("*.md")
    }
    templates = {name for name in cards if "{{ card_data }}" in (ROOT / name).read_text(encoding="utf-8")}
    assert templates == {*MODEL_TEMPLATES, DATASET_TEMPLATE}
    for name in templates:
        assert name in (ROOT / "setup.cfg").read_text() and "{{ paper_url }}" in card_template(name)


def test_a_template_that_is_missing_is_named():
    with pytest.raises(FileNotFoundError, match=r"model_card/none\.md, a part of pamela_hf, is missing"):
        card_template("model_card/none.md")


def test_a_heads_card_says_what_it_adapts_and_keeps_a_name_a_name():
    card = head_card("ann: [x]\n", "me/base", "ab" * 32, {"ratings": 3, "choices": 2, "uses_demographics": True})
    assert front(card) == {
        "base_model": "me/base", "base_model_relation": "adapter", "library_name": "peft",
        "tags": ["pamela", "personalization", "reward-model"],
    }  # fmt: skip
    assert PAPER_URL in card and "from_pretrained('me/base')" in card and "3 ratings, 2 choices" in card
    assert "fitted from 5 answers" in card and "on top of demographics" in card
    alone = head_card("ann", None, "ab" * 32, {})
    assert "base_model" not in front(alone) and "from_pretrained('BASE')" in alone and "no demographics" in alone


def test_a_licence_of_its_own_has_a_name_and_a_link():
    assert license_fields("mit", "https://huggingface.co/a/b") == {"license": "mit"}
    page = license_fields("other", "https://huggingface.co/a/b")
    assert (
        page["license_name"] == "see-license-section" and page["license_link"] == "https://huggingface.co/a/b#license"
    )
    release = {"citation": "Maerten et al., *LAPIS* (2025)", "url": "https://example.org/lapis"}
    assert license_fields("other", "", release) == {
        "license": "other", "license_name": "terms-of-maerten-et-al-lapis-2025",
        "license_link": "https://example.org/lapis",
    }  # fmt: skip


def test_what_a_template_is_given_is_text_not_a_template():
    card = render_card("model_card/head.md", ModelCardData(), name="{{ paper_url }}", facts=[], n_answers=0)
    assert "# {{ paper_url }}: one person's taste" in card and PAPER_URL in card


def test_a_pushed_copy_of_the_package_finds_its_templates(tmp_path):
    """A copy as `push_pipeline` lays it out: the package's files with the two template folders inside."""
    package = tmp_path / "pamela_hf"
    shutil.copytree(ROOT / "pamela_hf", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*MODEL_TEMPLATES, DATASET_TEMPLATE):
        (package / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, package / name)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CARDS], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == str(tmp_path), done.stderr[-2000:]


@pytest.mark.slow
def test_a_wheel_carries_its_cards_and_commands(tmp_path):
    """Built from a copy of the checkout and installed into a fresh environment, without the checkout on the path."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(checkout)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    shutil.rmtree(checkout)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    site = next((tmp_path / "env").glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # a path alone: no .pth files in it
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command: str) -> str:
        options = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True}
        done = subprocess.run(command, **options)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert run(str(python), "-c", CARDS).strip() == str(site)
    (tmp_path / "mine.csv").write_text("image,score\n" + "".join(f"{n}.png,{1 + n % 5}\n" for n in range(10)))
    from PIL import Image

    for n in range(10):
        Image.new("RGB", (8, 8), (20 * n, 0, 0)).save(tmp_path / f"{n}.png")
    pamela = str(python.with_name("pamela"))
    run(pamela, "prepare-ratings", "mine.csv", "out", "--split-by", "none", "--quiet")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "## Columns" in card and PAPER_URL in card and front(card)["task_categories"] == ["image-classification"]
