"""What is stored in a session, as it is stored: for those who do not run its turns themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

import trio

from actors import Call, CallCancelled, ask, cancel_soon, current_home
from nanobot.errors import StoreError
from nanobot.messages import to_transcript
from nanobot.sessions import SessionRecord, SessionStore, SessionWatch, read_soon, signals_of

__all__ = ["SessionEvent", "SessionEvents"]

SessionEventType: TypeAlias = Literal["message.stored", "session.cleared"]

# A turn stores a few messages at a time; whoever is further behind needs one read more.
_READ_AT_ONCE: Final = 32
_CLOSED_LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """One thing that happened to a session.

    Attributes:
      type: "message.stored"; or "session.cleared", if everything before is gone: it was cleared, replaced or deleted.
      session_key: The session.
      sequence: Number of the message; the first is 1. 0 if the session was cleared.
      message: The message as in a `SessionSnapshot`, or {}.
    """

    type: SessionEventType
    session_key: str
    sequence: int
    message: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the event as a dict that `json.dumps` takes."""
        return asdict(self)


class SessionEvents:
    """An async iterator over a session's events, for one reader. From `bot.sessions.follow`.

    Works under asyncio and Trio, and holds nothing between two events but a number. A reader that is slow misses nothing: it
    reads the session itself, not a queue. Ends when the bot is closed, or by `aclose`.
    """

    def __init__(
        self, store: SessionStore, key: str, after: int | None, is_closed: Callable[[], bool]
    ) -> None:
        self._store = store
        self._key = key
        self._after = after
        self._epoch: int | None = None
        self._is_closed = is_closed
        self._events: deque[SessionEvent] = deque()
        self._reading: Callable[[], None] | None = None
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionEvent:
        """Wait for the next event.

        Raises:
          StopAsyncIteration: It is over.
          StoreError: The session cannot be read.
        """
        if not self._events and not self._over:
            home = current_home()
            call: Call[None] = Call(self._read_on)
            self._reading = lambda: cancel_soon(home, call)
            try:
                await ask(home, call, lambda _: trio.lowlevel.spawn_system_task(call.run))
            except CallCancelled:
                if not self._over:
                    raise
            finally:
                self._reading = None
        if not self._events or self._over:
            self._over = True
            raise StopAsyncIteration
        return self._events.popleft()

    async def aclose(self) -> None:
        """Read no more; whoever waits for an event is told that there is none. Idempotent."""
        self._over = True
        if self._reading is not None:
            self._reading()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # --- in the engine's loop

    async def _read_on(self) -> None:
        """Wait until there is something new; nothing at the end if the bot was closed."""
        try:
            async with signals_of(self._store).watch(self._key) as watch:
                while not self._is_closed():
                    await self._read()
                    if self._events:
                        return
                    await self._wait(watch)
        except StoreError:
            if not self._is_closed():
                raise

    async def _wait(self, watch: SessionWatch) -> None:
        """Wait for a change, or for the bot to be closed, of which some stores tell nobody."""
        while not self._is_closed():
            with trio.move_on_after(_CLOSED_LOOK_S) as bound:
                await watch.wait()
            if not bound.cancelled_caught:
                return

    async def _read(self) -> None:
        record = await read_soon(self._store, self._key, last=_READ_AT_ONCE)
        epoch = None if record is None else record.position.epoch
        sequence = 0 if record is None else record.position.sequence
        if self._after is None:
            self._after, self._epoch = sequence, epoch
        elif self._epoch is None:
            self._epoch = epoch  # whatever the caller has, it is of this life of the session
        elif epoch != self._epoch:
            self._after, self._epoch = 0, epoch
            self._events.append(SessionEvent("session.cleared", self._key, 0, {}))
        if record is None or sequence <= self._after:
            return
        if record.first_sequence > self._after + 1:
            record = await read_soon(self._store, self._key, last=sequence - self._after)
            if record is None or record.position.epoch != self._epoch:
                return  # cleared just now, which the next look tells
        self._take(record)

    def _take(self, record: SessionRecord) -> None:
        assert self._after is not None  # it was read before
        for number, message in enumerate(record.messages, record.first_sequence):
            if number > self._after:
                self._events.append(
                    SessionEvent("message.stored", self._key, number, to_transcript(message))
                )
        self._after = record.position.sequence
