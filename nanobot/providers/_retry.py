"""Whether a request that failed is sent again, and when: decided on plain facts, without a clock."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from nanobot.errors import InvalidArgument, ProviderError, RateLimited

__all__ = ["PATIENT", "STANDARD", "RetryPolicy", "retry_delay_s"]

_SPREAD: Final = 0.1
"""How much later than asked a request may be repeated, as a fraction of the wait: enough that clients which were refused
in one moment do not come back in one moment."""

_SPREAD_AT_MOST_S: Final = 1.0


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How patient we are with a service. Counts are of requests, the rest is seconds.

    Attributes:
      max_attempts: Requests that may fail for a fault of the service or the network, the first one included.
      max_refusals: Requests that may be refused for coming too fast (429). More than of the others: the service works, and
        while the limiter slows us down each refusal brings somebody else's answer nearer.
      total_s: From the first request to the start of the last; a wait that would end later is not begun.
      first_delay_s: After the first failure, when the service does not say how long. Doubles with each failure.
      max_delay_s: What the doubling stops at. A service that asks for more is given more.
    """

    max_attempts: int = 4
    max_refusals: int = 30
    total_s: float = 300.0
    first_delay_s: float = 1.0
    max_delay_s: float = 30.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.max_refusals < 1:
            raise InvalidArgument("max_attempts and max_refusals must be at least 1")
        if not (self.total_s >= 0 and 0 <= self.first_delay_s <= self.max_delay_s):
            raise InvalidArgument(
                "a retry policy needs total_s >= 0 and 0 <= first_delay_s <= max_delay_s"
            )


STANDARD: Final = RetryPolicy()
"""For a person who waits: five minutes, which every rate limit per minute fits into several times."""

PATIENT: Final = RetryPolicy(max_attempts=12, max_refusals=120, total_s=3600.0, max_delay_s=60.0)
"""For work that nobody waits for: an outage of up to an hour is sat out."""


def retry_delay_s(
    policy: RetryPolicy,
    error: ProviderError,
    *,
    failures: int,
    refusals: int,
    elapsed_s: float,
    jitter: float,
) -> float | None:
    """Decide how many seconds to wait before the request is sent again; None if it is not.

    A wait that the service asked for is never cut short. It is lengthened by up to a tenth, one second at most; a wait
    of our own is shortened by up to half of it.

    Args:
      policy: The bounds.
      error: What went wrong last.
      failures: Requests that have failed without being refused, this one included.
      refusals: Requests that were refused for coming too fast, this one included.
      elapsed_s: Seconds since the first request was begun.
      jitter: A random number, 0 <= jitter < 1; 0 means the wait asked for, or the whole of ours.
    """
    if not error.retryable:
        return None
    if isinstance(error, RateLimited):
        if refusals >= policy.max_refusals:
            return None
    elif failures >= policy.max_attempts:
        return None
    if error.retry_after_s is not None:
        spread = min(error.retry_after_s * _SPREAD, _SPREAD_AT_MOST_S)
        delay_s = error.retry_after_s + spread * jitter
    else:
        doublings = min(failures + refusals - 1, 60)  # past that a float would overflow
        delay_s = min(policy.first_delay_s * 2.0**doublings, policy.max_delay_s)
        delay_s *= 1 - jitter / 2
    return delay_s if elapsed_s + delay_s <= policy.total_s else None
