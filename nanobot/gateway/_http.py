"""The routes of the HTTP side: health, the page, and short-lived tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ._admission import bearer
from ._page_address import content_security_policy, websocket_url
from ._page_files import PageFile, file_response, json_response
from ._rate_limit import RateLimit
from ._settings import GatewaySettings
from ._tokens import Tokens, same_secret

__all__ = ["make_app"]

_TRIES_PER_S: Final = 5.0
"""How often anybody may ask for a token, together: guessing a token would take longer than the universe has."""


def make_app(
    settings: GatewaySettings,
    tokens: Tokens,
    page: Mapping[str, PageFile],
    *,
    draining: Callable[[], bool],
    problem: Callable[[], Awaitable[str]],
    now: Callable[[], float],
) -> ASGIApp:
    """The HTTP application of a gateway whose WebSocket is where `settings` say.

    Args:
      settings: With the ports that were taken.
      tokens: Where issued tokens are kept.
      page: The page's files.
      draining: Whether the gateway is shutting down.
      problem: What keeps turns from beginning, or "".
      now: Seconds on a clock that only goes forward.
    """

    def health(_: Request) -> Response:
        return json_response({"status": "ok"})

    async def ready(_: Request) -> Response:
        if draining():
            return json_response({"status": "draining"}, status=503)
        if found := await problem():
            return json_response({"status": "not ready", "problem": found}, status=503)
        return json_response({"status": "ready"})

    served = _Page(settings, page)
    return _http_alone(
        Starlette(
            routes=[
                Route("/health", _async(health)),
                Route("/ready", ready),
                Route("/connect", _async(served.connect)),
                Route("/token", _async(_TokenDesk(settings, tokens, now).issue), methods=["POST"]),
                Route("/", _async(served.document)),
                Route("/runtime", _async(served.document)),
                Route("/page/{name:path}", _async(served.file)),
            ]
        )
    )


class _Page:
    """The page, which is one document under two addresses, and where its WebSocket is."""

    def __init__(self, settings: GatewaySettings, files: Mapping[str, PageFile]) -> None:
        self._settings = settings
        self._files = files

    def document(self, request: Request) -> Response:
        policy = content_security_policy(self._websocket(request))
        return file_response(
            request, self._files["index.html"], {"content-security-policy": policy}
        )

    def file(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        if found is None:
            return json_response({"error": "there is no such file"}, status=404)
        return file_response(request, found, {})

    def connect(self, request: Request) -> Response:
        asked = bool(self._settings.token)
        return json_response({"websocket": self._websocket(request), "token_required": asked})

    def _websocket(self, request: Request) -> str:
        return websocket_url(self._settings, request.headers.get("host", ""))


class _TokenDesk:
    """Gives a token for one connection to those who know the static one."""

    def __init__(self, settings: GatewaySettings, tokens: Tokens, now: Callable[[], float]) -> None:
        self._settings = settings
        self._tokens = tokens
        self._now = now
        self._tries = RateLimit(_TRIES_PER_S, round(4 * _TRIES_PER_S), now=now())

    def issue(self, request: Request) -> Response:
        if wait_s := self._tries.take(self._now()):
            return json_response(
                {"error": "too many requests for tokens"},
                status=429,
                headers={"retry-after": str(max(1, round(wait_s)))},
            )
        if not self._settings.token:
            return json_response({"error": "this gateway asks for no token"}, status=404)
        given = bearer(request.headers.get("authorization", ""))
        if not same_secret(given, self._settings.token):
            return json_response(
                {"error": "the token is missing or wrong"},
                status=401,
                headers={"www-authenticate": "Bearer"},
            )
        token = self._tokens.issue(self._now())
        if token is None:
            return json_response({"error": "too many tokens are outstanding"}, status=503)
        return json_response({"token": token, "expires_in_s": self._tokens.ttl_s})


def _http_alone(app: ASGIApp) -> ASGIApp:
    """An application that is asked for HTTP only. Who wants a WebSocket here is at the wrong port and is sent away."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    return answer


def _async(answer: Callable[[Request], Response]) -> Callable[[Request], object]:
    """An endpoint that answers at once; Starlette would send a plain function to a thread."""

    async def endpoint(request: Request) -> Response:
        return answer(request)

    return endpoint
