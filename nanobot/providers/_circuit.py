"""Whether a model that keeps failing is asked at all: decided on plain numbers, without a clock."""

from __future__ import annotations

from typing import Final

__all__ = ["FAILURES_TO_OPEN", "OPEN_S", "Circuit"]

FAILURES_TO_OPEN: Final = 3
"""Failures in a row after which a model is left alone: fewer are an accident, more cost each of many sessions a wait."""

OPEN_S: Final = 60.0
"""For how many seconds it is left alone."""


class Circuit:
    """Closed while a model answers; opens when it failed three times in a row; a minute later lets one request try.

    If that one is answered the circuit closes, if it fails the model is left alone for another minute. All times are seconds
    on one clock of the caller's.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._opens_at = 0.0
        self._probing = False

    def opens_at(self, now: float) -> float:
        """When the next request may go: now or earlier if it may go now."""
        if self._failures < FAILURES_TO_OPEN:
            return now
        return now + OPEN_S if self._probing else self._opens_at

    def enter(self, now: float) -> bool:
        """A request goes out, if one may; whether it does. One of `answered`, `failed` and `left` has to follow."""
        if self.opens_at(now) > now:
            return False
        self._probing = self._failures >= FAILURES_TO_OPEN
        return True

    def answered(self) -> None:
        """The model answers."""
        self._failures = 0
        self._probing = False

    def failed(self, now: float) -> None:
        """The request failed in a way that another one would, too."""
        self._failures += 1
        self._probing = False
        if self._failures >= FAILURES_TO_OPEN:
            self._opens_at = now + OPEN_S

    def left(self) -> None:
        """The request was cancelled, or failed for a reason of its own: it says nothing about the model."""
        self._probing = False
