"""Callers without a loop: a thread that blocks, and meanwhile runs what the engine asks of it."""

from __future__ import annotations

import contextvars
import queue
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ._errors import HostGone
from ._host import Finished

if TYPE_CHECKING:
    import asyncio

    from ._own_loop import OwnLoop

__all__ = ["Cell", "SyncHost"]


class SyncHost:
    """The calling thread. While it waits it serves host calls, each in an asyncio loop of its own making.

    That loop is made for the first host call that needs one and lives until `close()`, so that what one hook
    opens on it another can use.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._loop: OwnLoop | None = None
        self._left = False

    @property
    def gone(self) -> bool:
        return self._left

    def notify(self) -> None:
        """Wake the thread, so that it looks again at what it waits for. May be called in any thread."""
        self._work.put(None)

    def wait_until(self, done: Callable[[], bool], *, on_cancel: Callable[[], object]) -> None:
        """Block until `done()`, serving host calls. On Ctrl-C: call `on_cancel`, block until `done()`, then raise.

        A second Ctrl-C leaves at once; the work ends on its own.
        """
        try:
            self._serve(done)
        except BaseException:
            self._see_end(done, on_cancel)
            raise

    def wait_once(self, *, done: Callable[[], bool], on_cancel: Callable[[], object]) -> None:
        """Block until `notify()` was called since the last wait, serving host calls. On Ctrl-C as `wait_until`."""
        try:
            while (work := self._work.get()) is not None:
                work()
        except BaseException:
            self._see_end(done, on_cancel)
            raise

    def close(self) -> None:
        """Close the loop that hooks ran on, if there was one, and serve no more host calls. Idempotent."""
        self._left = True
        if self._loop is not None:
            self._loop.close()

    def start(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        context: contextvars.Context,
        finished: Finished,
    ) -> Callable[[], None]:
        if self._left:
            raise HostGone("the calling thread no longer waits")
        cell = Cell()
        self._work.put(lambda: self._run(cell, function, args, context, finished))
        return cell.cancel

    def _see_end(self, done: Callable[[], bool], on_cancel: Callable[[], object]) -> None:
        try:
            on_cancel()  # inside: the end may begin, and be seen, and Ctrl-C be hit again, before this returns
            self._serve(done)
        except BaseException:
            self._left = True
            raise

    def _serve(self, done: Callable[[], bool]) -> None:
        while not done():
            work = self._work.get()
            if work is not None:
                work()

    def _run(
        self,
        cell: Cell,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        context: contextvars.Context,
        finished: Finished,
    ) -> None:
        if self._loop is None:
            # deferred: asyncio is a tenth of what a program without hooks would import
            from ._own_loop import OwnLoop

            self._loop = OwnLoop()
        self._loop.run(cell, function, args, context, finished)


class Cell:
    """Where the task of a host call is found by whoever cancels it."""

    __slots__ = ("_cancelled", "_loop", "_task")

    def __init__(self) -> None:
        self._cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def enter(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> bool:
        self._task = task
        self._loop = loop
        return not self._cancelled

    def cancel(self) -> None:
        self._cancelled = True
        if self._loop is not None and self._task is not None:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:
                pass  # the loop is closed, so the call has ended
