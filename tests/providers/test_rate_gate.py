"""How many requests may go to a service now: the decision, without a clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.providers import RateLimits
from nanobot.providers._rate_gate import Pass, RateGate


def gate(**limits: int) -> RateGate:
    return RateGate(RateLimits(**limits))


def may_go(gate: RateGate, now: float, tokens: int = 0) -> bool:
    return gate.opens_at(now, tokens) <= now


def test_without_limits_everything_goes() -> None:
    free = gate()
    for _ in range(10_000):
        assert may_go(free, 0.0)
        free.enter(0.0)
    assert free.in_flight == 10_000


def test_a_place_is_free_when_a_request_has_ended() -> None:
    narrow = gate(max_concurrent_requests=2)
    first = narrow.enter(0.0)
    narrow.enter(0.0)
    assert narrow.opens_at(1.0) == math.inf
    narrow.leave(first)
    assert may_go(narrow, 1.0)


def test_requests_of_any_sixty_seconds_are_counted() -> None:
    slow = gate(requests_per_minute=3)
    for moment in (0.0, 10.0, 20.0):
        assert may_go(slow, moment)
        slow.leave(slow.enter(moment))
    assert slow.opens_at(20.0) == 60.0
    assert may_go(slow, 60.0)
    slow.enter(60.0)
    assert slow.opens_at(60.0) == 70.0


@given(
    st.integers(1, 5),
    st.lists(st.floats(0, 30), min_size=1, max_size=60),
)
def test_no_sixty_seconds_see_more_requests_than_allowed(limit: int, gaps: list[float]) -> None:
    slow = gate(requests_per_minute=limit)
    now, begun = 1000.0, list[float]()
    for gap in gaps:
        now = max(now + gap, slow.opens_at(now + gap))
        assert may_go(slow, now)
        slow.leave(slow.enter(now))
        begun.append(now)
    for start in begun:
        assert sum(start <= moment < start + 59.999 for moment in begun) <= limit


@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 150), st.integers(0, 150)), max_size=40),
)
def test_no_sixty_seconds_are_let_more_tokens_than_allowed(
    limit: int, requests: list[tuple[float, int, int]]
) -> None:
    """What a request asks for counts when it goes; one alone may ask for more than the limit."""
    slow = gate(tokens_per_minute=limit)
    now = 1000.0
    begun: list[tuple[float, Pass]] = []
    for gap, asked, took in requests:
        now = max(now + gap, slow.opens_at(now + gap, asked))
        assert may_go(slow, now, asked)
        counted = sum(one.tokens for moment, one in begun if moment + 60 > now)
        assert not counted or counted + asked <= limit
        taken = slow.enter(now, asked)
        slow.leave(taken, took)
        begun.append((now, taken))


def test_tokens_count_as_asked_for_and_then_as_taken() -> None:
    slow = gate(tokens_per_minute=100)
    taken = slow.enter(0.0, 80)
    assert slow.opens_at(1.0, 30) == 60.0
    slow.leave(taken, 20)
    assert may_go(slow, 1.0, 30)


def test_what_a_request_took_after_its_minute_does_not_count_any_more() -> None:
    slow = gate(tokens_per_minute=100)
    taken = slow.enter(0.0, 80)
    assert may_go(slow, 60.0, 100)
    slow.leave(taken, 5000)
    assert may_go(slow, 60.0, 100)


def test_a_refusal_closes_the_gate_for_as_long_as_the_service_asks() -> None:
    free = gate()
    taken = free.enter(0.0)
    free.refused(taken, 5.0, 30.0)
    free.leave(taken)
    assert (free.opens_at(6.0), free.pause_s(6.0), free.pause_s(99.0)) == (35.0, 29.0, 0.0)


def test_a_shorter_wait_does_not_open_the_gate_earlier() -> None:
    free = gate()
    one, two = free.enter(0.0), free.enter(0.0)
    free.refused(one, 0.0, 30.0)
    free.refused(two, 1.0, 2.0)
    assert free.pause_s(1.0) == 29.0


def test_without_a_wait_asked_for_each_refusal_in_a_row_doubles_it() -> None:
    free = gate()
    pauses, now = [], 0.0
    for _ in range(7):
        taken = free.enter(now)
        free.refused(taken, now, None)
        free.leave(taken)
        pauses.append(free.pause_s(now))
        now += free.pause_s(now)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    free.accepted()
    taken = free.enter(now)
    free.refused(taken, now, None)
    assert free.pause_s(now) == 1


def test_refusals_of_one_moment_halve_once() -> None:
    free = gate()
    out = [free.enter(0.0) for _ in range(100)]
    for taken in out:
        free.refused(taken, 1.0, 0.0)
        free.leave(taken)
    assert free.window == 50
    later = [free.enter(2.0) for _ in range(50)]
    assert free.opens_at(2.0) == math.inf
    free.refused(later[0], 3.0, 0.0)
    assert free.window == 25


def test_answers_let_the_window_grow_by_one_a_round_until_it_is_forgotten() -> None:
    free = gate()
    out = [free.enter(0.0) for _ in range(8)]
    free.refused(out[0], 0.0, 0.0)
    for _ in range(4):
        free.accepted()
    assert free.window == pytest.approx(5, abs=0.2)
    for _ in range(1_000_000):
        free.accepted()
        if free.window == math.inf:
            break
    assert free.window == math.inf


def test_the_strictest_of_two_limits_counts() -> None:
    one = RateLimits(max_concurrent_requests=4, requests_per_minute=10)
    other = RateLimits(requests_per_minute=5, tokens_per_minute=7)
    assert one.strictest(other) == RateLimits(
        max_concurrent_requests=4, requests_per_minute=5, tokens_per_minute=7
    )
