"""What a training run does: `TrainingConfig`, read from YAML and `key=value`."""

import dataclasses
import difflib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files.config import ParseError, read_yaml
from ..model.configuration_pamela import PamelaConfig

AUTO = "auto"
"""In place of a number: training chooses, see [`pamela_hf.training.settings`]."""
CHOSEN = ("text_share", "metadata_share", "linear_share", "taste_share", "taste_factors", "factor_penalty")
"""Fields of [`PamelaConfig`] that training chooses unless a number is given."""
PIECES = (
    "user", "demographics", "metadata", "prompt", "multiplicative", "taste_factors", "linear", "pairwise", "ordinal",
)  # fmt: skip


@dataclass
class Choice:
    """A chosen `value`, and between which values (`low`, `high`) the choice was as good."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {name: round(float(value), 4) for name, value in dataclasses.asdict(self).items()}


@dataclass
class TrainingConfig:
    """What a training run does; every field is a key of the YAML file and of `key=value` on the command line.

    Attributes:
        encoder: Hub id of the frozen encoder: `pamela embed --config` uses it and training refuses features of another;
            `null` = whatever made the features.
        epochs: passes over the ratings; "auto" = 4, up to 16 where there are too few ratings for 320 steps, and up to
            64 where 16 are no more than that and images that a pilot has not seen ask for it.
        users_per_batch: people in a step.
        images_per_user: ratings of each of these people, at most.
        learning_rate: of the network, cosine schedule after `warmup_fraction` of the steps.
        user_learning_rate: of the people's rows.
        warmup_fraction: share of the steps in which the learning rates rise from 0, 0..1.
        weight_decay: AdamW's, of the matrices; 0 = off.
        row_prior_std: standard deviation of the Gaussian prior that holds people's rows near 0, everyone's taste;
            "auto" = as far as the ratings say that people differ, `null` = off.
        max_grad_norm: gradients are clipped to this norm; 0 = off.
        pairwise_weight: λ of the within-person pairwise loss; 0 = off.
        user_dropout: how often the user is replaced by "unknown" in training, so that it may be missing later;
            0 = never.
        demographics_dropout: how often the demographics are replaced by "unknown" in training, so that they may be
            missing later; 0 = never.
        metadata_dropout: how often the metadata is replaced by "unknown" in training, so that it may be missing later;
            0 = never.
        prompt_dropout: how often the prompt is replaced by "unknown" in training, so that it may be missing later;
            0 = never.
        source_weights: source name → weight of its answers in the loss, above 0 (default 1). Ratings of a source with
            several scales go by scale, `source/scale`.
        choice_weight: weight of a choice in the loss, beside a rating's 1, on top of its source's.
        without: pieces switched off by name, for ablations: user, demographics, metadata, prompt, multiplicative,
            taste_factors, linear, pairwise, ordinal (squared error in its place).
        early_stopping: a metric such as `val_seen/user_srocc`; the best epoch's model is kept and training stops
            after `patience` epochs without a better one. `null` = off, the last model is kept.
        patience: epochs without a better one after which `early_stopping` stops the training.
        checkpoint_every: steps between checkpoints; 0 = once an epoch.
        keep_checkpoints: how many checkpoints stay.
        mixed_precision: "no" or "bf16".
        log_with: a tracker of Accelerate by name (tensorboard, wandb, …) or `null`.
        seed: of everything random.
        model: fields of [`PamelaConfig`]; "auto", which is also what it is without the field, for `text_share`,
            `metadata_share`, `linear_share`, `taste_share`, `taste_factors` and `factor_penalty`: chosen within the
            training ratings.
    """

    encoder: str | None = None
    epochs: int | str = AUTO
    users_per_batch: int = 32
    images_per_user: int = 16
    learning_rate: float = 1e-3
    user_learning_rate: float = 0.03
    warmup_fraction: float = 0.05
    weight_decay: float = 0.3
    row_prior_std: float | str | None = AUTO
    max_grad_norm: float = 1.0
    pairwise_weight: float = 0.2
    user_dropout: float = 0.2
    demographics_dropout: float = 0.15
    metadata_dropout: float = 0.15
    prompt_dropout: float = 0.15
    source_weights: dict[str, float] = field(default_factory=dict)
    choice_weight: float = 1.0
    without: list[str] = field(default_factory=list)
    early_stopping: str | None = None
    patience: int = 3
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    mixed_precision: str = "no"
    log_with: str | None = None
    seed: int = 0
    model: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("epochs", "users_per_batch", "images_per_user", "keep_checkpoints", "patience"):
            if name != "epochs" or self.epochs != AUTO:
                self._number(name, int, 1)
        for name in ("checkpoint_every", "seed"):
            self._number(name, int, 0)
        for name in ("learning_rate", "user_learning_rate", "weight_decay", "max_grad_norm"):
            self._number(name, float, 0)
        self._number("pairwise_weight", float, 0)
        if self.row_prior_std not in (None, AUTO):
            self._number("row_prior_std", float, 1e-6)
        self._number("choice_weight", float, 1e-6)
        for name in ("user", "demographics", "metadata", "prompt"):
            self._number(f"{name}_dropout", float, 0, 1)
        self._number("warmup_fraction", float, 0, 1)
        for source, weight in self.source_weights.items():
            if not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
                raise ValueError(
                    f"source_weights[{source!r}]={weight!r} must be a number above 0. To do without a source, leave it "
                    "out of --data."
                )
        for piece in self.without:
            if piece not in PIECES:
                raise ValueError(f"without: {piece!r} is not a piece of the model; choose from {', '.join(PIECES)}.")
        if self.mixed_precision not in ("no", "bf16"):
            raise ValueError(f"mixed_precision={self.mixed_precision!r} must be 'no' or 'bf16'.")
        known = {f.name for f in dataclasses.fields(PamelaConfig)}
        for key in self.model:
            if key not in known:
                raise ValueError(f"model.{key} is not a field of PamelaConfig{_did_you_mean(key, known)}.")
            if self.model[key] == AUTO and key not in CHOSEN:
                raise ValueError(f"model.{key}={AUTO!r}: training chooses {', '.join(CHOSEN)} only; give a number.")

    def is_auto(self, name: str) -> bool:
        """Whether training chooses `name`, "epochs", "row_prior_std" or one of [`CHOSEN`], itself."""
        return (self.model.get(name, AUTO) if name in CHOSEN else getattr(self, name)) == AUTO

    def _number(self, name: str, kind: type, low: float, high: float = math.inf) -> None:
        value = getattr(self, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not low <= value <= high or (kind is int and value != int(value)):
            what = "a whole number" if kind is int else "a number"
            limits = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
            raise ValueError(f"{name}={value!r} must be {what} {limits}.")
        setattr(self, name, kind(value))

    @classmethod
    def read(cls, path: str | os.PathLike | None, overrides: Sequence[str] = ()) -> "TrainingConfig":
        """A YAML file with `key=value` on top (`seed=3`, `model.hidden_size=128`, `without=[user,prompt]`).

        Raises:
            ValueError: a key that does not exist (with the nearest that does), or a value of the wrong kind.
        """
        values: dict[str, Any] = {}
        if path is not None:
            values = _read(Path(path).read_bytes(), path) or {}
            if not isinstance(values, dict):
                raise ValueError(f"{path} must hold `key: value` lines; it holds a {type(values).__name__}.")
        known = {f.name for f in dataclasses.fields(cls)}
        for item in overrides:
            key, equals, text = item.partition("=")
            if not equals:
                raise ValueError(f"{item!r} is not of the form key=value, such as seed=1.")
            target = values
            *parents, last = key.split(".")
            for parent in parents:
                target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ValueError(f"{item!r}: {'.'.join(parents)} is not a mapping.")
            target[last] = _read(text, repr(item))
        for key in values:
            if key not in known:
                where = f"{path}: " if path is not None else ""
                raise ValueError(f"{where}key {key!r} does not exist{_did_you_mean(key, known)}.")
        return cls(**values)


def _read(text: bytes | str, where: Any) -> Any:
    try:
        return read_yaml(text)
    except ParseError as error:
        raise ValueError(f"{where} is not YAML that can be read: {error}.") from None


def _did_you_mean(key: str, known: set[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(known))}"
