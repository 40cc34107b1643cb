"""The description of the server that it publishes at `/openapi.json`. Pure.

It is made from the types that requests are decoded to and answers are encoded from, so the two cannot disagree.
Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from nanobot._version import __version__
from nanobot.sdk import PendingApproval

from ._api_error import ErrorBody
from ._approval_wire import ApprovalDecision, ApprovalList
from ._chat_answer import ChatChunk, ChatCompletion
from ._chat_request import ChatRequest
from ._limits import MAX_FILES
from ._models import Model, ModelList
from ._responses_answer import ResponseObject
from ._responses_request import ResponsesRequest
from ._resume import ResumeRequest

__all__ = ["openapi_document"]

_DESCRIPTION: Final = (
    "An agent behind OpenAI's API. One message continues a session; several are a conversation of their own. "
    "400: the request does not match this description. 422: it does, and still nothing can be done with it."
)

_STATUSES: Final = {
    400: "The request does not match this description.",
    401: "There is no key, or a wrong one.",
    403: "A page of the web, or a host name that is not this machine, while the server has no key.",
    404: "There is no such model, or approval.",
    408: "The request took too long to arrive.",
    409: "The session is busy, or was cleared meanwhile; or somebody has decided before.",
    413: "The request, or a file in it, is too large.",
    415: "The content type is none of those described.",
    422: "Well-formed, but nothing can be done with it.",
    429: "The queue is full, or the model service wants us to slow down.",
    500: "A mistake of the server, its configuration or its store.",
    502: "The model service failed.",
    503: "The server is shutting down.",
    504: "The run took too long.",
}
_ASKING: Final = tuple(_STATUSES)

_FORM: Final = {
    "type": "object",
    "required": ["message"],
    "properties": {
        "message": {"type": "string", "minLength": 1},
        "session_id": {"type": "string", "maxLength": 512},
        "user": {"type": "string"},
        "model": {"type": "string"},
        "stream": {"type": "string", "enum": ["true", "false"]},
        "files": {
            "type": "array",
            "maxItems": MAX_FILES,
            "items": {"type": "string", "format": "binary"},
        },
    },
}

_EVENT: Final = {
    "description": "Each event: `data` is JSON, or `[DONE]` at the end of a chat.",
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string"}, "event": {"type": "string"}},
}

_SESSION_HEADERS: Final = [
    {
        "name": "X-Session-Id",
        "in": "header",
        "description": "The session, unless the body names one.",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Session-Busy",
        "in": "header",
        "description": "Whether to wait for a session that is busy, or to be refused (409).",
        "schema": {"type": "string", "enum": ["wait", "reject"]},
    },
]


def openapi_document(*, needs_key: bool, decides_approvals: bool = False) -> dict[str, Any]:
    """The document, JSON-safe.

    Args:
      needs_key: Whether clients must send a key.
      decides_approvals: Whether they may decide about tool calls.
    """
    types = (
        ChatRequest,
        ChatCompletion,
        ChatChunk,
        ResponsesRequest,
        ResponseObject,
        ModelList,
        Model,
        ErrorBody,
        ResumeRequest,
        *((ApprovalList, PendingApproval, ApprovalDecision) if decides_approvals else ()),
    )
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    components: dict[str, Any] = {"schemas": schemas}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "nanobot", "version": __version__, "description": _DESCRIPTION},
        "paths": {
            "/v1/chat/completions": {
                "post": _asking("Ask the agent.", "ChatRequest", "ChatCompletion", form=True)
            },
            "/v1/responses": {
                "post": _asking("Ask the agent.", "ResponsesRequest", "ResponseObject", form=False)
            },
            "/v1/resume": {
                "post": _asking(
                    "Go on with a turn that was parked, or interrupted.",
                    "ResumeRequest",
                    "ChatCompletion",
                    form=False,
                )
            },
            **(_APPROVALS if decides_approvals else {}),
            "/v1/models": {"get": _getting("The models that answer.", _ref("ModelList"), 401, 403)},
            "/v1/models/{model}": {
                "parameters": [
                    {
                        "name": "model",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string"},
                        "example": "nanobot",
                    }
                ],
                "get": _getting("One of them.", _ref("Model"), 401, 403, 404),
            },
            "/health": {"get": _open("Whether the process lives.", "ok")},
            "/ready": {"get": _open("Whether requests are taken.", "ready", 503)},
            "/metrics": {
                "get": {
                    "summary": "Counts and gauges for Prometheus.",
                    "responses": {
                        "200": {
                            "description": "Prometheus' text format.",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        },
                        **_errors(401, 403),
                    },
                }
            },
        },
        "components": components,
    }
    if needs_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _asking(summary: str, request: str, answer: str, *, form: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _ref(request)}}
    if form:
        content["multipart/form-data"] = {"schema": _FORM}
    return {
        "summary": summary,
        "parameters": _SESSION_HEADERS,
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "The answer; with `stream`, server-sent events.",
                "content": {
                    "application/json": {"schema": _ref(answer)},
                    "text/event-stream": {"schema": _EVENT},
                },
            },
            **_errors(*_ASKING),
        },
    }


def _getting(summary: str, schema: dict[str, Any], *statuses: int) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {
            "200": {
                "description": "Here it is.",
                "content": {"application/json": {"schema": schema}},
            },
            **_errors(*statuses),
        },
    }


def _open(summary: str, status: str, *statuses: int) -> dict[str, Any]:
    """A path that needs no key."""
    schema = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": status}},
    }
    return {**_getting(summary, schema, 403, *statuses), "security": []}


def _errors(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {
            "description": _STATUSES[status],
            "content": {"application/json": {"schema": _ref("ErrorBody")}},
        }
        for status in statuses
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_APPROVALS: Final = {
    "/v1/approvals": {
        "parameters": [
            {
                "name": "session_id",
                "in": "query",
                "description": "Only what this session waits for.",
                "schema": {"type": "string"},
            }
        ],
        "get": _getting("What parked turns wait for.", _ref("ApprovalList"), 401, 403, 500, 503),
    },
    "/v1/approvals/{id}": {
        "parameters": [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
        "get": _getting("One of them.", _ref("PendingApproval"), 401, 403, 404, 500, 503),
        "post": {
            **_getting(
                "Decide about it.",
                _ref("PendingApproval"),
                *(400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 503),
            ),
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _ref("ApprovalDecision")}},
            },
        },
    },
}
