"""Callers in an asyncio event loop, whoever made it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ._errors import HostGone
from ._host import Awaited, Finished, FunctionCancelled, Notify
from ._wake_ups import wake_in

__all__ = ["AsyncioHost"]


class _AsyncioNotify:
    """A wake-up for one asyncio task. Notifications between two looks cost one crossing of the threads."""

    __slots__ = ("_crossing", "_future", "_loop", "_pending")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] | None = None
        self._pending = False
        self._crossing = False

    def notify(self) -> None:
        # The flag is cleared in the loop before the waiter looks: what was true before this call is seen by that look.
        if self._crossing:
            return
        self._crossing = True
        wake_in(self._loop, self._arrive)

    def _arrive(self) -> None:
        self._crossing = False
        if self._future is not None:
            try:
                self._future.set_result(None)
                return
            except asyncio.InvalidStateError:
                pass  # cancelled; to ask before would not help: the handler of Ctrl-C cancels between any two lines
        self._pending = True

    async def notified(self) -> None:
        if self._pending:
            self._pending = False
            return
        if self._future is not None:
            raise trio.BusyResourceError("another task is waiting here already")
        self._future = self._loop.create_future()
        try:
            await self._future
        finally:
            self._future = None


class _HostCall:
    """One coroutine run in the loop for an engine; its methods after `begin` run in the loop's thread."""

    __slots__ = ("_args", "_context", "_finished", "_function", "_loop", "_task")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        context: contextvars.Context,
        finished: Finished,
    ) -> None:
        self._loop = loop
        self._function = function
        self._args = args
        self._context = context
        self._finished = finished
        self._task: asyncio.Task[Any] | None = None

    def begin(self) -> None:
        main = self._run()
        try:
            self._task = self._loop.create_task(main, context=self._context)
        except Exception as error:  # noqa: BLE001 - a loop's task factory is a stranger's code
            main.close()
            self._finished(None, error)
        except (
            BaseException
        ) as error:  # an eager task was left by sys.exit() or Ctrl-C, which the loop has to see
            self._finished(None, error)
            raise
        else:
            self._task.add_done_callback(self._done)

    def cancel(self) -> None:
        if self._task is not None:  # else `begin` could not make one, and said so
            self._task.cancel()

    async def _run(self) -> Any:
        return await self._function(*self._args)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._task = None  # an error's traceback refers to `_run`, and so to this
        if task.cancelled():
            self._finished(None, FunctionCancelled())
        else:
            error = task.exception()
            self._finished(None if error is not None else task.result(), error)


class AsyncioHost:
    """The caller's event loop."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @classmethod
    def current(cls) -> AsyncioHost:
        """The loop that runs in this thread; raises RuntimeError if there is none."""
        return cls(asyncio.get_running_loop())

    @property
    def gone(self) -> bool:
        return self._loop.is_closed()

    def make_notify(self) -> Notify:
        return _AsyncioNotify(self._loop)

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    async def wait_until_over(self, work: Awaited, notify: Notify) -> None:
        try:
            while not work.is_over():
                await notify.notified()
        except asyncio.CancelledError:
            work.cancel()
            while not work.is_over():
                try:
                    await notify.notified()  # noqa: ASYNC102 - asyncio has no shield that waits; this loop is one
                except asyncio.CancelledError:  # noqa: ASYNC103, ASYNC104 - the outer one is raised in its place
                    pass  # asked twice; the first one is raised below, as soon as the work has ended
            raise
        except BaseException:  # the coroutine is being closed: there is no waiting any more
            work.cancel()
            raise

    def start(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        context: contextvars.Context,
        finished: Finished,
    ) -> Callable[[], None]:
        call = _HostCall(self._loop, function, args, context, finished)
        self._post(call.begin)
        return lambda: self._post(call.cancel)

    def _post(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            raise HostGone("the caller's event loop is closed") from None
