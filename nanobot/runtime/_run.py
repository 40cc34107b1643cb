"""One run, from being posted to having settled."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from actors import Call, CreditStream, Hold
from nanobot.agent import RunResult, StreamEvent

from ._run_events import RunEvents

if TYPE_CHECKING:
    from ._run_trace import RunTrace

__all__ = ["CURRENT_RUN", "Run"]


class Run:
    """A call for a session's actor, with what has to be known about it while it lives.

    Args:
      session_key: The session whose actor will run it.
      body: What to run, once the session is ours and the lock is held.
      exclusive: Whether it needs the runtime's lock alone.
      stream: Where its events go, or None if nobody reads them.

    `parent` is the run in whose code this one was started, if that is still running; it was found through a contextvar, so
    it follows tasks, threads and hooks. `partial` gives what there is of a result, once the turn has begun. `posted_at` is when
    it was made, `waiting_since` since when it waits for the lock, and `asked_for_lock_at` when it began to if it had to, all on
    the monotonic clock. `trace` tells of it, if anybody is told.
    """

    __slots__ = (
        "asked_for_lock_at",
        "call",
        "children",
        "events",
        "exclusive",
        "hold",
        "parent",
        "partial",
        "posted_at",
        "session_key",
        "trace",
        "waiters",
        "waiting_since",
    )

    def __init__(
        self,
        session_key: str,
        body: Callable[[Run], Awaitable[RunResult[Any]]],
        *,
        exclusive: bool = False,
        stream: CreditStream[StreamEvent] | None = None,
    ) -> None:
        context = contextvars.copy_context()
        self.session_key = session_key
        self.posted_at = time.monotonic()
        self.waiting_since: float | None = None
        self.asked_for_lock_at: float | None = None
        self.trace: RunTrace | None = None
        self.exclusive = exclusive
        self.events = None if stream is None else RunEvents(stream, lambda: self.waiters > 0)
        self.parent: Run | None = CURRENT_RUN.get()
        self.children: set[Run] = set()
        self.hold: Hold | None = None
        self.partial: Callable[[], RunResult[Any]] | None = None
        self.waiters = 0
        self.call: Call[RunResult[Any]] = Call(lambda: body(self), context=context)
        context.run(CURRENT_RUN.set, self)
        if self.events is not None:
            self.call.on_settled(self._end_events)

    @property
    def running(self) -> bool:
        """Whether its body is being run right now."""
        return self.call.state == "running"

    @property
    def settled(self) -> bool:
        """Whether it has its result."""
        return self.call.settled

    def _end_events(self) -> None:
        if self.events is not None:
            self.events.end(self.call.failure)


CURRENT_RUN: contextvars.ContextVar[Run | None] = contextvars.ContextVar(
    "nanobot_run", default=None
)
"""The run that the current code belongs to: set in the context of each turn, its tools and its hooks."""
