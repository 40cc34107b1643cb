"""How many requests may go to a service now: a decision on plain numbers, without tasks or a clock."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from msgspec import Struct

__all__ = ["NO_LIMITS", "Pass", "RateGate", "RateLimits"]

_MINUTE_S: Final = 60.0

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
"""How long a service that does not say is left alone after it refused a request; doubles with each refusal in a row."""

_WINDOW_FORGOTTEN: Final = 1024.0
"""A window this wide restrains nobody any more, and is forgotten."""


class RateLimits(Struct, frozen=True, kw_only=True):
    """What may go to one service with one key. None is no limit.

    Attributes:
      max_concurrent_requests: Requests that are being answered at the same time.
      requests_per_minute: Requests begun within any 60 seconds.
      tokens_per_minute: Tokens of the requests begun within any 60 seconds. A request counts with what it asks for, its
        prompt (estimated) and `max_tokens`, until it has ended; from then on with what it took. One that asks for more than
        the limit by itself waits until no other one counts.
    """

    max_concurrent_requests: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def strictest(self, other: RateLimits) -> RateLimits:
        """The lower of the two, limit by limit."""
        return RateLimits(
            max_concurrent_requests=_lower(
                self.max_concurrent_requests, other.max_concurrent_requests
            ),
            requests_per_minute=_lower(self.requests_per_minute, other.requests_per_minute),
            tokens_per_minute=_lower(self.tokens_per_minute, other.tokens_per_minute),
        )


NO_LIMITS: Final = RateLimits()


class Pass(Struct, eq=False, gc=False):
    """What one request holds from the moment it may go until it has ended; `counts`: among the tokens of the last minute."""

    began_at: float
    epoch: int
    tokens: int
    counts: bool = True


class RateGate:
    """Keeps the configured limits, and slows down when the service says that it is too much.

    A refusal (429) closes the gate for as long as the service asks, and halves the number of requests that may be out at
    once; each answer lets it grow again, by one for as many answers as may be out. That is how TCP shares a line: whoever
    uses one key finds the rate that the service takes without being told it. Refusals of requests that were sent before
    the halving do not halve again: they are news of the same moment.

    All times are seconds on one clock of the caller's.
    """

    def __init__(self, limits: RateLimits = NO_LIMITS) -> None:
        self.limits = limits
        self.in_flight = 0
        self._window = math.inf
        self._epoch = 0
        self._refusals = 0
        self._closed_until = -math.inf
        self._begun: deque[float] = deque()
        self._taken: deque[Pass] = deque()
        self._tokens = 0

    @property
    def window(self) -> float:
        """How many requests may be out at once, as far as refusals have taught; infinite if none have."""
        return self._window

    def pause_s(self, now: float) -> float:
        """For how long the gate is closed to everybody after a refusal."""
        return max(0.0, self._closed_until - now)

    def opens_at(self, now: float, tokens: int = 0) -> float:
        """When the next request may go: now or earlier if it may go now, never if that takes the end of another one.

        A moment and not a duration: what a clock has reached is exact, what is added to it again is not.

        Args:
          now: The time.
          tokens: What it asks for; counts only with a limit of tokens.
        """
        limits = self.limits
        most = limits.max_concurrent_requests
        if (most is not None and self.in_flight >= most) or self.in_flight >= self._window:
            return math.inf
        opens_at = self._closed_until
        if limits.requests_per_minute is not None:
            opens_at = max(opens_at, self._room_for_request_at(now, limits.requests_per_minute))
        if limits.tokens_per_minute is not None:
            opens_at = max(
                opens_at, self._room_for_tokens_at(now, tokens, limits.tokens_per_minute)
            )
        return opens_at

    def enter(self, now: float, tokens: int = 0) -> Pass:
        """A request goes out now. Its pass goes back through `leave`."""
        self.in_flight += 1
        taken = Pass(now, self._epoch, tokens)
        if self.limits.requests_per_minute is not None:
            self._begun.append(now)
        if self.limits.tokens_per_minute is not None:
            self._taken.append(taken)
            self._tokens += tokens
        return taken

    def leave(self, taken: Pass, tokens: int | None = None) -> None:
        """A request has ended; `tokens` is what it took, None if that is not known."""
        self.in_flight -= 1
        if tokens is not None and self.limits.tokens_per_minute is not None:
            if taken.counts:
                self._tokens += tokens - taken.tokens
            taken.tokens = tokens

    def refused(self, taken: Pass, now: float, retry_after_s: float | None) -> None:
        """The service wants us to slow down; `leave` is called as well."""
        if taken.epoch == self._epoch:
            self._epoch += 1
            self._refusals += 1
            self._window = max(1.0, min(self._window, self.in_flight) / 2)
        if retry_after_s is None:
            doublings = min(max(self._refusals, 1) - 1, 60)
            retry_after_s = min(_FIRST_PAUSE_S * 2.0**doublings, _LONGEST_PAUSE_S)
        self._closed_until = max(self._closed_until, now + retry_after_s)

    def accepted(self) -> None:
        """The service has taken a request."""
        self._refusals = 0
        if self._window < math.inf:
            self._window += 1 / self._window
            if self._window >= _WINDOW_FORGOTTEN:
                self._window = math.inf

    def _room_for_request_at(self, now: float, limit: int) -> float:
        while self._begun and self._begun[0] + _MINUTE_S <= now:
            self._begun.popleft()
        if len(self._begun) < limit:
            return -math.inf
        return self._begun[len(self._begun) - limit] + _MINUTE_S

    def _room_for_tokens_at(self, now: float, tokens: int, limit: int) -> float:
        while self._taken and self._taken[0].began_at + _MINUTE_S <= now:
            oldest = self._taken.popleft()
            oldest.counts = False
            self._tokens -= oldest.tokens
        too_many = self._tokens + tokens - limit
        opens_at = -math.inf
        for taken in self._taken:
            if too_many <= 0:
                break
            too_many -= taken.tokens
            opens_at = taken.began_at + _MINUTE_S
        return opens_at


def _lower(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
