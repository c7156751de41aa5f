"""Training of the reward with Accelerate: joint over sources, exactly resumable, the same on any number of processes
but for rounding and the network's own dropout, which each process draws for its share.

Every random choice is a function of (seed, epoch, step), never of what ran before, so a resumed run needs no saved
random state. A step's batch is laid out for all processes alike and each takes its share of people; losses are divided
by the whole batch's weight, so the sum of the shares is the batch.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tqdm.auto import tqdm

from ..embeddings import Embeddings, join_embeddings, load_embeddings
from ..encoder import check_encoder_folder
from ..files.writing import adding_files
from ..metrics import user_metrics
from ..model.configuration_pamela import LOCAL_ENCODER, PamelaConfig
from ..model.encoder_pamela import load_encoder, load_preprocessors
from ..model.factors_pamela import Ratings
from ..model.modeling_pamela import PamelaRewardModel
from ..model.processing_pamela import PamelaProcessor
from ..ratings.builder import load_ratings
from ..ratings.table import (
    DEMOGRAPHIC_FIELDS,
    METADATA_FIELDS,
    RATING_COLUMNS,
    SIDES,
    SPLITS,
    RatingData,
    join_ratings,
    standardized_scores,
)
from ..scoring import PamelaScorer, RatingArrays, choice_credit, encode_choices, encode_ratings
from .batches import TrainingRatings, epoch_batches, make_batch, row_penalty
from .checkpoints import CheckpointError, claimed_run, latest_checkpoint, rewind_log, write_checkpoint
from .choice_scores import choice_scores
from .config import TrainingConfig

NO_RATINGS = pd.DataFrame({c: pd.Series(dtype="float32" if c == "score" else "str") for c in RATING_COLUMNS})


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


def build_config(config: TrainingConfig, data: RatingData, embeddings: Embeddings) -> PamelaConfig:
    """The model's configuration: sizes from `config.model`, vocabularies from the train split alone."""
    off = set(config.without)
    ratings, choices = data.splits.get("train"), data.choices.get("train")

    def values_of(column: str) -> set[str]:
        found = set() if ratings is None else set(ratings[column].dropna().unique())
        columns = [column] if column not in METADATA_FIELDS else [f"{side}_{column}" for side in SIDES]
        return found.union(*(choices[c].dropna().unique() for c in columns)) if choices is not None else found

    def vocabulary(column: str) -> list[str]:
        return sorted(map(str, values_of(column)))

    def fields(kind: str, columns: Sequence[str]) -> dict[str, list[str]]:
        return {} if kind in off else {c: v for c in columns if len(v := vocabulary(c)) > 1}

    # where no training image has a prompt there is nothing to learn of prompts: the model takes none
    text = None if "prompt" in off else embeddings.text_embeds
    prompted = text is not None and text[embeddings.rows(sorted(_train_images(data)))].any()
    scales = data.level_values or {data.name: CHOICES_ALONE}
    values = {
        "backbone": embeddings.backbone,
        "backbone_revision": embeddings.revision,
        "preprocessing": embeddings.preprocessing,
        "image_embed_dim": embeddings.image_embeds.shape[1],
        "text_embed_dim": text.shape[1] if prompted else 0,
        "users": [] if "user" in off else vocabulary("participant_id"),
        "demographics": fields("demographics", DEMOGRAPHIC_FIELDS),
        "metadata": fields("metadata", METADATA_FIELDS),
        "rating_scales": {name: list(levels) for name, levels in scales.items()},
        "default_scale": next(iter(scales)),
        "choices": choices is not None,
        "releases": {prefix: release.known() for prefix, release in data.releases.items()} or None,
        **config.model,
    }
    if "multiplicative" in off:
        values["interaction_rank"] = 0
    if off & {"taste_factors", "user", "linear"}:
        values["taste_factors"] = 0
    if "linear" in off:
        values["linear_share"] = 0.0
    return PamelaConfig(**values)


