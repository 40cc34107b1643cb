"""Adding up turns: pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nanobot.agent import RunResult
from nanobot.runtime import LATENCY_BOUNDS_S, TurnTotals
from nanobot.runtime._statistics import counted

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def done(**fields: object) -> RunResult:
    return RunResult(content="", usage=dict(USAGE), **fields)  # type: ignore[arg-type]  # fields by name


def test_a_turn_adds_its_tokens_and_its_time() -> None:
    totals = counted(TurnTotals(), 0.7, done(stop_reason="completed"), cancelled=False)
    totals = counted(totals, 0.1, done(stop_reason="completed"), cancelled=False)
    assert (totals.ended, totals.failed, totals.cancelled) == (2, 0, 0)
    assert (totals.prompt_tokens, totals.completion_tokens, totals.total_tokens) == (20, 10, 30)
    assert totals.latency_s == 0.7 + 0.1
    assert totals.latency_counts[LATENCY_BOUNDS_S.index(0.1)] == 1  # a bound belongs to its bucket
    assert totals.latency_counts[LATENCY_BOUNDS_S.index(1.0)] == 1


def test_a_failure_is_told_from_a_cancellation() -> None:
    totals = counted(TurnTotals(), 1.0, done(stop_reason="error", error="no"), cancelled=False)
    totals = counted(totals, 1.0, None, cancelled=False)  # it raised
    assert (totals.failed, totals.cancelled) == (2, 0)
    totals = counted(totals, 1.0, done(stop_reason="cancelled", error="x"), cancelled=True)
    totals = counted(totals, 1.0, None, cancelled=True)
    assert (totals.ended, totals.failed, totals.cancelled) == (4, 2, 2)


@given(st.lists(st.floats(0, 10_000)))
def test_every_turn_is_in_one_bucket(latencies: list[float]) -> None:
    totals = TurnTotals()
    for latency_s in latencies:
        totals = counted(totals, latency_s, done(), cancelled=False)
    assert len(totals.latency_counts) == len(LATENCY_BOUNDS_S) + 1
    assert sum(totals.latency_counts) == totals.ended == len(latencies)
    for index, bound in enumerate(LATENCY_BOUNDS_S):
        within = sum(latency_s <= bound for latency_s in latencies)
        assert sum(totals.latency_counts[: index + 1]) == within
