"""One bot's runtime wherever it happens to live, found or made when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

import trio

from actors import (
    Call,
    CallCancelled,
    Home,
    HomeGone,
    Stopped,
    SyncHost,
    ask,
    ask_sync,
    cancel_soon,
    current_home,
    in_async_loop,
    wait_settled,
    wait_settled_sync,
)
from nanobot.agent import RunResult
from nanobot.errors import BotClosed, NestedRunRefused, UsageError
from nanobot.runtime import Run, Runtime, closed, enclosing_runs
from nanobot.sessions import SessionStore

__all__ = ["Engine"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Engine:
    """Keeps a runtime alive for a bot: in the Trio run of whoever uses the bot first, else in the shared thread.

    A runtime whose loop has ended, or that a fork left behind, is replaced at the next use: `make_runtime` makes it anew on
    the same configuration and store. The store outlives them; it is closed with the bot, by the living runtime if there is
    one. May be used from any thread.
    """

    def __init__(self, make_runtime: Callable[[Home], Runtime], store: SessionStore) -> None:
        self._make_runtime = make_runtime
        self._store = store
        self._lock = threading.Lock()
        self._runtime: Runtime | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    @property
    def runtime(self) -> Runtime | None:
        """The living runtime, if there is one."""
        return self._runtime

    def open(self) -> Runtime:
        """The runtime, made now if there is none.

        Raises:
          BotClosed: The bot was closed.
        """
        runtime = self._runtime
        if not self._closed and runtime is not None and runtime.usable:
            return runtime
        with self._lock:
            if self._closed:
                raise closed()
            if self._runtime is None or not self._runtime.usable:
                self._runtime = self._make_runtime(current_home())
                self._runtime.start()
            return self._runtime

    async def run(self, runtime: Runtime, run: Run) -> RunResult[Any]:
        """Post a run and wait for its result. A cancelled caller takes the run with it, and leaves when it has ended."""
        runtime.expect(run)
        try:
            await ask(runtime.home, run.call, partial(_submit, runtime, run))
        except (CallCancelled, Stopped):
            pass  # told apart below
        finally:
            runtime.expect_no_more(run)  # one that was cancelled before it came
        return settled_result(run)

    def run_sync(self, runtime: Runtime, run: Run, host: SyncHost) -> RunResult[Any]:
        """Blocking `run`. Ctrl-C takes the run with it."""
        runtime.expect(run)
        try:
            ask_sync(runtime.home, run.call, partial(_submit, runtime, run), host=host)
        except (CallCancelled, Stopped):
            pass  # told apart below
        finally:
            runtime.expect_no_more(run)
        return settled_result(run)

    def post(self, runtime: Runtime, run: Run) -> None:
        """Post a run, and do not wait for it.

        Raises:
          HomeGone: The loop in which the runtime lives has ended.
        """
        runtime.expect(run)
        try:
            runtime.home.do(runtime.submit, run)
        except BaseException:
            runtime.expect_no_more(run)
            raise

    async def look_up(self, runtime: Runtime, look: Callable[[], Awaitable[T]]) -> T:
        """Await something in the runtime's home that belongs to no session. Cancelled with its caller."""

        async def body() -> T:
            return await look()

        return await ask(runtime.home, Call(body), _spawn)

    async def accompany(self, runtime: Runtime, call: Call[None]) -> None:
        """Have something run beside the runtime's sessions; returns when the bot is closed, or its loop has ended."""
        try:
            await ask(runtime.home, call, runtime.accompany)
        except (BotClosed, CallCancelled, HomeGone, Stopped):
            pass  # a cancelled caller is told by its own cancellation

    async def result(self, runtime: Runtime, run: Run) -> RunResult[Any]:
        """Wait for the result of a run that was posted. A cancelled caller just leaves."""
        if not run.settled:
            refuse_if_forked(runtime)
            _refuse_inside(run)
            _do_if_alive(runtime, runtime.await_end, run)
            try:
                await wait_settled(runtime.home, run.call)
            finally:
                _do_if_alive(runtime, runtime.stop_awaiting, run)
        return settled_result(run)

    def result_sync(self, runtime: Runtime, run: Run, host: SyncHost) -> RunResult[Any]:
        """Block until a run that was posted has its result. Ctrl-C takes the run with it."""
        if not run.settled:
            refuse_if_forked(runtime)
            _refuse_inside(run)
            _do_if_alive(runtime, runtime.await_end, run)
            wait_settled_sync(
                runtime.home,
                run.call,
                host=host,
                on_cancel=lambda: cancel_soon(runtime.home, run.call),
            )
        return settled_result(run)

    async def cancel(self, runtime: Runtime, run: Run) -> None:
        """Cancel a run and return when nothing of it is alive, also if the caller is cancelled meanwhile.

        In a forked child nothing of it is: the run belongs to the parent, and goes on there. A caller inside the run is part
        of what has to end, and does not wait; one inside another run does not once it is cancelled, for this run may be
        waiting for that one's end.
        """
        if not run.settled and not runtime.forked:
            cancel_soon(runtime.home, run.call)
            if not _is_inside(run):
                await _see_end(runtime, run.call, on_cancel=_nothing)

    def cancel_sync(self, runtime: Runtime, run: Run, host: SyncHost) -> None:
        """Blocking `cancel`."""
        if not run.settled and not runtime.forked:
            cancel_soon(runtime.home, run.call)
            if not _is_inside(run):
                wait_settled_sync(runtime.home, run.call, host=host, on_cancel=_nothing)

    async def aclose(self, drain_s: float) -> None:
        """Refuse new runs, end the live ones, and return when nothing is alive. A cancelled caller ends the draining; one
        inside a run of this bot does not wait, and one inside another bot's does not once it is cancelled.
        """
        runtime = self._close(drain_s)
        if runtime is None:
            await self._close_store()
        elif not _is_inside_any(runtime):
            await _see_end(
                runtime,
                runtime.end,
                on_cancel=lambda: _do_if_alive(runtime, runtime.request_close),
            )

    def close_sync(self, drain_s: float) -> None:
        """Blocking `aclose`."""
        if in_async_loop():
            raise UsageError("close() would block the event loop here; use `await bot.aclose()`")
        runtime = self._close(drain_s)
        if runtime is None:
            self._store.close()
        elif not _is_inside_any(runtime):
            wait_settled_sync(
                runtime.home,
                runtime.end,
                host=SyncHost(),
                on_cancel=lambda: _do_if_alive(runtime, runtime.request_close),
            )

    def __del__(self) -> None:
        """Close without waiting: a bot that nobody holds any more must not keep connections and processes open."""
        self._closed = True
        runtime = self._runtime
        if runtime is not None and runtime.usable:
            try:
                runtime.home.post(runtime.request_close)
            except HomeGone:
                pass  # and the runtime with it

    async def _close_store(self) -> None:
        """Close the store of a bot that has no living runtime to do it.

        If a run has used it, then where the caller's loop does not wait for a disk. Otherwise only plain calls have, and
        they waited for the disk as well.
        """
        if self._runtime is None or not self._store.blocks:
            self._store.close()
            return
        try:
            await ask(current_home(), Call(self._store.aclose), _spawn)
        except HomeGone:
            self._store.close()

    def _close(self, drain_s: float) -> Runtime | None:
        with self._lock:
            self._closed = True
            runtime = self._runtime
        if runtime is None or runtime.end.settled or runtime.forked:
            return None
        _do_if_alive(runtime, runtime.request_close, drain_s)
        return runtime


