"""Whose turn it is at each session of a store in memory: leases, and those who wait for one."""

from __future__ import annotations

import os
from collections import deque

import trio
from msgspec import Struct

__all__ = ["Turnstiles", "Waiter"]


class Waiter:
    """Somebody who wants one session, and later owns it: a task in a Trio run of this process."""

    __slots__ = ("_pid", "_run", "woken")

    def __init__(self) -> None:
        self._run = trio.lowlevel.current_trio_token()
        self._pid = os.getpid()
        self.woken: trio.Event | None = None  # only if there is something to wait for

    @property
    def alive(self) -> bool:
        """False once its run has ended, and in a forked child, whose copy of the run nobody drives."""
        if self._pid != os.getpid():
            return False
        try:
            self._run.run_sync_soon(_nothing, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True

    async def wait(self) -> None:
        """Wait until the session is theirs."""
        if self.woken is None:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await self.woken.wait()

    def wake(self) -> None:
        """End the wait, in whatever thread it is."""
        if self.woken is not None:
            try:
                self._run.run_sync_soon(self.woken.set)
            except trio.RunFinishedError:
                pass  # the run ended just now; the next who comes finds the session without an owner


class _Gate(Struct, eq=False):
    """Exists only while somebody owns the session."""

    owner: Waiter
    queue: deque[Waiter] | None = None  # most never have one, and an empty one takes 600 bytes


class Turnstiles:
    """One queue per session, in order of arrival. Not thread-safe by itself: every call is made under the store's lock.

    Owners and waiters may live in different Trio runs, at once or one after the other. One whose run has ended, or was
    left behind by a fork, blocks nobody: it is passed over by the next who comes.
    """

    def __init__(self) -> None:
        self._gates: dict[str, _Gate] = {}

    def __len__(self) -> int:
        return len(self._gates)

    def owner(self, key: str) -> Waiter | None:
        """Who owns the session, alive or not."""
        gate = self._gates.get(key)
        return None if gate is None else gate.owner

    def taken(self, key: str) -> bool:
        """Whether somebody alive owns the session."""
        gate = self._gates.get(key)
        if gate is None:
            return False
        if not gate.owner.alive:
            self._pass_on(key, gate)
        return key in self._gates

    def enter(self, key: str) -> Waiter:
        """Join the queue; the session may be granted at once."""
        waiter = Waiter()
        if self.taken(key):
            waiter.woken = trio.Event()
            gate = self._gates[key]
            if gate.queue is None:
                gate.queue = deque()
            gate.queue.append(waiter)
        else:
            self._gates[key] = _Gate(waiter)
        return waiter

    def leave(self, key: str, waiter: Waiter) -> None:
        """Give up what `enter` gave: the place in the queue, or the session, which goes to the next. Idempotent."""
        gate = self._gates.get(key)
        if gate is None:
            return
        if gate.owner is waiter:
            self._pass_on(key, gate)
        elif gate.queue is not None:
            try:
                gate.queue.remove(waiter)
            except ValueError:
                pass  # it left before

    def _pass_on(self, key: str, gate: _Gate) -> None:
        while gate.queue:
            waiter = gate.queue.popleft()
            if waiter.alive:
                gate.owner = waiter
                waiter.wake()
                return
        del self._gates[key]


def _nothing() -> None:
    """Posted to learn whether a run is there."""
