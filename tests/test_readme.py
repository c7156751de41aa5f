"""What the README shows runs, in a small demo world made by the demo itself."""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pamela_hf.commands import load_command

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
BASH = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line]


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), "--output", "runs/demo", "--encoder-epochs", "1"]
    small = ["--people", "12", "--images", "90", "--ratings", "500"]
    done = subprocess.run([*command, *small], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_the_demo_leaves_what_it_promises(demo_folder):
    out = demo_folder / "runs" / "demo"
    for path in ("ratings/annotations", "model/config.json", "eval/report.json", "eval/report.html", "report.html"):
        assert (out / path).exists(), path
    for page in ("report.html", "eval/report.html"):
        assert "simulated" in (out / page).read_text(encoding="utf-8").lower()
    assert '"simulated": true' in (out / "model" / "config.json").read_text()


def test_the_demos_page_shows_people_newcomers_and_where_to_read_on(demo_folder):
    out = demo_folder / "runs" / "demo"
    page = (out / "report.html").read_text(encoding="utf-8")
    targets = set(re.findall(r'(?:href|src)="([^"]+)"', page))
    assert {"eval/report.html", "prompt/report.html"} <= targets
    assert all((out / target).exists() for target in targets)
    assert page.count('class="pixels"') > 50 and "more than others do" in page
    assert "A usual one" in page and "One with a taste of their own" in page
    assert page.count("Predicted against given") == 4


def test_it_opens_with_three_lines_that_score_an_image():
    first = PYTHON[0].strip().splitlines()
    assert len(first) == 3 and "import" in first[0] and ".score(" in first[2]
    assert README.index("```python") < README.index("make demo") < README.index("make test") < README.index("## ")


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_runs(code, demo_folder):
    done = subprocess.run([sys.executable, "-c", code], cwd=demo_folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("line", BASH)
def test_commands_exist(line):
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "pamela":
        parser = argparse.ArgumentParser()
        load_command(words[1]).add_arguments(parser)
        parser.parse_args(words[2:])  # exits where an option does not exist
    elif words[0] == "python":
        done = subprocess.run([sys.executable, ROOT / words[1], "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and all(word in done.stdout for word in words if word.startswith("--"))
    else:
        assert words[0] == "pip"


def test_it_is_short_and_shows_one_picture():
    assert len(README.splitlines()) <= 200
    (picture,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert (ROOT / picture).is_file()


def test_every_link_leads_to_a_file():
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[\w-]+)?\)", README):
        assert (ROOT / target).exists(), target


def test_every_figure_stands_in_the_results():
    """Decimal figures outside code; what they mean and which command prints them is said there."""
    results = set(figures((ROOT / "model_card" / "RESULTS.md").read_text(encoding="utf-8")))
    shown = figures(README)
    assert len(shown) > 10 and not set(shown) - results


def figures(text: str) -> list[str]:
    text = re.sub(r"```.*?```|`[^`]*`|https?://\S+", "", text, flags=re.DOTALL)
    return re.findall(r"(?<![\w.-])[-+]?\d*\.\d+(?![\w.]*\d|B\b)", text)
