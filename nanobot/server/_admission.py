"""Which requests are let in: so many at once, so many of one session. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from ._api_error import ApiError

__all__ = ["RETRY_AFTER_S", "Admission"]

RETRY_AFTER_S: Final = 1
"""A place becomes free whenever a turn ends, which nobody can foretell; clients wait longer each time by themselves."""


class Admission:
    """Counts the requests that have been let in and have not left.

    Args:
      max_requests: Most requests at once, over all sessions.
      max_per_session: Most of one session: the one that runs and those that wait for it.

    Attributes:
      requests: How many are in.
    """

    def __init__(self, *, max_requests: int, max_per_session: int) -> None:
        self._max_requests = max_requests
        self._max_per_session = max_per_session
        self._by_session: Counter[str] = Counter()
        self.requests = 0

    def enter(self, session_key: str, *, unless_busy: bool = False) -> None:
        """Let a request in; `leave` must follow.

        Args:
          session_key: The session that it is for.
          unless_busy: Refuse it if the session is in another request, instead of letting it wait.

        Raises:
          ApiError: 429 if the queue is full, 409 if the session is busy.
        """
        waiting = self._by_session[session_key]
        if unless_busy and waiting:
            raise ApiError(
                409,
                "The session is busy with another request.",
                code="session_busy",
                headers={"x-should-retry": "false"},
            )
        if self.requests >= self._max_requests:
            raise _full(f"The server works on {self.requests} requests already.")
        if waiting >= self._max_per_session:
            raise _full(f"The session has {waiting} requests already.")
        self._by_session[session_key] += 1
        self.requests += 1

    def leave(self, session_key: str) -> None:
        """Note that a request which was let in is over."""
        self.requests -= 1
        self._by_session[session_key] -= 1
        if not self._by_session[session_key]:
            del self._by_session[session_key]


def _full(message: str) -> ApiError:
    return ApiError(
        429,
        f"{message} Try again later.",
        code="queue_full",
        headers={"retry-after": str(RETRY_AFTER_S)},
    )
