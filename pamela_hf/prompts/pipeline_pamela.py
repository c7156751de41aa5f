"""`PamelaPromptPipeline`: one prompt, different images for different people, with any text-to-image pipeline.

A refiner writes variants of the prompt, the nested pipeline renders them, the personal reward says which of them this
person will like best, and what it says is the refiner's context in the next round. (Maerten et al., *Personalizing
Text-to-Image Generation to Individual Taste*, arXiv 2604.07427, section on prompt optimization.)
"""

import hashlib
import importlib
import inspect
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import snapshot_download
from PIL import Image
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..model.modeling_pamela import PamelaRewardModel
from ..model.processing_pamela import PamelaProcessor
from ..refiners import PromptRefiner, load_refiner
from ..scoring import PamelaScorer
from .output import PamelaPromptOutput, as_judge, make_output, write_result
from .rendering import CandidateImages, Request
from .run_folder import RunFolder
from .search import PromptSearch, SearchConfig, SearchResult

OWN_MODULES = {
    "PamelaRewardModel": "model.modeling_pamela",
    "PamelaProcessor": "model.processing_pamela",
    "SimulatedPipeline": "simulation.pipeline",
}
REWARD_PROMPTS = ("candidate", "original", "none")


def refuse_adapters(folder: str | os.PathLike) -> None:
    """Raises ValueError if a part of a pipeline's folder is an adapter: transformers would take it up, and with it the
    base that its file names, from wherever that is."""
    for file in Path(folder).rglob("adapter_config.json"):
        raise ValueError(f"{file} is an adapter, which may name any other repository. Merge it into its model.")


