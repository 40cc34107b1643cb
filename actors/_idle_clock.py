"""How long each of many has waited, by one task that sleeps for all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sized

import trio

from ._notify import TrioNotify

__all__ = ["IdleClock"]


class IdleClock:
    """Wakes those who have waited for `idle_s` seconds.

    All have the same patience, so whoever begins to wait first is due first: the order of beginning is the timetable, and to
    begin and to end cost five calls of functions. A deadline of each waiter's own, in a `trio.CancelScope`, costs forty.

    A waiter is known by the `TrioNotify` that wakes it. It calls `begin`, waits until it has what it waits for or is in
    `expired`, and calls `end`, whatever happened.
    """

    __slots__ = ("_deadlines", "_idle_s", "_look", "_nap", "_running", "expired")

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._deadlines: OrderedDict[TrioNotify, float] = OrderedDict()
        self._look = TrioNotify()
        self._nap: trio.CancelScope | None = None  # while it sleeps
        self._running = False
        self.expired: set[TrioNotify] = set()
        """Who was woken because its time was over, and did not call `end` yet."""

    def __len__(self) -> int:
        return len(self._deadlines)

    def begin(self, waiter: TrioNotify) -> None:
        """Count the waiter's seconds from now on.

        Raises:
          trio.BusyResourceError: Another task waits by this notify already.
        """
        if waiter in self._deadlines or waiter in self.expired:
            raise trio.BusyResourceError("another task is waiting here already")
        deadline = trio.current_time() + self._idle_s
        if not self._deadlines and self._nap is not None:
            self._nap.deadline = deadline
        self._deadlines[waiter] = deadline

    def end(self, waiter: TrioNotify) -> None:
        """Forget the waiter. The clock sleeps on while there are others: to wake once for nobody is cheaper than each time."""
        if self._deadlines.pop(waiter, None) is None:
            self.expired.discard(waiter)
        elif not self._deadlines and self._nap is not None:
            self._nap.deadline = float("inf")  # a clock of tests would jump there

    def start_soon(self, nursery: trio.Nursery, living: Sized) -> None:
        """Run in this nursery while anybody is `living`, unless the clock runs already, or would have nothing to do."""
        if not self._running and self._idle_s < float("inf"):
            nursery.start_soon(self.run, living)
            self._running = True

    def look(self) -> None:
        """Tell the clock that nobody may be living any more."""
        self._look.notify()

    @trio.lowlevel.enable_ki_protection  # Ctrl-C belongs to the main task, not to whoever runs when it strikes
    async def run(self, living: Sized) -> None:
        """Wake whoever is due, until `living` is empty; there is no checkpoint between that and the end.

        A cancelled nursery ends those who live, and they the clock: one that shields itself may still have to be woken.
        """
        self._running = True
        try:
            while living:
                with trio.CancelScope(deadline=self._expire(), shield=True) as self._nap:
                    await self._look.notified()
                self._nap = None
        finally:
            self._nap = None
            self._running = False

    def _expire(self) -> float:
        """Wake those whose time is over, and return when that of the next will be."""
        now = trio.current_time()
        while self._deadlines:
            waiter, deadline = next(iter(self._deadlines.items()))
            if deadline > now:
                return deadline
            del self._deadlines[waiter]
            self.expired.add(waiter)
            waiter.notify()
        return float("inf")
