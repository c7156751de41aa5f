"""A saved `PamelaPromptPipeline` on the Hub: renderer, reward and chat model in one repository that diffusers loads.

`DiffusionPipeline.from_pretrained(repo, trust_remote_code=True)` works with this package and without it: see
[`pamela_hf.publishing.pipeline_entry`]. With it, `PamelaPromptPipeline.from_pretrained(repo)` needs no flag.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ..files.writing import scratch_folder
from ..hub.cards import DATASET_TEMPLATE, MODEL_TEMPLATES, card_template
from ..hub.transfer import REFUSED_SUFFIXES, HubError, PushResult, check_links
from ..model.modeling_pamela import PamelaRewardModel
from ..model.processing_pamela import PamelaProcessor
from ..prompts.pipeline_pamela import OWN_MODULES
from .cards import pipeline_card
from .pipeline_entry import CODE
from .pseudonyms import Pseudonyms
from .repositories import MODEL_FILES, forget_places, link_or_copy, make_publishable, push_staged

ENTRY = "pipeline_entry"  # the module that model_index.json names
INDEX = "model_index.json"
PACKAGE = Path(__file__).parents[1]
TEMPLATES = (*MODEL_TEMPLATES, DATASET_TEMPLATE)
_COPIED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")  # of a renderer's or a chat model's folder
PIPELINE_FILES = (
    "README.md", INDEX, f"{ENTRY}.py", f"{CODE}/*.py", f"{CODE}/*/*.py", f"{CODE}/*/*/*.py",
    *(f"{CODE}/{name}" for name in TEMPLATES),
    f"pipeline/{INDEX}", f"pipeline/{ENTRY}.py", *(f"pipeline/*/{pattern}" for pattern in _COPIED),
    *(f"{part}/{pattern}" for part in ("refiner_model", "refiner_tokenizer") for pattern in _COPIED),
    *(f"reward_model/{pattern}" for pattern in MODEL_FILES),
    "processor/config.json", "processor/processor_config.json", "processor/*.py",
    "processor/encoder/*.json", "processor/encoder/tokenizer.model",
)  # fmt: skip


def push_pipeline(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool = True,
    dry_run: bool = False,
    token: str | None = None,
    license: str | None = None,
    keep_ids: bool = False,
    pseudonyms: Pseudonyms | None = None,
) -> PushResult:
    """Pushes a saved pipeline: renderer and chat model as they are, the reward as [`publishing.push_model`] does.

    Args:
        folder: what `PamelaPromptPipeline.save_pretrained` wrote.
        repo_id: `owner/name`, as in [`pamela_hf.hub.transfer.push_folder`].
        private: a new repository is private (default), as in [`pamela_hf.hub.transfer.push_folder`].
        dry_run: collect and scan, but send no request, as in [`pamela_hf.hub.transfer.push_folder`]; default False.
        token: access token, as in [`pamela_hf.hub.transfer.push_folder`].
        license: as the Hub writes it, of the whole, the renderer's weights included; default: "other".
        keep_ids: publish one's own raters under the names they have, as in [`publishing.push_model`]; default False.
        pseudonyms: the mapping of one's own raters, as in [`publishing.push_model`].

    Raises:
        HubError: no saved pipeline, pickles in it or links out of it; and what `push_model` raises.
    """
    folder = Path(folder)
    index = _index(folder)
    files = [file for file in folder.rglob("*") if file.is_symlink() or not file.is_dir()]
    check_links(folder, [file.relative_to(folder).as_posix() for file in files])
    for file in files:
        if file.suffix.lower() in REFUSED_SUFFIXES:
            raise HubError(
                f"{file.relative_to(folder)}: {file.suffix} files can run code when loaded. Save the pipeline anew: "
                "pipe.save_pretrained(DIR, safe_serialization=True)."
            )
    model = PamelaRewardModel.from_pretrained(folder / "reward_model")
    processor = PamelaProcessor.from_pretrained(folder / "processor")
    people = make_publishable(model, processor, token, dry_run, keep_ids, license, pseudonyms)
    with scratch_folder("pamela-pipeline") as staged:
        for part in ("pipeline", "refiner_model", "refiner_tokenizer"):
            _copy(folder / part, staged / part)
        model.save_pretrained(staged / "reward_model")
        processor.save_pretrained(staged / "processor")
        for file in PACKAGE.rglob("*.py"):
            target = staged / CODE / file.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        for name in TEMPLATES:  # a head that is saved with this copy needs its card
            target = staged / CODE / name
            target.parent.mkdir(exist_ok=True)
            target.write_text(card_template(name), encoding="utf-8")
        own = [part for part, named in index.items() if isinstance(named, list) and named[1] in OWN_MODULES]
        for part in ("", *own):
            shutil.copyfile(Path(__file__).with_name(f"{ENTRY}.py"), staged / part / f"{ENTRY}.py")
        index |= {part: [ENTRY, index[part][1]] for part in own}
        index |= {"_class_name": [ENTRY, "PamelaPromptPipeline"], CODE: [None, None]}
        (staged / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        forget_places(staged)
        renderer = json.loads((staged / "pipeline" / INDEX).read_text(encoding="utf-8"))["_class_name"]
        card = pipeline_card(model.config, repo_id, license=license or "other", renderer=renderer, index=index)
        return push_staged(
            staged, repo_id, card, people, allow=PIPELINE_FILES, private=private, dry_run=dry_run, token=token
        )


def _index(folder: Path) -> dict[str, Any]:
    """model_index.json of a saved `PamelaPromptPipeline`."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        name = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = None
    if (name[-1] if isinstance(name, list) else name) != "PamelaPromptPipeline":
        raise HubError(f"{folder} holds no PamelaPromptPipeline. Make one with pipe.save_pretrained(DIR).")
    return index


def _copy(source: Path, target: Path) -> None:
    """A folder's files; weights, which nothing here changes, as the same file under another name."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        (link_or_copy if file.suffix == ".safetensors" else shutil.copyfile)(file, place)