class PamelaPromptPipeline(DiffusionPipeline):
    r"""Optimizes a prompt for one person.

    Args:
        pipeline: any text-to-image pipeline (`Flux2Pipeline`, `Flux2KleinPipeline`, SDXL, SD3, …).
        reward_model: the personal reward, a [`PamelaRewardModel`], which has to name its image–text encoder.
        processor: the reward's [`PamelaProcessor`].
        refiner_model (*optional*): a chat model that writes the variants
            ([`pamela_hf.refiners.transformers_chat`]); without it the default refiner is a vocabulary.
        refiner_tokenizer (*optional*): tokenizer of `refiner_model`; both are given or neither.

    Example:

    ```python
    pipe = PamelaPromptPipeline(SimulatedPipeline(), reward_model, processor)
    pipe("a cottage", user="simulated_0003", num_iterations=3, num_candidates=8, output="runs/cottage").prompts[0]
    ```
    """

    _optional_components = ["refiner_model", "refiner_tokenizer"]
    _exclude_from_cpu_offload = ["reward_model"]  # small, and read parameter by parameter: see enable_*_offload
    model_cpu_offload_seq = "refiner_model"

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        reward_model: PamelaRewardModel,
        processor: PamelaProcessor,
        refiner_model: PreTrainedModel | None = None,
        refiner_tokenizer: PreTrainedTokenizerBase | None = None,
    ):
        super().__init__()
        if (refiner_model is None) != (refiner_tokenizer is None):
            raise ValueError("refiner_model and refiner_tokenizer belong together; pass both or neither.")
        self.register_modules(
            pipeline=pipeline,
            reward_model=reward_model,
            processor=processor,
            refiner_model=refiner_model,
            refiner_tokenizer=refiner_tokenizer,
        )
        self._interrupt = False

    # -- loading and placing: what diffusers does for models has to reach the nested pipeline, too ------------------
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "PamelaPromptPipeline":
        """As in diffusers, safetensors only; `dtype` (one, or by component) reaches the nested pipeline's models."""
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            hub = ("revision", "cache_dir", "token", "local_files_only", "force_download")
            where = {key: kwargs.pop(key) for key in hub if key in kwargs}
            # diffusers' own download knows one level of components, not a pipeline's pipeline
            skip = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.py", "*.msgpack", "*.onnx"]
            folder = Path(snapshot_download(str(pretrained_model_name_or_path), ignore_patterns=skip, **where))
        refuse_adapters(folder)
        kwargs.setdefault("use_safetensors", True)
        dtype = kwargs.get("dtype", kwargs.get("torch_dtype"))
        if isinstance(dtype, dict):
            dtype = dtype.get("pipeline", dtype.get("default"))
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        if dtype is not None and "pipeline" not in kwargs and hasattr(diffusers, str(index["pipeline"][1])):
            # loaded here: diffusers would read a nested pipeline in float32, twice the memory
            kwargs["pipeline"] = DiffusionPipeline.from_pretrained(
                folder / "pipeline", dtype=dtype, use_safetensors=True
            )
        return super().from_pretrained(folder, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in diffusers, without `variant`, which not every part could be loaded by again."""
        if kwargs.get("variant") is not None:
            raise ValueError(f"variant={kwargs['variant']!r} cannot be kept by all parts; convert with .to(dtype=…).")
        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """As in diffusers; where a pushed repository names its copy of this package, this package takes its place."""
        loaded = super().load_config(*args, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        if isinstance(config.get("_class_name"), list):
            config["_class_name"] = cls.__name__
        package = __name__.removesuffix(".prompts.pipeline_pamela")
        for part, named in config.items():
            if isinstance(named, (list, tuple)) and len(named) == 2 and named[1] in OWN_MODULES:
                module = importlib.import_module(f"{package}.{OWN_MODULES[named[1]]}")
                config[part] = [module.__name__, named[1]]
        return loaded

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, /, **kwargs: Any) -> "PamelaPromptPipeline":
        """A pipeline over the same components: of another `PamelaPromptPipeline`, or around a text-to-image pipeline
        (then `reward_model` and `processor` are needed). `kwargs` replace components; `dtype` converts them."""
        dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
        components = dict(pipeline.components) if isinstance(pipeline, cls) else {"pipeline": pipeline}
        made = cls(**{**components, **kwargs})
        return made.to(dtype=dtype) if dtype is not None else made

    def to(self, *args: Any, **kwargs: Any) -> "PamelaPromptPipeline":
        super().to(*args, **kwargs)
        self.pipeline.to(*args, **kwargs)
        return self

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str | None = None) -> None:
        """Keeps one large model at a time on the accelerator; the small reward stays there."""
        super().enable_model_cpu_offload(gpu_id, device)
        self.pipeline.enable_model_cpu_offload(gpu_id, device)
        self.reward_model.load_backbone()
        self.reward_model.to(self._offload_device)

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """Keeps single layers on the accelerator: least memory, slowest."""
        super().enable_sequential_cpu_offload(gpu_id, device)
        self.pipeline.enable_sequential_cpu_offload(gpu_id, device)

    def enable_group_offload(self, *args: Any, **kwargs: Any) -> None:
        """As in diffusers, for the nested pipeline and the refiner."""
        excluded = kwargs.pop("exclude_modules", None) or []
        excluded = [excluded] if isinstance(excluded, str) else list(excluded)
        super().enable_group_offload(*args, exclude_modules=[*excluded, "reward_model"], **kwargs)
        self.pipeline.enable_group_offload(*args, exclude_modules=excluded, **kwargs)

    def remove_all_hooks(self) -> None:
        super().remove_all_hooks()
        self.pipeline.remove_all_hooks()

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Of the bar over rendered images; the nested pipeline's bars over steps are hidden unless set on it."""
        super().set_progress_bar_config(**kwargs)

    @property
    def interrupt(self) -> bool:
        """Set `pipe._interrupt = True`, say in `callback_on_candidate`, and the run ends after the round under way."""
        return self._interrupt

    # -- one run -----------------------------------------------------------------------------------------------------
    def check_inputs(self, prompt: Any, generator: Any, reward_prompt: str, rendering: Mapping[str, Any]) -> None:
        """Raises ValueError on a call that cannot work: the argument, its value, what is allowed."""
        if not isinstance(prompt, str) or not any(c.isalnum() for c in prompt):
            raise ValueError(f"prompt={prompt!r} must be one text that says what the image shows.")
        try:
            prompt.encode()
        except UnicodeEncodeError:
            raise ValueError(f"prompt={prompt!r} holds half a character (a lone surrogate); type it anew.") from None
        if generator is not None and not isinstance(generator, torch.Generator):
            raise ValueError(
                f"generator={type(generator).__name__}: pass one torch.Generator; image k of each prompt is rendered "
                "with its initial seed + k (num_seeds says how many)."
            )
        if reward_prompt not in REWARD_PROMPTS:
            raise ValueError(f"reward_prompt={reward_prompt!r} does not exist; there are {', '.join(REWARD_PROMPTS)}.")
        if taken := [k for k in rendering if k in ("prompt", "image", "output_type", "return_dict", "latents")]:
            raise ValueError(f"{taken[0]}= cannot be passed on: this pipeline sets it or cannot search with it.")
        known = inspect.signature(self.pipeline.__call__).parameters
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
            return
        if unknown := [k for k in rendering if k not in known]:
            usual = [k for k in ("num_inference_steps", "guidance_scale", "height", "width") if k in known]
            raise ValueError(
                f"{unknown[0]!r} is an argument neither of SearchConfig nor of {type(self.pipeline).__name__} "
                f"(which takes {', '.join(usual)}, …)."
            )

    @torch.no_grad()
    def __call__(
        self,
        prompt: str,
        user: Any = None,
        *,
        num_iterations: int = 5,
        num_candidates: int = 20,
        num_seeds: int = 1,
        strategy: str = "greedy",
        refiner: str | PromptRefiner | None = None,
        generator: torch.Generator | None = None,
        adherence: Callable[[Sequence[Image.Image], str], Sequence[float]] | None = None,
        judge: Any = None,
        reward_prompt: str = "candidate",
        demographics: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        scale: str | None = None,
        render_batch_size: int = 1,
        output: str | os.PathLike | None = None,
        callback_on_candidate: Callable[["PamelaPromptPipeline", int, dict[str, Any]], None] | None = None,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> PamelaPromptOutput | tuple:
        r"""Optimizes `prompt` for `user`.

        Args:
            prompt: one text.
            user: a trained participant's name, a head, or `None` = everyone's taste.
            num_iterations: rounds of variants, see [`SearchConfig`]; default: 5.
            num_candidates: prompts rendered a round, see [`SearchConfig`]; default: 20.
            num_seeds: images a prompt, see [`SearchConfig`]; default: 1.
            strategy: "greedy", "beam", "ucb" or "thompson", see [`SearchConfig`]; default: "greedy".
            refiner: a name of [`pamela_hf.refiners`] or an object with `propose`; default: the pipeline's own chat
                model if it has one, else "vocabulary".
            generator: its initial seed is the first image's; default: seed 0.
            adherence: `(images, prompt) → scores`, such as VQAScore; higher = the image shows more of the prompt.
                Default: [`pamela_hf.rewards.encoder_adherence`] with the reward's own encoder.
            judge: never optimized, only asked about winner and unoptimized images: `(images, prompts) → scores`,
                something with `score(images, prompts)` such as another `PamelaScorer`, or a head.
            reward_prompt: the text that an image is scored with: its own ("candidate"), the unoptimized one
                ("original"), or "none".
            demographics: of the person, see [`PamelaProcessor`].
            metadata: of the images.
            scale: rating scale of the scores; default: the model's `default_scale`.
            render_batch_size: prompts the nested pipeline renders at a time; a kill costs at most one such batch.
            output: folder for trace, images and report.html; the same call again resumes there.
            callback_on_candidate: called with pipeline, index and row of every image once it is scored.
            kwargs: further fields of [`SearchConfig`] (`adherence_floor`, `beam_width`, `max_images`, `max_seconds`,
                `patience`, …); all else goes to the nested pipeline: `num_inference_steps`, `guidance_scale`, `height`,
                `width`, …

        Returns:
            [`PamelaPromptOutput`].

        Raises:
            ValueError: bad arguments, a pipeline that returns no images, nothing but NaN rewards.
            TraceError: `output` holds something else, a run with other arguments, or one under way.
        """
        names = {f.name for f in fields(SearchConfig)}
        search_options = {k: kwargs.pop(k) for k in list(kwargs) if k in names - {"seed"}}
        rendering = {k: v for k, v in kwargs.items() if v is not None}
        self.check_inputs(prompt, generator, reward_prompt, rendering)
        if not isinstance(render_batch_size, int) or render_batch_size < 1:
            raise ValueError(f"render_batch_size={render_batch_size!r} must be an integer of at least 1.")
        config = SearchConfig(
            num_iterations=num_iterations,
            num_candidates=num_candidates,
            num_seeds=num_seeds,
            strategy=strategy,
            seed=0 if generator is None else generator.initial_seed() % 2**53,
            **search_options,
        )
        request = Request(prompt, user, reward_prompt, demographics, metadata, scale, adherence)
        self._check_request(request)
        judge, refiner = as_judge(judge, self.scorer), self._refiner(refiner)
        arguments = {
            **self._identify(request),
            **asdict(config),
            "refiner": getattr(refiner, "identity", _named(refiner)),
            "render_batch_size": render_batch_size,
            "rendering": {
                k: v if isinstance(v, (int, float, str, bool)) else _stable_text(v) for k, v in rendering.items()
            },
        }
        note = getattr(self.pipeline, "note", type(self.pipeline).__name__)
        folder = RunFolder(output, arguments, note) if output is not None else None
        self._interrupt = False
        run = CandidateImages(self, request, folder, rendering, render_batch_size)
        with folder or nullcontext(), run:
            result, baseline_judge = self._search(run, config, refiner, judge, callback_on_candidate)
            out = make_output(result, run, judge, baseline_judge)
            if folder is not None:
                levels = self.reward_model.config.rating_scales[scale or self.reward_model.config.default_scale]
                write_result(folder, arguments, user, result, out, note, (levels[0], levels[-1]))
        self.maybe_free_model_hooks()
        return out if return_dict else out.to_tuple()

    def _check_request(self, request: Request) -> None:
        """Raises ValueError for what cannot be scored, before anything is rendered."""
        user = request.user
        if user is not None and not isinstance(user, str) and not hasattr(user, "row"):
            raise ValueError(f"user={user!r} must be a trained participant's name, a head, or None = everyone's taste.")
        self.scorer.encode_people(1, user, request.demographics)
        self.processor.field_ids("metadata", request.metadata, 1)
        self.processor.scale_id(request.scale)

    def _identify(self, request: Request) -> dict[str, Any]:
        """What makes a run the one it is, for its run.json; of demographics only a hash."""
        demographics = request.demographics
        return {
            "prompt": request.prompt,
            "user": _named(request.user),
            "pipeline": _named(self.pipeline),
            "reward": _identity(self.reward_model),
            "reward_prompt": request.reward_prompt,
            "adherence": "encoder" if request.adherence is None else _named(request.adherence),
            "demographics": (
                hashlib.sha256(_stable_text(demographics).encode()).hexdigest()[:16] if demographics else None
            ),
            "metadata": request.metadata,
            "scale": request.scale,
        }

    def _search(
        self,
        run: CandidateImages,
        config: SearchConfig,
        refiner: PromptRefiner,
        judge: Callable | None,
        callback: Callable | None,
    ) -> tuple[SearchResult, list[float] | None]:
        """Runs the search; also what the judge says of the unoptimized prompt's images, asked as soon as they are there
        so that a judge that fails does so at once."""
        prompt, baseline_judge = run.request.prompt, None
        total = (1 + config.num_iterations * config.num_candidates) * config.num_seeds
        with self.progress_bar(total=min(total, config.max_images or total)) as bar:

            def on_row(index: int, row: dict[str, Any]) -> None:
                nonlocal baseline_judge
                bar.update()
                if judge is not None and index == config.num_seeds - 1:
                    baseline_judge = judge(run.images_of(prompt), [prompt] * config.num_seeds)
                if callback is not None:
                    callback(self, index, row)

            run.search = PromptSearch(
                prompt,
                config,
                refiner,
                run.evaluate,
                features=run.text_features,
                folder=run.folder,
                on_row=on_row,
                interrupted=lambda: self.interrupt,
            )
            return run.search.run(), baseline_judge

    @property
    def scorer(self) -> PamelaScorer:
        """Reward model and processor as one."""
        return PamelaScorer(self.reward_model, self.processor)

    def _refiner(self, refiner: str | PromptRefiner | None) -> PromptRefiner:
        if refiner is None:
            refiner = "vocabulary" if self.refiner_model is None else "transformers_chat"
        if not isinstance(refiner, str):
            return refiner
        if refiner == "transformers_chat" and self.refiner_model is not None:
            return load_refiner(refiner, model=self.refiner_model, tokenizer=self.refiner_tokenizer)
        return load_refiner(refiner)


def _named(thing: Any) -> Any:
    """What to call an argument in run.json, such that it differs from others; never a path of this machine."""
    if thing is None or isinstance(thing, str):
        return thing
    if isinstance(thing, DiffusionPipeline):
        source = str(thing.config.get("_name_or_path") or "")
        return f"{type(thing).__name__} {Path(source).name if Path(source).exists() else source}".strip()
    name = getattr(thing, "name", None) or getattr(thing, "__name__", type(thing).__name__)
    row = getattr(thing, "row", None)
    if row is not None:
        data = torch.as_tensor(row).detach().float().cpu().numpy().tobytes()
        name = f"{name} {hashlib.sha256(data).hexdigest()[:16]}"
    return name


def _stable_text(value: Any) -> str:
    """An argument as text that is the same in the next process: in a repr's place the order of a mapping is sorted and
    addresses go."""
    if isinstance(value, Mapping):
        value = dict(sorted(value.items(), key=lambda item: str(item[0])))
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _identity(model: PamelaRewardModel) -> str:
    rows = model.user_embedding.weight.detach().float().cpu().numpy().tobytes()
    return hashlib.sha256(model.base_identity().encode() + rows).hexdigest()[:16]
