"""Many images on many machines, with Ray Data: `pamela score --engine ray`, `pamela embed --engine ray`.

sources: folders, Parquet and WebDataset tars at any fsspec URL, as rows.  batches: what an actor does with a batch of
them.  run: the actors, and what is written when all is done.

Needs the extra `ray`: ``pip install 'pamela_hf[ray]'``. May import: scoring, encoder and all below them.
"""

from ...exports import exports

__getattr__, __all__ = exports(__name__, run=["Workers", "embed_on_cluster", "score_on_cluster"])
