"""A training run before and while it takes steps: its model, its answers and features, the loop over epochs.

Every random choice is a function of (seed, epoch, step), never of what ran before, so a resumed run needs no saved
random state. A step's batch is laid out for all processes alike and each takes its share of people; losses are divided
by the whole batch's weight, so the sum of the shares is the batch.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from ..embeddings import Embeddings
from ..metrics import user_metrics
from ..model.configuration_pamela import LOCAL_ENCODER, PamelaConfig
from ..model.factors_pamela import Ratings
from ..model.modeling_pamela import PamelaRewardModel
from ..ratings.table import (
    DEMOGRAPHIC_FIELDS,
    METADATA_FIELDS,
    RATING_COLUMNS,
    SIDES,
    SPLITS,
    RatingData,
    standardized_scores,
)
from ..scoring import PamelaScorer, RatingArrays, choice_credit, encode_choices, encode_ratings
from .batches import TrainingRatings, epoch_batches, make_batch, row_penalty
from .checkpoints import CheckpointError, latest_checkpoint, rewind_log, write_checkpoint
from .choice_scores import choice_scores
from .config import AUTO, TrainingConfig

NO_RATINGS = pd.DataFrame({c: pd.Series(dtype="float32" if c == "score" else "str") for c in RATING_COLUMNS})


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
        **{name: value for name, value in config.model.items() if value != AUTO},
    }
    if "multiplicative" in off:
        values["interaction_rank"] = 0
    if off & {"taste_factors", "user", "linear"}:
        values["taste_factors"] = values["taste_axes"] = 0
    if "linear" in off:
        values["linear_share"] = values["taste_share"] = 0.0
    return PamelaConfig(**values)


CHOICES_ALONE = (1, 2, 3, 4, 5)  # levels of the scale that scores are given on where nobody rated


def _train_images(data: RatingData) -> set[str]:
    images = set(data.splits["train"]["image_id"].astype(str).unique()) if "train" in data.splits else set()
    if "train" in data.choices:
        images |= {i for side in SIDES for i in data.choices["train"][f"{side}_id"].astype(str).unique()}
    return images


@dataclass
class Features:
    """Features of all images: `image (N, D)`, and of their prompts `text (N, Dt)`, or `None` for a model without."""

    image: torch.Tensor
    text: torch.Tensor | None

    def rows(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.image[index], None if self.text is None else self.text[index]

    def to(self, device: torch.device) -> "Features":
        return Features(self.image.to(device), None if self.text is None else self.text.to(device))


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
        fused=True,  # hundreds of small tensors: one by one, the step took a tenth of the training
    )


def cosine_with_warmup(step: int, total: int, warmup_fraction: float) -> float:
    """Factor of the learning rate at `step` of `total`."""
    done = step / max(total, 1)
    return min(1.0, done / warmup_fraction if warmup_fraction else 1.0) * 0.5 * (1 + math.cos(math.pi * done))


def all_features(embeddings: Embeddings, model_config: PamelaConfig) -> "Features":
    has_text = embeddings.text_embeds is not None and model_config.text_embed_dim > 0
    return Features(
        torch.from_numpy(embeddings.image_embeds), torch.from_numpy(embeddings.text_embeds) if has_text else None
    )


def start(
    config: TrainingConfig,
    data: RatingData,
    embeddings: Embeddings,
    accelerator: Accelerator,
    output: Path,
    *,
    keep_backbone: bool,
) -> "Run":
    """A run before its first step. `keep_backbone`: an encoder that has no home on the Hub is at hand."""
    torch.manual_seed(config.seed)
    model_config = build_config(config, data, embeddings)
    if embeddings.backbone == LOCAL_ENCODER and not keep_backbone:
        model_config.backbone = None  # the model takes embeddings only
    model = PamelaRewardModel(model_config)
    answers = training_answers(config, data, model_config, embeddings)
    _check_labels(answers.arrays, data)
    features = all_features(embeddings, model_config)
    _fit_closed_forms(model, data.splits.get("train"), answers, features, config.seed)
    model, optimizer = accelerator.prepare(model, build_optimizer(model, config))
    return Run(config, accelerator, model, optimizer, answers, features.to(accelerator.device), output)


def training_answers(
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
    model: PamelaRewardModel, train: pd.DataFrame | None, answers: TrainingRatings, features: Features, seed: int
) -> None:
    """What of the model is not learned by steps: feature scales, linear taste, where people's cutpoints start and how
    likely a tie is."""
    used, metadata_ids = answers.images()
    images = features.rows(torch.from_numpy(used))
    informative = informative_answers(train, answers, used, images)
    tastes = model.features.fit(*images, informative, torch.from_numpy(metadata_ids), seed)
    if tastes is not None:
        model.set_tastes(tastes)
    for i, scale in enumerate(model.config.rating_scales):
        model.fit_cutpoints(scale, torch.from_numpy(answers.arrays.labels[answers.arrays.scale_ids == i]))
    if answers.choices is not None:
        ties = (answers.choices.ties.sum() + 0.5) / (len(answers.choices) + 1)
        with torch.no_grad():
            model.choice_link[1] = math.log(2 * ties / (1 - ties))  # of two equal images


def informative_answers(
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


class Run:
    """The state of one run: where it is, and how to take a step."""

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        ratings: TrainingRatings,
        features: Features,
        output: Path,
    ):
        self.config, self.accelerator, self.model, self.optimizer = config, accelerator, model, optimizer
        self.ratings, self.features, self.output = ratings, features, output
        self.steps_per_epoch = len(epoch_batches(ratings.arrays, config, 0, ratings.choices))
        self.step, self.piloted = 0, 0
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

    def pilot(self, epochs: int, progress: bool) -> None:
        """So many epochs more, a run of their own with the weights that are there (Loshchilov & Hutter 2017, *SGDR*:
        warm restarts), without watching, logging or keeping anything."""
        self.config, self.step = dataclasses.replace(self.config, epochs=epochs), 0
        bar = tqdm(total=self.total, desc="pilot", unit="step", leave=False, disable=not progress)
        for epoch in range(self.piloted, self.piloted + epochs):
            for step, parts in enumerate(epoch_batches(self.ratings.arrays, self.config, epoch, self.ratings.choices)):
                self.take_step(parts, epoch, step)
                bar.update()
            self.match_linear()
        bar.close()
        self.piloted += epochs

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
            # without a checkpoint all happens again, what was chosen before the first step too
            rewind_log(self.output / "metrics.jsonl", self.step if self.step else -1)


def _check_labels(arrays: RatingArrays, data: RatingData) -> None:
    bad = np.flatnonzero(arrays.labels < 0)
    if len(bad):
        row = data.splits["train"].iloc[int(bad[0])]
        levels = data.level_values[str(row["rating_scale"])]
        raise ValueError(
            f"train row {int(bad[0]) + 1}: score {row['score']} is not a level of scale {row['rating_scale']!r} "
            f"({levels[0]}..{levels[-1]}). Prepare the ratings again with the right scale."
        )
