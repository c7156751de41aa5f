"""What diffusers runs when somebody loads a pushed `PamelaPromptPipeline` with `trust_remote_code=True`.

    DiffusionPipeline.from_pretrained("owner/name", trust_remote_code=True)

diffusers reads one file for the pipeline's class and one file in the folder of each component, none of which may import
another file of the repository. So this file is all of these, and needs nothing but diffusers and transformers. The
classes proper come from an installed pamela_hf, or else from the copy of it in the repository's `_pamela_hf`.
"""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from diffusers import DiffusionPipeline
from transformers import PreTrainedModel, ProcessorMixin

CODE = "_pamela_hf"  # a key of model_index.json with a leading "_": diffusers downloads that folder and asks no more


def package_of(repository: Path) -> ModuleType:
    """pamela_hf if it is installed, else the repository's copy, under a name that no other repository's copy has."""
    try:
        return importlib.import_module("pamela_hf")
    except ImportError:
        folder = repository / CODE
    name = f"pamela_hf_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        init = folder / "__init__.py"
        spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(folder)])
        sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[name])
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


class PamelaRewardModel(PreTrainedModel):
    """Stands in model_index.json for the model of this name."""

    @classmethod
    def from_pretrained(cls, folder: str, **kwargs: Any) -> PreTrainedModel:
        kwargs["use_safetensors"] = True
        model = package_of(Path(folder).parent).PamelaRewardModel.from_pretrained(folder, **kwargs)
        if (Path(folder) / "encoder").is_dir():
            # of an encoder in a component's folder diffusers downloads the weights, but not config.json
            model.load_backbone(config=model.config.backbone_config)
        return model


class PamelaProcessor(ProcessorMixin):
    """Stands in model_index.json for the processor of this name."""

    @classmethod
    def from_pretrained(cls, folder: str, **kwargs: Any) -> ProcessorMixin:
        return package_of(Path(folder).parent).PamelaProcessor.from_pretrained(folder, **kwargs)


class SimulatedPipeline(DiffusionPipeline):
    """Stands in model_index.json for the pipeline of this name."""

    @classmethod
    def from_pretrained(cls, folder: str, **kwargs: Any) -> DiffusionPipeline:
        package = package_of(Path(folder).parent).__name__
        return importlib.import_module(f"{package}.simulation.pipeline").SimulatedPipeline.from_pretrained(folder)


class PamelaPromptPipeline(DiffusionPipeline):
    """Has the signature that diffusers asks for; what is made is the pipeline of this name."""

    _optional_components = ["refiner_model", "refiner_tokenizer"]

    def __new__(cls, pipeline, reward_model, processor, refiner_model=None, refiner_tokenizer=None):
        package = type(reward_model).__module__.removesuffix(".model.modeling_pamela")
        module = importlib.import_module(f"{package}.prompts.pipeline_pamela")
        return module.PamelaPromptPipeline(pipeline, reward_model, processor, refiner_model, refiner_tokenizer)

    def __init__(self, pipeline, reward_model, processor, refiner_model=None, refiner_tokenizer=None):
        raise AssertionError("unreachable: __new__ makes another class")
