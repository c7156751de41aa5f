"""User studies: who prefers which condition, on an Elo scale.

analysis: Bradley–Terry with ties.  power: before a study.  agreement: people with themselves and each other.
csv: the choices.  page: the report.

May import: files, metrics, reports.
"""
