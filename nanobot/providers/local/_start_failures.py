"""How often a server that does not start is started again: the decision, without a clock."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

__all__ = ["FAILURES_BEFORE_PAUSE", "PAUSE_S", "StartFailures"]

FAILURES_BEFORE_PAUSE: Final = 3
"""One failure may be chance (memory short for a moment), three in a row are not."""

PAUSE_S: Final = 30.0
"""How long every request then fails at once; after it one more start is tried, so that a long-lived program recovers
by itself when the cause is gone, and a broken model costs no more than a process every half minute."""


class StartFailures(Struct, frozen=True):
    """How many starts have failed in a row, and when the last one did, in seconds of any clock."""

    in_a_row: int = 0
    last_at: float = 0.0

    def one_more(self, now: float) -> StartFailures:
        """Count a start that failed at `now`. One that succeeds is counted by beginning anew."""
        return StartFailures(self.in_a_row + 1, now)

    def pause_s(self, now: float) -> float:
        """Return for how many seconds no start is tried; 0.0 if one may be."""
        if self.in_a_row < FAILURES_BEFORE_PAUSE:
            return 0.0
        return max(0.0, PAUSE_S - (now - self.last_at))
