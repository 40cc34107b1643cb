"""The HTTP side: health, the page, and short-lived tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ._admission import bearer
from ._page_address import content_security_policy, websocket_url
from ._rate_limit import RateLimit
from ._settings import GatewaySettings
from ._tokens import Tokens, same_secret

__all__ = ["PageFile", "make_app", "read_page"]

_PAGE: Final = Path(__file__).with_name("page")
_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_TRIES_PER_S: Final = 5.0
"""How often anybody may ask for a token, together: guessing a token would take longer than the universe has."""


class PageFile(Struct, frozen=True):
    """One file of the page, in memory."""

    content: bytes
    media_type: str
    etag: str


def read_page() -> dict[str, PageFile]:
    """Read the files of the page, by name; blocks for as long as a disk takes."""
    files = {}
    for path in sorted(_PAGE.rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            content = path.read_bytes()
            files[path.relative_to(_PAGE).as_posix()] = PageFile(
                content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            )
    return files


_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def make_app(
    settings: GatewaySettings,
    tokens: Tokens,
    page: Mapping[str, PageFile],
    *,
    draining: Callable[[], bool],
    now: Callable[[], float],
) -> ASGIApp:
    """The HTTP application of a gateway whose WebSocket is where `settings` say.

    Args:
      settings: With the ports that were taken.
      tokens: Where issued tokens are kept.
      page: The page's files.
      draining: Whether the gateway is shutting down.
      now: Seconds on a clock that only goes forward.
    """
    tries = RateLimit(_TRIES_PER_S, round(4 * _TRIES_PER_S), now=now())

    def health(_: Request) -> Response:
        return _json({"status": "ok"})

    def ready(_: Request) -> Response:
        if draining():
            return _json({"status": "draining"}, status=503)
        return _json({"status": "ready"})

    def document(request: Request) -> Response:
        policy = content_security_policy(websocket_url(settings, request.headers.get("host", "")))
        return _file(request, page["index.html"], {"content-security-policy": policy})

    def file(request: Request) -> Response:
        found = page.get(request.path_params["name"])
        if found is None:
            return _json({"error": "there is no such file"}, status=404)
        return _file(request, found, {})

    def connect(request: Request) -> Response:
        url = websocket_url(settings, request.headers.get("host", ""))
        return _json({"websocket": url, "token_required": bool(settings.token)})

    def issue(request: Request) -> Response:
        if wait_s := tries.take(now()):
            return _json(
                {"error": "too many requests for tokens"},
                status=429,
                headers={"retry-after": str(max(1, round(wait_s)))},
            )
        if not settings.token:
            return _json({"error": "this gateway asks for no token"}, status=404)
        if not same_secret(bearer(request.headers.get("authorization", "")), settings.token):
            return _json(
                {"error": "the token is missing or wrong"},
                status=401,
                headers={"www-authenticate": "Bearer"},
            )
        token = tokens.issue(now())
        if token is None:
            return _json({"error": "too many tokens are outstanding"}, status=503)
        return _json({"token": token, "expires_in_s": tokens.ttl_s})

    return _without_lifespan(
        Starlette(
            routes=[
                Route("/health", _async(health)),
                Route("/ready", _async(ready)),
                Route("/connect", _async(connect)),
                Route("/token", _async(issue), methods=["POST"]),
                Route("/", _async(document)),
                Route("/runtime", _async(document)),
                Route("/page/{name:path}", _async(file)),
            ]
        )
    )


def _without_lifespan(app: ASGIApp) -> ASGIApp:
    """An application that begins and ends with nothing: Starlette takes being cancelled for a failure of its ending."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        while True:
            event = (await receive())["type"]
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return

    return answer


def _async(answer: Callable[[Request], Response]) -> Callable[[Request], object]:
    """An endpoint that answers at once; Starlette would send a plain function to a thread."""

    async def endpoint(request: Request) -> Response:
        return answer(request)

    return endpoint


def _json(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return JSONResponse(
        content, status, {**_HEADERS, "cache-control": "no-store", **(headers or {})}
    )


def _file(request: Request, file: PageFile, headers: Mapping[str, str]) -> Response:
    all_headers = {**_HEADERS, "cache-control": "no-cache", "etag": file.etag, **headers}
    if request.headers.get("if-none-match") == file.etag and not headers:
        return Response(status_code=304, headers=all_headers)
    return Response(file.content, headers={**all_headers, "content-type": file.media_type})
