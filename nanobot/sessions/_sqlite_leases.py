"""Leases between the processes that share a database file: who holds one, who waits for it, and who has died."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct

from ._rows import key_from_row
from ._sqlite_errors import closed_error
from ._sqlite_process import Process, is_dead, this_process
from ._sqlite_request import NotYet, Request, wake
from ._sqlite_transaction import Transaction
from ._tenancies import Tenancies

__all__ = ["LEASE_TIMEOUT_S", "LeaseDesk", "LeaseRequest"]

T = TypeVar("T")

# A process that has died is found out at once, by its number and the time at which it started. What is left are processes that
# hang, or are out of sight in another container: they lose their leases when nothing has been heard of them for this long. It
# covers five lost beats: a disk that stalls, a suspended virtual machine, a machine that swaps. A turn that is taken from a
# living process fails, and no harm is done; a turn that waits for a hanging one waits this long.
LEASE_TIMEOUT_S: Final = 15.0
_BEATS: Final = 5

# What one look can tell about how long an owner has been silent: whoever looks may have been asleep itself.
_LONGEST_SILENCE_PER_LOOK_S: Final = 1.0

# Whoever waits for another process looks whether the database has changed, which costs 2 us: after a tenth of the time that it
# has waited already, within these bounds. So a session is handed on within 20 ms, after a turn that took a model seconds.
_FIRST_LOOK_S: Final = 0.001
_LAST_LOOK_S: Final = 0.02
# The database does not change when a process dies.
_LOOK_FOR_THE_DEAD_S: Final = 0.25

_HELD_AND_QUEUED: Final = """
    SELECT (SELECT owner FROM lease WHERE key = ?1), EXISTS (SELECT 1 FROM ticket WHERE key = ?1)
