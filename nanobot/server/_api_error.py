"""What a client is told when a request fails, in the shape of OpenAI's API. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from nanobot.errors import (
    ApprovalGone,
    ConfigError,
    NanobotError,
    NothingToResume,
    SessionBusy,
    StoreError,
    UsageError,
)

__all__ = [
    "ApiError",
    "ErrorBody",
    "ErrorDetail",
    "error_from_exception",
    "error_from_failure",
]

_FINAL: Final = {"x-should-retry": "false"}
"""OpenAI's clients send a request again after a 5xx, a 409 or a 429 unless this header says no. Once a turn has begun,
tools may have acted, and its message may be stored: sending it again would do both twice."""

_PROVIDER_FAILURES: Final[dict[str, tuple[int, str]]] = {
    "AuthenticationFailed": (502, "model_service_authentication"),
    "ConnectionFailed": (502, "model_service_unreachable"),
    "MalformedStream": (502, "model_service_malformed"),
    "ProviderTimeout": (504, "model_service_timeout"),
    "RateLimited": (429, "model_service_rate_limit"),
    "RequestRejected": (422, "model_service_rejected"),
    "ServiceUnavailable": (502, "model_service_unavailable"),
}
"""By `metadata["exception_type"]`. A key of ours that the model service refuses is no 401: that would tell clients to
change theirs."""

_STORE_FAILED: Final = "The session store failed; the server's log says how."
"""A `StoreError` names a file, or a database and its address: nothing that a client has to know."""

_REASONS: Final[dict[str, tuple[int, str]]] = {
    "timeout": (504, "timeout"),
    "budget": (429, "budget_exceeded"),
    "cancelled": (409, "run_cancelled"),
    "consumer_stalled": (408, "client_too_slow"),
}
"""By stop reason. A run that is cancelled while its client waits was cancelled by somebody who cleared its session."""


class ErrorDetail(Struct, frozen=True):
    """What went wrong: in words, by kind, in which field, and as a code for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Struct, frozen=True):
    """The body of every response that is no success."""

    error: ErrorDetail


class ApiError(Exception):
    """A request fails with this status, body and headers.

    Attributes:
      status: HTTP status.
      code: What programs tell failures apart by.
      param: The field of the request that is to blame, if one is.
      headers: Headers of the response, names in lower case.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def type(self) -> str:
        """OpenAI's word for the kind of the error."""
        match self.status:
            case 429:
                return "rate_limit_error"
            case status if status >= 500:
                return "server_error"
            case _:
                return "invalid_request_error"

    @property
    def detail(self) -> ErrorDetail:
        """The error as a client reads it."""
        return ErrorDetail(str(self), self.type, self.param, self.code)

    @property
    def body(self) -> bytes:
        """The response body: JSON."""
        return msgspec.json.encode(ErrorBody(self.detail))


def error_from_failure(
    reason: str | None, message: str | None, facts: Mapping[str, Any]
) -> ApiError:
    """Translate a run that ended without an answer.

    Args:
      reason: Its stop reason.
      message: Its error.
      facts: Its metadata.
    """
    exception_type = facts.get("exception_type")
    status, code = _PROVIDER_FAILURES.get(str(exception_type), (0, ""))
    if not status:
        status, code = _REASONS.get(str(reason), (500, "run_failed"))
    headers = dict(_FINAL)
    retry_after_s = facts.get("retry_after_s")
    if retry_after_s is not None:
        headers["retry-after"] = str(max(0, math.ceil(retry_after_s)))
    return ApiError(status, message or "The run failed.", code=code, headers=headers)


def error_from_exception(error: Exception) -> ApiError:
    """Translate what a run raised. The text of an unforeseen exception, or a store's, stays here: it may name anything."""
    match error:
        case ApiError():
            return error
        case ConfigError():
            return ApiError(500, str(error), code="not_configured", headers=_FINAL)
        case StoreError():
            return ApiError(500, _STORE_FAILED, code="store_failed", headers=_FINAL)
        case SessionBusy():  # nothing has happened: sending it again is right
            return ApiError(429, str(error), code="session_busy", headers={"retry-after": "1"})
        case ApprovalGone(reason=reason):
            status = 404 if reason == "unknown" else 409
            return ApiError(status, str(error), code=f"approval_{reason}", headers=_FINAL)
        case NothingToResume():
            return ApiError(422, str(error), code="nothing_to_resume", headers=_FINAL)
        case UsageError():
            return ApiError(422, str(error), code="unprocessable", headers=_FINAL)
        case NanobotError():
            return ApiError(500, str(error), code="run_failed", headers=_FINAL)
        case _:
            return ApiError(500, "The server made a mistake; its log says which.", headers=_FINAL)
