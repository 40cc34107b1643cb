"""An actor's inbox: one reader, any number of senders in the same Trio run."""

from __future__ import annotations

from collections import deque
from collections.abc import MutableSequence
from typing import Generic, TypeVar

import trio

from ._errors import MailboxClosed, MailboxFull
from ._idle_clock import IdleClock
from ._notify import TrioNotify

__all__ = ["Mailbox"]

M = TypeVar("M")


class Mailbox(Generic[M]):
    """Messages in the order they were posted, bounded by `capacity`.

    There are two lanes. Urgent messages are read first; they are for what a message being worked on is waiting for, so
    they are never refused for lack of room. A message may also be put before all of the ordinary lane.

    Iterating gives messages until the mailbox was empty for `idle_s` seconds, or was closed. Between the test that finds
    it empty and the end of the iteration there is no checkpoint: an actor that leaves its loop has missed nothing so far.
    The mailboxes of a directory share its `clock`, which then counts the seconds; one without takes a deadline per wait.

    Raises:
      ValueError: `capacity` or `idle_s` is negative, or no number.
    """

    __slots__ = ("_clock", "_closed", "_lane", "_notify", "_urgent", "capacity", "idle_s")

    def __init__(
        self,
        *,
        capacity: float = float("inf"),
        idle_s: float = float("inf"),
        clock: IdleClock | None = None,
    ) -> None:
        if not (capacity >= 0 and idle_s >= 0):
            raise ValueError(f"not a mailbox: capacity={capacity}, idle_s={idle_s}")
        self.capacity = capacity
        self.idle_s = idle_s
        self._lane: deque[M] = deque()
        self._urgent: list[M] = []  # rarely used and short, and an empty deque takes 700 bytes more
        self._notify = TrioNotify()
        self._clock = clock
        self._closed = False

    def __len__(self) -> int:
        return len(self._lane) + len(self._urgent)

    @property
    def urgent(self) -> tuple[M, ...]:
        """The urgent messages that were not read yet, in reading order."""
        return tuple(self._urgent)

    @property
    def waiting(self) -> tuple[M, ...]:
        """All messages that were not read yet, in reading order."""
        return (*self._urgent, *self._lane)

    @property
    def next_ordinary(self) -> M | None:
        """The first message of the ordinary lane, or None."""
        return self._lane[0] if self._lane else None

    @trio.lowlevel.enable_ki_protection  # Ctrl-C in the middle would leave the reader asleep over a message
    def post_nowait(self, message: M, *, urgent: bool = False, first: bool = False) -> None:
        """Put a message at the end of its lane and wake the reader; see `put_nowait`."""
        self.put_nowait(message, urgent=urgent, first=first)
        self._notify.notify()

    def put_nowait(self, message: M, *, urgent: bool = False, first: bool = False) -> None:
        """Put a message at the end of its lane; one that is to be `first`, before the ordinary lane, also a full one. Who puts
        it there sees to it that `notify` is called.

        Raises:
          MailboxFull: The ordinary lane is at its capacity.
          MailboxClosed: Nobody reads here any more.
        """
        if self._closed:
            raise MailboxClosed("the actor behind this mailbox is gone")
        if urgent:
            self._urgent.append(message)
        else:
            if first:
                self._lane.appendleft(message)
            elif len(self._lane) >= self.capacity:
                raise MailboxFull(int(self.capacity))
            else:
                self._lane.append(message)

    def withdraw(self, message: M) -> bool:
        """Take back a message that was not read yet; returns whether it was still here. O(n), for rare use."""
        lanes: tuple[MutableSequence[M], ...] = (self._urgent, self._lane)
        for lane in lanes:
            for index, waiting in enumerate(lane):
                if waiting is message:
                    del lane[index]
                    return True
        return False

    def position(self, message: M) -> int | None:
        """How many messages are before this one, or None if it is not here. O(n)."""
        for index, waiting in enumerate((*self._urgent, *self._lane)):
            if waiting is message:
                return index
        return None

    def get_nowait(self) -> M:
        """Read the next message; raises `trio.WouldBlock` if there is none."""
        if self._urgent:
            return self._urgent.pop(0)
        if self._lane:
            return self._lane.popleft()
        raise trio.WouldBlock

    def next_urgent(self) -> M | None:
        """Read the next urgent message, if there is one."""
        return self._urgent.pop(0) if self._urgent else None

    def notify(self) -> None:
        """Wake the reader without a message, so that it looks again at whatever it waits for."""
        self._notify.notify()

    async def notified(self) -> None:
        """Wait until something was posted, or `notify()` was called, since the last look."""
        await self._notify.notified()

    def __aiter__(self) -> Mailbox[M]:
        return self

    @trio.lowlevel.enable_ki_protection  # Ctrl-C in the middle would leave on the clock a wait that nobody ends
    async def __anext__(self) -> M:
        if self._lane or self._urgent or self._closed:
            await trio.lowlevel.checkpoint()
        elif (clock := self._clock) is None:
            with trio.move_on_after(self.idle_s):
                while not (self._lane or self._urgent or self._closed):
                    await self._notify.notified()
        else:
            clock.begin(notify := self._notify)
            try:
                while not (self._lane or self._urgent or self._closed or notify in clock.expired):
                    await notify.notified()
            finally:
                clock.end(notify)
        try:
            return self.get_nowait()
        except trio.WouldBlock:
            raise StopAsyncIteration from None

    def close(self) -> tuple[M, ...]:
        """Refuse all further messages and return those that were never read, in reading order. Idempotent."""
        self._closed = True
        left = self.waiting
        self._urgent.clear()
        self._lane.clear()
        self._notify.notify()
        return left
