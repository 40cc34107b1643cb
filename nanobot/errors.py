"""Every error nanobot raises on purpose; the class says whose fault it is.

NanobotError
├── UsageError                 the caller broke the contract; never retried
│   ├── InvalidArgument        … by a value that cannot be used (also a ValueError)
│   ├── InvalidMessage         … by a transcript with a message that cannot be kept (also a ValueError)
│   ├── BotClosed              … by using a bot after `aclose()`
│   ├── NestedRunRefused       … by a nested run that could only deadlock
│   ├── NothingToResume        … by going on with a turn that is over, or waits for a decision
│   ├── ApprovalGone           … by deciding about what nobody waits for any more
│   ├── SessionExists          … by a new session under a key that is taken (in nanobot.sessions)
│   └── UnknownPreset          … by naming a preset that is not configured (also a KeyError)
├── ConfigError                the configuration cannot be used (also a ValueError)
├── SessionBusy                a run was not taken in, because its session is busy; it may be later
├── ProviderError              the model service failed us
│   ├── AuthenticationFailed   … it does not accept our key (401, 403)
│   ├── RequestRejected        … it will never accept this request (400, 404, 413, 422)
│   │   └── OutOfCredit        … because the account behind the key has nothing left (402, or a 429 that says so)
│   ├── RateLimited            … it wants us to slow down (429)
│   ├── ServiceUnavailable     … it is broken or overloaded right now (408, 409, 5xx)
│   ├── ConnectionFailed       … it cannot be reached, or hung up on us
│   ├── ProviderTimeout        … it went silent past a named limit
│   └── MalformedStream        … it sent bytes we cannot parse
├── NoOutput                   the model gave no answer of the type that was asked for
├── ToolError                  a tool failed; the model is told and may try again
│   └── ToolTimedOut           … by taking longer than it may; its result has the outcome `timed_out`
└── StoreError                 sessions could not be read or written
    ├── SessionGone            … the session was cleared or deleted meanwhile (in nanobot.sessions)
    └── SessionFenced          … another turn owns the session by now (in nanobot.sessions)
"""

from __future__ import annotations

import logging
from typing import Any, Literal

__all__ = [
    "ApprovalGone",
    "AuthenticationFailed",
    "BotClosed",
    "ConfigError",
    "ConnectionFailed",
    "InvalidArgument",
    "InvalidMessage",
    "MalformedStream",
    "NanobotError",
    "NestedRunRefused",
    "NoOutput",
    "NothingToResume",
    "OutOfCredit",
    "ProviderError",
    "ProviderTimeout",
    "RateLimited",
    "RequestRejected",
    "ServiceUnavailable",
    "SessionBusy",
    "StoreError",
    "TimeoutPhase",
    "ToolError",
    "ToolTimedOut",
    "UnknownPreset",
    "UsageError",
]

# A library says nothing unless its user asks. Here, because whatever logs imports this module first.
logging.getLogger("nanobot").addHandler(logging.NullHandler())

TimeoutPhase = Literal["connect", "first_token", "between_tokens", "request"]


