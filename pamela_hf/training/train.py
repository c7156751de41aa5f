"""Training of the reward with Accelerate: joint over sources, resumable, the same on any number of processes.

But for rounding, and the network's own dropout, which each process draws for its share.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ..embeddings import Embeddings, join_embeddings, load_embeddings
from ..encoder import check_encoder_folder
from ..files.writing import adding_files
from ..model.configuration_pamela import LOCAL_ENCODER
from ..model.encoder_pamela import load_encoder, load_preprocessors
from ..model.modeling_pamela import PamelaRewardModel
from ..model.processing_pamela import PamelaProcessor
from ..ratings.builder import load_ratings
from ..ratings.table import RatingData, join_ratings
from .checkpoints import claimed_run
from .config import TrainingConfig
from .run import start
from .settings import settle


def load_sources(data: Sequence[str | os.PathLike], **options: Any) -> tuple[RatingData, Embeddings]:
    """Ratings and features of one or several sources, each a folder, file or Hub id, or `NAME=` one of these.

    Joined sources keep their own rating scales; their ids become `source/id`.

    Raises:
        FileNotFoundError: a source has no embeddings.safetensors (`pamela embed` makes it).
    """
    loaded: list[RatingData] = []
    for item in map(str, data):
        name, equals, rest = item.partition("=")
        path, name = (rest, name) if equals and not Path(item).exists() else (item, None)
        loaded.append(load_ratings(path, name=name, **options))
    features = {}
    for source in loaded:
        if source.embeddings is None:
            raise FileNotFoundError(
                f"{source.name!r} has no embeddings.safetensors. Make it once: pamela embed --data FOLDER"
            )
        features[source.name] = load_embeddings(source.embeddings)
    if len(loaded) == 1:
        return loaded[0], features[loaded[0].name]
    return join_ratings(loaded), join_embeddings(features)


def train(
    config: TrainingConfig,
    data: RatingData,
    embeddings: Embeddings,
    output: str | os.PathLike,
    *,
    encoder: str | os.PathLike | None = None,
    resume: bool = False,
    progress: bool = True,
) -> PamelaRewardModel:
    """Trains a reward and writes it to `output` as a `from_pretrained` folder, with `metrics.jsonl` and checkpoints.

    Args:
        config: what to do.
        data: ratings, choices or both with a `train` split; `val_*` are watched where present, `test_*` never touched.
        embeddings: features of every rated image.
        encoder: a local folder holding the encoder that made the features; it is copied to `output/encoder`.
        resume: go on from the newest whole checkpoint in `output`.

    Returns:
        The trained model, in eval mode, on the CPU.

    Raises:
        FileExistsError: `output` holds a model, or a run that `resume` would go on with.
        InUseError: another run is at work in `output`.
        WriteError: the disk is full or read-only; the checkpoints that are there are whole.
        FloatingPointError: a loss that is not finite; nothing was updated with it.
        ValueError: no train split, ratings that are not levels of their scale, features of another encoder than
            `encoder` or the configuration's, a weight for a source that is not there.
    """
    output = Path(output)
    _check(config, data, embeddings, encoder)
    AcceleratorState._reset_state()  # an earlier run in this process may have used another precision
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        log_with=config.log_with,
        project_dir=str(output),
    )
    with claimed_run(output, dataclasses.asdict(config), resume, accelerator):
        config, chosen = settle(config, data, embeddings, accelerator, output, resume, progress)
        run = start(config, data, embeddings, accelerator, output, keep_backbone=encoder is not None)
        accelerator.unwrap_model(run.model).config.chosen = chosen or None
        if resume:
            run.resume()
        if config.log_with:
            accelerator.init_trackers("pamela", config=_flat(dataclasses.asdict(config)))
        if chosen and not run.step:
            run.log({f"chosen/{name}": choice["value"] for name, choice in chosen.items()}, 0)
        run.epochs(data, embeddings, progress)
        trained = accelerator.unwrap_model(run.best_model()).cpu().eval()
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            save_model(trained, output, encoder)
        if config.log_with:
            accelerator.end_training()
        return trained


def _check(config: TrainingConfig, data: RatingData, embeddings: Embeddings, encoder: str | os.PathLike | None) -> None:
    """Raises ValueError where ratings, features and configuration do not belong together."""
    if not any(len(tables.get("train", ())) for tables in (data.splits, data.choices)):
        there = sorted({*data.splits, *data.choices})
        raise ValueError(f"{data.name!r} has no train split (it has {there}); nothing to learn from.")
    known = list(dict.fromkeys([*data.level_values, *(data.sources or [data.name])]))
    if unknown := set(config.source_weights) - set(known):
        raise ValueError(f"source_weights names {sorted(unknown)[0]!r}; the sources are {known}.")
    if config.encoder and embeddings.backbone and config.encoder != embeddings.backbone:
        raise ValueError(
            f"The features were made by {embeddings.backbone!r}; the configuration says encoder={config.encoder!r}. "
            "Embed with that one (pamela embed --config YAML), or leave `encoder` out."
        )
    if encoder is None:
        return
    if embeddings.backbone != LOCAL_ENCODER:
        made = f"by {embeddings.backbone!r}" if embeddings.backbone else "elsewhere, by an encoder they do not name"
        raise ValueError(
            f"encoder={str(encoder)!r}: the features were made {made}. A folder goes with features that were made "
            "with a folder (pamela embed --encoder FOLDER); leave it out."
        )
    check_encoder_folder(encoder, embeddings)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            out.update(_flat(value, f"{prefix}{key}."))
        else:
            out[prefix + key] = value if isinstance(value, (int, float, str, bool)) else str(value)
    return out


def save_model(model: PamelaRewardModel, output: str | os.PathLike, encoder: str | os.PathLike | None = None) -> None:
    """Writes model and processor into `output`, each file whole, `config.json` last: without it nothing loads."""
    model.config.base_identity = None  # these are new weights
    preprocessors: tuple[Any, ...] = ()
    if encoder is not None and model.config.backbone == LOCAL_ENCODER:
        model.set_backbone(load_encoder(str(encoder)))
        preprocessors = load_preprocessors(str(encoder))
    with adding_files(output, last="config.json") as staged:
        model.save_pretrained(staged)
        PamelaProcessor(model.config, *preprocessors).save_pretrained(staged)
