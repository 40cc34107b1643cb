"""The queue in front of a service that all sessions share: first come, first served."""

from __future__ import annotations

import math
from collections import OrderedDict

import trio

from ._rate_gate import NO_LIMITS, Pass, RateGate, RateLimits

__all__ = ["Limiter"]


class _Ticket:
    """A place in the queue."""

    __slots__ = ("called",)

    def __init__(self) -> None:
        self.called = trio.Event()


class Limiter:
    """Lets requests to one service go as fast as it takes them. One per key and runtime; lives in one Trio run.

    What may go is `RateGate`'s decision; here tasks only queue for it. The first in the queue waits for the gate, the others
    for the first, so nobody overtakes, and a large request is not starved by small ones.
    """

    def __init__(self, limits: RateLimits = NO_LIMITS) -> None:
        self._gate = RateGate(limits)
        self._queue: OrderedDict[_Ticket, None] = OrderedDict()  # any ticket leaves it in O(1)

    @property
    def in_flight(self) -> int:
        """Requests that are out."""
        return self._gate.in_flight

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a limit of tokens, so that it matters how many a request asks for and takes."""
        return self._gate.limits.tokens_per_minute is not None

    def pause_s(self) -> float:
        """For how many seconds nothing may go, because the service refused a request."""
        return self._gate.pause_s(trio.current_time())

    def tighten(self, limits: RateLimits) -> None:
        """Keep these limits as well: another configured service has the same key."""
        self._gate.limits = self._gate.limits.strictest(limits)

    async def enter(self, tokens: int = 0, *, patience_s: float = math.inf) -> Pass | None:
        """Wait until a request that asks for so many tokens may go. Its pass must go back through `leave`.

        Returns None, perhaps after a while, if the service wants to be left alone for longer than `patience_s`. That bounds
        what a refusal costs; waiting for others and for the limits is bounded by whoever calls.

        Cancellation: the place in the queue is given up, and nobody behind it loses time.
        """
        now = trio.current_time()
        if not self._queue and self._gate.opens_at(now, tokens) <= now:
            return self._gate.enter(now, tokens)
        ticket = _Ticket()
        self._queue[ticket] = None
        try:
            while True:
                if self._first() is ticket:
                    now = trio.current_time()
                    opens_at = self._gate.opens_at(now, tokens)
                    if opens_at <= now:
                        return self._gate.enter(now, tokens)
                    if self._gate.pause_s(now) > patience_s:
                        return None
                    with trio.move_on_at(opens_at):
                        await ticket.called.wait()
                else:
                    await ticket.called.wait()
                ticket.called = trio.Event()
        finally:
            del self._queue[ticket]
            self._call_first()

    def accepted(self) -> None:
        """The service has taken a request."""
        self._gate.accepted()
        self._call_first()

    def refused(self, taken: Pass, retry_after_s: float | None) -> None:
        """The service refused a request because there are too many; `leave` is called as well.

        `retry_after_s` is what it asks for, None if it does not say.
        """
        self._gate.refused(taken, trio.current_time(), retry_after_s)
        self._call_first()  # who may not be that patient

    def leave(self, taken: Pass, tokens: int | None = None) -> None:
        """A request has ended; `tokens` is what it took, None if that is not known."""
        self._gate.leave(taken, tokens)
        self._call_first()

    def _first(self) -> _Ticket:
        return next(iter(self._queue))

    def _call_first(self) -> None:
        if self._queue:
            self._first().called.set()
