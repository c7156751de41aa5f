"""An index over many images, searched for what one person would like best.

- `index`: [`ImageIndex`], features and metadata of images in one Lance dataset: built, added to, deleted from.
- `search`: [`PersonalSearch`], a person as a query vector, candidates re-ranked by the whole model.
- `sources`: where images and metadata come from.

Needs the extra `retrieval`: ``pip install 'pamela_hf[retrieval]'``.
"""

from .index import ImageIndex
from .search import PersonalSearch

__all__ = ["ImageIndex", "PersonalSearch"]
