"""Events from one producer in a Trio run to one reader anywhere, bounded by credit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import trio

from ._errors import ReaderStalled
from ._notify import TrioNotify

__all__ = ["CreditReader", "CreditStream"]

T = TypeVar("T")


class _End:
    """What a queue holds after its last event."""


_END: Final = _End()

WINDOW = 64
"""Events in flight before the producer waits. Measured through a thread: 16 costs 1.6 times as much per event, 256 saves 5 %."""

SPILL_LIMIT_BYTES = 4 * 1024 * 1024
"""What a stream keeps for a reader that the producer may not wait for: about a million tokens of text."""


class CreditStream(Generic[T]):
    """The producer's end, and the queue between the two.

    The reader allows `window` events in flight and gives that credit back as it reads. A producer without credit waits: that is
    the backpressure. It waits only while `may_wait()` is true, which is asked anew at each `reconsider()`; otherwise
    it spills, so that a slow reader never holds up somebody who waits for what the producer holds. A spill past
    `spill_limit_bytes` raises `ReaderStalled` in the producer.

    The queue is a deque that both ends touch without a lock: the producer only appends, the reader only pops. Everything else
    of this class belongs to the producer's Trio run.
    """

    __slots__ = (
        "_credit",
        "_in_flight",
        "_notify",
        "_on_readable",
        "_pending_bytes",
        "_queue",
        "closed",
        "dropped",
        "may_wait",
        "spill_limit_bytes",
        "waiting",
        "window",
    )

    def __init__(
        self,
        *,
        may_wait: Callable[[], bool] = lambda: True,
        window: int = WINDOW,
        spill_limit_bytes: int = SPILL_LIMIT_BYTES,
    ) -> None:
        if window < 1:
            raise ValueError(f"a stream needs a window of at least one event, not {window}")
        self.may_wait = may_wait
        self.window = window
        self.spill_limit_bytes = spill_limit_bytes
        self.closed = False
        self.waiting = False
        self.dropped = 0
        self._credit = window
        self._queue: deque[T | _End] = deque()
        self._in_flight: deque[int] = deque()
        self._pending_bytes = 0
        self._notify = TrioNotify()
        self._on_readable: Callable[[], None] | None = None

    @property
    def buffered(self) -> int:
        """Events that the reader has not taken yet."""
        return len(self._queue)

    @property
    def connected(self) -> bool:
        """Whether a reader has begun to read."""
        return self._on_readable is not None

    def connect(self, on_readable: Callable[[], None]) -> None:
        """Have `on_readable` called after each event, from the producer's thread; at once if there is something to read."""
        self._on_readable = on_readable
        if self._queue:
            on_readable()

    async def send(self, event: T, size_bytes: int = 0) -> None:
        """Hand over one event; waits for credit as the class says. A checkpoint only when it waits.

        Raises:
          ReaderStalled: The event would spill past the limit. It was not sent.
        """
        while self._credit <= 0 and not self.closed and self.may_wait():
            self.waiting = True
            try:
                await self._notify.notified()
            finally:
                self.waiting = False
        if self._credit <= 0 and self._pending_bytes + size_bytes > self.spill_limit_bytes:
            raise ReaderStalled(self.spill_limit_bytes)
        self.send_nowait(event, size_bytes)

    def send_nowait(self, event: T, size_bytes: int = 0) -> None:
        """Hand over one event whatever the credit; for the last one, which must always fit."""
        if self.closed:
            return
        self._credit -= 1
        self._in_flight.append(size_bytes)
        self._pending_bytes += size_bytes
        self._queue.append(event)
        if self._on_readable is not None:
            self._on_readable()

    def drop_all(self) -> None:
        """Forget what nobody has read. Only for a stream without a reader; `dropped` counts what is gone."""
        self.dropped += len(self._queue)
        self._queue.clear()
        self.give_credit(len(self._in_flight))

    def give_credit(self, count: int) -> None:
        """Take back credit for `count` events that were read."""
        for _ in range(min(count, len(self._in_flight))):
            self._pending_bytes -= self._in_flight.popleft()
        self._credit += count
        self._notify.notify()

    def reconsider(self) -> None:
        """Make a waiting producer ask `may_wait()` again."""
        if self.waiting:
            self._notify.notify()

    def close(self) -> None:
        """End the stream after what was sent. Idempotent."""
        if not self.closed:
            self.closed = True
            self._queue.append(_END)
            self._notify.notify()
            if self._on_readable is not None:
                self._on_readable()


class CreditReader(Generic[T]):
    """The reader's end; belongs to the reader's thread.

    Credit goes back in batches of half a window through `give_back`, which may be called in another thread than the
    producer's and must see to it that `CreditStream.give_credit` runs in the producer's.
    """

    __slots__ = ("_batch", "_ended", "_give_back", "_owed", "_queue")

    def __init__(self, stream: CreditStream[T], give_back: Callable[[int], None]) -> None:
        self._queue = stream._queue
        self._batch = max(1, stream.window // 2)
        self._give_back = give_back
        self._owed = 0
        self._ended = False

    def receive_nowait(self) -> T:
        """The next event.

        Raises:
          trio.WouldBlock: There is none yet.
          trio.EndOfChannel: There will be none any more.
        """
        if self._ended:
            raise trio.EndOfChannel
        if not self._queue:
            raise trio.WouldBlock
        event = self._queue.popleft()
        if isinstance(event, _End):
            self._ended = True
            raise trio.EndOfChannel
        self._owed += 1
        if self._owed >= self._batch:
            owed, self._owed = self._owed, 0
            self._give_back(owed)
        return event
