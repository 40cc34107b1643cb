"""One piece of work asked of an engine: it settles exactly once and can be cancelled at any time before."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

import trio

from ._cancelled import split_cancelled
from ._errors import CallCancelled, HomeGone, Stopped
from ._within import within

__all__ = ["Call", "CallState"]

T = TypeVar("T")
CallState = Literal["waiting", "running", "settled"]

STOPPED = "the engine was stopped while this call was running"

_log = logging.getLogger("actors.call")


class Call(Generic[T]):
    """An async function to be run by an actor, and the cell that its result ends up in.

    All methods belong to the engine's Trio run, but anybody may read `settled` and, once that is true, `result()`.

    Args:
      body: Called without arguments; what it returns or raises is the result. It runs in a copy of `context`, in the task that
        awaits `run()`.
      context: The caller's contextvars. A copy is taken if none is given.

    `body` and `context` are dropped when the call begins to run, or settles.

    Attributes:
      state: How far it is.
      settled: Whether there is a result, that is, whether `state` is "settled".
    """

    __slots__ = (
        "_callbacks",
        "_cancel_called",
        "_error",
        "_scope",
        "_traceback",
        "_value",
        "body",
        "context",
        "settled",
        "state",
    )

    def __init__(
        self,
        body: Callable[[], Coroutine[Any, Any, T]],
        *,
        context: contextvars.Context | None = None,
    ) -> None:
        self.body = body
        self.context = contextvars.copy_context() if context is None else context
        self.state: CallState = "waiting"
        self.settled = False
        self._cancel_called = False
        self._scope: trio.CancelScope | None = None  # while it runs
        self._value: T | None = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def cancel_called(self) -> bool:
        """Whether somebody asked for the end of this call."""
        return self._cancel_called

    def result(self) -> T:
        """The value, or raises what the body raised. May be asked for any number of times once settled."""
        if not self.settled:
            raise RuntimeError("this call has not settled yet")
        if self._error is None:
            return self._value  # type: ignore[return-value]  # settled without an error: it is a T
        # Each asker adds its own frames to what the engine recorded, not to those of the asker before. They include this
        # one: the error would keep itself alive through it.
        try:
            raise self._error.with_traceback(self._traceback)
        finally:
            del self

    @property
    def failure(self) -> BaseException | None:
        """What `result()` would raise, or None."""
        return self._error

    def on_settled(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the call settles; at once if it has. What it raises is logged."""
        if self.settled:
            _guarded(callback)
        else:
            self._callbacks.append(callback)

    def forget(self, callback: Callable[[], None]) -> None:
        """Take back one `on_settled`, for who waits no longer. Does nothing for a callback that is not there."""
        try:
            self._callbacks.remove(callback)
        except ValueError:
            pass

    def settle(self, value: T) -> None:
        """Give the call its value; does nothing if it is settled."""
        if not self.settled:
            self._value = value
            self._finish()

    def fail(self, error: BaseException) -> None:
        """Give the call an error for its result; does nothing if it is settled."""
        if not self.settled:
            self._error = error
            self._traceback = error.__traceback__
            self._finish()

    def cancel(self) -> None:
        """End the call soon. One that still waits settles now; a running one when its `finally` blocks have run."""
        self._cancel_called = True
        if self._scope is not None:
            self._scope.cancel()
        if self.state == "waiting":
            self.fail(CallCancelled("cancelled before it started"))

    @trio.lowlevel.enable_ki_protection  # Ctrl-C belongs to the main task, not to whoever runs when it strikes
    async def run(self) -> None:
        """Run the body in the current task, but with the caller's contextvars, and settle with its result.

        Raises only the task's own cancellation.
        """
        if self.state != "waiting":
            return
        self.state = "running"
        try:
            with trio.CancelScope() as self._scope:
                value = await self._begin()
                self.settle(value)
            self.fail(CallCancelled("cancelled"))  # only if the scope caught its own cancellation
        except trio.Cancelled:
            self.fail(Stopped(STOPPED))
            raise
        except GeneratorExit:  # Trio itself has crashed and drops its tasks; nothing may be awaited
            self.fail(HomeGone("the Trio run in which the engine lived has crashed"))
            raise
        except BaseException as raised:  # noqa: BLE001 - a result like any other: raised where it is asked for
            self._fail_with(raised)
        finally:
            del self  # an error's traceback refers to this frame, and the call to the error

    def _begin(self) -> Awaitable[T]:
        context, body = self.context.copy(), self.body
        del self.context, self.body
        return within(context, body)

    def _fail_with(self, raised: BaseException) -> None:
        cancelled, error = split_cancelled(raised)
        self.fail(error or Stopped(STOPPED))
        if cancelled is not None:
            raise cancelled

    def _home_gone(self) -> None:
        """Settle, because the run in which this could have happened is over."""
        self.fail(HomeGone("the Trio run in which the engine lived has ended"))

    def _finish(self) -> None:
        # The context usually holds whatever made this call, and the body its owner: without these two the cycle is gone
        # and memory comes back at once instead of at the next full collection.
        if self.state == "waiting":
            del self.body, self.context
        self.state = "settled"
        self.settled = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            _guarded(callback)


def _guarded(callback: Callable[[], None]) -> None:
    """Call a listener. One that fails may neither keep the others from hearing nor fail whoever settled the call."""
    try:
        callback()
    except Exception:  # noqa: BLE001 - a listener is a stranger's code
        _log.exception("a listener of a settled call failed: %r", callback)
