"""Who asks: on a Space with sign-in each visitor has people of their own; elsewhere everybody shares the store's.

A visitor's people are stored as `VISITOR/NAME`, where VISITOR is the account's id at Hugging Face (which stays when the
account is renamed). It comes from the signed session cookie alone: whatever a request says, it reaches nobody else's.
"""

import json
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import FastAPI, HTTPException, Request

LOGIN, CALLBACK, LOGOUT = "/login/huggingface", "/login/callback", "/logout"  # as Gradio names them
GUARDED = ("/api/", "/images/", "/mcp")  # what only those who signed in may ask for …
OPEN = ("/api/about",)  # … but this, which says how to
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Visitor:
    """Who sent a request.

    Attributes:
        id: of the account; "" where there is no sign-in, and then every person of the store is theirs.
        name: of the account, for display.
    """

    id: str = ""
    name: str = ""

    def person(self, asked: str) -> str:
        """The person of the store that a request means by `asked`: `VISITOR/NAME`, or NAME alone.

        Raises:
            HTTPException: 404 for another visitor's person, whether there is one or not.
        """
        if not self.id:
            return asked
        owner, slash, name = asked.partition("/")
        if not slash:
            owner, name = self.id, asked
        if owner != self.id:
            raise HTTPException(404, "You have no such person here. Name one of your own.")
        return f"{owner}/{name.strip()}" if name.strip() else ""

    def owns(self, person: str) -> bool:
        """Whether a person of the store is this visitor's."""
        return not self.id or person.startswith(f"{self.id}/")

    def label(self, person: str) -> str:
        """A person's name without whose it is."""
        return person.removeprefix(f"{self.id}/") if self.id else person


EVERYBODY = Visitor()
_current: ContextVar[Visitor] = ContextVar("visitor", default=EVERYBODY)


def visitor() -> Visitor:
    """Who sent the request that is being answered."""
    return _current.get()


class SignIn:
    """ASGI middleware inside the session's: answers 401 to whoever has not signed in, and notes who has."""

    def __init__(self, app: Callable):
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        found = _signed_in(scope)
        if found is None and scope["path"].startswith(GUARDED) and scope["path"] not in OPEN:
            await _refuse(send)
            return
        before = _current.set(found or Visitor("-"))  # "-" owns nobody
        try:
            await self.app(scope, receive, send)
        finally:
            _current.reset(before)


def attach_sign_in(app: FastAPI) -> None:
    """Adds "Sign in with Hugging Face": the routes and the session, both Gradio's, and who may ask for what.

    The OAuth application is the Space's own (`hf_oauth: true` in its README.md,
    https://huggingface.co/docs/hub/spaces-oauth); Gradio reads it from the environment.

    Raises:
        ImportError: authlib or itsdangerous is missing. ValueError: a part of the OAuth application is.
    """
    from gradio.oauth import attach_oauth

    app.add_middleware(SignIn)  # before the session's, which is added around it
    try:
        attach_oauth(app)
    except ImportError as error:
        raise ImportError("Sign-in needs more packages: pip install 'pamela_hf[space]'.") from error


def _signed_in(scope: dict) -> Visitor | None:
    """The visitor of the session; `None` without one that is still valid."""
    from huggingface_hub import parse_huggingface_oauth

    try:
        info = parse_huggingface_oauth(Request(scope))
    except (TypeError, ValueError, AttributeError):  # a session of an older form
        return None
    if info is None or info.access_token_expires_at <= datetime.now():
        return None
    id, name = info.user_info.sub, info.user_info.preferred_username
    return Visitor(id, str(name or "me")) if isinstance(id, str) and _ID.fullmatch(id) else None


async def _refuse(send: Callable) -> None:
    body = json.dumps({"error": "Sign in with Hugging Face first: open this page anew.", "sign_in": LOGIN}).encode()
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
