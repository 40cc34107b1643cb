"""What the runtime has done and does, as Prometheus reads it. Counts nothing: it shows `RuntimeStatistics`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

from nanobot.runtime import LATENCY_BOUNDS_S, RuntimeStatistics, TurnTotals

from ._metrics import Sample, exposition

__all__ = ["runtime_text"]


def runtime_text(statistics: RuntimeStatistics) -> str:
    """The statistics in Prometheus' text format. No session is named: their keys may be people's."""
    turns, lock, sockets = statistics.turns, statistics.lock, statistics.connections
    states = Counter(run.state for run in statistics.runs)
    return "".join(
        (
            exposition(
                "nanobot_turns_total",
                "counter",
                "Turns that have ended, by how they did.",
                (
                    ("", {"outcome": "completed"}, turns.ended - turns.failed - turns.cancelled),
                    ("", {"outcome": "failed"}, turns.failed),
                    ("", {"outcome": "cancelled"}, turns.cancelled),
                ),
            ),
            exposition(
                "nanobot_turn_duration_seconds",
                "histogram",
                "From when a turn was asked for to its end.",
                _latency(turns),
            ),
            exposition(
                "nanobot_tokens_total",
                "counter",
                "Tokens that models read and wrote.",
                (
                    ("", {"kind": "prompt"}, turns.prompt_tokens),
                    ("", {"kind": "completion"}, turns.completion_tokens),
                ),
            ),
            exposition(
                "nanobot_runs",
                "gauge",
                "Runs: queued behind others of their session, waiting for the lock, or running.",
                (
                    ("", {"state": state}, states[state])
                    for state in ("queued", "waiting", "running")
                ),
            ),
            exposition(
                "nanobot_sessions",
                "gauge",
                "Sessions in memory, idle ones included.",
                [("", {}, statistics.live_sessions)],
            ),
            exposition(
                "nanobot_lock_exclusive",
                "gauge",
                "1 while a run that overrides the model holds the lock alone.",
                [("", {}, int(lock.exclusive))],
            ),
            exposition(
                "nanobot_model_connections",
                "gauge",
                "Sockets to model services, and requests that wait for one.",
                (
                    ("", {"state": "busy"}, sockets.open - sockets.idle),
                    ("", {"state": "idle"}, sockets.idle),
                    ("", {"state": "awaited"}, sockets.waiting),
                ),
            ),
        )
    )


def _latency(turns: TurnTotals) -> Iterable[Sample]:
    bounds = (*map(str, LATENCY_BOUNDS_S), "+Inf")
    for bound, count in zip(bounds, accumulate(turns.latency_counts), strict=True):
        yield "_bucket", {"le": bound}, count
    yield "_sum", {}, float(turns.latency_s)
    yield "_count", {}, turns.ended
