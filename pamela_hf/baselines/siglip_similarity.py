"""How close an image is to its prompt in SigLIP 2's space: what text similarity alone knows of taste.

Tschannen et al., *SigLIP 2: Multilingual Vision-Language Encoders*, 2025 (arXiv 2502.14786).
The score is the cosine, -1..1, higher is closer. Cached features serve where they were made by the same weights, and
no image is opened then. Any `AutoModel` with image and text features may be named: `siglip_similarity:ID_OR_FOLDER`.
"""

from ._encoders import similarity_fit
from ._pixels import Origin

ORIGIN = Origin(
    weights="google/siglip2-so400m-patch14-384",
    revision="e8e487298228002f3d8a82e0cd5c8ea9c567f57f",
    licence="Apache-2.0",
    gpu_gb=5,
)

fit = similarity_fit(__name__, ORIGIN)
