"""A runtime's statistics as the page shows them: of thousands of sessions, those that matter. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from nanobot.runtime import RuntimeStatistics

__all__ = ["shown_statistics"]

_ROWS: Final = 100
"""Rows of each list: more than an operator reads, and a frame stays small with 10,000 sessions alive."""


def shown_statistics(statistics: RuntimeStatistics) -> dict[str, Any]:
    """The counts of all, and of each list the rows that matter most: long queues, old runs, long waits."""
    sessions = sorted(statistics.sessions, key=lambda one: (one.queued, one.busy), reverse=True)
    runs = sorted(statistics.runs, key=lambda run: run.age_s, reverse=True)
    return {
        "live_sessions": statistics.live_sessions,
        "busy_sessions": sum(session.busy for session in statistics.sessions),
        "live_runs": statistics.live_runs,
        "running": statistics.running,
        "queued": statistics.queued,
        "sessions": msgspec.to_builtins(sessions[:_ROWS]),
        "runs": msgspec.to_builtins(runs[:_ROWS]),
        "lock": {
            "exclusive": statistics.lock.exclusive,
            "held": len(statistics.lock.holders),
            "waiting": len(statistics.lock.waiters),
            "holders": list(statistics.lock.holders[:_ROWS]),
            "waiters": msgspec.to_builtins(statistics.lock.waiters[:_ROWS]),
        },
        "connections": msgspec.to_builtins(statistics.connections),
        "turns": msgspec.to_builtins(statistics.turns),
    }
