"""Bytes from a web address, within bounds of size and time, and without being led into a private network."""

import http.client
import ipaddress
import socket
import ssl
import time
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    Request,
    build_opener,
    getproxies,
    proxy_bypass,
)

MAX_SECONDS = 60.0  # of a whole download
SILENCE_SECONDS = 15.0  # without a byte
MAX_REDIRECTS = 5
CHUNK = 1 << 16


class DownloadError(ValueError):
    """An address that cannot be read: the message names it without its credentials and query."""


def shown_address(address: str) -> str:
    """An address as it may be shown: without user, password and query, which may be secrets."""
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"[:300]
    except ValueError:
        return "a malformed address"


def download(
    address: str, *, max_bytes: int, max_seconds: float = MAX_SECONDS, private_redirects: bool = False
) -> bytes:
    """What lies at an `http://` or `https://` address.

    Args:
        address: it may itself be of a private network: whoever passes it means it.
        max_bytes: more are not read, whatever the server announces.
        max_seconds: for all of it; a server that is silent for 15 seconds is given up earlier.
        private_redirects: whether a redirect may lead to a private, loopback or link-local address; default: refused,
            so that a stranger's address cannot make this machine ask its own network. A name is looked up once, and
            the connection goes to the very address that was checked. Behind a proxy, the proxy looks names up.

    Raises:
        DownloadError: no such server or file, too large, too slow, a refused redirect.
    """
    shown = shown_address(address)
    ends = time.monotonic() + max_seconds
    request = Request(address, headers={"User-Agent": "pamela_hf", "Accept": "image/*"})
    try:
        opener = build_opener(_Redirects(private_redirects), _Plain, _Encrypted)
        with opener.open(request, timeout=min(SILENCE_SECONDS, max_seconds)) as answer:
            announced = answer.headers.get("Content-Length")
            if announced is not None and announced.isdigit() and int(announced) > max_bytes:
                raise DownloadError(f"{shown}: {int(announced):,} bytes; at most {max_bytes:,} are read.")
            parts: list[bytes] = []
            size = 0
            while chunk := answer.read1(CHUNK):
                parts.append(chunk)
                size += len(chunk)
                if size > max_bytes:
                    raise DownloadError(f"{shown}: more than {max_bytes:,} bytes. Give a smaller file.")
                if time.monotonic() > ends:
                    raise DownloadError(f"{shown}: not finished after {max_seconds:g} seconds. Download it yourself.")
            if announced is not None and announced.isdigit() and size < int(announced):
                raise DownloadError(f"{shown}: ended after {size:,} of {int(announced):,} bytes. Try again.")
            return b"".join(parts)
    except DownloadError:
        raise
    except HTTPError as error:
        error.close()
        raise DownloadError(f"{shown}: the server answers {error.code} {error.reason}. Check the address.") from None
    except (URLError, OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        why = "no answer in time" if isinstance(why, TimeoutError) else str(why)[:200]
        raise DownloadError(f"{shown}: cannot be downloaded ({why}). Check the address and the connection.") from None


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to http and https only, and to public addresses unless others are allowed."""

    max_redirections = MAX_REDIRECTS

    def __init__(self, private: bool):
        self._private = private

    def redirect_request(self, request: Request, stream: Any, code: int, message: str, headers: Any, target: str):
        parts, shown = urlsplit(target), shown_address(request.full_url)
        if parts.scheme not in ("http", "https"):
            raise DownloadError(f"{shown}: redirects to {parts.scheme}:, which is not followed.")
        further = super().redirect_request(request, stream, code, message, headers, target)
        if further is not None and not self._private and not _is_proxied(parts.scheme, parts.hostname or ""):
            further.redirected_from = shown  # type: ignore[attr-defined]
        return further


class _Plain(HTTPHandler):
    """http, to a checked address where a redirect led there."""

    def http_open(self, request: Request) -> http.client.HTTPResponse:
        shown = getattr(request, "redirected_from", None)
        if shown is None:
            return super().http_open(request)
        return self.do_open(_CheckedConnection, request, redirected_from=shown, target=request.full_url)


class _Encrypted(HTTPSHandler):
    """The same of https; the certificate is checked for the name."""

    def https_open(self, request: Request) -> http.client.HTTPResponse:
        shown = getattr(request, "redirected_from", None)
        if shown is None:
            return super().https_open(request)
        return self.do_open(_CheckedTlsConnection, request, redirected_from=shown, target=request.full_url)


class _CheckedConnection(http.client.HTTPConnection):
    """A connection to one of the addresses of its host, all of which are public ones."""

    def __init__(self, host: str, *, redirected_from: str, target: str, **how: Any):
        super().__init__(host, **how)
        self._redirected_from, self._target = redirected_from, target

    def connect(self) -> None:
        self.sock = self._checked_socket()

    def _checked_socket(self) -> socket.socket:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        addresses = [entry[4][0].partition("%")[0] for entry in found]
        if not all(map(_is_public, addresses)):
            raise DownloadError(
                f"{self._redirected_from}: redirects to the private address {shown_address(self._target)}, which is "
                "not followed. Give that address itself, or allow it with private_redirects=True."
            )
        for number, address in enumerate(addresses, 1):
            try:
                return socket.create_connection((address, self.port), self.timeout)
            except OSError:
                if number == len(addresses):
                    raise
        raise OSError("no address of this name")


class _CheckedTlsConnection(_CheckedConnection):
    """The same with TLS."""

    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        self.sock = ssl.create_default_context().wrap_socket(self._checked_socket(), server_hostname=self.host)


def _is_public(address: str) -> bool:
    """Whether an IP address belongs to the public network; of an IPv4 address within IPv6, that one."""
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_global


def _is_proxied(scheme: str, host: str) -> bool:
    return scheme in getproxies() and not proxy_bypass(host)
