"""Calling back: an engine's task awaits an async function of its caller's, in the caller's loop."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple, Unpack

import trio

from ._errors import HomeGone, HostCancelled, HostGone
from ._home import Home
from ._host import FunctionCancelled, Host
from ._host_trio import TrioHost
from ._watch import watch_here

__all__ = ["call_host"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def call_host(
    home: Home,
    host: Host,
    context: contextvars.Context,
    function: Callable[[Unpack[Ts]], Awaitable[T]],
    *args: *Ts,
) -> T:
    """Run `function(*args)` on the caller's loop, in `context`, and return what it returns.

    In the caller's own Trio run this is a plain await, in the context of the task that awaits. Elsewhere the two sides
    are linked: cancelling this call cancels the function and waits until it has ended; what the function raises is
    raised here.

    Raises:
      HostGone: The loop has ended.
      HostCancelled: Something there cancelled the function, or what it awaited.
    """
    if isinstance(host, TrioHost) and host.local:
        return await function(*args)
    call = _HostCall(home, host)
    await call.run(context, function, args)
    answer: T = call.result()
    return answer


class _HostCall:
    """The engine's side of one call; `_settle` is the only way out and works once."""

    __slots__ = ("_error", "_home", "_host", "_settled", "_task", "_value", "_watch")

    keeps_run = True  # its task waits until the function has ended, cancelled or not

    def __init__(self, home: Home, host: Host) -> None:
        self._home = home
        self._host = host
        self._settled = False
        self._task = trio.lowlevel.current_task()
        self._watch = watch_here()
        self._value: Any = None
        self._error: BaseException | None = None

    async def run(
        self,
        context: contextvars.Context,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
    ) -> None:
        """Start the function and wait until it has ended."""
        await trio.lowlevel.checkpoint_if_cancelled()
        raise_cancel: Callable[[], object] | None = None
        cancel = self._host.start(function, args, context, self._finished)
        self._watch.add(self)

        def abort(raise_: Callable[[], object]) -> trio.lowlevel.Abort:
            nonlocal raise_cancel
            raise_cancel = raise_
            try:
                cancel()
            except HostGone:
                self._settled = True  # nobody will answer
                self._watch.discard(self)
                return trio.lowlevel.Abort.SUCCEEDED
            return trio.lowlevel.Abort.FAILED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if isinstance(self._error, FunctionCancelled):
            if raise_cancel is not None:
                raise_cancel()
            raise HostCancelled(
                "the function, or what it awaited, was cancelled by something in its own event loop"
            )

    def result(self) -> Any:
        """The function's value, or raises what it raised. To be asked for once."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            # Its traceback refers to this frame, and to those of the host's side, which know this call.
            del error, self

    def _finished(self, value: Any, error: BaseException | None) -> None:
        try:
            self._home.post(self._settle, value, error)
        except HomeGone:
            pass  # the engine, and the task that waited, are gone

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if self._settled:
            return
        self._settled = True
        self._watch.discard(self)
        self._value, self._error = value, error
        trio.lowlevel.reschedule(self._task)

    def look(self) -> None:
        """Give up if the loop was closed under the call."""
        if self._host.gone:
            self._settle(None, HostGone("the caller's event loop was closed during the call"))
