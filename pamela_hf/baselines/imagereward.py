"""ImageReward: BLIP tuned on experts' rankings of images of one prompt.

Xu et al., *ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation*, 2023
(arXiv 2304.05977). The score is standardized over its training set, unbounded (about -3..3), higher is better. Example
in its README (prompt "a painting of an ocean with clouds and birds, day time, low depth field effect",
`assets/images/1.webp` to `4.webp`): 0.5812, 0.2745, -1.4132, -2.0296.

Runs through the authors' package, release 1.5, whose BLIP needs a transformers before 4.56 and whose timm is pinned: in
an environment of its own, whose Python is named as `imagereward:ENV/bin/python`. The package also reads the newest
commit of `bert-base-uncased`'s tokenizer. The requirements below were tried with random weights in place of the real
ones: `openai-clip` is one that the package does not name, the other pins make its imports work.
"""

from ._isolated import isolated_fit
from ._pixels import Origin

ORIGIN = Origin(
    weights="THUDM/ImageReward",
    revision="8a4269cb91d7d287c5b2dcc0670cb99911f92c64",
    licence="Apache-2.0",
    gpu_gb=3,
    package="image-reward==1.5",
)
INSTALL = "image-reward==1.5 'transformers<4.41' diffusers==0.31.0 openai-clip 'setuptools<81'"

fit = isolated_fit("imagereward", ORIGIN, INSTALL)
