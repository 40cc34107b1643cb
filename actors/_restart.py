"""What to do about a child that failed: the pure restart policy of a supervisor."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Decision", "GiveUp", "Restart", "RestartHistory", "RestartPolicy"]


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the child again after `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop trying; `failures` lie within the policy's window."""

    failures: int


Decision = Restart | GiveUp


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How patient a supervisor is.

    A child may fail `max_failures` times within any `window_s` seconds; one more and the supervisor gives up. The delay
    before a restart doubles from `first_delay_s` with each failure in the window, up to `max_delay_s`.

    Source: the restart intensity of Erlang/OTP supervisors, with exponential backoff added because what usually fails
    here is a connection, and a server that is down is not helped by an immediate retry.

    Raises:
      ValueError: A number is out of its range, or no number.
    """

    max_failures: int = 5
    window_s: float = 60.0
    first_delay_s: float = 0.1
    max_delay_s: float = 10.0

    def __post_init__(self) -> None:
        in_range = (
            self.max_failures >= 0
            and self.window_s > 0
            and self.first_delay_s >= 0
            and self.max_delay_s >= 0
        )
        if not in_range:  # asked this way round, NaN is out of range too
            raise ValueError(f"not a restart policy: {self}")


@dataclass(frozen=True, slots=True)
class RestartHistory:
    """The failures that still count, as times in seconds on any clock that only grows."""

    failed_at: tuple[float, ...] = ()

    def failed(self, policy: RestartPolicy, now: float) -> tuple[RestartHistory, Decision]:
        """Record one failure and decide what follows from it."""
        recent = (*(at for at in self.failed_at if now - at < policy.window_s), now)
        history = RestartHistory(recent)
        if len(recent) > policy.max_failures:
            return history, GiveUp(failures=len(recent))
        doublings = min(len(recent) - 1, 63)  # 2**64 s is past any max_delay_s
        delay_s: float = min(policy.first_delay_s * 2.0**doublings, policy.max_delay_s)
        return history, Restart(delay_s=delay_s)
