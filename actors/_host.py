"""The loop, or none, that a caller runs in, as an engine elsewhere sees it."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

__all__ = ["AsyncHost", "Awaited", "Finished", "FunctionCancelled", "Host", "Notify"]

Finished = Callable[[Any, BaseException | None], None]
"""Told the value or the error of a host call, in the host's thread; `FunctionCancelled` for one that was cancelled there."""


class FunctionCancelled(Exception):
    """How a host says that a function it ran was cancelled, by whichever side; never leaves this package."""


class Notify(Protocol):
    """A wake-up for one waiter in the host; several before it looks are one."""

    def notify(self) -> None:
        """Wake the waiter. May be called in the engine's thread; never blocks, never raises."""
        ...

    async def notified(self) -> None:
        """Wait, in the host, for a notification since the last look.

        Raises:
          trio.BusyResourceError: Another task is waiting here.
        """
        ...


class Host(Protocol):
    """What an engine may ask of its caller's loop."""

    @property
    def gone(self) -> bool:
        """Whether the loop has ended, so that nothing will ever be answered."""
        ...

    def start(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        context: contextvars.Context,
        finished: Finished,
    ) -> Callable[[], None]:
        """Run an async function in the host, in `context`; returns what cancels it. Both may be called in any thread.

        Raises:
          HostGone: The loop has ended; so does the function that cancels.
        """
        ...


class Awaited(Protocol):
    """Work elsewhere that a caller waits for."""

    def is_over(self) -> bool:
        """Whether there is nothing to wait for."""
        ...

    def cancel(self) -> object:
        """Have it end soon."""
        ...


class AsyncHost(Host, Protocol):
    """A host whose callers can await."""

    def make_notify(self) -> Notify:
        """A wake-up for a task of this host."""
        ...

    async def checkpoint(self) -> None:
        """Let the other tasks of the host run, and be cancelled if that was asked for."""
        ...

    async def wait_until_over(self, work: Awaited, notify: Notify) -> None:
        """Wait until the work is over; `notify` says when to look. If the caller is cancelled: cancel the work, still wait
        until it is over, then let the cancellation go on. So whoever awaits never leaves before the work has ended, and never
        loses a cancellation.
        """
        ...
