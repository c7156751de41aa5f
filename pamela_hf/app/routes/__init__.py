"""The JSON endpoints: answers in, pictures and what was learned out. The pages use nothing else.

Contract 8 of the design stands in `answers` (`/api/ratings`, `/api/choices`), `pictures` (`/api/next`), `taste`
(`/api/taste`) and `leaving` (`/api/export`, `/api/head`, `/api/person`). `exchange` brings in what others wrote. Each
module adds its own to a router; what they share is in `context`.

Rating has to work at once and for many people: its endpoints import neither PyTorch nor Gradio, and stand apart.
"""

from fastapi import APIRouter

from .context import Context


def add_rating_routes(router: APIRouter, app: Context) -> None:
    """The endpoints that rating takes."""
    from . import answers, people, pictures

    for module in (answers, pictures, people):
        module.add_routes(router, app)


def add_other_routes(router: APIRouter, app: Context) -> None:
    """All others. Imports PyTorch."""
    from . import exchange, leaving, prompts, ranking, study, taste

    for module in (taste, ranking, leaving, exchange, prompts, study):
        module.add_routes(router, app)
