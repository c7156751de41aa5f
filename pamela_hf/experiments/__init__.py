"""Grids of trainings: ablation and its page; reproduction of the paper's tables.

lora, noise: generators led by the reward's gradient.

May import: evaluation and all below it.
"""
