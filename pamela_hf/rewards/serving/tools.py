"""Tools for assistants (Model Context Protocol): what this person would think of these images."""

import asyncio
from typing import Any

import anyio.to_thread

from .requests import RequestError, read_score
from .service import ScoringService

INSTRUCTIONS = """Scores of images by a model of personal taste. A score is the rating that a person is predicted to \
give, std how uncertain it is, in rating units. Images are base64 or data URLs. A user is a name that describe_taste \
lists; none means everyone's taste. Scores are predictions, not what anybody said."""


def create_tools(service: ScoringService) -> Any:
    """The MCP server with the tools `score_images`, `rank_images` and `describe_taste`.

    Raises:
        ImportError: the package mcp is missing.
    """
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError as error:
        raise ImportError("`pamela serve` needs the package mcp: pip install 'pamela_hf[serve]'.") from error
    tools = MCPServer("pamela_hf", instructions=INSTRUCTIONS, log_level="WARNING")

    async def scores_of(images: list[str], prompts: Any, users: list[str | None] | None) -> dict[str, Any]:
        sent = {"images": images, "prompts": prompts, "users": users}
        asked = await anyio.to_thread.run_sync(lambda: read_score(service, sent))
        answers = await asyncio.wrap_future(service.ask(asked.questions)) if asked.questions else []
        from .app import _score_body

        return _score_body(service, asked, answers)

    @tools.tool()
    async def score_images(
        images: list[str], prompts: list[str | None] | None = None, users: list[str | None] | None = None
    ) -> dict[str, Any]:
        """Predicted ratings of images for people.

        Args:
            images: base64 or data URLs (data:image/png;base64,…).
            prompts: what each image was made from, if known.
            users: names of people; null or none = everyone's taste.

        Returns:
            scores and std with a row for each image and a column for each user; errors for images that cannot be read.
        """
        return await scores_of(images, prompts, users)

    @tools.tool()
    async def rank_images(
        images: list[str], user: str | None = None, prompts: list[str | None] | None = None, k: int | None = None
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
        found = await scores_of(images, prompts, [user] if user is not None else None)
        usable = [i for i, row in enumerate(found["scores"]) if row[0] is not None]
        best = sorted(usable, key=lambda i: -found["scores"][i][0])[:k]
        rows = [{"index": i, "score": found["scores"][i][0], "std": found["std"][i][0]} for i in best]
        return {"user": found["users"][0], "ranking": rows, "errors": found["errors"]}

    @tools.tool()
    async def describe_taste(user: str | None = None) -> dict[str, Any]:
        """What is known of a person's taste; without a name, whom this server knows.

        Args:
            user: name of a person.

        Returns:
            For a head: how many ratings it is made from, what it likes more than others do, how well it predicts. For a
            participant of the training: the name only.
        """
        reward = service.reward
        if user is None:
            return {"participants": list(reward.scorer.config.users), "heads": sorted(reward.heads)}
        try:
            (person,) = await anyio.to_thread.run_sync(lambda: service.people([user]))
        except ValueError as error:
            raise RequestError(str(error)) from None
        if hasattr(person, "describe"):
            return {"kind": "head", **person.describe()}
        return {"kind": "participant", "name": user}

    return tools
