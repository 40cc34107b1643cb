"""A block that must leave nothing behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType

import trio

from actors import Home, HomeGone, in_async_loop, shared_home
from nanobot.errors import UsageError

from ._census import (
    Living,
    asyncio_tasks,
    child_processes,
    current_tasks,
    open_files,
    threads,
    trio_tasks,
)
from ._fault import check_seconds

__all__ = ["LeakError", "NoLeaks", "no_leaks"]

POLL_INTERVAL_S = 0.01
"""How often is looked again: a census takes a millisecond, and a test should not wait for much more."""

ENGINE_REPLY_S = 5.0
"""How long the engine's thread may take to count its tasks; it never blocks, so longer means that it is stuck."""


class LeakError(AssertionError):
    """Something outlived its block. `leaks` are descriptions of what did."""

    def __init__(self, leaks: list[str], within_s: float) -> None:
        self.leaks = tuple(leaks)
        listed = "\n".join(f"  {leak}" for leak in leaks)
        super().__init__(f"still alive {within_s:g} s after the end of the block:\n{listed}")


def no_leaks(*, within_s: float = 2.0) -> NoLeaks:
    """Fail the block if something that began in it is still alive after it.

    That is: tasks (of the Trio run or the asyncio loop around the block, and of the thread in which nanobot's engine
    lives for asyncio and sync callers), sockets and files, threads, child processes. Files and child processes are seen
    on Linux only.

    ```python
    import trio
    from nanobot.testing import no_leaks, scripted_server


    async def main() -> None:
        async with no_leaks():
            async with scripted_server(["Hello"]) as server:
                stream = await trio.open_tcp_stream(server.host, server.port)
                await stream.aclose()


    trio.run(main)
    ```

    Inside a loop it is `async with no_leaks()`, elsewhere `with no_leaks()`, also around `trio.run` and `asyncio.run`.

    What ends on its own (a peer that has yet to notice, a task that is just returning) has `within_s` seconds for it;
    the block ends as soon as nothing is left. What only the garbage collector would close counts as a leak; threads
    that Trio and asyncio keep for reuse do not. A block that raises is not checked: its own error says more.

    The whole process is looked at: run nothing else in it meanwhile that opens things and keeps them.

    Raises:
      LeakError: An `AssertionError` that names what is left.
      UsageError: `with` was used inside a loop, which could not run while the block waits.
    """
    return NoLeaks(within_s)


class NoLeaks:
    """What `no_leaks` returns: a block, with or without `async`, to be entered once."""

    def __init__(self, within_s: float) -> None:
        check_seconds("no_leaks(within_s=…)", within_s)
        self._within_s = within_s
        self._tasks: Callable[[], set[Living]] = trio_tasks
        self._before: set[Living] = set()

    def __enter__(self) -> None:
        if in_async_loop():
            raise UsageError("inside a Trio run or an asyncio loop, use `async with no_leaks()`")
        home = shared_home()
        self._begin(lambda: _tasks_in(home))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            return
        deadline = time.monotonic() + self._within_s
        while self._left() and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)
        self._end()

    async def __aenter__(self) -> None:
        if trio.lowlevel.in_trio_task():
            self._begin(trio_tasks)
        else:
            home = shared_home()
            self._begin(lambda: asyncio_tasks() | _tasks_in(home))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            return
        # Real time, not Trio's: a virtual clock may stand still, or be there before anything real has ended.
        deadline = time.monotonic() + self._within_s
        while self._left() and time.monotonic() < deadline:
            if trio.lowlevel.in_trio_task():
                # Not shielded: whoever cancels the block does not want to wait for its verdict.
                await trio.to_thread.run_sync(time.sleep, POLL_INTERVAL_S)  # noqa: ASYNC102
            else:
                await asyncio.sleep(POLL_INTERVAL_S)  # noqa: ASYNC102 - as above
        self._end()

    def _begin(self, tasks: Callable[[], set[Living]]) -> None:
        self._tasks = tasks
        self._before = self._living()

    def _end(self) -> None:
        left = self._left()
        if left:
            raise LeakError(sorted(thing.describe() for thing in left), self._within_s)

    def _left(self) -> set[Living]:
        # A fixture may leave the block in another task than it entered; that one is alive because it asks.
        return self._living() - self._before - current_tasks()

    def _living(self) -> set[Living]:
        return self._tasks() | open_files() | threads() | child_processes()


def _tasks_in(home: Home) -> set[Living]:
    """The tasks of an engine that lives in another thread."""
    found: set[Living] = set()
    counted = threading.Event()

    def count() -> None:
        found.update(trio_tasks())
        counted.set()

    try:
        home.post(count)
    except HomeGone:
        return found
    if not counted.wait(ENGINE_REPLY_S):
        raise TimeoutError(
            f"the thread of nanobot's engine has not counted its tasks in {ENGINE_REPLY_S} s: it is stuck"
        )
    return found
