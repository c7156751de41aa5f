"""Grids of trainings: ablation and its page; reproduction of the paper's tables.

May import: evaluation and all below it.
"""
