"""The package as a whole: who imports whom, what importing costs, what the README says."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pamela_hf"
# DESIGN: imports go downward only. Modules of one layer may import lower layers, and what is named here.
LAYERS = {
    "version": 0, "configuration_pamela": 0, "factors_pamela": 0, "features_pamela": 0, "fusion_pamela": 0,
    "losses": 0, "data": 0,
    "images": 0, "metrics": 0,
    "simulated_vocabulary": 0, "simulated_traits": 0, "simulated_shapes": 0, "simulated_images": 0,
    "simulated_raters": 0, "simulation": 0, "simulated_encoder": 0,
    "hub": 0, "hub_scan": 0, "pseudonyms": 0, "cards": 1, "group_figures": 3, "publishing": 4,
    "pipeline_entry": 0, "pipeline_publishing": 5,
    "modeling_pamela": 1, "processing_pamela": 1, "sources": 1, "user_metrics": 1, "training_config": 1,
    "calibration": 1, "disagreement": 1, "repeats": 1, "paper_figures": 1, "report_page": 2, "report_plots": 1,
    "report_groups": 2,
    "report": 3, "report_files": 4, "report_table": 1,
    "builder": 2, "embeddings": 2, "preparation": 3, "scoring": 2,
    "taste_fitting": 0, "head_files": 0, "head_ratings": 3, "head_csv": 3, "head_report": 3, "heads": 3, "few_shot": 4,
    "refiners": 0, "prompt_trace": 1, "prompt_surrogate": 1, "prompt_search": 2,
    "prompt_images": 3,
    "prompt_page": 1, "prompt_charts": 3, "prompt_report": 3, "prompt_output": 4,
    "simulated_pipeline": 1, "pipeline_pamela": 4, "prompt_comparison": 2, "prompt_runs": 5, "prompt_loading": 5,
    "loading": 0,
    "csv_files": 0, "study": 0, "study_agreement": 1, "study_files": 1, "study_power": 1, "study_report": 3,
    "batches": 3, "checkpoints": 3, "training": 3, "baselines": 4, "evaluation": 5, "ablation_report": 3, "ablation": 6,
    "reproduction": 7, "cli_help": 0, "cli": 7,
}  # fmt: skip
SIDEWAYS = {
    "heads": {"head_ratings", "head_report"},
    "head_report": {"head_ratings"},
    "head_csv": {"head_ratings"},
    "hub": {"hub_scan"},
    "simulation": {"simulated_images", "simulated_raters", "simulated_traits", "simulated_vocabulary"},
    "simulated_encoder": {"simulation", "simulated_images", "simulated_traits", "simulated_vocabulary"},
    "simulated_images": {"simulated_shapes", "simulated_traits", "simulated_vocabulary"},
    "simulated_raters": {"simulated_traits", "simulated_vocabulary"},
    "simulated_shapes": {"simulated_traits", "simulated_vocabulary"},
    "simulated_traits": {"simulated_vocabulary"},
    "features_pamela": {"configuration_pamela", "factors_pamela"},
    "fusion_pamela": {"configuration_pamela"},
    "pipeline_pamela": {"prompt_output"},
    "prompt_report": {"prompt_charts"},
    "scoring": {"embeddings"},
    "training": {"batches", "checkpoints"},
}


def imports_of(path: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it."""
    depth = len(path.relative_to(PACKAGE).parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not any(alias.name == "*" for alias in node.names), f"{path}: star import"
            if node.level == depth:
                found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
            elif node.level == 0 and (node.module or "").split(".")[0] == "pamela_hf":
                found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downward(path):
    module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if module == "__init__":
        return
    for other in imports_of(path) - {module}:
        allowed = LAYERS[other] < LAYERS[module] or other in SIDEWAYS.get(module, ())
        assert allowed, f"{module} (layer {LAYERS[module]}) imports {other} (layer {LAYERS[other]})"


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
before = time.perf_counter()
import pamela_hf
seconds = time.perf_counter() - before
heavy = [m for m in ("diffusers", "datasets", "peft", "gradio", "evaluate", "pandas", "sklearn") if m in sys.modules]
from transformers import AutoConfig
print(json.dumps([seconds, heavy, type(AutoConfig.for_model("pamela")).__name__]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    _, heavy, registered = json.loads(done.stdout)
    assert heavy == [] and registered == "PamelaConfig"


COMMANDS = ["prepare-ratings", "embed", "train", "evaluate", "ablate", "fit-user", "score", "study", "push"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    from pamela_hf.cli import main

    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and f"pamela {command}" in text
    script = ROOT / "scripts" / f"{command.replace('-', '_')}.py"
    assert f'command="{command}"' in script.read_text()


def test_scripts_are_thin():
    for path in (ROOT / "scripts").glob("*.py"):
        if not path.name.startswith("bench"):
            assert len(path.read_text().splitlines()) <= 80, path


def test_bad_input_on_the_command_line_is_one_clear_line(tmp_path, ratings_folder):
    from pamela_hf.cli import main

    data = ["--data", str(ratings_folder)]
    for arguments, message in [
        (["train", *data, "--output", str(tmp_path / "m"), "epoch=1"], "did you mean 'epochs'"),
        (["train", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "m")], "none"),
        (["embed", *data], "no images"),
        (["score", "--model", "x", "--images", "y", "--output", "z.txt"], r"\.csv or \.parquet"),
    ]:
        with pytest.raises(SystemExit, match=message):
            main(arguments)
    assert not (tmp_path / "m").exists()