class NanobotError(Exception):
    """Root of every error that nanobot raises on purpose. Can be copied and pickled, with its facts."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own would call the class with the message alone, which is not enough where facts belong to it: a
        # process pool breaks, or waits for ever, over what it cannot unpickle.
        return _anew, (type(self), self.args), self.__dict__


def _anew(kind: type[NanobotError], args: tuple[object, ...]) -> NanobotError:
    return kind.__new__(kind, *args)


class UsageError(NanobotError):
    """The caller broke the contract; the message names what and the way out."""


class InvalidArgument(UsageError, ValueError):
    """An argument has a value that cannot be used; the message names it and what would do."""


class InvalidMessage(UsageError, ValueError):
    """A message of a transcript cannot be kept; the text names its index, the field, and what is accepted."""


class BotClosed(UsageError):
    """The bot was closed; make a new one with `Nanobot.from_config()`."""


class NestedRunRefused(UsageError):
    """What was asked for inside a run would wait for something that waits for that run."""


class NothingToResume(UsageError):
    """There is no turn to go on with: the last one has its answer, or it waits for a decision.

    Attributes:
      approval_id: What the turn waits for; None if there is none.
    """

    def __init__(self, message: str, *, approval_id: str | None = None) -> None:
        super().__init__(message)
        self.approval_id = approval_id


class ApprovalGone(UsageError):
    """Nobody waits for this decision: somebody decided before, it has expired, or its turn is over.

    Attributes:
      approval_id: The approval.
      reason: Which of these.
    """

    def __init__(
        self, message: str, *, approval_id: str, reason: Literal["unknown", "decided", "expired"]
    ) -> None:
        super().__init__(message)
        self.approval_id = approval_id
        self.reason: Literal["unknown", "decided", "expired"] = reason


class UnknownPreset(UsageError, KeyError):
    """A model preset that the configuration does not define."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.name = name
        self.known = known
        available = ", ".join(known) if known else "none (add one under modelPresets)"
        super().__init__(f"model_preset {name!r} not found. Available: {available}")

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0])


class ConfigError(NanobotError, ValueError):
    """The configuration cannot be used; the message says what to set and where."""


class SessionBusy(NanobotError):
    """A run was not taken in, because its session is busy: `on_busy="reject"`, or too many runs wait there already.

    Attributes:
      session_key: The session.
      queued: How many runs wait there, the one that is in its turn not among them.
    """

    def __init__(self, message: str, *, session_key: str, queued: int) -> None:
        super().__init__(message)
        self.session_key = session_key
        self.queued = queued


class ProviderError(NanobotError):
    """The model service failed us.

    Attributes:
      provider: Name of the provider, as in the configuration.
      status: HTTP status, if there was a response.
      retry_after_s: Seconds the service asked us to wait, if it did.
      body_excerpt: At most 500 characters of what the service said, without secrets.
      retryable: Whether the same request may succeed later.
    """

    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        body_excerpt: str = "",
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.retry_after_s = retry_after_s
        self.body_excerpt = body_excerpt


class AuthenticationFailed(ProviderError):
    """The service does not accept our key (401, 403)."""


class RequestRejected(ProviderError):
    """The service will never accept this request as it stands (400, 404, 413, 422)."""


class OutOfCredit(RequestRejected):
    """The account behind the key has no credit or quota left (402, or a 429 that says so); waiting does not help."""


class RateLimited(ProviderError):
    """The service wants us to slow down (429); `retry_after_s` says for how long, if it told us."""

    retryable = True


class ServiceUnavailable(ProviderError):
    """The service is broken or overloaded right now (408, 409, 5xx)."""

    retryable = True


class ConnectionFailed(ProviderError):
    """The service cannot be reached, or it hung up before it had finished."""

    retryable = True


class ProviderTimeout(ProviderError):
    """The service went silent past a named limit; `phase` and `limit_s` say which."""

    retryable = True

    def __init__(self, message: str, *, provider: str, phase: TimeoutPhase, limit_s: float) -> None:
        super().__init__(message, provider=provider)
        self.phase: TimeoutPhase = phase
        self.limit_s = limit_s


class MalformedStream(ProviderError):
    """The service sent bytes that we cannot parse; `body_excerpt` shows where."""

    retryable = True


class NoOutput(NanobotError):
    """A run was to give an answer of some type (`output_type=`) and gave none.

    Attributes:
      raw: What the model said last, as text; "" if it said nothing.
      problem: What was wrong with it.
    """

    def __init__(self, problem: str, raw: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.raw = raw


class ToolError(NanobotError):
    """A tool failed in a way the model should hear about; raise it from a tool body.

    The text of the error becomes the tool result, so write it for the model: what was wrong, and what to try instead.
    """


class ToolTimedOut(ToolError):
    """A tool took longer than it may, and was ended; the text may say how far it came."""


class StoreError(NanobotError):
    """Sessions could not be read or written; the message names the file or server."""
