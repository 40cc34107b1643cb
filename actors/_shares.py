"""Who gets the next of a limited number of places: the pure policy of sharing them fairly among groups.

A free place goes to the group that has the fewest; of several, to the one whose share has not changed for the longest time;
within a group, first come, first served. So a group with a thousand tickets gets all places while it is alone, and
another's first ticket is the next to be let in. There is no clock, no task and no waiting here: every method says at once
which tickets it let in, and the caller wakes their owners.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Shares"]

T = TypeVar("T", bound=Hashable)


class Shares(Generic[T]):
    """Grants places to tickets of groups. Each step is O(1), but for a look at the different sizes that shares have.

    A ticket is any hashable object; it is used once: arrive, then either withdraw (still waiting) or leave (inside).

    Args:
      places: How many there are.

    Raises:
      ValueError: There is none.
    """

    __slots__ = ("_inside", "_queues", "_ranks", "_taken", "_waiting", "places")

    def __init__(self, places: int) -> None:
        if places < 1:
            raise ValueError(f"there must be at least one place, not {places}")
        self.places = places
        self._inside: dict[T, Hashable] = {}  # ticket to group, as below
        self._waiting: dict[T, Hashable] = {}
        self._taken: dict[Hashable, int] = {}  # places of a group; those without one are not here
        # Ordered dicts, not dicts: finding the first key of a dict means stepping over those deleted before it.
        self._queues: dict[Hashable, OrderedDict[T, None]] = {}  # of groups that wait
        self._ranks: dict[
            int, OrderedDict[Hashable, None]
        ] = {}  # the same, by the places they have

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return len(self._inside)

    @property
    def waiting(self) -> int:
        """How many tickets wait."""
        return len(self._waiting)

    def arrive(self, ticket: T, group: Hashable) -> tuple[T, ...]:
        """Join the end of the group's queue; returns `(ticket,)` if there is a place for it at once, else `()`."""
        if ticket in self._waiting or ticket in self._inside:
            raise ValueError(f"ticket {ticket!r} has arrived already")
        self._waiting[ticket] = group
        queue = self._queues.get(group)
        if queue is None:
            queue = self._queues[group] = OrderedDict()
            self._rank(group)
        queue[ticket] = None
        return self._admit()

    def leave(self, ticket: T) -> tuple[T, ...]:
        """Give up a place; returns the ticket that gets it."""
        group = self._inside.pop(ticket)
        self._count(group, -1)
        return self._admit()

    def withdraw(self, ticket: T) -> None:
        """Stop waiting. Lets nobody in: there was no place, or the ticket would not have waited."""
        self._dequeue(ticket, self._waiting[ticket])

    def _admit(self) -> tuple[T, ...]:
        granted: list[T] = []
        while self._ranks and len(self._inside) < self.places:
            group = next(iter(self._ranks[min(self._ranks)]))
            ticket = next(iter(self._queues[group]))
            self._dequeue(ticket, group)
            self._inside[ticket] = group
            self._count(group, 1)
            granted.append(ticket)
        return tuple(granted)

    def _dequeue(self, ticket: T, group: Hashable) -> None:
        del self._waiting[ticket]
        queue = self._queues[group]
        del queue[ticket]
        if not queue:
            del self._queues[group]
            self._unrank(group)

    def _count(self, group: Hashable, change: int) -> None:
        waits = group in self._queues
        if waits:
            self._unrank(group)
        taken = self._taken.get(group, 0) + change
        if taken:
            self._taken[group] = taken
        else:
            del self._taken[group]
        if waits:
            self._rank(group)

    def _rank(self, group: Hashable) -> None:
        self._ranks.setdefault(self._taken.get(group, 0), OrderedDict())[group] = None

    def _unrank(self, group: Hashable) -> None:
        taken = self._taken.get(group, 0)
        rank = self._ranks[taken]
        del rank[group]
        if not rank:
            del self._ranks[taken]
