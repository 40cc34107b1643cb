"""The routes of the server, as an ASGI application."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ._api_error import ApiError
from ._approvals import ApprovalApi
from ._chat import ChatApi
from ._client import ClientGone
from ._endpoint import Endpoint
from ._gate import Gate, error_response
from ._metrics import CONTENT_TYPE
from ._models import Model, ModelList
from ._openapi import openapi_document
from ._responses import ResponsesApi
from ._resume import ResumeApi
from ._service import Service

__all__ = ["make_app"]

_MISTAKE = "The server made a mistake; its log says which."


def make_app(service: Service) -> Starlette:
    """The ASGI application over a service. It has to run in the service's Trio run."""

    settings = service.settings
    document = msgspec.json.encode(
        openapi_document(
            needs_key=bool(settings.api_key), decides_approvals=settings.decide_approvals
        )
    )
    approvals = ApprovalApi(service, service.approvals)

    async def models(_request: Request) -> Response:
        return _json(ModelList((Model(service.model, service.started_at),)))

    async def model(request: Request) -> Response:
        service.check_model(request.path_params["model"])
        return _json(Model(service.model, service.started_at))

    async def openapi(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def health(_request: Request) -> Response:
        return _json({"status": "ok"})

    async def ready(_request: Request) -> Response:
        return _json(await service.readiness())

    async def metrics(_request: Request) -> Response:
        return Response(service.metrics_text(), media_type=CONTENT_TYPE)

    routes = [
        Route(
            "/v1/chat/completions",
            Endpoint(service, ChatApi(), accepts_forms=True),
            methods=["POST"],
        ),
        Route("/v1/responses", Endpoint(service, ResponsesApi()), methods=["POST"]),
        Route("/v1/resume", Endpoint(service, ResumeApi()), methods=["POST"]),
        Route("/v1/approvals", approvals.list),
        Route("/v1/approvals/{id}", approvals.one, methods=["GET", "POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{model:path}", model),
        Route("/openapi.json", openapi),
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", metrics),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Gate, service=service, paths=frozenset(route.path for route in routes))
        ],
        exception_handlers={
            ApiError: _on_api_error,
            ClientGone: _on_client_gone,
            HTTPException: _on_http_exception,
            Exception: _on_mistake,
        },
    )


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    return _Nothing()


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    told = {
        404: f"There is nothing at {request.url.path!r:.200}.",
        405: f"{request.method} is not allowed at {request.url.path!r:.200}.",
    }
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
    return error_response(
        ApiError(
            error.status_code,
            told.get(error.status_code, error.detail),
            code=code,
            headers=error.headers,
        )
    )


async def _on_mistake(_request: Request, _error: Exception) -> Response:
    """For bugs; Starlette raises them again, and hypercorn writes them into the log."""
    return error_response(ApiError(500, _MISTAKE, code="server_error"))


class _Nothing(Response):
    """The response to somebody who has left."""

    async def __call__(self, *_: Any) -> None:
        """Send nothing."""
