"""The encoder's last blocks, fine-tuned by ratings: for who has a hundred thousand of them and GPUs.

Everywhere else the encoder is frozen and features are made once. Here pixels are in the loop: the loss of a trained
reward, which stays as it is, goes back through the last blocks of its encoder's vision tower. What comes out is an
encoder like any other: features are made with it anew, and a reward is trained on them.

Several processes share each block's weights, gradients and optimizer state (FSDP2, `torch.distributed.fsdp`).
"""

import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from tqdm.auto import tqdm
from transformers.utils import logging

from ..embeddings import Embeddings
from ..encoder import FrozenEncoder
from ..files.images import ImageError, open_image
from ..files.writing import replacing_folder
from ..metrics import user_metrics
from ..model.encoder_pamela import encode_images
from ..ratings.table import RatingData
from ..scoring import PamelaScorer, RatingArrays, encode_ratings
from ..training.run import cosine_with_warmup

logger = logging.get_logger(__name__)
LOG = "metrics.jsonl"
WARMUP = 0.1  # of all steps
MAX_GRAD_NORM = 1.0  # of all trained weights together


@dataclass(frozen=True)
class EncoderTuning:
    """How an encoder is fine-tuned.

    Attributes:
        blocks: how many of the vision tower's last blocks are trained, with its last norm and its pooling head.
        epochs: passes over the rated images of `train`. The one after which `val_seen` (without it `val_unseen`, then
            `train`) has the least loss is kept.
        batch_size: images of a step, all processes together, each with all of its ratings.
        learning_rate: of AdamW at its highest, after a warm-up; it falls to 0 as a cosine.
        seed: of the order of the images.
        mixed_precision: "no" or "bf16".
    """

    blocks: int = 2
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-5
    seed: int = 0
    mixed_precision: str = "no"

    def __post_init__(self) -> None:
        for name in ("blocks", "epochs", "batch_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be a whole number of at least 1.")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate!r} must be above 0.")
        if self.mixed_precision not in ("no", "bf16"):
            raise ValueError(f'mixed_precision={self.mixed_precision!r} must be "no" or "bf16".')


