"""One run, from being posted to having settled."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from actors import Call, CreditStream, Hold
from nanobot.agent import RunResult, StreamEvent
from nanobot.messages import UserMessage

from ._admission import Place
from ._run_events import RunEvents

if TYPE_CHECKING:
    from nanobot.sessions import SessionStore

    from ._run_trace import RunTrace
    from ._statistics import TurnCounter

__all__ = ["CURRENT_RUN", "OnBusy", "Run"]

OnBusy: TypeAlias = Literal["wait", "reject", "replace", "steer"]
"""What a run does that finds its session busy."""


class Run:
    """A call for a session's actor, with what has to be known about it while it lives.

    Args:
      session_key: The session whose actor will run it.
      body: What to run, once the session is ours and the lock is held.
      exclusive: Whether it needs the runtime's lock alone.
      stream: Where its events go, or None if nobody reads them.
      on_busy: What it does if the session is busy; None for work on a session that is no turn.
      tenant: On whose account it takes one of the places of `maxConcurrentRuns`; None for the session's own.
      said: What it says, for a turn that it may steer; makes the message, and raises what a turn of its own would.
      counter: What adds it up as a turn when it has settled; None if it is none.

    `outer` is the run in whose code this one was started, be it another bot's, if that is still going on; it was found
    through a contextvar, so it follows tasks, threads and hooks. `parent` is the inmost of the runs around it that is this
    bot's. `opened` is the store that it has its session open in. `partial` gives what there is of a result, once the turn has
    begun. `posted_at` is when it was made, `waiting_since` since when it waits for the lock, and `asked_for_lock_at` when it
    began to if it had to, all on the monotonic clock. `awaits_place` says whether it waits for one of `maxConcurrentRuns`,
    `replaced` whether another run took its place, and `host` is the run whose turn it has steered. `trace` tells of it, if
    anybody is told.
    """

    __slots__ = (
        "asked_for_lock_at",
        "awaits_place",
        "call",
        "children",
        "counter",
        "events",
        "exclusive",
        "hold",
        "host",
        "on_busy",
        "opened",
        "outer",
        "parent",
        "partial",
        "place",
        "posted_at",
        "replaced",
        "said",
        "session_key",
        "tenant",
        "trace",
        "waiters",
        "waiting_since",
    )

    def __init__(
        self,
        session_key: str,
        body: Callable[[Run], Coroutine[Any, Any, RunResult[Any]]],
        *,
        exclusive: bool = False,
        stream: CreditStream[StreamEvent] | None = None,
        on_busy: OnBusy | None = None,
        tenant: str | None = None,
        said: Callable[[], Awaitable[UserMessage]] | None = None,
        counter: TurnCounter | None = None,
    ) -> None:
        context = contextvars.copy_context()
        self.session_key = session_key
        self.posted_at = time.monotonic()
        self.waiting_since: float | None = None
        self.awaits_place = False
        self.asked_for_lock_at: float | None = None
        self.trace: RunTrace | None = None
        self.exclusive = exclusive
        self.on_busy: OnBusy | None = on_busy
        self.tenant = tenant
        self.said = said
        self.counter = counter
        self.replaced = False
        self.host: Run | None = None
        self.events = None if stream is None else RunEvents(stream, self._is_awaited)
        self.outer = _going_on(CURRENT_RUN.get())
        self.parent: Run | None = None
        self.opened: SessionStore | None = None
        self.children: dict[Run, None] = {}  # insertion-ordered
        self.hold: Hold | None = None
        self.place: Place | None = None
        self.partial: Callable[[], RunResult[Any]] | None = None
        self.waiters = 0
        self.call: Call[RunResult[Any]] = Call(partial(body, self), context=context)
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

    def enclosing(self) -> Iterator[Run]:
        """The runs in whose code this one was started, the inmost first, as far as they go on."""
        outer = self.outer = _going_on(self.outer)  # what has ended is not kept
        while outer is not None:
            yield outer
            outer.outer = _going_on(outer.outer)
            outer = outer.outer

    def _is_awaited(self) -> bool:
        return self.waiters > 0

    def _end_events(self) -> None:
        if self.events is not None:
            self.events.end(self.call.failure)
            self.events = None  # they hold each other


def _going_on(run: Run | None) -> Run | None:
    while run is not None and run.settled:
        run = run.outer
    return run


CURRENT_RUN: contextvars.ContextVar[Run | None] = contextvars.ContextVar(
    "nanobot_run", default=None
)
"""The run that the current code belongs to: set in the context of each turn, its tools and its hooks."""
