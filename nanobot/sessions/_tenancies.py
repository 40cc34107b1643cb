"""Which leases this process holds, and who of it waits for one: what the database need not know."""

from __future__ import annotations

import threading

from msgspec import Struct

from ._lease import Lease
from ._turnstile import Turnstiles, Waiter

__all__ = ["Tenancies"]


class _Tenancy(Struct, frozen=True, eq=False):
    lease: Lease
    waiter: Waiter


class Tenancies:
    """One queue per session, in order of arrival, and the leases of those who are through. May be used from any thread.

    Who is first in the queue goes on to the database, where this process competes with others. Remembers nothing of a session
    that nobody here owns or wants.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._turnstiles = Turnstiles()
        self._tenancies: dict[str, _Tenancy] = {}

    def __len__(self) -> int:
        """How many leases are held."""
        return len(self._tenancies)

    def sessions(self) -> int:
        """How many sessions are owned or wanted."""
        return len(self._turnstiles)

    def enter(self, key: str) -> Waiter:
        """Join the queue."""
        with self._lock:
            return self._turnstiles.enter(key)

    def leave(self, key: str, waiter: Waiter) -> None:
        """Leave the queue, or let the next one through, for whoever got no lease."""
        with self._lock:
            self._turnstiles.leave(key, waiter)

    def begin(self, lease: Lease, waiter: Waiter) -> None:
        """Note that a lease was given."""
        with self._lock:
            self._tenancies[lease.key] = _Tenancy(lease, waiter)

    def end(self, lease: Lease) -> bool:
        """Note that a lease was given back, and let the next one through; returns False if it had ended before."""
        with self._lock:
            if not self.holds(lease.key, lease.token):
                return False
            tenancy = self._tenancies.pop(lease.key)
            self._turnstiles.leave(lease.key, tenancy.waiter)
            return True

    def holds(self, key: str, token: int) -> bool:
        """Whether the lease was given here, and not given back."""
        with self._lock:
            tenancy = self._tenancies.get(key)
            return tenancy is not None and tenancy.lease.token == token

    def taken(self, key: str) -> bool:
        """Whether somebody here owns the session, or is about to."""
        with self._lock:
            return self._turnstiles.taken(key)

    def is_lost(self, key: str, token: int) -> bool:
        """Whether whoever holds this lease can do nothing with it any more, because their Trio run is over."""
        with self._lock:
            return self.holds(key, token) and not self._tenancies[key].waiter.alive

    def end_of_lost(self) -> None:
        """End the leases of Trio runs that are over; their owners cannot give them back any more."""
        with self._lock:
            for tenancy in tuple(self._tenancies.values()):
                if not tenancy.waiter.alive:
                    self.end(tenancy.lease)
