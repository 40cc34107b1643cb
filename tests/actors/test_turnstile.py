"""The fair lock's policy, driven without a clock or a task."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors import Turnstile


class TurnstileMachine(RuleBasedStateMachine):
    """Arrivals, departures and withdrawals in any order, against what a fair lock promises."""

    def __init__(self) -> None:
        super().__init__()
        self.turnstile: Turnstile[int] = Turnstile()
        self.exclusive: dict[int, bool] = {}
        self.queue: list[int] = []
        self.entered: list[int] = []
        self.inside: set[int] = set()

    def note(self, granted: tuple[int, ...]) -> None:
        for ticket in granted:
            self.queue.remove(ticket)
            self.inside.add(ticket)
            self.entered.append(ticket)

    @rule(exclusive=st.booleans())
    def arrive(self, exclusive: bool) -> None:
        ticket = len(self.exclusive)
        self.exclusive[ticket] = exclusive
        self.queue.append(ticket)
        self.note(self.turnstile.arrive(ticket, exclusive=exclusive))

    @precondition(lambda self: self.inside)
    @rule(choice=st.randoms(use_true_random=False))
    def leave(self, choice: object) -> None:
        ticket = choice.choice(sorted(self.inside))  # type: ignore[attr-defined]  # hypothesis gives a random.Random
        self.inside.remove(ticket)
        self.note(self.turnstile.leave(ticket))

    @precondition(lambda self: self.queue)
    @rule(choice=st.randoms(use_true_random=False))
    def withdraw(self, choice: object) -> None:
        ticket = choice.choice(self.queue)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
        self.queue.remove(ticket)
        self.note(self.turnstile.withdraw(ticket))

    @invariant()
    def an_exclusive_ticket_is_alone(self) -> None:
        if any(self.exclusive[ticket] for ticket in self.inside):
            assert len(self.inside) == 1

    @invariant()
    def nobody_overtakes(self) -> None:
        assert self.entered == sorted(self.entered)

    @invariant()
    def the_head_of_the_queue_could_not_enter(self) -> None:
        if self.queue:
            head_is_exclusive = self.exclusive[self.queue[0]]
            someone_is_alone_inside = any(self.exclusive[ticket] for ticket in self.inside)
            assert self.inside, "an empty room refuses nobody"
            assert head_is_exclusive or someone_is_alone_inside

    @invariant()
    def it_remembers_exactly_who_waits_and_who_is_inside(self) -> None:
        assert list(self.turnstile.waiting) == self.queue
        assert self.turnstile.inside == self.inside
        assert self.turnstile.contended == bool(self.queue)


TestTurnstile = TurnstileMachine.TestCase


def test_a_withdrawn_writer_lets_in_the_readers_behind_it() -> None:
    turnstile: Turnstile[str] = Turnstile()
    turnstile.arrive("reader", exclusive=False)
    turnstile.arrive("writer", exclusive=True)
    assert turnstile.arrive("second reader", exclusive=False) == ()
    assert turnstile.arrive("third reader", exclusive=False) == ()
    assert turnstile.withdraw("writer") == ("second reader", "third reader")


def test_a_ticket_is_used_once() -> None:
    turnstile: Turnstile[str] = Turnstile()
    turnstile.arrive("reader", exclusive=False)
    with pytest.raises(ValueError, match="arrived already"):
        turnstile.arrive("reader", exclusive=True)