CHOICES_ALONE = (1, 2, 3, 4, 5)  # levels of the scale that scores are given on where nobody rated


def _train_images(data: RatingData) -> set[str]:
    images = set(data.splits["train"]["image_id"].astype(str).unique()) if "train" in data.splits else set()
    if "train" in data.choices:
        images |= {i for side in SIDES for i in data.choices["train"][f"{side}_id"].astype(str).unique()}
    return images


@dataclass
class _Features:
    """Features of all images: `image (N, D)`, and of their prompts `text (N, Dt)`, or `None` for a model without."""

    image: torch.Tensor
    text: torch.Tensor | None

    def rows(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.image[index], None if self.text is None else self.text[index]

    def to(self, device: torch.device) -> "_Features":
        return _Features(self.image.to(device), None if self.text is None else self.text.to(device))


def build_optimizer(model: PamelaRewardModel, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; people's rows at their own rate; decay only where nothing else holds a matrix near its start."""
    groups: dict[str, list[torch.nn.Parameter]] = {"users": [], "matrices": [], "vectors": []}
    for name, parameter in model.named_parameters():
        if name.startswith("backbone."):
            continue
        if name.startswith(("user_embedding.", "unknown_stretch")):
            kind = "users"
        elif parameter.dim() == 1 or name.startswith(("style.", "cutpoints.")):
            kind = "vectors"
        else:
            kind = "matrices"
        groups[kind].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups["users"], "lr": config.user_learning_rate, "weight_decay": 0.0},
            {"params": groups["matrices"], "lr": config.learning_rate, "weight_decay": config.weight_decay},
            {"params": groups["vectors"], "lr": config.learning_rate, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )


def cosine_with_warmup(step: int, total: int, warmup_fraction: float) -> float:
    """Factor of the learning rate at `step` of `total`."""
    done = step / max(total, 1)
    return min(1.0, done / warmup_fraction if warmup_fraction else 1.0) * 0.5 * (1 + math.cos(math.pi * done))


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
        run = _start(config, data, embeddings, accelerator, output, keep_backbone=encoder is not None)
        if resume:
            run.resume()
        if config.log_with:
            accelerator.init_trackers("pamela", config=_flat(dataclasses.asdict(config)))
        run.epochs(data, embeddings, progress)
        trained = accelerator.unwrap_model(run.best_model()).cpu().eval()
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            save_model(trained, output, encoder)
        if config.log_with:
            accelerator.end_training()
        return trained


def _start(
    config: TrainingConfig,
    data: RatingData,
    embeddings: Embeddings,
    accelerator: Accelerator,
    output: Path,
    *,
    keep_backbone: bool,
) -> "_Run":
    """A run before its first step. `keep_backbone`: an encoder that has no home on the Hub is at hand."""
    torch.manual_seed(config.seed)
    model_config = build_config(config, data, embeddings)
    if embeddings.backbone == LOCAL_ENCODER and not keep_backbone:
        model_config.backbone = None  # the model takes embeddings only
    model = PamelaRewardModel(model_config)
    answers = _answers(config, data, model_config, embeddings)
    _check_labels(answers.arrays, data)
    has_text = embeddings.text_embeds is not None and model_config.text_embed_dim > 0
    features = _Features(
        torch.from_numpy(embeddings.image_embeds), torch.from_numpy(embeddings.text_embeds) if has_text else None
    )
    _fit_closed_forms(model, data.splits.get("train"), answers, features, config.seed)
    model, optimizer = accelerator.prepare(model, build_optimizer(model, config))
    return _Run(config, accelerator, model, optimizer, answers, features.to(accelerator.device), output)


def _answers(
    config: TrainingConfig, data: RatingData, model_config: PamelaConfig, embeddings: Embeddings
) -> TrainingRatings:
    """Ratings and choices of train as a model's row numbers, with what each counts."""
    table, choices = data.splits.get("train"), data.choices.get("train")
    arrays = encode_ratings(NO_RATINGS if table is None else table, model_config, embeddings)
    weights = [_weights(data, config)]
    encoded = None
    if choices is not None:
        encoded = encode_choices(choices, model_config, embeddings)
        weights.append(_choice_weights(data, config))
    answers = TrainingRatings(arrays, np.concatenate(weights), None, encoded)
    answers.penalty = row_penalty(answers.user_ids, config.row_prior_std)
    return answers


def _check(
    config: TrainingConfig, data: RatingData, embeddings: Embeddings, encoder: str | os.PathLike | None
) -> None:
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


def _weights(data: RatingData, config: TrainingConfig) -> np.ndarray:
    """`(n,)` weight of each training rating in the loss: its scale's or source's."""
    if "train" not in data.splits:
        return np.zeros(0, np.float32)
    weights = config.source_weights

    def weight(scale: str) -> float:
        return weights.get(scale, weights.get(scale.partition("/")[0] if data.sources else data.name, 1.0))

    return data.splits["train"]["rating_scale"].astype(str).map(weight).to_numpy(np.float32)


def _choice_weights(data: RatingData, config: TrainingConfig) -> np.ndarray:
    """`(m,)` weight of each training choice in the loss."""
    people = data.choices["train"]["participant_id"].astype(str)
    sources = people.str.partition("/")[0] if data.sources else people.map(lambda person: data.name)
    weights = sources.map(lambda source: config.source_weights.get(source, 1.0)).to_numpy(np.float32)
    return weights * np.float32(config.choice_weight)


def _fit_closed_forms(
    model: PamelaRewardModel, train: pd.DataFrame | None, answers: TrainingRatings, features: _Features, seed: int
) -> None:
    """What of the model is not learned by steps: feature scales, linear taste, where people's cutpoints start and how
    likely a tie is."""
    used, metadata_ids = answers.images()
    images = features.rows(torch.from_numpy(used))
    informative = _informative_answers(train, answers, used, images)
    tastes = model.features.fit(*images, informative, torch.from_numpy(metadata_ids), seed)
    if tastes is not None:
        model.set_tastes(tastes)
    for i, scale in enumerate(model.config.rating_scales):
        model.fit_cutpoints(scale, torch.from_numpy(answers.arrays.labels[answers.arrays.scale_ids == i]))
    if answers.choices is not None:
        ties = (answers.choices.ties.sum() + 0.5) / (len(answers.choices) + 1)
        with torch.no_grad():
            model.choice_link[1] = math.log(2 * ties / (1 - ties))  # of two equal images


def _informative_answers(
    train: pd.DataFrame | None,
    answers: TrainingRatings,
    used: np.ndarray,
    images: tuple[torch.Tensor, torch.Tensor | None],
) -> Ratings:
    """The ratings that say which image is better (not those of people whose ratings are all equal), of the images
    `used`, by people in the order of their rows; and what choices say of single images."""
    arrays, choices = answers.arrays, answers.choices
    value = np.zeros(0) if train is None else standardized_scores(train).to_numpy()
    kept = np.isfinite(value)
    person, image, value = arrays.user_ids[kept], np.searchsorted(used, arrays.image_rows[kept]), value[kept]
    if choices is not None:
        both = np.hstack([part.numpy() for part in images if part is not None])
        pairs = np.searchsorted(used, choices.image_rows)
        scores = choice_scores(both, pairs, choices.ties, choices.user_ids)
        person, image = np.concatenate([person, scores.person]), np.concatenate([image, scores.image])
        value = np.concatenate([value, scores.value])
    person = np.maximum(person - 1, 0)  # all are one person where the model has no participants
    people = max(answers.user_ids.max(), 1)
    return Ratings(*(torch.from_numpy(a) for a in (person, image, value)), people)


class _Run:
    """The state of one run: where it is, and how to take a step."""

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        ratings: TrainingRatings,
        features: _Features,
        output: Path,
    ):
        self.config, self.accelerator, self.model, self.optimizer = config, accelerator, model, optimizer
        self.ratings, self.features, self.output = ratings, features, output
        self.steps_per_epoch = len(epoch_batches(ratings.arrays, config, 0, ratings.choices))
        self.step = 0
        self.best: dict[str, Any] = {"value": -math.inf, "epoch": -1, "state": None}
        self.base_rates = [group["lr"] for group in optimizer.param_groups]

    @property
    def total(self) -> int:
        return self.steps_per_epoch * self.config.epochs

    def epochs(self, data: RatingData, embeddings: Embeddings, progress: bool) -> None:
        config, accelerator = self.config, self.accelerator
        watched = [s for s in SPLITS if s.startswith("val_") and (s in data.splits or s in data.choices)]
        bar = tqdm(
            total=self.total,
            initial=self.step,
            desc="training",
            unit="step",
            disable=not (progress and accelerator.is_main_process),
        )
        shown: dict[str, float] = {}
        while self.step < self.total and not self.stopped():
            epoch, first = divmod(self.step, self.steps_per_epoch)
            for step, parts in enumerate(epoch_batches(self.ratings.arrays, config, epoch, self.ratings.choices)):
                if step < first:
                    continue
                loss = self.take_step(parts, epoch, step)
                bar.update()
                if self.step % 20 == 0 or self.step == self.total:
                    shown["loss"] = round(loss, 4)
                    bar.set_postfix(shown)
                    self.log({"loss": loss, "learning_rate": self.optimizer.param_groups[1]["lr"]}, epoch)
                at_end = self.step % self.steps_per_epoch == 0
                if at_end:
                    self.match_linear()
                if at_end and watched:
                    metrics = self.validate(watched, data, embeddings)
                    shown.update({k.replace("/user_srocc", ""): round(v, 4) for k, v in metrics.items()})
                    bar.set_postfix(shown)
                    self.log(metrics, epoch)
                    self.keep_best(metrics, epoch)
                if at_end if not config.checkpoint_every else self.step % config.checkpoint_every == 0:
                    self.checkpoint()
        bar.close()

    def stopped(self) -> bool:
        """Whether early stopping ended the run with the last whole epoch; a resumed run may find that it did."""
        last = self.step // self.steps_per_epoch - 1
        return self.config.early_stopping is not None and last - self.best["epoch"] >= self.config.patience

    def take_step(self, parts: list[np.ndarray], epoch: int, step: int) -> float:
        config, accelerator = self.config, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        batch = make_batch(self.ratings, parts, config, (epoch, step), rank, world)
        # dropout inside the network is a function of seed, step and process too
        torch.manual_seed(int(np.random.SeedSequence([config.seed, self.step, rank]).generate_state(1)[0]))
        factor = cosine_with_warmup(self.step, self.total, config.warmup_fraction)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates):
            group["lr"] = rate * factor
        rows = batch.pop("image_rows").to(accelerator.device)
        normalizers = tuple(n.to(accelerator.device) for n in batch.pop("loss_normalizers"))
        choices = batch.pop("choices", None)
        batch = {k: v.to(accelerator.device) for k, v in batch.items() if v is not None}
        self.model.train()
        with accelerator.autocast():
            out = self.model(
                *self.features.rows(rows),
                **batch,
                pairwise_weight=0.0 if "pairwise" in config.without else config.pairwise_weight,
                squared_error="ordinal" in config.without,
                loss_normalizers=normalizers,
                choices=None if choices is None else choices.to(accelerator.device),
            )
        # the processes' gradients are averaged; the shares of a batch are to be added
        loss = out.loss * world
        total = accelerator.reduce(out.loss.detach(), "sum")
        if not torch.isfinite(total):
            people = sorted(set(self.ratings.user_ids[np.concatenate(parts)].tolist()))
            raise FloatingPointError(
                f"The loss is {float(total)} at step {self.step} (epoch {epoch}, batch {step}; rows of its people: "
                f"{people[:8]}…). No weight was changed by it. Lower learning_rate, or look for extreme embeddings."
            )
        accelerator.backward(loss)
        if config.max_grad_norm:
            accelerator.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self.centre_rows()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return float(total)

    @torch.no_grad()
    def centre_rows(self) -> None:
        """Row 0 is the mean person: what all rows have in common belongs into the network."""
        rows = self.accelerator.unwrap_model(self.model).user_embedding.weight
        if len(rows) > 1:
            rows[1:] -= rows[1:].mean(0)

    def match_linear(self) -> None:
        rows = torch.from_numpy(self.ratings.images()[0]).to(self.accelerator.device)
        self.accelerator.unwrap_model(self.model).match_linear(*self.features.rows(rows))

    def validate(self, watched: Sequence[str], data: RatingData, embeddings: Embeddings) -> dict[str, float]:
        """`user_srocc` of watched splits' ratings, `choice_accuracy` of their choices, both as means over people."""
        scorer = PamelaScorer(self.accelerator.unwrap_model(self.model))
        metrics = {}
        for split in watched:
            if split in data.splits:
                table = data.splits[split]
                predicted = scorer.predict(table, embeddings)
                found = user_metrics(predicted.scores, table["score"].to_numpy(), table["participant_id"].astype(str))
                metrics[f"{split}/user_srocc"] = found.mean("user_srocc")
            if split in data.choices:
                table = data.choices[split]
                right = choice_credit(scorer.predict_choices(table, embeddings), table["tie"].to_numpy())
                people = pd.Series(right).groupby(table["participant_id"].astype(str).to_numpy()).mean()
                metrics[f"{split}/choice_accuracy"] = float(people.mean())
        return metrics

    def keep_best(self, metrics: Mapping[str, float], epoch: int) -> None:
        name = self.config.early_stopping
        if name is None:
            return
        if name not in metrics:
            raise ValueError(f"early_stopping={name!r} is not measured in this run; there are {sorted(metrics)}.")
        if metrics[name] > self.best["value"]:  # NaN is never better
            state = {k: v.detach().clone() for k, v in self.accelerator.unwrap_model(self.model).state_dict().items()}
            self.best = {"value": metrics[name], "epoch": epoch, "state": state}

    def best_model(self) -> torch.nn.Module:
        if self.best["state"] is not None:
            self.accelerator.unwrap_model(self.model).load_state_dict(self.best["state"])
        return self.model

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        if not self.accelerator.is_main_process:
            return
        with open(self.output / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step, "epoch": epoch, **values}) + "\n")
        if self.config.log_with:
            self.accelerator.log(dict(values), step=self.step)

    def checkpoint(self) -> None:
        state = {"step": self.step, "best": {k: self.best[k] for k in ("value", "epoch")}}
        write_checkpoint(
            self.output / "checkpoints", self.accelerator, state, self.best["state"], self.config.keep_checkpoints
        )

    def resume(self) -> None:
        found = latest_checkpoint(self.output / "checkpoints")
        if found is not None:
            if found.state["step"] > self.total:
                raise CheckpointError(f"{found.path} is beyond this run's last step, {self.total}. Remove it.")
            self.accelerator.load_state(str(found.path / "state"))
            self.step = found.state["step"]
            self.best = {**found.state["best"], "state": found.best_state}
        if self.accelerator.is_main_process:
            rewind_log(self.output / "metrics.jsonl", self.step)


def _check_labels(arrays: RatingArrays, data: RatingData) -> None:
    bad = np.flatnonzero(arrays.labels < 0)
    if len(bad):
        row = data.splits["train"].iloc[int(bad[0])]
        levels = data.level_values[str(row["rating_scale"])]
        raise ValueError(
            f"train row {int(bad[0]) + 1}: score {row['score']} is not a level of scale {row['rating_scale']!r} "
            f"({levels[0]}..{levels[-1]}). Prepare the ratings again with the right scale."
        )


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
