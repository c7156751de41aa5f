"""Which images show nearly the same, so that each group of them stays within one split."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from PIL import Image

MAX_CELLS = 1 << 22  # pairs compared at a time: 4 bytes each by embedding, 8 by hash


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
    embeddings is at least `min_cosine`; groups are the connected components. All pairs are compared, some
    [`MAX_CELLS`] at a time: time grows with N², memory with N.

    Args:
        image_ids: N ids.
        hashes: id → [`difference_hash`]; ids without one are compared by embedding only.
        embeddings: `(N, D)` in the order of `image_ids`; zero or non-finite rows match nothing.
        max_bits: 0..64.
        min_cosine: -1..1; what counts as near depends on the encoder. Among the 900 OASIS photographs with
            EfficientNet features .95 finds three pairs, .98 none; too low only keeps more images together.

    Returns:
        id → group number, 0 onwards in order of first appearance; every id has one.

    Raises:
        ValueError: `embeddings` has not one row an image.
    """
    ids = list(image_ids)
    groups = np.arange(len(ids))
    if hashes is not None:
        hashed = np.array([place for place, image_id in enumerate(ids) if image_id in hashes], dtype=np.int64)
        values = np.array([hashes[ids[place]] for place in hashed], dtype=np.uint64)
        bits, which = np.unique(values, return_inverse=True)
        alike = _join(
            np.arange(len(bits)), lambda rows: np.bitwise_count(bits[rows, None] ^ bits[rows.start :]) <= max_bits
        )
        groups[hashed] = len(ids) + alike[which]
    if embeddings is not None:
        if len(embeddings) != len(ids):
            raise ValueError(f"embeddings has {len(embeddings)} rows for {len(ids)} image_ids; one row each is needed.")
        vectors = np.asarray(embeddings, dtype=np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[~np.isfinite(vectors).all(axis=1)] = 0
        groups = _join(groups, lambda rows: vectors[rows] @ vectors[rows.start :].T >= min_cosine)
    renumbered: dict[int, int] = {}
    return {image_id: renumbered.setdefault(int(group), len(renumbered)) for image_id, group in zip(ids, groups)}


def _join(groups: np.ndarray, near: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Joins the groups of pairs that are near.

    Args:
        groups: `(N,)` group numbers.
        near: rows `start:stop` → `(stop - start, N - start)` whether each is near each item from `start` on.

    Returns:
        `(N,)` group numbers.
    """
    from scipy.sparse import coo_array  # here: importing it takes longer than most loads of ratings
    from scipy.sparse.csgraph import connected_components

    _, groups = np.unique(groups, return_inverse=True)
    step = max(1, MAX_CELLS // max(1, len(groups)))
    for start in range(0, len(groups), step):
        first, second = np.nonzero(near(slice(start, start + step)))
        first, second = groups[first + start], groups[second + start]
        if np.array_equal(first, second):
            continue
        count = groups.max() + 1
        graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
        groups = connected_components(graph, directed=False)[1][groups]
    return groups
