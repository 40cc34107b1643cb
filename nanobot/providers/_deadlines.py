"""Deadlines that are nearly always met: setting one costs an assignment."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Protocol

import trio

__all__ = ["Bounded", "Deadlines"]


class Bounded(Protocol):
    """What has a deadline.

    Attributes:
      deadline: The Trio time at which it is over; infinity for never.
    """

    deadline: float

    def expire(self) -> None:
        """Be over, for it is past the deadline; may leave the collection that is watched."""
        ...


class Deadlines:
    """Looks after the deadlines of a collection, in one task for all.

    A cancel scope around each wait would take some 35 calls of functions and five objects, twice in each turn and once for each
    piece of a stream, and hardly ever fire. Here the task sleeps until the earliest deadline that it has seen, and looks then
    at all: most have moved on or are gone. So it wakes about once in the length of a time limit, whatever the number of
    requests, and still expires each at its very moment.

    Args:
      watched: Theirs. Who is to expire is in it before `note` is called.
    """

    def __init__(self, watched: Collection[Bounded]) -> None:
        self._watched = watched
        self._looks_at = math.inf
        self._nap: trio.CancelScope | None = None
        self._scope: trio.CancelScope | None = None
        self._ended = trio.Event()

    def note(self, deadline: float) -> None:
        """See that somebody looks at this time, or earlier."""
        if deadline >= self._looks_at:
            return
        self._looks_at = deadline
        if self._scope is None:
            self._scope = trio.CancelScope()
            self._ended = trio.Event()
            trio.lowlevel.spawn_system_task(self._watch, self._scope, name="deadlines")
        elif self._nap is not None:
            self._nap.deadline = deadline

    def rest(self) -> None:
        """Nothing has a deadline now: sleep without one, to which a clock of tests would jump."""
        if self._looks_at < math.inf:
            self._looks_at = math.inf
            if self._nap is not None:
                self._nap.deadline = math.inf

    async def aclose(self) -> None:
        """Look no more; returns when the task is gone."""
        if self._scope is not None:
            self._scope.cancel()
            await self._ended.wait()

    async def _watch(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while self._looks_at < math.inf:
                    with trio.CancelScope(deadline=self._looks_at) as self._nap:
                        await trio.sleep_forever()
                    self._nap = None
                    now = trio.current_time()
                    for due in [each for each in self._watched if each.deadline <= now]:
                        due.expire()
                    self._looks_at = min(
                        (each.deadline for each in self._watched), default=math.inf
                    )
        finally:
            self._nap = self._scope = None
            self._looks_at = math.inf
            self._ended.set()