def tune_encoder(
    scorer: PamelaScorer,
    data: RatingData,
    output: str | os.PathLike,
    config: EncoderTuning | None = None,
    *,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Fine-tunes the last blocks of a reward's encoder and writes the encoder to `output`.

    Args:
        scorer: a trained reward with its processor. It is scored by and stays as it is, but for its encoder: that is
            changed in place.
        data: ratings with their images, of a scale that the reward knows: a `train` split, and `val_*` to judge by.
        output: a new folder for the encoder, its image processor and tokenizer, as `AutoModel` and
            `pamela embed --encoder` load them, and `metrics.jsonl`.
        config: [`EncoderTuning`].

    Returns:
        The figures of `metrics.jsonl`, the first before any step: `epoch`, and of each split of `val_*` the mean
        negative log-likelihood of a rating (`val_seen/loss`, nats) and `val_seen/user_srocc`, if there is one.

    Raises:
        ValueError: ratings without images, with no train split, or that are no levels of the reward's scale; an encoder
            that has fewer blocks, or none that are known.
        ImageError: no image of a split can be read; others that can't be are left out with a warning.
        FileExistsError: `output` holds something.
        FloatingPointError: a loss that is not finite.
    """
    config, output = config or EncoderTuning(), Path(output)
    if data.open_image is None:
        raise ValueError(f"{data.name!r} has no images; an encoder is tuned on pixels. Give the ratings with images/.")
    if not len(data.splits.get("train", ())):
        raise ValueError(f"{data.name!r} has no train split (it has {sorted(data.splits)}); nothing to learn from.")
    AcceleratorState._reset_state()  # an earlier run in this process may have used another precision
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    run = _Run(scorer, data, config, accelerator, progress)
    with replacing_folder(output) if accelerator.is_main_process else nullcontext() as staged:
        found = run.epochs()
        if accelerator.is_main_process:
            run.encoder.model.save_pretrained(staged, state_dict=run.best)
            run.encoder.image_processor.save_pretrained(staged)
            run.encoder.tokenizer.save_pretrained(staged)
            (staged / LOG).write_text("".join(json.dumps(line) + "\n" for line in found), encoding="utf-8")
    accelerator.wait_for_everyone()
    return found


@dataclass(frozen=True)
class _Share:
    """A process' images of a batch.

    Attributes:
        numbers: `(n,)` of images, one or more.
        pixels: what the encoder takes of them.
        counts: whether they are of the batch; else one stands in where the process has none, and is not counted.
    """

    numbers: np.ndarray
    pixels: dict[str, Tensor]
    counts: bool


class _Run:
    def __init__(
        self, scorer: PamelaScorer, data: RatingData, config: EncoderTuning, accelerator: Accelerator, progress: bool
    ):
        self.config, self.accelerator, self.progress = config, accelerator, progress
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        rated = data.splits["train"]["image_id"].nunique()
        if (fewest := min(config.batch_size, rated)) < self.world:
            raise ValueError(
                f"{self.world} processes have at most {fewest} images a step (batch_size={config.batch_size}, {rated} "
                "images in train), and each needs one. Start fewer."
            )
        self.model = scorer.model.to(accelerator.device).requires_grad_(False).eval()
        self.encoder = FrozenEncoder.of(self.model, scorer.processor)
        self.open_image = data.open_image
        images = data.images()
        self.ids = images["image_id"].astype(str).tolist()
        self.texts = self._text_features([p if isinstance(p, str) else None for p in images["prompt"]])
        nowhere = Embeddings(self.ids, np.zeros((len(self.ids), self.model.config.image_embed_dim), np.float32))
        self.ratings = {
            split: encode_ratings(table, self.model.config, nowhere)
            for split, table in data.splits.items()
            if len(table) and (split == "train" or split.startswith("val_"))
        }
        for split, arrays in self.ratings.items():
            if (arrays.labels < 0).any():
                odd = data.splits[split]["score"].iloc[int(np.argmin(arrays.labels))]
                levels = {name: f"{min(v):g}..{max(v):g}" for name, v in self.model.config.rating_scales.items()}
                raise ValueError(
                    f"{split} has a rating of {odd:g}, which is no level of the reward's scales ({levels}). Tune with "
                    "ratings on the scale that the reward was trained on."
                )
        self.trained = share_out(self.encoder.model, config.blocks, self.world > 1)
        self.optimizer = torch.optim.AdamW(self.trained, lr=config.learning_rate)
        self.best: dict[str, Tensor] = {}

    def epochs(self) -> list[dict[str, float]]:
        """Trains, and keeps the weights of the best epoch; the figures of each."""
        config, judged = self.config, sorted(split for split in self.ratings if split != "train")
        orders = [self._batches("train", np.random.default_rng([config.seed, e])) for e in range(config.epochs)]
        total, step, least = sum(map(len, orders)), 0, math.inf
        shown = not (self.progress and self.accelerator.is_main_process)
        found = [{"epoch": 0, **self._judge(judged)}]
        with tqdm(total=total, desc="tuning the encoder", unit="step", disable=shown) as bar:
            for epoch, order in enumerate(orders, 1):
                losses = []
                for batch, mine in zip(order, self._pixels("train", order)):
                    for group in self.optimizer.param_groups:
                        group["lr"] = config.learning_rate * cosine_with_warmup(step, total, WARMUP)
                    losses.append(self._step(batch, mine))
                    step += 1
                    bar.update()
                    bar.set_postfix(loss=round(losses[-1], 4))
                found.append({"epoch": epoch, "train/loss": float(np.mean(losses)), **self._judge(judged)})
                loss = found[-1].get(f"{judged[0]}/loss" if judged else "train/loss")
                state = _whole(self.encoder.model)  # by all processes together, whether it is kept or not
                if not self.best or loss < least:
                    least, self.best = loss, state
        return found

    def _step(self, batch: np.ndarray, mine: _Share) -> float:
        """One update by this process' share of a `batch`; the mean loss of the batch's ratings, where those of
        images that cannot be read count as 0."""
        ratings = float(np.isin(self.ratings["train"].image_rows, batch).sum())
        with self.accelerator.autocast():
            # the processes' gradients are averaged, and their shares of a sum are to be added
            loss = self._scored("train", mine, ratings / self.world if mine.counts else math.inf).loss
        mean = float(self.accelerator.reduce(loss.detach(), "mean"))
        if not math.isfinite(mean):
            raise FloatingPointError(f"The loss is {mean}; nothing was written. Lower learning_rate.")
        self.accelerator.backward(loss)
        nn.utils.clip_grad_norm_(self.trained, MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return mean

    @torch.no_grad()
    def _judge(self, splits: Sequence[str]) -> dict[str, float]:
        """Loss and user SROCC of splits, each process' share of the images scored by itself."""
        found = {}
        for split in splits:
            arrays, batches = self.ratings[split], self._batches(split)
            scores, seen, total = np.zeros(len(arrays)), np.zeros(len(arrays)), 0.0
            for mine in self._pixels(split, batches):
                out = self._scored(split, mine, 1.0)
                if mine.counts:
                    rows = np.isin(arrays.image_rows, mine.numbers)
                    scores[rows], seen[rows] = out.scores.float().cpu().numpy(), 1.0
                    total += float(out.loss)
            made = torch.from_numpy(np.concatenate([scores, seen, [total]])).float().to(self.accelerator.device)
            scores, seen, total = np.split(self.accelerator.reduce(made).cpu().numpy(), [len(arrays), 2 * len(arrays)])
            read = seen > 0
            metrics = user_metrics(scores[read], arrays.labels[read], arrays.people[read].astype(str))
            found[f"{split}/loss"] = float(total[0]) / max(1, int(read.sum()))
            if math.isfinite(srocc := metrics.mean("user_srocc")):  # nobody rated several images differently
                found[f"{split}/user_srocc"] = srocc
        return found

    def _scored(self, split: str, some: _Share, normalizer: float) -> Any:
        """The reward's output for all ratings that a split has of some images; its loss is their sum over
        `normalizer`."""
        arrays: RatingArrays = self.ratings[split]
        numbers, pixels = some.numbers, some.pixels
        rows = np.flatnonzero(np.isin(arrays.image_rows, numbers))
        place = {number: i for i, number in enumerate(numbers)}
        index = torch.tensor([place[number] for number in arrays.image_rows[rows]])
        features = encode_images(self.encoder.model, **pixels).float()

        def of(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values[rows]).to(features.device)

        return self.model(
            image_embeds=features,
            text_embeds=None if self.texts is None else self.texts[numbers],
            user_ids=of(arrays.user_ids),
            demographic_ids=of(arrays.demographic_ids),
            metadata_ids=of(arrays.metadata_ids),
            scale_ids=of(arrays.scale_ids),
            labels=of(arrays.labels),
            image_index=index.to(features.device),
            loss_normalizers=(torch.tensor(normalizer), torch.tensor(1.0)),
        )

    def _batches(self, split: str, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """The split's images in batches of at least `batch_size`, or all in one."""
        numbers = np.unique(self.ratings[split].image_rows)
        numbers = numbers if rng is None else rng.permutation(numbers)
        count = max(1, len(numbers) // self.config.batch_size)
        return np.array_split(numbers, count)

    def _pixels(self, split: str, batches: Sequence[np.ndarray]) -> Iterator[_Share]:
        """This process' images of each batch; the next ones are read meanwhile."""
        batches = [batch[self.rank :: self.world] for batch in batches]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            ahead = [pool.submit(self._read, number) for number in batches[0]]
            for i, batch in enumerate(batches):
                now = ahead
                ahead = [pool.submit(self._read, number) for number in batches[i + 1]] if i + 1 < len(batches) else []
                made = {number: future.result() for number, future in zip(batch, now)}
                read = {number: one for number, one in made.items() if one is not None}
                yield self._share(read) if read else self._stand_in(split)

    def _stand_in(self, split: str) -> _Share:
        """An image that can be read, for a process that has none: all of them encode, or none of them goes on."""
        for number in np.unique(self.ratings[split].image_rows):
            if (one := self._read(number)) is not None:
                return self._share({number: one}, counts=False)
        raise ImageError(f"None of the images of {split} can be read: {self.ids[self.ratings[split].image_rows[0]]}, …")

    @staticmethod
    def _share(read: dict[int, dict[str, Tensor]], counts: bool = True) -> _Share:
        pixels = {name: torch.cat([one[name] for one in read.values()]) for name in next(iter(read.values()))}
        return _Share(np.array(list(read)), pixels, counts)

    def _read(self, number: int) -> dict[str, Tensor] | None:
        name = self.ids[number]
        try:
            return self.encoder.prepare_image(np.asarray(open_image(self.open_image(name), name)), name)
        except (ImageError, OSError) as error:
            logger.warning_once(f"{name} is left out: {error}")
            return None

    def _text_features(self, prompts: list[str | None]) -> Tensor | None:
        """`(N, Dt)` features of the images' prompts, a row of zeros where there is none."""
        width = self.model.config.text_embed_dim
        if not width:
            return None
        distinct = sorted({prompt for prompt in prompts if prompt})
        made = {p: row for i in range(0, len(distinct), 64) for p, row in self._of_prompts(distinct[i : i + 64])}
        return torch.stack([made.get(prompt or "", torch.zeros(width)) for prompt in prompts]).to(self.model.device)

    def _of_prompts(self, prompts: list[str]) -> Iterator[tuple[str, Tensor]]:
        return zip(prompts, self.encoder.encode_prompts(prompts).cpu())


def share_out(encoder: nn.Module, blocks: int, several: bool) -> list[nn.Parameter]:
    """Makes the last `blocks` of an encoder's vision tower trainable, with what comes after them, and shares its
    weights out among the processes, if there are `several`.

    Returns:
        The trained weights.

    Raises:
        ValueError: it has no blocks that are known here, or fewer.
    """
    tower = getattr(encoder, "vision_model", None)
    layers = getattr(getattr(tower, "encoder", None), "layers", None)
    if layers is None:
        raise ValueError(f"{type(encoder).__name__} has no vision_model.encoder.layers; SigLIP's and CLIP's kinds do.")
    if blocks > len(layers):
        raise ValueError(f"blocks={blocks} is more than the {len(layers)} blocks that the encoder has.")
    encoder.requires_grad_(False)
    after = [getattr(tower, name, None) for name in ("post_layernorm", "head")]
    for module in [*layers[-blocks:], *after, getattr(encoder, "visual_projection", None)]:
        if module is not None:
            module.requires_grad_(True)
    if several:
        for layer in layers:
            fully_shard(layer)
        fully_shard(tower)
    return [parameter for parameter in encoder.parameters() if parameter.requires_grad]


def _whole(encoder: nn.Module) -> dict[str, Tensor]:
    """All weights on the CPU, those that processes share put together."""
    state = encoder.state_dict()
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu().clone()
        for name, value in state.items()
    }
