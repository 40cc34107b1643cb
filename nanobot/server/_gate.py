"""What every request passes first: counting, and the question who is asking."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp

from ._access import check_key, check_origin
from ._api_error import ApiError
from ._client import Client, ClientGone, Receive
from ._service import Service
from ._streaming import Send

__all__ = ["Gate", "error_response"]

OPEN_PATHS: Final = frozenset({"/health", "/ready", "/openapi.json"})
"""Need no key: for those who watch whether the server lives, and for those who want to know how to talk to it."""

_CLIENT_LEFT: Final = 499  # nginx's word for it; no client ever sees it


class Gate:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, service: Service, paths: frozenset[str]) -> None:
        self._app = app
        self._service = service
        self._paths = paths

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})  # before it was accepted: a 403
            return
        started = time.monotonic()
        status = _CLIENT_LEFT

        async def counted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._service.request():
            try:
                try:
                    self._check(scope)
                except ApiError as error:
                    with Client(receive, self._service.budget) as client:
                        await client.discard_body()
                    await error_response(error)(scope, receive, counted)
                else:
                    await self._app(scope, receive, counted)
            except ClientGone:
                pass
            finally:
                path = scope["path"] if scope["path"] in self._paths else "other"
                method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
                self._service.metrics.request(path, method, status, time.monotonic() - started)

    def _check(self, scope: MutableMapping[str, Any]) -> None:
        if scope["http_version"] not in ("1.0", "1.1"):
            # A stream of HTTP/2 that is cut off cannot be told from one that ended: the server has no word for it there.
            raise ApiError(505, "This server speaks HTTP/1.1.", code="http_version")
        headers = Headers(scope=scope)
        api_key = self._service.settings.api_key
        check_origin(headers.get("host"), headers.get("origin"), api_key)
        if scope["path"] not in OPEN_PATHS:
            check_key(headers.get("authorization"), api_key)


def error_response(error: ApiError) -> Response:
    """An error as a response."""
    return Response(
        error.body, status_code=error.status, headers=error.headers, media_type="application/json"
    )
