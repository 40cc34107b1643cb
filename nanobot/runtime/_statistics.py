"""What can be told of a living runtime: who runs, who waits for what, and what has been done so far."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from typing import Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from actors import CallCancelled
from nanobot.agent import RunResult, own_part
from nanobot.errors import BotClosed, NestedRunRefused, SessionBusy
from nanobot.providers._connection_count import ConnectionCount

from ._run import Run

__all__ = [
    "LATENCY_BOUNDS_S",
    "LiveRun",
    "LockState",
    "LockWaiter",
    "PlaceState",
    "RunState",
    "RuntimeStatistics",
    "SessionLoad",
    "TurnCounter",
    "TurnTotals",
    "live_run",
]

_log = logging.getLogger("nanobot.runs")

LATENCY_BOUNDS_S: Final = (
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
"""Upper bounds of the buckets that turns are counted in by their latency, in seconds; a last one takes the rest. A turn
takes as long as its model: from a cached short answer to an agent that works for minutes."""

RunState: TypeAlias = Literal["queued", "waiting", "running", "steering"]


class SessionLoad(Struct, frozen=True):
    """A session whose actor is alive: how many runs wait in its mailbox, and whether it is in a turn."""

    session_key: str
    queued: int
    busy: bool


class LiveRun(Struct, frozen=True):
    """A run that was posted and has not ended.

    Attributes:
      session_key: Its session.
      state: "queued" behind others of its session, "waiting" for one of `maxConcurrentRuns` or for the runtime's lock,
        "running", or "steering": its message is in the turn of another run, whose end it waits for.
      exclusive: Whether it takes the lock alone, as override runs do.
      nested: Whether it was started by another live run.
      age_s: Seconds since it was posted.
      position: How many runs of its session go before it.
    """

    session_key: str
    state: RunState
    exclusive: bool
    nested: bool
    age_s: float
    position: int = 0


class LockWaiter(Struct, frozen=True):
    """A run that is at the head of its session's queue and waits for the lock, for `waiting_s` seconds so far."""

    session_key: str
    exclusive: bool
    waiting_s: float


class LockState(Struct, frozen=True):
    """The lock of the runtime: held by any number of ordinary runs, or by one override run alone.

    Attributes:
      exclusive: Whether an override run has it.
      holders: The sessions of the runs that have it; nested runs share their outer run's hold and are not named.
      waiters: Who waits for it, in the order of arrival.
    """

    exclusive: bool = False
    holders: tuple[str, ...] = ()
    waiters: tuple[LockWaiter, ...] = ()


class PlaceState(Struct, frozen=True):
    """The turns that `maxConcurrentRuns` counts.

    Attributes:
      limit: How many may go on at the same time; None is no limit, and then nothing is counted.
      taken: How many go on, those that wait for the lock included.
      waiting: How many wait for their place.
    """

    limit: int | None = None
    taken: int = 0
    waiting: int = 0


class TurnTotals(Struct, frozen=True):
    """What the turns that have ended come to, since the bot was made.

    Attributes:
      ended: Turns that have ended, in whatever way.
      failed: Those of them that failed: `result.error` is set, or they raised. Cancelled ones are no failures.
      cancelled: Those of them that were cancelled.
      prompt_tokens: Tokens read by models.
      completion_tokens: Tokens written by models.
      total_tokens: Both, as the services count them.
      latency_s: Seconds from being posted to the end, summed over all.
      latency_counts: The turns by latency: one count for each of `LATENCY_BOUNDS_S`, of those that took no longer
        and longer than the bound before, and a last one of those that took longer than all.
    """

    ended: int = 0
    failed: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    latency_s: float = 0.0
    latency_counts: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_S) + 1)


