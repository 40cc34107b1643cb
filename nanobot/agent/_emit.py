"""The turn's side of an event stream: where events go, and what stops them."""

from __future__ import annotations

from typing import Final, Protocol

from ._events import StreamEvent

__all__ = ["NOBODY", "ConsumerStalled", "Emit"]


class ConsumerStalled(Exception):
    """The reader of a run's events is further behind than its stream may keep; the text says how far.

    `Emit` raises it inside a turn. It ends the turn and goes no further: the run's result has the stop reason of that
    name.
    """


class Emit(Protocol):
    """Takes a turn's events to whoever reads them."""

    @property
    def wanted(self) -> bool:
        """Whether anybody reads. A turn asks once, when it is made, and creates no event at all if nobody does."""
        ...

    async def __call__(self, event: StreamEvent) -> None:
        """Hand over one event; may wait for the reader, and is where a turn feels backpressure.

        Raises:
          ConsumerStalled: The reader is too far behind, and something else waits for what the turn holds.
        """
        ...

    def nowait(self, event: StreamEvent) -> None:
        """Hand over one event whatever the reader's pace; never fails.

        For what a turn has to say when it ends: the outcome of each call it had announced, and the terminal event.
        """
        ...


class _Nobody:
    wanted = False

    async def __call__(self, event: StreamEvent) -> None:
        return

    def nowait(self, event: StreamEvent) -> None:
        return


NOBODY: Final[Emit] = _Nobody()
"""For runs that nobody streams."""
