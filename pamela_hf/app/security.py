"""Who may ask this server for what: hosts, origins, a token beyond loopback, sizes, and headers of every answer.

A page of any website can make a browser send requests to 127.0.0.1, and DNS rebinding lets it read the answers; so only
the host names this server is known by are answered, and requests that another site's page caused are refused. Paths are
an allow-list: of Gradio's own routes only its API is open, none of its file routes.
"""

import functools
import ipaddress
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "manifest-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
)
MAX_JSON = 1 << 20  # bytes of a request's body …
MAX_UPLOAD = 64 << 20  # … where it is a picture or a table
LARGE = ("/api/uploads", "/api/import", "/mcp")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
GRADIO = (
    "/config",
    "/gradio_api/info",
    "/gradio_api/call/",
    "/gradio_api/queue/",
    "/gradio_api/heartbeat/",
    "/gradio_api/mcp/",
)
COOKIE = "pamela_token"

Scope = dict
Send = Callable[[dict], Awaitable[None]]


@dataclass(frozen=True)
class Access:
    """What the guard lets through.

    Attributes:
        paths: the app's own: exact ones, or what they start with if they end in "/".
        hosts: names this server is known by, without a port.
        token: what a visitor has to know; `None` on loopback.
        any_address: an IP address is a name of this server, too (it listens on all of them, and asks for the token).
        ancestors: pages that may show the app in a frame, as in a content security policy.
    """

    paths: tuple[str, ...]
    hosts: tuple[str, ...] = LOOPBACK
    token: str | None = None
    any_address: bool = False
    ancestors: str = "'none'"

    @classmethod
    def for_host(cls, host: str, paths: Iterable[str]) -> "Access":
        """Loopback alone, or with a new token whatever `host` stands for."""
        if is_loopback(host):
            return cls(tuple(paths))
        return cls(tuple(paths), (*LOOPBACK, host.lower()), secrets.token_urlsafe(18), any_address=True)

    @classmethod
    def for_space(cls, hosts: Iterable[str], paths: Iterable[str]) -> "Access":
        """A Space's own names and no other; the Hub shows it in a frame."""
        return cls(tuple(paths), tuple(hosts), ancestors="'self' https://huggingface.co https://*.hf.space")

    def knows_host(self, host: str) -> bool:
        name = _without_port(host)
        return name in self.hosts or (self.any_address and _is_address(name))

    @functools.cached_property
    def _known(self) -> tuple[frozenset[str], tuple[str, ...]]:
        known = (*self.paths, *GRADIO)
        return frozenset(known), tuple(one for one in known if one.endswith("/") and one != "/")

    def has_path(self, path: str) -> bool:
        exact, starts = self._known
        return path in exact or path.startswith(starts)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _without_port(host: str) -> str:
    host = host.strip().lower()
    return host[: host.find("]") + 1] if host.startswith("[") else host.split(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
        return True
    except ValueError:
        return False


class Guard:
    """ASGI middleware that answers what is refused, and adds the security headers to everything else."""

    def __init__(self, app: Callable, access: Access):
        self.app, self.access = app, access
        policy = CONTENT_SECURITY_POLICY.format(ancestors=access.ancestors)
        headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), microphone=(), geolocation=()",
        }
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._own = {name for name, _ in self._headers}

    async def __call__(self, scope: Scope, receive: Callable, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # the app has none
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if refused is not None:
            await self._answer(send, *refused)
            return
        if (cookie := self._new_cookie(scope)) is not None:
            await self._answer(send, 303, "", [(b"location", _without_token(scope).encode()), (b"set-cookie", cookie)])
            return
        limit = MAX_UPLOAD if scope["path"].startswith(LARGE) else MAX_JSON
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            await self._answer(send, 413, f"At most {limit >> 20} MiB at a time.")
            return
        try:
            await self.app(scope, _bounded(receive, limit), self._with_headers(send))
        except TooLarge:
            await self._answer(send, 413, f"At most {limit >> 20} MiB at a time.")

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        access, host = self.access, headers.get("host", "")
        if not access.knows_host(host):
            return 403, "This server is not known by that name."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "Requests from other sites are refused."
        cross_site = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if cross_site and headers.get("sec-fetch-mode") != "navigate":
            return 403, "Requests from other sites are refused."
        if not access.has_path(scope["path"]):
            return 404, "There is nothing here."
        if access.token is not None and not self._has_token(scope, headers):
            return 401, "Open the address with the token that was printed when the app started."
        return None

    def _has_token(self, scope: Scope, headers: dict[str, str]) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        given = [headers.get("authorization", "").removeprefix("Bearer "), cookie.value if cookie else ""]
        given += parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return any(secrets.compare_digest(one.encode(), self.access.token.encode()) for one in given if one)

    def _new_cookie(self, scope: Scope) -> bytes | None:
        """A page opened with the token keeps it in a cookie, and out of the address bar."""
        if self.access.token is None or scope["method"] != "GET" or scope["path"].startswith(("/api/", "/gradio_api/")):
            return None
        if "token" not in parse_qs(scope["query_string"].decode("latin-1")):
            return None
        return f"{COOKIE}={self.access.token}; HttpOnly; SameSite=Strict; Path=/".encode()

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                kept = [(n, v) for n, v in message.get("headers", []) if n.lower() not in self._own]
                message = {**message, "headers": [*kept, *self._headers]}
            await send(message)

        return send_with_headers

    async def _answer(self, send: Send, status: int, text: str, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
        body = json.dumps({"error": text}).encode() if text else b""
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *self._headers]})
        await send({"type": "http.response.body", "body": body})


class TooLarge(Exception):
    """A body that went on past the limit."""


def _bounded(receive: Callable, limit: int) -> Callable:
    """`receive` that stops a body without a stated length at the limit."""
    got = 0

    async def bounded() -> dict:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > limit:
            raise TooLarge
        return message

    return bounded


def _without_token(scope: Scope) -> str:
    query = parse_qs(scope["query_string"].decode("latin-1"))
    query.pop("token", None)
    # the path is one of the allow-list, so it cannot lead to another site
    return scope["path"] + (f"?{urlencode(query, doseq=True)}" if query else "")
