"""What an actor does with a batch of images: the same, call for call, as one machine does.

Both classes take and give Arrow tables, so that they serve any `ray.data.Dataset` with the columns of
[`pamela_hf.rewards.cluster.sources.schema`]. A picture that cannot be read keeps its row, with the reason in `problem`.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from ...encoder import FrozenEncoder
from ...files.images import MAX_FILE_BYTES, ImageError, open_image_checked
from ...folder_cache import content_key
from ...scoring import Head, PamelaScorer, score_batch
from .sources import OWN


@dataclass
class Row:
    """One image of a batch.

    Attributes:
        name: what it is called.
        data: its file's bytes, or
        path: where these are: a path or fsspec URL, or
        problem: why it cannot be read.
        facts: its prompt and metadata, as far as they are known.
    """

    name: str
    data: bytes | None = None
    path: str | None = None
    problem: str | None = None
    facts: dict[str, str] = field(default_factory=dict)

    def read(self) -> bytes:
        """The file's bytes. Raises ImageError."""
        if self.problem is not None:
            raise ImageError(f"{self.name}: {self.problem}")
        if self.data is None:
            try:
                with fsspec.open(self.path, "rb") as file:
                    self.data = file.read(MAX_FILE_BYTES + 1)
            except OSError as error:
                raise ImageError(f"{self.name}: cannot be opened ({error.strerror or error}).") from None
        return self.data

    def open(self, smallest_side: int | None = None) -> Image.Image:
        """The picture; `smallest_side` as in [`open_image_checked`]. Raises ImageError."""
        return open_image_checked(io.BytesIO(self.read()), self.name, smallest_side=smallest_side)


def rows_of(table: pa.Table) -> list[Row]:
    """The images of a batch."""
    rows = []
    for row in table.to_pylist():
        facts = {name: value for name, value in row.items() if name not in OWN and value}
        rows.append(Row(row["image"], row["data"], row["path"], row["problem"], facts))
    return rows


def prepared_rows(
    encoder: FrozenEncoder, table: pa.Table, smallest_side: int | None = None
) -> tuple[list[Row], list[dict[str, torch.Tensor]], list[tuple[str, str]]]:
    """The readable images of a batch, what the encoder takes of each, and names and reasons of the others.

    Args:
        encoder: what they are for.
        table: the batch.
        smallest_side: as in [`open_image_checked`].
    """
    found, prepared, skipped = [], [], []
    for row in rows_of(table):
        try:
            prepared.append(encoder.prepare_image(np.asarray(row.open(smallest_side)), row.name))
            found.append(row)
        except ImageError as error:
            skipped.append((row.name, str(error).removeprefix(f"{row.name}: ")))
    return found, prepared, skipped


class ScoreImages:
    """Scores a batch of images for one person, by [`pamela_hf.scoring.score_batch`].

    Args:
        model: folder or Hub id of the reward; a folder must be seen by every machine.
        user: a trained participant or a head; `None` = everyone's taste.
        scale: rating scale of the scores; default: the model's.
        prompt: what all images were made from whose row has no prompt; default: not known.
        device: where the model runs; default: CUDA, MPS or CPU.
        threads: CPU threads of an actor.
    """

    schema = pa.schema({"image": pa.string(), "score": pa.float64(), "std": pa.float64(), "problem": pa.string()})

    def __init__(
        self,
        model: str,
        user: str | Head | None = None,
        scale: str | None = None,
        prompt: str | None = None,
        device: str | None = None,
        threads: int = 1,
    ):
        torch.set_num_threads(threads)
        self.scorer = PamelaScorer.from_pretrained(model, device=device)
        self.user, self.scale, self.prompt = user, scale, prompt

    def __call__(self, table: pa.Table) -> pa.Table:
        found, prepared, skipped = prepared_rows(self.scorer.encoder, table)
        out: list[dict[str, Any]] = []
        if found:
            features = self.scorer.encoder.encode_prepared(prepared)
            facts = [{"prompt": self.prompt, **row.facts} for row in found]
            scores = score_batch(self.scorer, facts, self.user, self.scale, image_embeds=features)
            out = [{"image": row.name, "score": s, "std": d} for row, s, d in zip(found, *scores.tolist())]
        return pa.Table.from_pylist([*out, *problems(skipped)], self.schema)


class EmbedImages:
    """Features of a batch of images, by [`pamela_hf.encoder.FrozenEncoder`].

    Args:
        encoder: Hub id or folder of the encoder; a folder must be seen by every machine.
        revision: commit or tag; default: the newest.
        device: where it runs; default: CUDA, MPS or CPU.
        dtype: in what precision.
        threads: CPU threads of an actor.
    """

    schema = pa.schema(
        {
            "image": pa.string(), "image_embeds": pa.list_(pa.float32()), "key": pa.string(), "problem": pa.string(),
        }
    )  # fmt: skip

    def __init__(
        self,
        encoder: str,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        threads: int = 1,
    ):
        torch.set_num_threads(threads)
        self.encoder = FrozenEncoder(encoder, revision, device, dtype)

    def __call__(self, table: pa.Table) -> pa.Table:
        # decoded as for the cache of a folder's features, which goes on with this
        found, prepared, skipped = prepared_rows(self.encoder, table, self.encoder.reduced_side())
        out: list[dict[str, Any]] = []
        if found:
            for row, features in zip(found, self.encoder.encode_prepared(prepared).cpu().numpy()):
                out.append({"image": row.name, "key": content_key(row.read()), "image_embeds": features})
        return pa.Table.from_pylist([*out, *problems(skipped)], self.schema)


def problems(skipped: list[tuple[str, str]]) -> Iterator[dict[str, str]]:
    """Rows of images that were left out: name and reason."""
    return ({"image": name, "problem": reason} for name, reason in skipped)