class RuntimeStatistics(Struct, frozen=True):
    """A runtime at one moment.

    Attributes:
      sessions: The sessions whose actor is alive, idle ones included; an actor outlives its last turn by 30 s.
      runs: The runs that have not ended, in the order in which they were posted.
      lock: Who has the runtime's lock, and who waits for it.
      connections: Sockets to model services.
      turns: What has been done so far.
      places: How many turns go on, of how many that may.
    """

    sessions: tuple[SessionLoad, ...] = ()
    runs: tuple[LiveRun, ...] = ()
    lock: LockState = LockState()
    connections: ConnectionCount = ConnectionCount()
    turns: TurnTotals = TurnTotals()
    places: PlaceState = PlaceState()

    @property
    def live_sessions(self) -> int:
        """Sessions whose actor is alive."""
        return len(self.sessions)

    @property
    def live_runs(self) -> int:
        """Runs that were posted and have not ended."""
        return len(self.runs)

    @property
    def running(self) -> int:
        """Runs that are in their turn."""
        return sum(run.state == "running" for run in self.runs)

    @property
    def queued(self) -> int:
        """Runs that wait in the mailboxes of their sessions."""
        return sum(session.queued for session in self.sessions)


class TurnCounter:
    """Adds up the turns of a bot as they end, wherever it lives. `totals` is replaced in one step: any thread may read it."""

    __slots__ = ("totals",)

    def __init__(self) -> None:
        self.totals = TurnTotals()

    def count(self, run: Run) -> None:
        """Add a run that has settled; one that was refused is no turn."""
        if run.host is not None:
            return  # it was part of another turn
        failure = run.call.failure
        if isinstance(failure, (BotClosed, NestedRunRefused, SessionBusy)):
            return
        result = run.call.result() if failure is None else _partial_result(run)
        elapsed_s = time.monotonic() - run.posted_at
        self.totals = counted(
            self.totals, elapsed_s, result, cancelled=isinstance(failure, CallCancelled)
        )
        if _log.isEnabledFor(logging.INFO):
            log_end(run, result, elapsed_s)


def log_end(run: Run, result: RunResult | None, elapsed_s: float) -> None:
    """One line for a run that has ended, with its facts as attributes of the record; nothing of what was said."""
    failure = run.call.failure
    facts: dict[str, object] = {
        "session_key": run.session_key,
        "stop_reason": "error" if result is None else result.stop_reason,
        "elapsed_s": round(elapsed_s, 6),
        "exception_type": None if failure is None else type(failure).__name__,
    }
    if result is not None:
        requests, usage, cost_usd = own_part(result)
        facts |= {**usage, "request_count": requests, "cost": cost_usd}
        facts |= {
            name: result.metadata[name]
            for name in ("model", "provider", "iterations")
            if name in result.metadata
        }
    _log.info("run ended: %s, after %.3f s", facts["stop_reason"], elapsed_s, extra=facts)


def counted(
    totals: TurnTotals, latency_s: float, result: RunResult | None, *, cancelled: bool
) -> TurnTotals:
    """The totals with one more turn in them.

    Args:
      totals: Those so far.
      latency_s: Seconds it took from being posted.
      result: What it came to; None if it raised before there was anything.
      cancelled: Whether it was cancelled.
    """
    cancelled = cancelled or (result is not None and result.stop_reason == "cancelled")
    usage = {} if result is None else own_part(result)[1]
    bucket = bisect_left(LATENCY_BOUNDS_S, latency_s)
    counts = totals.latency_counts
    return replace(
        totals,
        ended=totals.ended + 1,
        failed=totals.failed + (not cancelled and (result is None or result.error is not None)),
        cancelled=totals.cancelled + cancelled,
        prompt_tokens=totals.prompt_tokens + usage.get("prompt_tokens", 0),
        completion_tokens=totals.completion_tokens + usage.get("completion_tokens", 0),
        total_tokens=totals.total_tokens + usage.get("total_tokens", 0),
        latency_s=totals.latency_s + latency_s,
        latency_counts=(*counts[:bucket], counts[bucket] + 1, *counts[bucket + 1 :]),
    )


def live_run(run: Run, position: int, now: float) -> LiveRun:
    """Describe a run that has so many before it; `now` is on the monotonic clock."""
    state: RunState = "queued"
    if run.running:
        state = "running"
    elif run.host is not None:
        state = "steering"
    elif run.awaits_place or run.waiting_since is not None:
        state = "waiting"
    nested = run.parent is not None
    age_s = max(0.0, now - run.posted_at)
    return LiveRun(run.session_key, state, run.exclusive, nested, age_s, position)


def _partial_result(run: Run) -> RunResult | None:
    """What there is of a run that raised: mostly it was cancelled, and its tokens have been paid for."""
    return None if run.partial is None else run.partial()
