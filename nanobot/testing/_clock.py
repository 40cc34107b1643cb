"""Time that passes only when everybody waits for it."""

from __future__ import annotations

from trio.testing import MockClock

__all__ = ["virtual_clock"]


def virtual_clock() -> MockClock:
    """A clock for `trio.run(main, clock=virtual_clock())`: whenever all tasks wait, it jumps to the next deadline.

    So retries, timeouts and pauses of scripted models take no time, and `trio.current_time()` says exactly how long they
    would have taken. Use a bot with `store=InMemoryStore()` on it: waiting for a disk or a network takes no virtual time, so
    deadlines would pass meanwhile.

    Only for Trio: a bot that is used from asyncio, or without a loop, lives in a thread with a clock of its own.
    """
    return MockClock(autojump_threshold=0)
