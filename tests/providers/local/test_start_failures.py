"""How often a server that does not start is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nanobot.providers.local._start_failures import FAILURES_BEFORE_PAUSE, PAUSE_S, StartFailures

seconds = st.floats(min_value=0, max_value=1e6)


def failed_at(*times: float) -> StartFailures:
    failures = StartFailures()
    for time in times:
        failures = failures.one_more(time)
    return failures


@given(st.lists(seconds, max_size=FAILURES_BEFORE_PAUSE - 1), seconds)
def test_the_first_failures_are_followed_by_a_start_at_once(times: list[float], now: float) -> None:
    assert failed_at(*times).pause_s(now) == 0.0


@given(st.lists(seconds, min_size=FAILURES_BEFORE_PAUSE), st.floats(0, 2 * PAUSE_S))
def test_after_three_in_a_row_the_newest_failure_begins_a_pause(
    times: list[float], later_s: float
) -> None:
    failures = failed_at(*times)
    pause_s = failures.pause_s(times[-1] + later_s)
    assert 0 <= pause_s <= PAUSE_S
    assert abs(pause_s - max(0.0, PAUSE_S - later_s)) < 1e-6


def test_after_the_pause_one_start_is_tried_and_its_failure_begins_the_next() -> None:
    failures = failed_at(0.0, 1.0, 2.0)
    assert failures.pause_s(2.0 + PAUSE_S) == 0.0
    assert failures.one_more(2.0 + PAUSE_S).pause_s(2.0 + PAUSE_S) == PAUSE_S
