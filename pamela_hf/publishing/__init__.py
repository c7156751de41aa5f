"""What goes to the Hub: models, ratings and heads (repositories), pipelines (pipeline), cards, pseudonyms.

pictures: pixels without what cameras add.  released: who is public already.
pipeline_entry: the one file that diffusers runs of a pushed pipeline.

May import: prompts, evaluation and all below them.
"""
