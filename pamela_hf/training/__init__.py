"""Training a reward from ratings and their features.

train: the run.  config: its settings.  batches: what a step sees.  checkpoints: exact resume.
choice_scores: what choices say of single images.

May import: scoring and all below it.
"""
