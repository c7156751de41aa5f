"""Heads: a new person's row from a few answers.

head: `UserHead`, what a user calls.  answers: what a person gave, checked.  csv: answers as tables.  fitting: the
mathematics.  suggest: what to ask next.  pool: questions for many people.  summary: a head in figures and words, and
its card.  folder: what is on disk.

May import: scoring and all below it, hub.
"""

from ..exports import exports

__getattr__, __all__ = exports(__name__, head=["UserHead"], folder=["HeadError"])
