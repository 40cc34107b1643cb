"""A run's events on their way to the reader, if there is one."""

from __future__ import annotations

from collections.abc import Callable

from actors import CallCancelled, CreditStream, ReaderStalled
from nanobot.agent import (
    STREAM_EVENT_RUN_COMPLETED,
    STREAM_EVENT_RUN_FAILED,
    ConsumerStalled,
    StreamEvent,
)

__all__ = ["RunEvents"]

EVENT_BYTES = 256
"""What an event weighs besides its text, measured with sys.getsizeof over its fields."""

TERMINAL = frozenset({STREAM_EVENT_RUN_COMPLETED, STREAM_EVENT_RUN_FAILED})


class RunEvents:
    """A turn's `Emit` over a credit stream.

    `awaited` tells whether somebody waits for the run's end; `over` whether the terminal event has been sent.
    """

    __slots__ = ("_awaited", "over", "stream")

    def __init__(self, stream: CreditStream[StreamEvent], awaited: Callable[[], bool]) -> None:
        self.stream = stream
        self.over = False
        self._awaited = awaited

    @property
    def wanted(self) -> bool:
        return True

    async def __call__(self, event: StreamEvent) -> None:
        size_bytes = _size_bytes(event)
        if self.stream.has_credit:  # nearly always; then there is nothing to wait for
            self.stream.send_nowait(event, size_bytes)
            return
        try:
            await self.stream.send(event, size_bytes)
        except ReaderStalled as stalled:
            if not self._awaited() or self.stream.connected:
                raise ConsumerStalled(str(stalled)) from stalled
            # Somebody waits for the result and nobody has begun to read: the events so far are not wanted.
            self.stream.drop_all()
            self.stream.send_nowait(event, size_bytes)

    def nowait(self, event: StreamEvent) -> None:
        if event.type in TERMINAL:
            if self.over:
                return
            self.over = True
            if self.stream.dropped:
                event.metadata["events_dropped"] = self.stream.dropped
        self.stream.send_nowait(event, _size_bytes(event))

    def end(self, failure: BaseException | None) -> None:
        """Close the stream. A run that never got to its turn says here why."""
        if failure is not None and not self.over:
            cancelled = isinstance(failure, CallCancelled)
            self.nowait(
                StreamEvent(
                    STREAM_EVENT_RUN_FAILED,
                    iteration=0,
                    error=str(failure) or type(failure).__name__,
                    metadata={
                        "reason": "cancelled" if cancelled else "error",
                        "exception_type": type(failure).__name__,
                    },
                )
            )
        self.stream.close()


def _size_bytes(event: StreamEvent) -> int:
    if event.delta:
        return EVENT_BYTES + len(event.delta)
    size_bytes = EVENT_BYTES + len(event.content)
    result = event.metadata.get("result")
    return size_bytes + len(result) if isinstance(result, str) else size_bytes
