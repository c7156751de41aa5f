"""Runs that train: ablation and ablation_page, a grid of trainings; reproduction, the paper's tables; lora, a renderer
trained for one person; demo, the first page of the offline demo.

May import: evaluation and all below it.
"""
