"""How close an image is to its prompt in CLIP's space: what text similarity alone knows of taste.

Radford et al., *Learning Transferable Visual Models From Natural Language Supervision*, 2021 (arXiv 2103.00020).
The score is the cosine, -1..1, higher is closer. Cached features serve where they were made by the same weights, and
no image is opened then. Any `AutoModel` with image and text features may be named: `clip_similarity:ID_OR_FOLDER`.
"""

from ._encoders import similarity_fit
from ._pixels import Origin

ORIGIN = Origin(
    weights="openai/clip-vit-large-patch14",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    licence="MIT (code); the weights state none",
    gpu_gb=2,
)

fit = similarity_fit(__name__, ORIGIN)
