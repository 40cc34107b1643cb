"""How a turn can end, other than by answering."""

from __future__ import annotations

from typing import Any, Final

import trio

from nanobot.errors import NoOutput, ProviderError

from ._result import StopReason

__all__ = ["ERRORS", "TurnStopped", "facts_of", "is_cancellation"]

ERRORS: Final[dict[StopReason, str]] = {
    "cancelled": "The run was cancelled.",
    "timeout": "The run did not finish in time.",
    "consumer_stalled": "The reader of the run's events fell too far behind.",
    "error": "The run failed.",
    "budget": "The budget does not cover another call.",
}
"""What a result says in `error` if there is nothing better to say. A stop reason that is not here is no failure."""


class TurnStopped(Exception):
    """Something that is nobody's bug ends the turn here: it has a result, with this stop reason and error.

    Attributes:
      stop_reason: The result's stop reason.
      error: The result's error.
      exception: What was raised where it happened, if anything was.
    """

    def __init__(
        self, stop_reason: StopReason, error: str, exception: Exception | None = None
    ) -> None:
        super().__init__(error)
        self.stop_reason: StopReason = stop_reason
        self.error = error
        self.exception = exception


def is_cancellation(error: BaseException) -> bool:
    """Whether it is nothing but a Trio cancellation, alone or as a nursery raises several."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_cancellation(each) for each in error.exceptions)
    return isinstance(error, trio.Cancelled)


def facts_of(exception: BaseException | None) -> dict[str, Any]:
    """What a program has to know of a failure to decide what to do about it, without reading the error's text."""
    if exception is None:
        return {}
    facts: dict[str, Any] = {"exception_type": type(exception).__name__}
    if isinstance(exception, ProviderError):
        facts["retryable"] = exception.retryable
        facts["status"] = exception.status
        facts["retry_after_s"] = exception.retry_after_s
    if isinstance(exception, NoOutput):
        facts["raw_output"] = exception.raw
    return facts
