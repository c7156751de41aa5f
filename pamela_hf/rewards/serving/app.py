"""The routes of `pamela serve`, as a FastAPI application."""

import asyncio
import base64
import binascii
import hmac
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...version import __version__
from .._batching import Busy
from .requests import RequestError, ScoreRequest, parse_body, read_compute, read_score
from .service import ScoringService
from .tools import create_tools, create_tools_app, score_body

LOOPBACK = ("127.0.0.1", "localhost", "::1")
Reader = Callable[[ScoringService, dict[str, Any]], ScoreRequest]


def create_app(service: ScoringService, token: str | None = None) -> FastAPI:
    """The application.

    `POST /v1/score` scores of a grid of images and people; `POST /compute` and `POST /users/NAME/compute` rewards as
    Flow-Factory's client asks for them; `GET /health`, `GET /v1/users`, `GET /metrics`; `/mcp` tools for assistants.

    Args:
        service: scores.
        token: what a client has to send, as `Authorization: Bearer TOKEN` or as the password of basic authentication
            (`http://pamela:TOKEN@host:port`, for clients that only know an address). `None`: none, and then only
            requests addressed to this machine's loopback names are answered, so that no web page can ask.
    """
    tools = create_tools(lambda: service)
    tools_app = create_tools_app(tools, "/mcp", service.limits.max_body_bytes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with tools.session_manager.run():
            yield
        await anyio.to_thread.run_sync(service.close)

    app = FastAPI(title="pamela_hf", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.under_way = 0
    app.state.decoding = anyio.CapacityLimiter(os.cpu_count() or 1)

    app.add_middleware(_Guard, service=service, token=token)

    @app.get("/health")
    @app.get("/users/{user}/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": service.reward.scorer.identity[:12], "waiting": service.waiting}

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        gauges = {"waiting_images": service.waiting, "requests_under_way": app.state.under_way}
        text = service.metrics.text(**gauges, heads=len(service.reward.heads))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/users")
    async def users() -> dict[str, Any]:
        return {"participants": list(service.reward.scorer.config.users), "heads": sorted(service.reward.heads)}

    @app.post("/v1/score")
    async def score(request: Request) -> Response:
        return await _answered(app, service, request, read_score, _score_body)

    @app.post("/compute")
    async def compute(request: Request) -> Response:
        return await _answered(app, service, request, read_compute, _compute_body)

    @app.post("/users/{user}/compute")
    async def compute_for(request: Request, user: str) -> Response:
        def read(service: ScoringService, sent: dict[str, Any]) -> ScoreRequest:
            return read_compute(service, sent, user)

        return await _answered(app, service, request, read, _compute_body)

    app.router.routes.extend(tools_app.routes)
    return app


class _Guard:
    """Looks at host and token before anything else, and counts every answer. Without Starlette's BaseHTTPMiddleware,
    which hands each request through a task and a queue of its own.

    Args:
        app: what answers.
        service: whose metrics count.
        token: see [`create_app`].
    """

    def __init__(self, app: ASGIApp, service: ScoringService, token: str | None):
        self.app, self.service, self.token = app, service, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await (_refusal(Request(scope), self.token) or self.app)(scope, receive, counted)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self.service.metrics.request(path, status, time.perf_counter() - began)


async def _answered(
    app: FastAPI,
    service: ScoringService,
    request: Request,
    read: Reader,
    write: Callable[[ScoringService, ScoreRequest, list[Any]], dict[str, Any]],
) -> Response:
    """Reads a request, has it scored and writes the answer; what goes wrong is a status and `{"error": …}`."""
    if app.state.under_way >= service.limits.max_requests:
        return _error(429, f"{service.limits.max_requests} requests are under way. Try again.", {"Retry-After": "1"})
    app.state.under_way += 1
    try:
        body = await _body(request, service.limits.max_body_bytes)
        asked = await anyio.to_thread.run_sync(_read, service, read, body, limiter=app.state.decoding)
        del body
        answers = await asyncio.wrap_future(service.ask(asked.questions)) if asked.questions else []
        return JSONResponse(write(service, asked, answers))
    except RequestError as error:
        return _error(413 if "bytes; at most" in str(error) else 422, str(error))
    except Busy as error:
        return _error(429, f"{error} Try again.", {"Retry-After": "1"})
    finally:
        app.state.under_way -= 1


def _read(service: ScoringService, read: Reader, body: bytes) -> ScoreRequest:
    return read(service, parse_body(body))


async def _body(request: Request, most: int) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("Send JSON with Content-Type: application/json.")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise RequestError(f"The body has more than {most} bytes; at most {most} are allowed. Send fewer images.")
        parts.append(part)
    return b"".join(parts)


def _score_body(service: ScoringService, asked: ScoreRequest, answers: list[Any]) -> dict[str, Any]:
    return score_body(asked, answers)


def _compute_body(service: ScoringService, asked: ScoreRequest, answers: list[Any]) -> dict[str, Any]:
    """`rewards` of N images: finite, as a run averages them without looking; `unusable` says which were not scored."""
    rewards = [service.reward.lowest] * asked.n
    for i, answer in zip(asked.at, answers):
        value = float(answer[0, 0])
        rewards[i] = value if math.isfinite(value) else service.reward.lowest
    return {"rewards": rewards, "unusable": sorted(asked.errors)}


def _refusal(request: Request, token: str | None) -> Response | None:
    if token is None:
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.strip("[]") not in LOOPBACK:
            return _error(
                403, f"Host {host[:80]!r} is not this machine's loopback. Start with a token to serve others."
            )
        return None
    kind, _, sent = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            sent = base64.b64decode(sent, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            sent = ""
    elif kind.lower() != "bearer":
        sent = ""
    if hmac.compare_digest(sent.strip().encode(), token.encode()):
        return None
    return _error(401, "Send the server's token: Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"})


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
