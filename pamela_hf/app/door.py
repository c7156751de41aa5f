"""The app's door: what rating takes is answered at once, everything else once it is built.

PyTorch, transformers and Gradio take seconds to import. Pages, pictures and answers need none of them, so they come
from an application of their own, which is there first and has no other's middleware around each answer.
"""

import asyncio
import json
import logging
from collections.abc import Callable

from fastapi import FastAPI

logger = logging.getLogger(__name__)

Scope = dict
HEAD_START = 0.5  # seconds in which the first page need not share the interpreter with imports


class Door:
    """ASGI application over two others.

    Args:
        first: answers for its own routes from the start.
        build: makes the application that answers for all others, in a thread while `first` answers already.
        then: called once that has worked or failed, in the thread.
    """

    def __init__(self, first: FastAPI, build: Callable[[], FastAPI], then: Callable[[], None]):
        self.first, self._build, self._then = first, build, then
        self._fixed, self._starts = _addresses(first)
        self.second: FastAPI | None = None
        self.problem: str | None = None

    async def __call__(self, scope: Scope, receive: Callable, send: Callable) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"].startswith(self._starts) or self._is_first(scope.get("method", ""), scope["path"]):
            await self.first(scope, receive, send)
        else:
            await self._built.wait()
            if self.second is None:
                await _answer(send, 503, f"Rating works, this does not: {self.problem}")
            else:
                await self.second(scope, receive, send)

    def _is_first(self, method: str, path: str) -> bool:
        """Endpoints are shared by method; a page is the first application's whatever is done with it."""
        return (method, path) in self._fixed or (not path.startswith("/api/") and ("GET", path) in self._fixed)

    async def _live(self, receive: Callable, send: Callable) -> None:
        await receive()
        self._built, self._ended = asyncio.Event(), asyncio.Event()
        opening = asyncio.create_task(self._open())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._ended.set()
        if not self._built.is_set():
            opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self) -> None:
        """Builds the second application and lives its life."""
        try:
            await asyncio.sleep(HEAD_START)
            second = await asyncio.to_thread(self._built_then)
            async with second.router.lifespan_context(second):
                self.second = second
                self._built.set()
                await self._ended.wait()
        except Exception as error:
            logger.exception("The app rates, and does nothing else")
            self.problem = str(error) or "What is built behind the page failed; the terminal shows why."
            self._built.set()

    def _built_then(self) -> FastAPI:
        try:
            return self._build()
        finally:
            self._then()


def _addresses(app: FastAPI) -> tuple[set[tuple[str, str]], tuple[str, ...]]:
    """The fixed (method, path) of an application's routes, and what its other paths start with."""
    fixed, starts = set(), set()
    for route in app.routes:
        before, brace, _ = route.path.partition("{")
        if brace:
            starts.add(before)
        else:
            fixed |= {(method, route.path) for method in route.methods}
    return fixed, tuple(starts)


async def _answer(send: Callable, status: int, text: str) -> None:
    body = json.dumps({"error": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
