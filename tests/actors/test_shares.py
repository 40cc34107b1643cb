"""Sharing places among groups, driven without a clock or a task."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors import Shares


class SharesMachine(RuleBasedStateMachine):
    """Arrivals, departures and withdrawals in any order, against what fair shares promise."""

    @initialize(places=st.integers(1, 3))
    def open(self, places: int) -> None:
        self.places = places
        self.shares: Shares[int] = Shares(places)
        self.group: dict[int, str] = {}
        self.queue: list[int] = []
        self.inside: set[int] = set()

    def has(self, group: str) -> int:
        return sum(self.group[ticket] == group for ticket in self.inside)

    def note(self, granted: tuple[int, ...]) -> None:
        for ticket in granted:
            group = self.group[ticket]
            waiting = {self.group[other] for other in self.queue}
            assert self.has(group) == min(self.has(other) for other in waiting)
            assert ticket == next(other for other in self.queue if self.group[other] == group)
            self.queue.remove(ticket)
            self.inside.add(ticket)

    @rule(group=st.sampled_from("abc"))
    def arrive(self, group: str) -> None:
        ticket = len(self.group)
        self.group[ticket] = group
        self.queue.append(ticket)
        self.note(self.shares.arrive(ticket, group))

    @precondition(lambda self: self.inside)
    @rule(choice=st.randoms(use_true_random=False))
    def leave(self, choice: Any) -> None:
        ticket = choice.choice(sorted(self.inside))
        self.inside.remove(ticket)
        self.note(self.shares.leave(ticket))

    @precondition(lambda self: self.queue)
    @rule(choice=st.randoms(use_true_random=False))
    def withdraw(self, choice: Any) -> None:
        ticket = choice.choice(self.queue)
        self.queue.remove(ticket)
        self.shares.withdraw(ticket)

    @invariant()
    def nobody_waits_for_a_free_place_and_none_is_given_twice(self) -> None:
        if hasattr(self, "shares"):
            assert len(self.inside) <= self.places
            assert not self.queue or len(self.inside) == self.places
            assert (self.shares.taken, self.shares.waiting) == (len(self.inside), len(self.queue))


TestShares = SharesMachine.TestCase


def test_groups_take_turns_however_many_tickets_one_of_them_has() -> None:
    shares: Shares[str] = Shares(1)
    for number in range(4):
        shares.arrive(f"a{number}", "a")
    shares.arrive("b0", "b")
    shares.arrive("c0", "c")
    shares.arrive("b1", "b")
    order, inside = [], "a0"
    while True:
        granted = shares.leave(inside)
        if not granted:
            break
        (inside,) = granted
        order.append(inside)
    assert order == ["b0", "c0", "a1", "b1", "a2", "a3"]


def test_a_ticket_arrives_once_and_there_is_a_place() -> None:
    shares: Shares[str] = Shares(1)
    shares.arrive("x", "a")
    shares.arrive("waits", "a")
    for ticket in ("x", "waits"):
        with pytest.raises(ValueError, match="has arrived already"):
            shares.arrive(ticket, "b")
    with pytest.raises(ValueError, match="at least one place"):
        Shares(0)


def test_nothing_is_kept_of_groups_that_are_gone() -> None:
    shares: Shares[int] = Shares(2)
    for ticket in range(100):
        shares.arrive(ticket, f"group {ticket}")
    shares.withdraw(99)
    for ticket in range(99):
        shares.leave(ticket)
    kept = (shares._inside, shares._waiting, shares._taken, shares._queues, shares._ranks)
    assert kept == ({}, {}, {}, {}, {})
