"""Runs that train: ablation and ablation_page, a grid of trainings; reproduction, the paper's tables; lora, a renderer
trained for one person; encoder_tuning, an encoder's last blocks; demo, the first page of the offline demo.

lora, noise: generators led by the reward's gradient.

May import: evaluation and all below it.
"""
