"""Toys that several tests share: tiny real encoders, a small world of ratings with features, small models."""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from packaging import version

from pamela_hf import PamelaConfig, PamelaProcessor, PamelaRewardModel

OLD_TRANSFORMERS = version.parse(transformers.__version__) < version.parse("5.23")  # cannot be kept from adapters
PROMPTS = ["a photo of a cat", "a painting of a dog in the rain", "the sea at night", "an old red car"]


def save_tiny_encoder(folder: Path, family: str) -> Path:
    """A real SigLIP (fixed-size images) or SigLIP2 (NaFlex) model at toy size with random weights, as a folder."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import (
        PreTrainedTokenizerFast,
        Siglip2Config,
        Siglip2Model,
        SiglipConfig,
        SiglipModel,
    )
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    text = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": 16, "projection_size": 32, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4,
    }  # fmt: skip
    torch.manual_seed(0)
    if family == "siglip":
        model = SiglipModel(SiglipConfig(text_config=text, vision_config={**vision, "image_size": 16}))
        SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    else:
        model = Siglip2Model(Siglip2Config(text_config=text, vision_config={**vision, "num_patches": 16}))
        Siglip2ImageProcessorPil(patch_size=4, max_num_patches=16).save_pretrained(folder)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Replace("▁", " ")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=64, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(PROMPTS, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=16,
        padding_side="left",
    ).save_pretrained(folder)  # fmt: skip
    return folder


def write_ratings(folder: Path, people: int = 10, images: int = 60, levels: int = 5, seed: int = 0) -> Path:
    """A folder in the released layout with features: each person's taste is a direction in feature space."""
    from pamela_hf.embeddings import Embeddings

    rng = np.random.default_rng(seed)
    width, text_width = 8, 4
    features = rng.normal(size=(images, width)).astype(np.float32)
    text = rng.normal(size=(images, text_width)).astype(np.float32)
    text[0] = 0  # an image without a prompt
    common = rng.normal(size=width)
    ids = [f"img{i:03d}" for i in range(images)]
    half = int(images * 0.6)
    rows: dict[str, list[dict]] = {s: [] for s in ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")}
    for person in range(people):
        liking = features @ (common + rng.normal(size=width))
        seen = person < int(people * 0.7)
        scores = np.digitize(liking, np.quantile(liking, np.arange(1, levels) / levels)) + 1
        for i in range(images):
            if seen:
                split = "train" if i < half else "val_seen" if i % 2 else "test_seen"
            elif i < half:
                continue
            else:
                split = "val_unseen" if person % 2 else "test_unseen"
            prompt = None if i == 0 else PROMPTS[i % 4]
            rows[split].append(
                {
                    "participant_id": f"p{person:02d}",
                    "image_id": ids[i],
                    "image_path": f"images/{ids[i]}.png",
                    "original_score": int(scores[i]),
                    "image_metadata": {
                        "prompt": prompt,
                        "group": "animal" if i % 3 else "scene",
                        "style": None,
                        "type": "Art" if i % 2 else "Photorealism",
                    },
                    "user_demographics": {
                        "age": 20 + 10 * (person % 3),
                        "age_binned": f"{20 + 10 * (person % 3)}-{29 + 10 * (person % 3)}",
                        "gender": "female" if person % 2 else "male",
                        "nationality": "Belgium",
                    },
                }
            )
    (folder / "annotations").mkdir(parents=True)
    for split, items in rows.items():
        (folder / "annotations" / f"toy_{split}.json").write_text(json.dumps(items))
    Embeddings(ids, features, text, ids[:1]).save(folder / "embeddings.safetensors")
    return folder


TINY_MODEL = {
    "hidden_size": 16, "num_fusion_members": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "interaction_rank": 8, "image_dropout": 0.0, "linear_share": 0.5, "taste_share": 0.5, "text_share": 0.2,
    "metadata_share": 0.0, "taste_axes": 8,
}  # fmt: skip


def with_encoder(encoder, tmp_path) -> str:
    """A saved reward that carries the tiny encoder in its own folder."""
    from transformers import AutoModel as Auto

    from pamela_hf.model.encoder_pamela import load_preprocessors

    backbone = Auto.from_pretrained(encoder)
    config = tiny_config(
        backbone="./encoder", backbone_config=backbone.config.to_dict(), image_embed_dim=32, text_embed_dim=32
    )
    model = PamelaRewardModel(config)
    model.set_backbone(backbone)
    model.save_pretrained(tmp_path / "model")
    PamelaProcessor(config, *load_preprocessors(str(encoder))).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def tiny_config(**changes) -> PamelaConfig:
    values = {
        "image_embed_dim": 12, "text_embed_dim": 6, "hidden_size": 8, "num_attention_heads": 2,
        "num_fusion_members": 2, "intermediate_size": 16, "interaction_rank": 3, "num_fusion_layers": 2,
        "linear_share": 0.5, "taste_factors": 3, "taste_axes": 2, "factor_penalty": 0.1, "metadata_share": 0.3,
    }  # fmt: skip
    return PamelaConfig(**{**values, **VOCABULARIES, **changes})


VOCABULARIES = {
    "users": ["ann", "bob", "cem"],
    "demographics": {"age_binned": ["20-29", "30-39"], "gender": ["female", "male"]},
    "metadata": {"type": ["animal", "food"]},  # also the name of a method of nn.Module
    "rating_scales": {"stars": [1, 2, 3, 4, 5], "slider": [0, 0.5, 1]},
    "default_scale": "stars",
}
