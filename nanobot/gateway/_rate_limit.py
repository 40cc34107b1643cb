"""How often something may happen: a token bucket. Pure."""

from __future__ import annotations

__all__ = ["RateLimit"]


class RateLimit:
    """Lets `burst` things through at once, and `per_s` of them each second in the long run."""

    __slots__ = ("_burst", "_per_s", "_tokens", "_updated_at")

    def __init__(self, per_s: float, burst: int, *, now: float) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._tokens = self._burst
        self._updated_at = now

    def take(self, now: float) -> float:
        """Let one through and return 0.0; or refuse it and return after how many seconds one will be let through."""
        passed_s = max(0.0, now - self._updated_at)
        self._updated_at = max(now, self._updated_at)
        self._tokens = min(self._burst, self._tokens + passed_s * self._per_s)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_s
