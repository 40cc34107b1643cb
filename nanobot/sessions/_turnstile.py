"""Whose turn it is at each session of a store in memory: leases, and those who wait for one."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field

import trio

__all__ = ["Turnstiles", "Waiter"]


class _Owner:
    """Where a lease, or somebody who waits for one, lives: a Trio run of this process."""

    __slots__ = ("pid", "run")

    def __init__(self) -> None:
        self.run = trio.lowlevel.current_trio_token()
        self.pid = os.getpid()

    @property
    def alive(self) -> bool:
        """False once the run has ended, and in a forked child, whose copy of the run nobody drives."""
        if self.pid != os.getpid():
            return False
        try:
            self.run.run_sync_soon(_nothing, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True


class Waiter(_Owner):
    """Somebody in the queue for one session. `granted` is set, and `woken` soon after, when the session is theirs."""

    __slots__ = ("granted", "woken")

    def __init__(self) -> None:
        super().__init__()
        self.granted = False
        self.woken = trio.Event()

    def wake(self) -> None:
        """Set `woken`, from whatever thread."""
        try:
            self.run.run_sync_soon(self.woken.set)
        except trio.RunFinishedError:
            pass  # its run ended just now; the next who comes finds the session ownerless


@dataclass(slots=True)
class _Gate:
    """Exists only while somebody owns the session."""

    owner: Waiter
    queue: deque[Waiter] = field(default_factory=deque)


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
            self._gates[key].queue.append(waiter)
        else:
            self._gates[key] = _Gate(waiter)
            waiter.granted = True
        return waiter

    def leave(self, key: str, waiter: Waiter) -> None:
        """Give up what `enter` gave: the place in the queue, or the session, which goes to the next. Idempotent."""
        gate = self._gates.get(key)
        if gate is None:
            return
        if gate.owner is waiter:
            self._pass_on(key, gate)
        else:
            try:
                gate.queue.remove(waiter)
            except ValueError:
                pass  # it left before

    def _pass_on(self, key: str, gate: _Gate) -> None:
        while gate.queue:
            waiter = gate.queue.popleft()
            if waiter.alive:
                gate.owner = waiter
                waiter.granted = True
                waiter.wake()
                return
        del self._gates[key]


def _nothing() -> None:
    """Posted to learn whether a run is there."""
