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
"""Events in flight before the producer waits. Into an asyncio loop an event costs 5 µs with a window of 16, 1.5 µs with 64
and 0.7 µs with 256 (benchmarks/actor_cost.py); what makes an event worth sending costs more than that, and a reader
that leaves should not leave much unread.
"""

SPILL_LIMIT_BYTES = 4 * 1024 * 1024
"""What a stream keeps for a reader that the producer may not wait for: about a million tokens of text."""


class CreditStream(Generic[T]):
    """The producer's end, and the queue between the two.

    The reader allows `window` events in flight and gives that credit back as it reads. A producer without credit waits:
    that is the backpressure. It waits only while `may_wait()` is true, which is asked anew at each `reconsider()`;
    otherwise it spills, so that a slow reader never holds up somebody who waits for what the producer holds. A spill past
    `spill_limit_bytes` raises `ReaderStalled` in the producer.

    The queue is a deque that both ends touch without a lock: the producer appends, the reader pops. Everything else of
    this class belongs to the producer's Trio run. One task sends at a time.
    """

    __slots__ = (
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
        self._queue: deque[T | _End] = deque()
        self._in_flight: deque[int] = (
            deque()
        )  # sizes of the events whose credit has not come back, oldest first
        self._pending_bytes = 0
        self._notify = TrioNotify()
        self._on_readable: Callable[[], None] | None = None

    @property
    def buffered(self) -> int:
        """Events that the reader has not taken yet."""
        return len(self._queue)

    @property
    def has_credit(self) -> bool:
        """Whether the next event is within the window, so that `send` would neither wait nor fail."""
        return len(self._in_flight) < self.window

    @property
    def connected(self) -> bool:
        """Whether a reader has begun to read."""
        return self._on_readable is not None

    def connect(self, on_readable: Callable[[], None]) -> None:
        """Have `on_readable` called after each event, in the producer's thread; at once if there is something to read.

        It must not raise: an error would be the producer's.
        """
        self._on_readable = on_readable
        if self._queue:
            on_readable()

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is felt where it waits
    async def send(self, event: T, size_bytes: int = 0) -> None:
        """Hand over one event; waits for credit as the class says. A checkpoint only when it waits.

        A cancelled wait has not sent the event. After `close` events are dropped.

        Raises:
          ReaderStalled: The event would spill past the limit. It was not sent.
          trio.BusyResourceError: Another task is waiting to send.
        """
        while not self.has_credit and not self.closed and self.may_wait():
            if self.waiting:
                raise trio.BusyResourceError("another task is waiting to send already")
            self.waiting = True
            try:
                await self._notify.notified()
            finally:
                self.waiting = False
        spills = not self.has_credit and not self.closed
        if spills and self._pending_bytes + size_bytes > self.spill_limit_bytes:
            raise ReaderStalled(self.spill_limit_bytes)
        self.send_nowait(event, size_bytes)

    def send_nowait(self, event: T, size_bytes: int = 0) -> None:
        """Hand over one event whatever the credit; for the last one, which must always fit."""
        if self.closed:
            return
        self._in_flight.append(size_bytes)
        self._pending_bytes += size_bytes
        self._queue.append(event)
        if self._on_readable is not None:
            self._on_readable()

    def drop_all(self) -> None:
        """Forget what nobody has read; `dropped` counts what is gone. The end of a closed stream stays."""
        ended = False
        while True:
            try:
                event = (
                    self._queue.popleft()
                )  # one by one: a reader in another thread may be popping too
            except IndexError:
                break
            if isinstance(event, _End):
                ended = True
            else:
                # What was read and not yet given back is older than what was in the queue.
                self._pending_bytes -= self._in_flight.pop()
                self.dropped += 1
        if ended:
            self._queue.append(_END)
        self._notify.notify()

    def give_credit(self, count: int) -> None:
        """Take back credit for `count` events that were read."""
        for _ in range(min(count, len(self._in_flight))):
            self._pending_bytes -= self._in_flight.popleft()
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
    producer's and must see to it that `CreditStream.give_credit` runs in the producer's. It must not raise: the event
    that was just read would be lost.
    """

    __slots__ = ("_batch", "_ended", "_give_back", "_owed", "_queue")

    def __init__(self, stream: CreditStream[T], give_back: Callable[[int], None]) -> None:
        self._queue = stream._queue
        self._batch = max(1, stream.window // 2)
        self._give_back = give_back
        self._owed = 0
        self._ended = False

    @property
    def at_batch(self) -> bool:
        """Whether the next event is the first of a batch: the moment to let others run, for a reader that never waits."""
        return not self._owed

    def receive_nowait(self) -> T:
        """The next event.

        Raises:
          trio.WouldBlock: There is none yet.
          trio.EndOfChannel: There will be none any more.
        """
        if self._ended:
            raise trio.EndOfChannel
        try:
            event = self._queue.popleft()
        except IndexError:
            raise trio.WouldBlock from None
        if isinstance(event, _End):
            self._ended = True
            raise trio.EndOfChannel
        self._owed += 1
        if self._owed >= self._batch:
            owed, self._owed = self._owed, 0
            self._give_back(owed)
        return event
