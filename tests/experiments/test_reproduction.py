"""`scripts/reproduce_paper.py` from a local Hub to the paper's tables, in fresh processes."""

import json
import zipfile
from pathlib import Path

import pytest
import yaml
from hub_server import Commit
from toys import TINY_MODEL

from pamela_hf.evaluation.paper import ABLATION, DIVERGING, paper_table
from pamela_hf.experiments.reproduction import comparison, reproduce
from pamela_hf.simulation.world import write_world
from pamela_hf.training.config import TrainingConfig

SCRIPT = Path(__file__).parents[2] / "scripts" / "reproduce_paper.py"
CODE = "import runpy, sys; path = sys.argv.pop(1); sys.argv[0] = path; runpy.run_path(path, run_name='__main__')"


def publish(server, kind: str, repo: str, files: dict[str, bytes]) -> None:
    """A repository whose only content is these files."""
    server.create(kind, repo, False)
    stored = {name: server.store(content, name.endswith((".zip", ".safetensors"))) for name, content in files.items()}
    repository = server.repos[kind, repo]
    repository.commits.append(Commit("c" * 40, "files", repository.head.files | stored))


def zipped(folder: Path, target: Path) -> bytes:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"PAMELA/{path.relative_to(folder)}")
    return target.read_bytes()


def test_one_command_from_the_hub_to_the_tables(hub_server, fresh_process, siglip_encoder, tmp_path):
    world = tmp_path / "world"
    write_world(world, 20, 100, 800, size=32, progress=False, support_unseen=False)
    publish(hub_server, "dataset", "someone/PAMELA", {"PAMELA.zip": zipped(world, tmp_path / "PAMELA.zip")})
    encoder = {path.name: path.read_bytes() for path in siglip_encoder.iterdir()}
    publish(hub_server, "model", "someone/tiny-siglip", encoder)
    config, out = tmp_path / "tiny.yaml", tmp_path / "run"
    tiny = {"encoder": "someone/tiny-siglip", "epochs": 2, "early_stopping": "val_seen/user_srocc", "model": TINY_MODEL}
    config.write_text(yaml.safe_dump(tiny))
    command = [SCRIPT, "someone/PAMELA", "--output", out, "--config", config, "--baselines", "ridge"]
    command += ["--few-shot", "2", "--variants", "full,no_user", "--seeds", "0"]
    said = fresh_process(CODE, *command)
    for step in ("Reading someone/PAMELA", "Embedding with someone/tiny-siglip", "Training", "Evaluating", "Ablations"):
        assert step in said
    assert "SROCC (simulated)" in said and "SIMULATED people" in said and "| no_user |" in said
    assert "Diverging pairs ranked right, people never met | 0." in said and "pamela@k=2" in said
    assert "paper)" not in said and ".4514" not in said and ABLATION not in said
    report = json.loads((out / "eval" / "report.json").read_text())
    assert f"| ridge | {report['splits']['test_unseen']['ridge']['user_srocc']['value']:.4f} [" in said
    assert said.strip().endswith((out / "comparison.md").read_text().strip())
    grid = json.loads((out / "ablation" / "ablation.json").read_text())
    assert list(grid["ablation"]) == list(report["splits"]) and grid["meta"]["trained"] == 2

    # again: nothing is done twice, and nobody needs the Hub
    (out / "eval" / "report.json").write_text('{"cut off')
    files = [out / "ratings" / "embeddings.safetensors", out / "model" / "model.safetensors"]
    times, asked = [path.stat().st_mtime_ns for path in files], len(hub_server.requests)
    again = fresh_process(CODE, *command)
    assert "Evaluating" in again and not any(word in again for word in ("Reading", "Embedding", "Training\n"))
    assert [path.stat().st_mtime_ns for path in files] == times and len(hub_server.requests) == asked
    assert json.loads((out / "ablation" / "ablation.json").read_text())["meta"]["trained"] == 0
    assert again.partition("# Our figures")[2] == said.partition("# Our figures")[2]

    with pytest.raises(ValueError, match="holds another reproduction: epochs was 2, now 3"):
        reproduce("someone/PAMELA", out, TrainingConfig(**tiny | {"epochs": 3}))


@pytest.mark.parametrize("same", [True, False])
def test_the_papers_figures_stand_beside_its_own_ratings_only(same):
    cell = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n_users": 30}
    metrics = dict.fromkeys(("user_srocc", "user_plcc", "user_pairwise_0", "diverging"), cell)
    report = {
        "splits": {},
        "gap": {"test": {"pamela": {"user_srocc": cell}}},
        "meta": {"reference": "pamela", "simulated": False},
        "differences": {},
    }
    judged = {**report, "splits": {"test_seen": {"pamela": metrics}, "test_unseen": {"pamela": metrics}}}
    grid = {"ablation": {}, "curves": {}, "meta": {"simulated": False, "seeds": [0], "skipped": {}}}
    text = comparison({**report, "paper": paper_table(judged, same)}, grid)
    assert "| pamela | 0.5000 [0.4000, 0.6000] |" in text
    assert ("| HPSv3 | – | 0.4019 | – | 0.4444 | – | 0.6427 |" in text) == same
    assert (f"| {DIVERGING['test_unseen']:.2f} |" in text) == same and (ABLATION in text) == same