"""


class LeaseRequest(Request[T], Generic[T]):
    """Asks for a lease; tried again until it is given."""

    __slots__ = ("key", "since")

    def __init__(
        self,
        key: bytes,
        work: Callable[[Transaction], T],
        *,
        after: Callable[[T], None],
        writes: bool = False,
    ) -> None:
        super().__init__(work, durable=writes, after=after)  # a lease does not outlive a power cut
        self.key = key
        self.since = time.monotonic()


class _Watched(Struct, eq=False):
    beat: int
    last_look: float
    silent_s: float = 0.0


class LeaseDesk:
    """Gives leases in the database's name to the first in each of this process's queues. Used in the writer's thread only.

    Between processes, too, they are given in order of arrival: whoever has to wait draws a ticket, and a process that gives a
    lease back does not get it again before those with a ticket.

    A `Chore` of the writer: it beats while leases are held, and tries again what has to wait.
    """

    def __init__(self, tenancies: Tenancies, *, timeout_s: float = LEASE_TIMEOUT_S) -> None:
        """Hold nothing yet.

        Args:
          tenancies: What this process knows of its own leases.
          timeout_s: How long another process may be silent.
        """
        self._tenancies = tenancies
        self._timeout_s = timeout_s
        self._beat_s = timeout_s / _BEATS
        self._me = secrets.randbits(62)
        self._waiting: list[LeaseRequest[Any]] = []
        self._seen_version: int | None = None
        self._next_look = 0.0
        self._next_look_for_the_dead = 0.0
        self._next_beat: float | None = None  # None: the database has nothing of ours
        self._watched: dict[int, _Watched] = {}

    def register(self, connection: sqlite3.Connection) -> None:
        """Make this process known in a database that was just opened, and forget those that have died."""
        transaction = Transaction(connection)
        connection.execute("BEGIN IMMEDIATE")
        owners = connection.execute("SELECT id, scope, pid, started FROM owner").fetchall()
        for owner, *process in owners:
            if owner != self._me and is_dead(Process(*process)):
                self._bury(transaction, owner)
        self._introduce(transaction)
        connection.execute("COMMIT")

    def grant(self, transaction: Transaction, key: bytes, epoch: int | None) -> tuple[int, int]:
        """Give this process the lease on a session; returns its token, and the epoch that it is given for.

        Args:
          transaction: The current one.
          key: The session.
          epoch: The session's; None if there is no such session, and one is to be reserved.

        Raises:
          NotYet: Another process has it, or was here first.
        """
        found = transaction.one(_HELD_AND_QUEUED, (key,))
        assert found is not None  # it has no condition
        owner, queued = found
        ours = owner == self._me  # the queue in this process has passed it on
        free = owner is None or ours or self._is_gone(transaction, owner)
        first = self._first_in_line(transaction, key) if free and queued else None
        self._next_beat = self._next_beat or time.monotonic() + self._beat_s
        if not free or first not in (None, self._me):
            if ours:
                transaction.execute("DELETE FROM lease WHERE key = ?", (key,))
            transaction.execute(
                "INSERT OR IGNORE INTO ticket (key, owner) VALUES (?, ?)", (key, self._me)
            )
            raise NotYet
        if first is not None:
            transaction.execute("DELETE FROM ticket WHERE key = ? AND owner = ?", (key, self._me))
        token = transaction.number()
        epoch = transaction.number() if epoch is None else epoch
        transaction.execute(
            "INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?)", (key, token, epoch, self._me)
        )
        return token, epoch

    def is_held(self, transaction: Transaction, key: bytes) -> bool:
        """Whether somebody who could still write has the lease. One whose owner is gone is ended."""
        held = transaction.one("SELECT token, owner FROM lease WHERE key = ?", (key,))
        if held is None:
            return False
        token, owner = held
        if owner == self._me:  # one that was given in this very transaction is not known there yet
            gone = self._tenancies.is_lost(key_from_row(key), token)
        else:
            gone = self._is_gone(transaction, owner)
        if gone:
            transaction.execute("DELETE FROM lease WHERE key = ?", (key,))
        return not gone

    @staticmethod
    def release(transaction: Transaction, key: bytes, token: int) -> None:
        """Give a lease back; no effect if it has ended."""
        transaction.execute("DELETE FROM lease WHERE key = ? AND token = ?", (key, token))

    # --- the chore

    def put_back(self, request: Request[Any]) -> None:
        """Take in a request for which it is not yet time."""
        assert isinstance(request, LeaseRequest)  # nothing else waits
        self._waiting.append(request)

    def due_in_s(self) -> float | None:
        """See `Chore`."""
        now = time.monotonic()
        dues = [] if self._next_beat is None else [self._next_beat - now]
        if self._waiting:
            waited_s = now - max(request.since for request in self._waiting)
            pause_s = min(max(waited_s / 10, _FIRST_LOOK_S), _LAST_LOOK_S)
            dues.append(self._next_look + pause_s - now)
        return min(dues, default=None)

    def requests(self, connection: sqlite3.Connection) -> Sequence[Request[Any]]:
        """See `Chore`."""
        now = time.monotonic()
        if self._next_beat is not None and now >= self._next_beat:
            self._next_beat = now + self._beat_s
            self._tenancies.end_of_lost()
            # Alone: it takes leases for lost that are being given in the same transaction.
            return [Request(self._beat, durable=False, after=self._rest_if_nothing_is_left)]
        self._next_look = now
        due: list[Request[Any]] = []
        left = {request.key for request in self._waiting if not request.waiting}
        self._waiting = [request for request in self._waiting if request.waiting]
        left -= {request.key for request in self._waiting}
        if left:
            due.append(Request(partial(self._return_tickets, left), durable=False))
        # It changes with the commits of others, and costs less than a transaction.
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._seen_version or now >= self._next_look_for_the_dead:
            self._seen_version = version
            self._next_look_for_the_dead = now + _LOOK_FOR_THE_DEAD_S
            due += self._waiting
            self._waiting = []
        return due

    def leave(self) -> Request[None]:
        """End everything: tell those who wait, and return what makes the database forget this process."""
        told: list[Request[Any]] = []
        for request in self._waiting:
            if request.take():
                request.fail(closed_error())
                told.append(request)
        self._waiting = []
        wake(told)
        return Request(lambda transaction: self._bury(transaction, self._me), durable=False)

    # --- owners

    def _beat(self, transaction: Transaction) -> bool:
        """Say that this process lives, and return what it need not have; returns whether it has anything left.

        What is found here was lost on the way: the disk was full when a lease was given back, or its Trio run has crashed.
        """
        living = transaction.execute(
            "UPDATE owner SET beat = beat + 1 WHERE id = ?", (self._me,)
        ).rowcount
        if not living:
            self._introduce(transaction)
        leases = transaction.execute(
            "SELECT key, token FROM lease WHERE owner = ?", (self._me,)
        ).fetchall()
        lost = [
            (key, token)
            for key, token in leases
            if not self._tenancies.holds(key_from_row(key), token)
        ]
        for key, token in lost:
            self.release(transaction, key, token)
        tickets = transaction.execute("SELECT key FROM ticket WHERE owner = ?", (self._me,))
        wanted = {request.key for request in self._waiting}
        self._return_tickets({key for (key,) in tickets.fetchall()} - wanted, transaction)
        return len(leases) > len(lost) or bool(wanted)

    def _rest_if_nothing_is_left(self, anything: bool) -> None:
        if not anything and not self._waiting:
            self._next_beat = None

    def _return_tickets(self, keys: Set[bytes], transaction: Transaction) -> None:
        transaction.connection.executemany(
            "DELETE FROM ticket WHERE key = ? AND owner = ?", [(key, self._me) for key in keys]
        )

    def _first_in_line(self, transaction: Transaction, key: bytes) -> int | None:
        tickets = transaction.execute(
            "SELECT owner FROM ticket WHERE key = ? ORDER BY number", (key,)
        ).fetchall()
        for (owner,) in tickets:
            if owner == self._me or not self._is_gone(transaction, owner):
                return int(owner)
        return None

    def _introduce(self, transaction: Transaction) -> None:
        process = this_process()
        transaction.execute(
            "INSERT OR IGNORE INTO owner VALUES (?, ?, ?, ?, 0)",
            (self._me, process.scope, process.pid, process.started),
        )

    def _is_gone(self, transaction: Transaction, owner: int) -> bool:
        """Whether another process is dead, or silent for so long that it counts as dead."""
        row = transaction.one("SELECT scope, pid, started, beat FROM owner WHERE id = ?", (owner,))
        if row is None:
            return True
        *process, beat = row
        if is_dead(Process(*process)):
            self._bury(transaction, owner)
            return True
        now = time.monotonic()
        watched = self._watched.get(owner)
        if watched is None:
            self._forget_who_left(transaction)
        if watched is None or watched.beat != beat:
            watched = self._watched[owner] = _Watched(beat, now)
        watched.silent_s += min(now - watched.last_look, _LONGEST_SILENCE_PER_LOOK_S)
        watched.last_look = now
        return watched.silent_s >= self._timeout_s

    def _forget_who_left(self, transaction: Transaction) -> None:
        """Nobody looks for them again: without this, each process that was ever waited for would stay noted here."""
        present = {owner for (owner,) in transaction.execute("SELECT id FROM owner")}
        for owner in self._watched.keys() - present:
            del self._watched[owner]

    def _bury(self, transaction: Transaction, owner: int) -> None:
        self._watched.pop(owner, None)
        transaction.execute("DELETE FROM lease WHERE owner = ?", (owner,))
        transaction.execute("DELETE FROM ticket WHERE owner = ?", (owner,))
        transaction.execute("DELETE FROM owner WHERE id = ?", (owner,))
