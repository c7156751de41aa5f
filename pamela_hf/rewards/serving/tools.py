"""Tools for assistants (Model Context Protocol): what this person would think of these images."""

import asyncio
from collections.abc import Callable
from typing import Any

import anyio.to_thread

from .requests import RequestError, ScoreRequest, read_score
from .service import ScoringService

INSTRUCTIONS = """Scores of images by a model of personal taste. A score is the rating that a person is predicted to \
give, std how uncertain it is, in rating units. Images are base64 or data URLs. A user is a name that describe_taste \
lists; none means everyone's taste. Scores are predictions, not what anybody said."""


def create_tools(service: Callable[[], ScoringService]) -> Any:
    """The MCP server with the tools `score_images`, `rank_images` and `describe_taste`.

    Args:
        service: gives what scores, at each question; raises RequestError as long as there is nothing yet.

    Raises:
        ImportError: the package mcp is missing.
    """
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError as error:
        raise ImportError("Tools for assistants need the package mcp: pip install 'pamela_hf[serve]'.") from error
    server, tools = MCPServer("pamela_hf", instructions=INSTRUCTIONS, log_level="WARNING"), TasteTools(service)
    for tool in (tools.score_images, tools.rank_images, tools.describe_taste):
        server.add_tool(tool)
    return server


def create_tools_app(tools: Any, path: str, max_body_bytes: int) -> Any:
    """The tools as an ASGI application, whose lifespan is `tools.session_manager.run()`.

    Host, Origin and token are looked at by the server that mounts it, for all its routes alike.

    Args:
        tools: what [`create_tools`] makes.
        path: where it answers, such as "/mcp".
        max_body_bytes: of one request.
    """
    from mcp.server.transport_security import TransportSecuritySettings

    return tools.streamable_http_app(
        streamable_http_path=path,
        stateless_http=True,
        json_response=True,
        max_request_body_size=max_body_bytes,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )


class TasteTools:
    """The tools; their docstrings are what an assistant reads.

    Args:
        service: as in [`create_tools`].
    """

    def __init__(self, service: Callable[[], ScoringService]):
        self._service = service

    async def score_images(
        self, images: list[str], prompts: list[str | None] | None = None, users: list[str | None] | None = None
    ) -> dict[str, Any]:
        """Predicted ratings of images for people.

        Args:
            images: base64 or data URLs (data:image/png;base64,…).
            prompts: what each image was made from, if known.
            users: names of people; null or none = everyone's taste.

        Returns:
            scores and std with a row for each image and a column for each user; errors for images that cannot be read.
        """
        sent = {"images": images, "prompts": prompts, "users": users}
        service = await anyio.to_thread.run_sync(self._service)
        asked = await anyio.to_thread.run_sync(lambda: read_score(service, sent))
        answers = await asyncio.wrap_future(service.ask(asked.questions)) if asked.questions else []
        return score_body(asked, answers)

    async def rank_images(
        self, images: list[str], user: str | None = None, prompts: list[str | None] | None = None, k: int | None = None
    ) -> dict[str, Any]:
        """The images that a person is predicted to like best, best first.

        Args:
            images: base64 or data URLs.
            user: name of the person; none = everyone's taste.
            prompts: what each image was made from, if known.
            k: how many to return; default: all.

        Returns:
            ranking: index (from 0), score and std of each image; errors for images that cannot be read.
        """
        if k is not None and k < 1:
            raise RequestError(f"k={k} must be at least 1.")
        found = await self.score_images(images, prompts, [user] if user is not None else None)
        usable = [i for i, row in enumerate(found["scores"]) if row[0] is not None]
        best = sorted(usable, key=lambda i: -found["scores"][i][0])[:k]
        rows = [{"index": i, "score": found["scores"][i][0], "std": found["std"][i][0]} for i in best]
        return {"user": found["users"][0], "ranking": rows, "errors": found["errors"]}

    async def describe_taste(self, user: str | None = None) -> dict[str, Any]:
        """What is known of a person's taste; without a name, whom this server knows.

        Args:
            user: name of a person.

        Returns:
            For a head: how many ratings it is made from, what it likes more than others do, how well it predicts. For a
            participant of the training: the name only.
        """
        service = await anyio.to_thread.run_sync(self._service)
        if user is None:
            return {"participants": list(service.reward.scorer.config.users), "heads": sorted(service.reward.heads)}
        try:
            (person,) = await anyio.to_thread.run_sync(lambda: service.people([user]))
        except ValueError as error:
            raise RequestError(str(error)) from None
        if hasattr(person, "describe"):
            return {"kind": "head", **person.describe()}
        return {"kind": "participant", "name": user}


def score_body(asked: ScoreRequest, answers: list[Any]) -> dict[str, Any]:
    """`scores` and `std`, N × U, with a row of nulls for an image that cannot be read, and why in `errors`."""
    scores: list[list[float | None]] = [[None] * len(asked.users) for _ in range(asked.n)]
    std = [list(row) for row in scores]
    for i, (row, deviations) in zip(asked.at, answers):
        scores[i], std[i] = row.tolist(), deviations.tolist()
    return {"scores": scores, "std": std, "users": asked.users, "errors": {str(i): e for i, e in asked.errors.items()}}
