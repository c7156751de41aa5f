"""Which images show nearly the same, so that each group of them stays within one split."""

from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image


def difference_hash(image: Image.Image) -> int:
    """64-bit dHash of an RGB image: whether each of 8 × 8 cells is brighter than its right neighbour.

    Rescaled or recompressed copies differ in few bits (N. Krawetz, *Kind of Like That*, 2013). Written out
    here: the packages that offer it bring scipy and PyWavelets for their other hashes.
    """
    cells = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS)).astype(np.int16)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def near_duplicate_groups(
    image_ids: Iterable[str],
    *,
    hashes: Mapping[str, int] | None = None,
    embeddings: np.ndarray | None = None,
    max_bits: int = 4,
    min_cosine: float = 0.95,
) -> dict[str, int]:
    """Groups images that show nearly the same, to keep each group within one split.

    Two images belong together if their hashes differ in at most `max_bits` bits, or the cosine of their
    embeddings is at least `min_cosine`; groups are the connected components.

    Args:
        image_ids: N ids.
        hashes: id → :func:`difference_hash`; ids without one are compared by embedding only.
        embeddings (N, D): in the order of `image_ids`; zero or non-finite rows match nothing.
        max_bits: 0..64.
        min_cosine: -1..1; what counts as near depends on the encoder. Among the 900 OASIS photographs with
            EfficientNet features .95 finds three pairs, .98 none; too low only keeps more images together.

    Returns:
        id → group number, 0 onwards in order of first appearance; every id has one.
    """
    from scipy.sparse import coo_array  # here: importing it takes longer than most loads of ratings
    from scipy.sparse.csgraph import connected_components

    ids = list(image_ids)
    firsts, seconds = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    if hashes is not None:
        where = np.array([place for place, image_id in enumerate(ids) if image_id in hashes], dtype=np.int64)
        bits = np.array([hashes[ids[place]] for place in where], dtype=np.uint64)
        for start in range(0, len(where), 512):
            near = np.bitwise_count(bits[start : start + 512, None] ^ bits[None, :]) <= max_bits
            rows, columns = np.nonzero(near)
            firsts.append(where[rows + start])
            seconds.append(where[columns])
    if embeddings is not None:
        if len(embeddings) != len(ids):
            raise ValueError(f"embeddings has {len(embeddings)} rows for {len(ids)} image_ids; one row each is needed.")
        vectors = np.asarray(embeddings, dtype=np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[~np.isfinite(vectors).all(axis=1)] = 0
        for start in range(0, len(ids), 512):
            rows, columns = np.nonzero(vectors[start : start + 512] @ vectors.T >= min_cosine)
            firsts.append(rows + start)
            seconds.append(columns)
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(len(ids), len(ids)))
    _, labels = connected_components(graph, directed=False)
    renumbered: dict[int, int] = {}
    return {image_id: renumbered.setdefault(int(label), len(renumbered)) for image_id, label in zip(ids, labels)}
