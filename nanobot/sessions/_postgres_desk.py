"""What one process has and wants of the sessions in a database: its leases, who of it waits, and who follows."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final

import trio
from msgspec import Struct

from ._lease import Lease
from ._postgres_rows import KeyRow
from ._record import Position
from ._tenancies import Tenancies
from ._turnstile import Waiter

__all__ = ["Bell", "Desk", "Held"]


class Bell:
    """Wakes one Trio task, from any thread; also if it rings before the task begins to wait."""

    def __init__(self) -> None:
        """Made in the task's Trio run."""
        self._run = trio.lowlevel.current_trio_token()
        self._rung = trio.Event()

    async def wait(self) -> None:
        """Wait until it has rung since the last time."""
        await self._rung.wait()
        self._rung = trio.Event()

    def ring(self) -> None:
        """Wake the task."""
        try:
            self._run.run_sync_soon(self._ring)
        except trio.RunFinishedError:
            pass  # and with the run whoever waited in it

    def _ring(self) -> None:
        self._rung.set()


class Held(Struct):
    """A lease that this process has.

    Attributes:
      row: What stands for its session's key.
      lease: The lease.
      position: Where its session stands, as far as this lease has written it.
      alone: Held by whoever writes: the next write needs to know what the one before has done.
      uncertain: A write was lost, with what effect nobody knows; there will be no other.
    """

    row: KeyRow
    lease: Lease
    position: Position
    alone: trio.Lock
    uncertain: bool = False


class Desk:
    """The books of one process. May be used from any thread.

    Attributes:
      owner: The number that stands for this process in the database.
      tenancies: Whose turn it is here, at each session: who is first in this process's queue goes on to the database.
      attempts: Numbers the requests for leases, and for being told.
    """

    def __init__(self) -> None:
        self.owner: Final = secrets.randbits(62)
        self.tenancies: Final = Tenancies()
        self.attempts: Final = count(1)
        self._lock = threading.Lock()
        self._held: dict[int, Held] = {}
        self._waiting: dict[bytes, tuple[str, Bell]] = {}
        self._followers: dict[bytes, set[Bell]] = {}
        self._announced: set[bytes] = set()
        self._cancelers: list[Callable[[str], object]] = []

    @property
    def busy(self) -> bool:
        """Whether the database has to know that this process lives."""
        return bool(self._held or self._waiting or self._followers or self._announced)

    # --- leases

    def begin(self, row: KeyRow, lease: Lease, position: Position, waiter: Waiter) -> None:
        """Note that a lease was given."""
        self.tenancies.begin(lease, waiter)  # first: `tokens` takes a lease without one for lost
        with self._lock:
            self._held[lease.token] = Held(row, lease, position, trio.Lock())

    def end(self, lease: Lease) -> Held | None:
        """Note that a lease is no longer used, and let the next one through; returns it, unless that was noted before."""
        with self._lock:
            held = self._held.pop(lease.token, None)
        if held is not None:
            self.tenancies.end(lease)
        return held

    def held(self, token: int) -> Held | None:
        """The lease with this token, if this process has it."""
        return self._held.get(token)

    def tokens(self) -> list[int]:
        """The leases that this process has; those of Trio runs that are over are ended."""
        self.tenancies.end_of_lost()
        with self._lock:
            held = [each.lease for each in self._held.values()]
        lost = [lease for lease in held if not self.tenancies.holds(lease.key, lease.token)]
        for lease in lost:
            self.end(lease)
        return [lease.token for lease in held if lease not in lost]

    # --- waiting and following

    def wait(self, digest: bytes, key: str) -> Bell:
        """Have whoever is first in this process's queue told when the session is free."""
        bell = Bell()
        with self._lock:
            self._waiting[digest] = (key, bell)
        return bell

    def stop_waiting(self, digest: bytes, bell: Bell) -> None:
        """The reverse of `wait`."""
        with self._lock:
            if self._waiting.get(digest, ("", None))[1] is bell:
                del self._waiting[digest]

    def waiting(self) -> list[bytes]:
        """The sessions that are waited for."""
        with self._lock:
            return list(self._waiting)

    def follow(self, digest: bytes) -> tuple[Bell, int | None]:
        """Have somebody told when the session is written.

        Returns the bell, and the number under which the database is to be asked to tell this process of the session; None if it
        does so already.
        """
        bell = Bell()
        with self._lock:
            self._followers.setdefault(digest, set()).add(bell)
            return bell, None if digest in self._announced else next(self.attempts)

    def announced(self, digest: bytes) -> None:
        """Note that the database tells this process of a session. Only while who asked for it still follows."""
        with self._lock:
            self._announced.add(digest)

    def stop_following(self, digest: bytes, bell: Bell) -> None:
        """The reverse of `follow`. Of the session is told until the next beat: who reads on follows again at once."""
        with self._lock:
            bells = self._followers.get(digest, set())
            bells.discard(bell)
            if not bells:
                self._followers.pop(digest, None)

    def followed(self) -> tuple[list[bytes], int]:
        """The sessions that are followed, and the number of this moment: of others, for which it was asked earlier, the
        database may forget to tell.
        """
        with self._lock:
            self._announced &= self._followers.keys()
            return list(self._followers), next(self.attempts)

    # --- being told

    def on_cancel(self, cancel: Callable[[str], object]) -> None:
        """Have this called, in any thread, with the key of each session whose runs somebody asks to stop."""
        self._cancelers.append(cancel)

    def cancel(self, key: str) -> None:
        """Tell those who run something here."""
        for cancel in tuple(self._cancelers):
            cancel(key)

    def take(self, kind: str, digest: bytes) -> bool:
        """Do what a notification of the database says: a session is (f)ree, has a new (m)essage, or shall be (c)ancelled.

        Returns False if a session is free for which nobody here waits.
        """
        bells: Iterable[Bell] = ()
        keys: set[str] = set()
        wanted = True
        with self._lock:
            waiting = self._waiting.get(digest)
            match kind:
                case "f":
                    bells = () if waiting is None else (waiting[1],)
                    wanted = waiting is not None
                case "m":
                    bells = tuple(self._followers.get(digest, ()))
                case "c":
                    keys = {h.lease.key for h in self._held.values() if h.row.digest == digest}
                    keys |= set() if waiting is None else {waiting[0]}
                case _:
                    pass  # from a later version
        for bell in bells:
            bell.ring()
        for key in keys:
            self.cancel(key)
        return wanted

    def ring_all(self) -> None:
        """Wake everybody: something may have been missed."""
        with self._lock:
            bells = [bell for _, bell in self._waiting.values()]
            bells += [bell for followers in self._followers.values() for bell in followers]
        for bell in bells:
            bell.ring()
