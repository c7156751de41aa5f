"""The reward where Hugging Face's own tools look for it.

pipeline_reward_pamela: `pipeline(task="personal-image-reward", model=…)`, registered when this is imported.  handler:
Inference Endpoints.  score_images: a script that `uv run` and `hf jobs` run alone.  All three are copied into a
published model's repository and import nothing of this package there.
"""

import json
import shutil
from pathlib import Path

from transformers.pipelines import PIPELINE_REGISTRY

from ...model.modeling_pamela import PamelaRewardModel
from .pipeline_reward_pamela import TASK, PersonalImageRewardPipeline

__all__ = ["FILES", "TASK", "PersonalImageRewardPipeline", "add_hub_files"]

FILES = ("pipeline_reward_pamela.py", "handler.py", "score_images.py")
"""What a model's repository gets of this folder, beside `requirements.txt`."""
REQUIREMENTS = "torch>=2.10\ntransformers>=5.0\nsafetensors>=0.8\npillow>=12.2,<13\nnumpy>=2.0\n"

PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=PersonalImageRewardPipeline, pt_model=(PamelaRewardModel,))


def add_hub_files(folder: Path) -> None:
    """Adds to a saved model's folder what Inference Endpoints, remote pipelines and `uv run` need."""
    here = Path(__file__).parent
    for name in FILES:
        shutil.copyfile(here / name, folder / name)
    (folder / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["custom_pipelines"] = {
        TASK: {"impl": f"pipeline_reward_pamela.{PersonalImageRewardPipeline.__name__}", "pt": ["AutoModel"]}
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
