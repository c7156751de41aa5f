"""The package as a whole: who imports whom, what importing costs, what the README says."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pamela_hf"
# Rooms (folders and files of the package) from the lowest to the highest: each may import those of the rows before it.
LAYERS = [
    {"version", "exports"},
    {"model", "files", "metrics"},
    {"hub"},
    {"user_metrics", "refiners", "reports"},
    {"embeddings", "simulation", "study"},
    {"encoder", "ratings"},
    {"folder_cache"},
    {"scoring"},
    {"training", "heads"},
    {"baselines", "rewards", "retrieval", "photos"},
    {"evaluation", "prompts"},
    {"experiments", "publishing", "app"},
    {"commands"},
    {"cli"},
]
LAYER_OF = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}


def imports_of(path: Path) -> set[str]:
    """Rooms that a file imports, anywhere in it."""
    below = path.relative_to(PACKAGE).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not any(alias.name == "*" for alias in node.names), f"{path}: star import"
            names = (node.module or "").split(".") if node.module else [alias.name for alias in node.names]
            if node.level:
                found.add((*below[: len(below) - node.level + 1], names[0])[0])
            elif names[0] == "pamela_hf":
                found.add(names[1])
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downward(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for other in imports_of(path) - {room}:
        assert LAYER_OF[other] < LAYER_OF[room], f"{room} imports {other}, which does not stand below it"


def test_every_room_has_a_place_and_says_what_is_in_it():
    rooms = {p.name.removesuffix(".py") for p in PACKAGE.iterdir() if p.name not in ("__init__.py", "__pycache__")}
    assert rooms <= set(LAYER_OF) and len(rooms) < 30
    for room in PACKAGE.glob("*/__init__.py"):
        assert 1 <= len((ast.get_docstring(ast.parse(room.read_text())) or "").splitlines()) <= 24, room


@pytest.mark.parametrize("room", sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py")))
def test_a_room_names_its_files(room):
    """Rooms whose files are found by name need no list, nor do files that other ones of the room share."""
    if room not in ("baselines", "commands", "refiners"):
        words = re.findall(r"\w+", ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())))
        files = {p.stem for p in (PACKAGE / room).glob("*.py") if not p.stem.startswith("_")}
        assert files <= set(words), f"{room}/__init__.py does not name {', '.join(sorted(files - set(words)))}"


def test_the_model_imports_its_own_folder_only():
    """What transformers copies to the Hub beside the weights: files of one folder."""
    for path in (PACKAGE / "model").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1 and (node.module or "").split(".")[0] != "pamela_hf", path


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_docstrings_have_one_entry_an_argument(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            _, _, entries = (ast.get_docstring(node) or "").partition("Args:\n")
            entries = re.split(r"\n\w+:\n", entries)[0]
            several = re.findall(r"^ {4}\w+(?:, \w+)+(?: \(.*\))?: .*$", entries, re.MULTILINE)
            assert not several, f"{path}:{node.lineno} {node.name}: {several[0].strip()}"


def test_nobody_imports_scripts():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            name = node.module if isinstance(node, ast.ImportFrom) else None
            assert not (name or "").startswith("scripts"), path


def test_importing_registers_and_loads_nothing_it_does_not_need():
    code = """
import json, sys, time
from transformers import AutoConfig, AutoModel, AutoProcessor, PreTrainedModel
already = set(sys.modules)  # older releases of transformers import scikit-learn where it is installed
before = time.perf_counter()
import pamela_hf
seconds = time.perf_counter() - before
heavy = {"diffusers", "datasets", "peft", "gradio", "evaluate", "pandas", "sklearn"} & set(sys.modules) - already
heavy = sorted(heavy)
from transformers import AutoConfig
print(json.dumps([seconds, heavy, type(AutoConfig.for_model("pamela")).__name__]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    _, heavy, registered = json.loads(done.stdout)
    assert heavy == [] and registered == "PamelaConfig"


@pytest.mark.parametrize("command", [["-m", "pamela_hf.cli"], [str(ROOT / "scripts" / "taste.py")]])
def test_help_does_not_wait_for_transformers(command):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pamela_hf.cli" in imported or "pamela_hf.commands" in imported
    assert not imported & {"torch", "transformers"}


def test_a_program_of_somebody_else_s_gets_all_of_it(tmp_path):
    """Whatever it is called: only the package's own commands put off what they may not need."""
    program = tmp_path / "taste.py"
    program.write_text("import pamela_hf, transformers\nprint(transformers.AutoConfig.for_model('pamela').model_type)")
    options = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, program], check=True, **options)
    assert done.stdout == "pamela\n"


def test_scripts_are_thin():
    for path in (ROOT / "scripts").glob("*.py"):
        if not path.name.startswith("bench"):
            assert len(path.read_text().splitlines()) <= 80, path
