"""Listening, and stopping in order: requests under way are answered first."""

import os
import secrets
from collections.abc import Callable

from .service import ScoringService

TOKEN_VARIABLE = "PAMELA_TOKEN"
"""Environment variable with the token: an argument would be seen by every process of the machine."""
_GRACE = 30  # seconds for requests under way once the server is asked to stop


def serve(
    service: ScoringService,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serves until the process is asked to stop (SIGINT, SIGTERM).

    Args:
        service: scores.
        host: address to listen at.
        port: 0 = any that is free.
        token: what clients have to send; default: the environment's `PAMELA_TOKEN`, and at any address but loopback
            one that is made up and announced.
        announce: called with the address once the server answers.

    Raises:
        ImportError: fastapi, uvicorn or mcp is missing. OSError: the port is taken.
    """
    try:
        import uvicorn

        from .app import LOOPBACK, create_app
    except ImportError as error:
        raise ImportError(f"`pamela serve` needs more packages ({error}): pip install 'pamela_hf[serve]'.") from error
    token = token or os.environ.get(TOKEN_VARIABLE) or None
    made = token is None and host not in LOOPBACK
    token = secrets.token_urlsafe(24) if made else token

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                at = self.servers[0].sockets[0].getsockname()[1]
                announce(f"Serving http://{f'[{host}]' if ':' in host else host}:{at}")
                if made:
                    announce(f"Token {token} (set {TOKEN_VARIABLE} to choose one)")

    service.warm_up()
    config = uvicorn.Config(
        create_app(service, token),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE,
        limit_concurrency=None,
        server_header=False,
    )
    Server(config).run()
