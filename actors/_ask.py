"""Asking an engine for something and waiting for the result, from any loop or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ._call import Call
from ._current_host import current_host
from ._errors import HomeGone
from ._home import Home
from ._host_sync import SyncHost

__all__ = ["ask", "ask_sync", "cancel_soon", "wait_settled", "wait_settled_sync"]

T = TypeVar("T")


async def ask(home: Home, call: Call[T], submit: Callable[[Call[T]], object]) -> T:
    """Hand `call` to the engine by `submit`, which runs in its home, and wait for the result.

    A cancelled caller cancels the call and leaves only when it has settled, then raises its own cancellation.

    Raises:
      HomeGone: The home's run has ended. Otherwise what the call raises.
    """
    host = current_host(home)
    notify = host.make_notify()
    home.do(_begin, call, submit, notify.notify)
    await host.wait_until(lambda: call.settled, notify, on_cancel=lambda: cancel_soon(home, call))
    return call.result()


def ask_sync(
    home: Home, call: Call[T], submit: Callable[[Call[T]], object], *, host: SyncHost
) -> T:
    """Like `ask`, blocking; `host` is the calling thread, which meanwhile serves what the engine asks of it."""
    home.do(_begin, call, submit, host.notify)
    host.wait_until(lambda: call.settled, on_cancel=lambda: cancel_soon(home, call))
    return call.result()


async def wait_settled(
    home: Home, call: Call[T], *, on_cancel: Callable[[], object] | None = None
) -> None:
    """Wait until `call` has settled.

    A cancelled caller leaves at once, unless there is `on_cancel`: then that is called, and the caller leaves when the call
    has settled.
    """
    if call.settled:
        return
    host = current_host(home)
    notify = host.make_notify()
    if not _follow(home, call, notify.notify):
        return
    if on_cancel is not None:
        await host.wait_until(lambda: call.settled, notify, on_cancel=on_cancel)
    else:
        while not call.settled:
            await notify.notified()


def wait_settled_sync(
    home: Home, call: Call[T], *, host: SyncHost, on_cancel: Callable[[], object]
) -> None:
    """Block until `call` has settled. Ctrl-C calls `on_cancel` first."""
    if not call.settled and _follow(home, call, host.notify):
        host.wait_until(lambda: call.settled, on_cancel=on_cancel)


def cancel_soon(home: Home, call: Call[T]) -> None:
    """Cancel `call` from anywhere, also from `__del__`; a home that is gone has settled it already."""
    try:
        home.post(call.cancel)
    except HomeGone:
        pass


def _begin(call: Call[T], submit: Callable[[Call[T]], object], notify: Callable[[], None]) -> None:
    call.on_settled(notify)
    submit(call)


def _follow(home: Home, call: Call[T], notify: Callable[[], None]) -> bool:
    """Have `notify` called when the call settles; returns False if there is nothing to wait for."""
    try:
        home.do(call.on_settled, notify)
    except HomeGone:
        if not call.settled:  # a home that ends settles what is in it
            raise
        return False
    return True