def refuse_if_forked(runtime: Runtime) -> None:
    """Keep a forked child from waiting for what only its parent will see.

    Raises:
      BotClosed: This is such a child.
    """
    if runtime.forked:
        raise BotClosed(
            "this run belongs to the process that this one was forked from; start another one here"
        )


async def _see_end(runtime: Runtime, call: Call[Any], *, on_cancel: Callable[[], object]) -> None:
    """Wait until a call has settled, also if the caller is cancelled; but not one inside a run, which has to end itself then."""
    if next(enclosing_runs(), None) is None:
        await wait_settled(runtime.home, call, on_cancel=on_cancel)
        return
    try:
        await wait_settled(runtime.home, call)
    except BaseException:
        on_cancel()
        raise


def _is_inside(run: Run) -> bool:
    """Whether this is called by a tool or a hook of the run, which cannot end before they do."""
    return run in enclosing_runs()


def _is_inside_any(runtime: Runtime) -> bool:
    return any(runtime.is_live(run) for run in enclosing_runs())


def _refuse_inside(run: Run) -> None:
    if _is_inside(run):
        raise NestedRunRefused(
            "a run cannot wait for its own result: it is called by a tool or a hook of the run, which ends after them"
        )


def settled_result(run: Run) -> RunResult[Any]:
    """The result of a settled run; a cancelled one has one too, with what there was.

    Raises:
      BotClosed: The bot, or the loop it lived in, ended before the run could. Otherwise what the run raised.
    """
    if not run.settled:
        raise BotClosed("the event loop in which this bot lived has ended; the run did not start")
    try:
        return run.call.result()
    except CallCancelled as cancelled:
        if run.partial is not None:
            result = run.partial()
        else:
            result = RunResult(content="", stop_reason="cancelled", error=str(cancelled))
        if run.replaced:
            result.metadata["replaced"] = True
        return result
    except Stopped as stopped:
        raise BotClosed(
            "this run was stopped before its end: the bot was closed, or the event loop in which it lived has ended"
        ) from stopped


def _do_if_alive(runtime: Runtime, function: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
    try:
        runtime.home.do(function, *args)
    except HomeGone:
        pass  # whatever lived there has settled


def _submit(runtime: Runtime, run: Run, _call: Call[Any]) -> None:
    runtime.submit(run)


def _spawn(call: Call[Any]) -> None:
    trio.lowlevel.spawn_system_task(call.run)


def _nothing() -> None:
    """For waits that are seen through whether or not the caller is cancelled."""
