"""What reaches a turn from outside while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from nanobot.messages import Message

__all__ = ["EMPTY", "Inbox"]


class Inbox(Protocol):
    """Messages that come to a turn between its iterations, such as what subagents bring."""

    @property
    def ready(self) -> bool:
        """Whether there may be something to take now."""
        ...

    @property
    def expecting(self) -> bool:
        """Whether something will come, or has, that a turn which has its answer waits for."""
        ...

    async def take(self) -> Sequence[Message]:
        """Take what has come, in order, as it is to be stored; together they go behind any legal history.

        Cancellation: nothing was taken that would have to be told.
        """
        ...

    async def wait(self) -> None:
        """Return when all that will come has come."""
        ...

    async def aclose(self) -> None:
        """End whatever would still bring something, and return when that has ended. Cannot be cancelled."""
        ...


class _Empty:
    @property
    def ready(self) -> bool:
        return False

    @property
    def expecting(self) -> bool:
        return False

    async def take(self) -> Sequence[Message]:
        return ()

    async def wait(self) -> None:
        return

    async def aclose(self) -> None:
        return


EMPTY: Final[Inbox] = _Empty()
"""For turns that nobody brings anything."""
