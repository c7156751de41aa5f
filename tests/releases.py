"""Small releases in the PAMELA layout, as real files, for the tests of how ratings come in."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file


def rating(participant: str = "p1", image: int = 1, score: float = 3, **changes) -> dict:
    """One row of the released layout; `changes` replace top-level keys."""
    row = {
        "participant_id": participant,
        "image_id": image,
        "image_path": f"images/{image}.png",
        "original_score": score,
        "image_metadata": {"prompt": f"prompt {image}", "group": "animal", "style": None, "type": "Art"},
        "user_demographics": {"age": 30, "age_binned": "30-39", "gender": "female", "nationality": "German"},
    }
    return {**row, **changes}


def write_release(folder: Path, splits: dict[str, list], *, images: bool = True, embeddings: bool = False) -> Path:
    """Writes annotation files, and 16 × 12 images and/or embeddings for every image id that rows name."""
    (folder / "annotations").mkdir(parents=True)
    ids = set()
    for split, rows in splits.items():
        (folder / "annotations" / f"pamela_{split}.json").write_text(json.dumps(rows))
        named = (row.get("image_id") for row in rows if isinstance(row, dict))
        ids |= {image for image in named if type(image) in (int, str) and image != ""}
    if images:
        (folder / "images").mkdir()
        rng = np.random.default_rng(0)
        for image in sorted(ids, key=str):
            pixels = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{image}.png")
    if embeddings:
        names = sorted(str(image) for image in ids)
        rows = np.random.default_rng(1).normal(size=(len(names), 8)).astype(np.float16)
        save_file(
            {"image_embeds": rows, "text_embeds": rows},
            folder / "embeddings.safetensors",
            metadata={"image_ids": json.dumps(names)},
        )
    return folder


def small_splits() -> dict[str, list]:
    """Two people who train, one unseen; scores 1..5; images 1-5 train, 6 val, 7 test."""
    return {
        "train": [rating(p, i, (i + k) % 5 + 1) for k, p in enumerate(["p1", "p2"]) for i in range(1, 6)],
        "val_seen": [rating("p1", 6, 2)],
        "test_seen": [rating("p1", 7, 4), rating("p2", 7, 5)],
        "test_unseen": [rating("p3", 7, 1)],
    }


def write_text(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def write_image(path: Path, color: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), color).save(path)
    return path
