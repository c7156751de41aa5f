"""The loading script for datasets<4, in an environment of its own with datasets==3.6.0."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from releases import small_splits, write_release

ROOT = Path(__file__).parents[2]
# datasets 3.6.0 with what it pins below this environment's versions; everything else is taken from here
OLD = ["datasets==3.6.0", "dill==0.3.8", "multiprocess==0.70.16", "fsspec==2025.3.0"]
CODE = """
import json, sys
import datasets
script, data = sys.argv[1:]
load = lambda *args, **kwargs: datasets.load_dataset(script, *args, data_dir=data, trust_remote_code=True, **kwargs)
ratings = load()
images = load("images", split="images")
streamed = next(iter(load(streaming=True)["train"]))
with open(data + "/annotations/pamela_train.json") as file:
    rows = json.load(file)
rows[0]["original_score"] = 5
with open(data + "/annotations/pamela_train.json", "w") as file:
    json.dump(rows, file)
changed = load(split="train")
print(json.dumps({"version": datasets.__version__, "rows": {s: len(t) for s, t in ratings.items()},
    "first": ratings["train"][0], "streamed": streamed, "dtype": ratings["train"].features["score"].dtype,
    "images": [len(images), images[0]["image"].size], "changed": changed[0]["score"]}))
"""


@pytest.mark.slow
def test_the_script_is_the_same_builder_for_datasets_3(tmp_path):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    place = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    packages = Path(subprocess.run([python, "-c", place], capture_output=True, text=True, check=True).stdout.strip())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), *OLD]
    installed = subprocess.run(pip, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"datasets==3.6.0 cannot be installed here: {installed.stderr.strip()[-300:]}")
    (packages / "zz_here.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{ROOT}\n")
    script = Path(shutil.copy(ROOT / "dataset_card" / "pamela_ratings.py", tmp_path))
    data = write_release(tmp_path / "PAMELA", small_splits())
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    command = [python, "-c", CODE, script, data]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["version"] == "3.6.0" and found["dtype"] == "float32"
    assert found["rows"] == {"train": 10, "val_seen": 1, "test_seen": 2, "test_unseen": 1}
    assert found["first"] == found["streamed"] and found["first"]["participant_id"] == "p1"
    assert found["images"] == [7, [16, 12]]
    assert found["changed"] == 5.0  # a changed source is built anew
