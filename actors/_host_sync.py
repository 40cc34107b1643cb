"""Callers without a loop: a thread that blocks, and meanwhile runs what the engine asks of it."""

from __future__ import annotations

import asyncio
import contextvars
import queue
from collections.abc import Awaitable, Callable
from typing import Any

from ._errors import HostGone
from ._host import Finished, FunctionCancelled

__all__ = ["SyncHost"]


class SyncHost:
    """The calling thread. While it waits it serves host calls, each in an asyncio loop of its own making.

    That loop is made for the first host call that needs one and lives until `close()`, so that what one hook
    opens on it another can use.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._runner: asyncio.Runner | None = None
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
            on_cancel()
            try:
                self._serve(done)
            except BaseException:
                self._left = True
                raise
            raise

    def wait_once(self, *, done: Callable[[], bool], on_cancel: Callable[[], object]) -> None:
        """Block until `notify()` was called since the last wait, serving host calls. On Ctrl-C as `wait_until`."""
        try:
            while (work := self._work.get()) is not None:
                work()
        except BaseException:
            on_cancel()
            self.wait_until(done, on_cancel=on_cancel)
            raise

    def close(self) -> None:
        """Close the loop that hooks ran on, if there was one, and serve no more host calls. Idempotent."""
        self._left = True
        if self._runner is not None:
            self._runner.close()

    def start(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        context: contextvars.Context,
        finished: Finished,
    ) -> Callable[[], None]:
        if self._left:
            raise HostGone("the calling thread no longer waits")
        cell = _Cell()
        self._work.put(lambda: self._run(cell, function, args, context, finished))
        return cell.cancel

    def _serve(self, done: Callable[[], bool]) -> None:
        while not done():
            work = self._work.get()
            if work is not None:
                work()

    def _run(
        self,
        cell: _Cell,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        context: contextvars.Context,
        finished: Finished,
    ) -> None:
        if self._runner is None:
            # With a factory the runner leaves alone what `asyncio.get_event_loop()` gives in this thread.
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)

        async def main() -> Any:
            if not cell.enter():
                raise asyncio.CancelledError
            return await function(*args)

        coroutine = main()
        try:
            value = self._runner.run(coroutine, context=context)
        except KeyboardInterrupt:
            finished(None, FunctionCancelled())
            raise
        except asyncio.CancelledError:  # noqa: ASYNC103 - no cancellation of ours: this thread has no loop
            finished(None, FunctionCancelled())
        except BaseException as error:  # noqa: BLE001, ASYNC103 - it is raised again in the engine
            coroutine.close()  # a loop that runs already refuses another one inside it
            finished(None, error)
        else:
            finished(value, None)


class _Cell:
    """Where the task of a host call is found by whoever cancels it."""

    __slots__ = ("_cancelled", "_loop", "_task")

    def __init__(self) -> None:
        self._cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def enter(self) -> bool:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        return not self._cancelled

    def cancel(self) -> None:
        self._cancelled = True
        if self._loop is not None and self._task is not None:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:
                pass  # the loop is closed, so the call has ended
