"""What `bot.stream(...)` gives: a run that starts when its events are first asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from nanobot.agent import StreamEvent

from ._run_stream import EventReader

__all__ = ["EventStream"]


class EventStream:
    """The events of one run, as an async iterator. The run starts with the first event asked for, or with `async with`.

    Leaving early cancels the run: by `break`, by `aclose()`, or by dropping the last reference. See `EventReader`.
    """

    def __init__(self, start: Callable[[], EventReader]) -> None:
        self._start = start
        self._reader: EventReader | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[StreamEvent]:
        reader = self._reader
        return (self._open() if reader is None else reader).__anext__()

    async def aclose(self) -> None:
        """Cancel the run if it is not over, and return when nothing of it is alive. Idempotent."""
        self._closed = True
        if self._reader is not None:
            await self._reader.aclose()

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _open(self) -> EventReader:
        if self._reader is None:
            if self._closed:
                raise RuntimeError("this stream was closed before it was read")
            self._reader = self._start()
        return self._reader
