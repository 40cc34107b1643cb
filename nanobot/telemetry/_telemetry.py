"""What a run tells, in nanobot's own words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias, TypeVar

__all__ = ["Fact", "Metric", "Span", "SpanKind", "Telemetry"]

T = TypeVar("T")

Fact: TypeAlias = str | int | float | bool | None
"""What is said about a span or a measurement; None is not said."""

SpanKind: TypeAlias = Literal[
    "run",
    "mailbox_wait",
    "lock_wait",
    "compaction",
    "iteration",
    "request",
    "tool",
    "hook",
]

Metric: TypeAlias = Literal[
    "queue_length",
    "turn_s",
    "cost_usd",
    "request_s",
    "first_token_s",
    "prompt_tokens",
    "completion_tokens",
    "tool_s",
    "mailbox_wait_s",
    "lock_wait_s",
]
"""What is measured, with its unit; `queue_length` is a change, the others are single values."""


class Span(Protocol):
    """A stretch of time that something took. Nothing here raises, blocks or waits."""

    def note(self, **facts: Fact) -> None:
        """Say something about it."""
        ...

    def happened(self, what: str, **facts: Fact) -> None:
        """Say that something happened in it, now."""
        ...

    def make_current(self) -> None:
        """Let it be the parent of what begins in this context from now on, for good."""
        ...

    def end(self, error: str | None = None) -> None:
        """It ends now; `error` is the kind of what went wrong. What comes later is dropped."""
        ...

    def __enter__(self) -> Self:
        """Let it be the parent of what begins in the block."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """It ends with the block, or with what the block raised."""
        ...


class Telemetry(Protocol):
    """Takes what runs tell. Called from the engine and from callers' loops, in any thread; never raises, blocks or waits."""

    @property
    def captures_content(self) -> bool:
        """Whether it wants what was said: messages, arguments, results. Else it is never told."""
        ...

    def span(
        self, kind: SpanKind, name: str = "", *, since: float | None = None, **facts: Fact
    ) -> Span:
        """Begin a span, inside of the current one of the context that calls. `since` is on the monotonic clock, in seconds."""
        ...

    def inside(self, span: Span) -> AbstractContextManager[object]:
        """Let a span be the parent of what begins in a block; it does not end with the block."""
        ...

    def measured(self, metric: Metric, value: float, **facts: Fact) -> None:
        """Take one value."""
        ...

    def here(self) -> object:
        """The current span, and whatever else belongs to it, for `within`."""
        ...

    async def within(self, here: object, function: Callable[..., Awaitable[T]], /, *args: Any) -> T:
        """Await `function(*args)` in the same context as ever, but for the current span, which is that of `here`."""
        ...
