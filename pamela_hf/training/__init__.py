"""Training a reward from ratings and their features.

train: the whole.  run: its steps.  config: its settings.  settings: those it chooses itself.  pilot: those that images
say which a shorter training has not seen.  batches: what a step sees.  checkpoints: exact resume.  choice_scores: what
choices say of single images.

May import: scoring and all below it.
"""
