"""The JSON endpoints: answers in, pictures and what was learned out. The pages use nothing else.

Contract 8 of the design stands in `answers` (`/api/ratings`, `/api/choices`), `pictures` (`/api/next`), `taste`
(`/api/taste`) and `people` (`/api/export`, `/api/head`, `/api/person`). `exchange` brings in what
others wrote. Each module adds its own to a router; what they share is in `context`.
"""

from fastapi import APIRouter

from . import answers, exchange, people, pictures, prompts, ranking, study, taste
from .context import Context


def build_router(app: Context) -> APIRouter:
    """All endpoints of one app."""
    router = APIRouter()
    for module in (answers, pictures, taste, ranking, people, exchange, prompts, study):
        module.add_routes(router, app)
    return router
