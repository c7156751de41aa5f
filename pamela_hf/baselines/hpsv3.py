"""HPSv3: a 7 B vision–language model (Qwen2-VL) tuned on choices between images of one prompt.

Ma et al., *HPSv3: Towards Wide-Spectrum Human Preference Score*, ICCV 2025 (arXiv 2508.03789). The score is the mean of
the preference it predicts, unbounded (about -10..15), higher is better. The authors publish no example value.

Runs through the authors' package, release 1.0.0, which pins transformers 4.45.2: in an environment of its own, whose
Python is named as `hpsv3:ENV/bin/python`. The package also reads the newest commit of `Qwen/Qwen2-VL-7B-Instruct`. The
requirements below were tried with a tiny Qwen2-VL of random weights on a CPU; the package imports matplotlib and
tensorboard without naming them.
"""

from ._isolated import isolated_fit
from ._pixels import Origin

ORIGIN = Origin(
    weights="MizzenAI/HPSv3",
    revision="4f81e3e09edd82fe3c5f636444c721b592a735ca",
    licence="MIT (code), Apache-2.0 (weights)",
    gpu_gb=20,
    package="hpsv3==1.0.0",
)
INSTALL = "hpsv3==1.0.0 matplotlib tensorboard"

fit = isolated_fit("hpsv3", ORIGIN, INSTALL)
