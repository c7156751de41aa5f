"""The demo's own tiny image and text encoder: a real `SiglipModel`, trained in a minute on simulated pairs.

It has SigLIP's classes and files, so that the demo runs the code that runs with SigLIP2; its weights know the
simulated world and nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..files.writing import replacing_folder
from .images import render
from .traits import SCALARS, traits_named_in
from .vocabulary import FAMILIES, GROUPS, STYLE_FAMILY
from .world import world_prompt

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import SiglipModel

DEFAULT_STEPS = 1_300
"""Training steps of 32 pairs where the epochs are left open: under a minute on one free core."""
TEXT_LENGTH = 64
"""Tokens of a prompt, padded on the left, as SigLIP2 reads 64; no attention mask."""

_README = """# A tiny encoder trained on simulated images

**These are not SigLIP2 weights and they know nothing of real images.** `pamela_hf.simulation.encoder` trained
this `SiglipModel` ({size} x {size} pixels, {parameters:,} parameters) for {seconds:.0f} s on {pairs:,}
simulated (image, prompt) pairs, for the offline demo of `pamela_hf` and for tests. It has no use beyond them.

Training: SigLIP's sigmoid loss on (image, prompt) pairs, plus an auxiliary loss: two linear heads, thrown
away afterwards, read from the pooled features of the image and of the prompt the traits that the prompt names
(palette, light, viewpoint, density, symmetry, brushwork, subject group, style family). Contrastive training
alone doesn't carry every trait in so short a time. Seed {seed}, {epochs} epochs; last epoch's loss
{loss:.3f}.
"""


def _tokenizer(prompts: Sequence[str]):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokenizer.train_from_iterator(
        prompts, trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="left",  # SigLIP pools the last token: let it be the prompt's own end
        model_max_length=TEXT_LENGTH,
        model_input_names=["input_ids"],
    )


def _targets(prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """What the prompts name: (values, mask), both float32 (N, scalars + groups + families); open traits have
    mask 0."""
    width = len(SCALARS) + len(GROUPS) + len(FAMILIES)
    values, mask = np.zeros((len(prompts), width), np.float32), np.zeros((len(prompts), width), np.float32)
    for row, prompt in enumerate(prompts):
        named = traits_named_in(prompt)
        for k, name in enumerate(SCALARS):
            if name in named:
                values[row, k], mask[row, k] = (float(named[name]) - 0.5) / 0.3, 1.0
        if "group" in named:
            start = len(SCALARS)
            values[row, start + GROUPS.index(named["group"])] = 4.0
            mask[row, start : start + len(GROUPS)] = 1.0
        family = STYLE_FAMILY[named["style"]] if "style" in named else "photo" if named.get("type") != "Art" else None
        if family is not None:
            start = len(SCALARS) + len(GROUPS)
            values[row, start + FAMILIES.index(family)] = 2.5
            mask[row, start:] = 1.0
    return values, mask


def train_tiny_encoder(
    images: Sequence[Image.Image | str | os.PathLike[str]],
    prompts: Sequence[str],
    out_dir: str | os.PathLike[str],
    seed: int = 0,
    epochs: int | None = None,
    size: int = 64,
    hidden_size: int = 96,
    batch_size: int = 32,
    progress: bool = False,
) -> dict[str, float]:
    """Trains the demo's encoder on (image, prompt) pairs and saves it with its image processor and tokenizer.

    `AutoModel`, `AutoTokenizer` and `AutoImageProcessor.from_pretrained(out_dir)` load it; torchvision isn't
    needed. Pooled features have `hidden_size` numbers; `pixel_values (B, 3, size, size)`, `input_ids (B, 64)`
    with `padding="max_length"`. Images are PIL images or paths, of any size.

    Args:
        images: PIL images or paths, at least `batch_size` of them; use training images only where a split is at
            stake.
        prompts: one for each image, in the same order.
        out_dir: a new or empty folder.
        epochs: passes over the pairs; None: as many as make about `DEFAULT_STEPS` steps.
    Returns:
        `seconds` (of training), `epochs`, `loss` of the last epoch, `pairs`, `parameters`.
    Raises:
        FileExistsError: `out_dir` isn't empty.
        ValueError: `images` and `prompts` differ in number, or are too few.
    """
    import torch

    out_dir = Path(out_dir)
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise FileExistsError(f"out_dir={str(out_dir)!r} is not an empty folder: name a new one, or remove it first")
    if len(images) != len(prompts) or len(images) < batch_size:
        raise ValueError(f"{len(images)} images and {len(prompts)} prompts: as many of each, at least {batch_size}")
    tokenizer = _tokenizer(prompts)
    image_processor = _image_processor(size)
    epochs = epochs if epochs is not None else max(1, round(DEFAULT_STEPS / (len(images) // batch_size)))
    started = time.perf_counter()
    pairs = _read_pairs(images, prompts, tokenizer, image_processor)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _new_model(pairs.pixels, hidden_size, len(tokenizer), batch_size)
        loss = _fit(model, pairs, epochs, batch_size, progress)
    model.eval()
    report = {
        "seconds": time.perf_counter() - started,
        "epochs": epochs,
        "loss": loss,
        "pairs": len(images),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    with replacing_folder(out_dir) as staged:
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        image_processor.save_pretrained(staged)
        (staged / "README.md").write_text(_README.format(size=size, seed=seed, **report), encoding="utf-8")
    return report


def _image_processor(size: int):
    from PIL import Image
    from transformers import SiglipImageProcessorPil

    return SiglipImageProcessorPil(
        size={"height": size, "width": size},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        resample=Image.Resampling.BICUBIC,
    )


@dataclass
class _Pairs:
    """N (image, prompt) pairs, as the encoder takes them, and what their prompts name."""

    pixels: torch.Tensor  # (N, 3, size, size)
    ids: torch.Tensor  # (N, TEXT_LENGTH)
    values: torch.Tensor  # (N, scalars + groups + families)
    weights: torch.Tensor  # the same shape, of each value in the loss; 0 = the prompt leaves it open


def _read_pairs(images: Sequence, prompts: Sequence[str], tokenizer, image_processor) -> _Pairs:
    import torch

    values, mask = (torch.from_numpy(a) for a in _targets(prompts))
    weight = torch.ones(values.shape[1])
    weight[len(SCALARS) :] = 0.5
    weight[SCALARS.index("density")] = 2.5  # the hardest to see
    pixels = torch.cat([_pixels(images[k : k + 256], image_processor) for k in range(0, len(images), 256)])
    ids = torch.tensor(
        tokenizer(list(prompts), padding="max_length", max_length=TEXT_LENGTH, truncation=True)["input_ids"]
    )
    return _Pairs(pixels, ids, values, mask * weight)


def _new_model(pixels: torch.Tensor, hidden_size: int, vocabulary: int, batch_size: int) -> SiglipModel:
    """A `SiglipModel` for images such as `pixels`, `vocabulary` tokens and batches of `batch_size`, to be trained."""
    import torch
    from transformers import SiglipConfig, SiglipModel

    size = pixels.shape[-1]
    # One wide layer learns more in a minute than two narrow ones.
    shared = {"hidden_size": hidden_size, "num_attention_heads": 4, "num_hidden_layers": 1}
    config = SiglipConfig(
        vision_config={
            **shared, "intermediate_size": 4 * hidden_size, "image_size": size, "patch_size": size // 8,
        },
        text_config={
            **shared, "intermediate_size": 2 * hidden_size, "vocab_size": vocabulary,
            "max_position_embeddings": TEXT_LENGTH, "projection_size": hidden_size,
            "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
        },
    )  # fmt: skip
    model = SiglipModel(config)
    _warm_start(model.vision_model.embeddings, pixels)
    # SigLIP's initial scale and bias (log 10, -10) presume large batches and long training.
    with torch.no_grad():
        model.logit_bias.fill_(-float(np.log(batch_size)))
        model.logit_scale.fill_(float(np.log(10.0)))
    return model


def _fit(model: SiglipModel, pairs: _Pairs, epochs: int, batch_size: int, progress: bool) -> float:
    """Trains the model; the last epoch's mean loss."""
    import torch

    count, hidden_size = len(pairs.ids), model.config.vision_config.hidden_size
    heads = torch.nn.ModuleList([torch.nn.Linear(hidden_size, pairs.values.shape[1]) for _ in range(2)])
    parameters = [*model.parameters(), *heads.parameters()]
    steps = epochs * (count // batch_size)
    optimizer = torch.optim.AdamW(parameters, lr=4e-3, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps, pct_start=0.15)
    model.train()
    for epoch in range(epochs):
        order, losses = torch.randperm(count), []
        for start in range(0, count - batch_size + 1, batch_size):
            # The text tower learns faster than the image tower: every other step is enough for it.
            loss = _loss(model, heads, pairs, order[start : start + batch_size], start // batch_size % 2 == 0)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        if progress:
            print(f"tiny encoder: epoch {epoch + 1}/{epochs}, loss {np.mean(losses):.3f}", flush=True)
    return float(np.mean(losses))


def _loss(
    model: SiglipModel, heads: torch.nn.ModuleList, pairs: _Pairs, rows: torch.Tensor, with_text: bool
) -> torch.Tensor:
    """Loss of a batch: what the heads read of its images and, `with_text`, of its prompts, and SigLIP's own."""
    import torch
    from torch.nn import functional

    def read(predicted: torch.Tensor) -> torch.Tensor:
        scale = pairs.weights[rows]
        return ((predicted - pairs.values[rows]) ** 2 * scale).sum() / scale.sum()

    down, right = torch.randint(-2, 3, (2,)).tolist()
    view = torch.roll(pairs.pixels[rows], (down, right), dims=(-2, -1))
    image = model.get_image_features(pixel_values=view).pooler_output
    loss = read(heads[0](image))
    if not with_text:
        return loss
    text = model.get_text_features(input_ids=pairs.ids[rows]).pooler_output
    similarity = functional.normalize(text, dim=-1) @ functional.normalize(image, dim=-1).T
    logits = similarity * model.logit_scale.exp() + model.logit_bias
    sign = 2.0 * torch.eye(len(rows)) - 1.0
    contrastive = -functional.logsigmoid(sign * logits).sum() / len(rows)
    return loss + read(heads[1](text)) + 0.2 * contrastive


def _warm_start(embeddings, pixels) -> None:
    """Patch filters that whiten the patches of `pixels`, and sines and cosines of row and column as
    positions: from random numbers a vision transformer takes far longer than a minute to learn where something
    is."""
    import torch

    width, _, patch, _ = embeddings.patch_embedding.weight.shape
    few = torch.nn.functional.unfold(pixels[:300], patch, stride=patch).permute(0, 2, 1).reshape(-1, 3 * patch * patch)
    few = few[torch.randperm(len(few))[:8000]]
    mean = few.mean(0)
    _, singular, directions = torch.linalg.svd(few - mean, full_matrices=False)
    kept = min(width, len(directions))
    filters = directions[:kept] / (singular[:kept, None] / len(few) ** 0.5 + 0.02)
    side = pixels.shape[-1] // patch
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    waves = torch.pi * torch.arange(width // 4) / (width // 4)
    angles = [place.flatten()[:, None] * waves + 0.5 for place in (rows, columns)]
    with torch.no_grad():
        embeddings.patch_embedding.weight[:kept] = filters.view(kept, 3, patch, patch)
        embeddings.patch_embedding.bias[:kept] = -filters @ mean
        embeddings.position_embedding.weight.copy_(torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], 1))


def simulated_pairs(count: int = 4_000, seed: int = 1, size: int = 64) -> tuple[list[Image.Image], list[str]]:
    """`count` fresh (image, prompt) pairs of the simulated world's kind, of no world's images, to train the
    encoder on."""
    rng = np.random.default_rng([int(seed) % 2**63, 6])
    prompts = [world_prompt(rng) for _ in range(count)]
    # Negative seeds: those of worlds are positive.
    return [render(prompt, -1 - k - count * seed, size) for k, prompt in enumerate(prompts)], prompts


def _pixels(images: Sequence[Image.Image | str | os.PathLike[str]], image_processor):
    from PIL import Image

    opened = []
    for image in images:
        if isinstance(image, Image.Image):
            opened.append(image.convert("RGB"))
        else:
            with Image.open(image) as file:
                opened.append(file.convert("RGB"))
    return image_processor(images=opened, return_tensors="pt")["pixel_values"]
