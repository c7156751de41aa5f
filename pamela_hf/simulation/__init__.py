"""A simulated world, for the offline demo and for tests: always labelled, never a claim about real people.

world: images, people, ratings.  raters, tastes: what simulated people like.
vocabulary, traits, shapes, images: the drawings.  encoder: a tiny image–text encoder.
pipeline: a text-to-image pipeline without a diffusion model.

May import: model, files.
"""

from ..exports import exports

__getattr__, __all__ = exports(
    __name__, encoder=["simulated_pairs", "train_tiny_encoder"], pipeline=["SimulatedPipeline"], world=["write_world"]
)
