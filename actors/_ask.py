"""Asking an engine for something and waiting for the result, from any loop or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from ._call import Call
from ._current_host import current_host
from ._errors import HomeGone
from ._home import Home
from ._host_sync import SyncHost

__all__ = ["ask", "ask_sync", "cancel_soon", "wait_settled", "wait_settled_sync"]

T = TypeVar("T")


@trio.lowlevel.enable_ki_protection  # Ctrl-C is felt where we wait, not between posting the call and waiting for it
async def ask(home: Home, call: Call[T], submit: Callable[[Call[T]], object]) -> T:
    """Hand `call` to the engine by `submit`, which runs in its home, and wait for the result.

    A cancelled caller cancels the call and leaves only when it has settled, then raises its own cancellation. What
    `submit` raises becomes the result. A call that was cancelled already is not submitted. In each case the call has
    settled when this returns or raises.

    Raises:
      HomeGone: The home's run has ended, before or during the call. Otherwise what the call raises.
    """
    await _see_through(home, call, submit)
    try:
        return call.result()
    finally:
        del call, submit  # an error's traceback refers to this frame, and the call to the error


def ask_sync(
    home: Home, call: Call[T], submit: Callable[[Call[T]], object], *, host: SyncHost
) -> T:
    """Like `ask`, blocking; `host` is the calling thread, which meanwhile serves what the engine asks of it.

    Ctrl-C cancels the call and is raised when it has settled; a second one is raised at once.

    Raises:
      RuntimeError: The calling thread is the one that would have to do the work.
    """
    _see_through_sync(home, call, submit, host)
    try:
        return call.result()
    finally:
        del call, submit  # as in `ask`


@trio.lowlevel.enable_ki_protection  # as in `ask`
async def wait_settled(
    home: Home, call: Call[T], *, on_cancel: Callable[[], object] | None = None
) -> None:
    """Wait until `call` has settled.

    A cancelled caller leaves at once, unless there is `on_cancel`: then that is called, and the caller leaves when the
    call has settled. A home that ends settles the call with `HomeGone`.

    Raises:
      HomeGone: The home's run had ended before, with the call unsettled.
    """
    if call.settled:
        return
    host = current_host(home)
    notify = host.make_notify()
    if not _follow(home, call, notify.notify):
        return
    home.at_end(notify, lambda: _give_up(call, notify.notify))
    try:
        if on_cancel is not None:
            await host.wait_until(lambda: call.settled, notify, on_cancel=on_cancel)
        else:
            while not call.settled:
                await notify.notified()
    finally:
        home.forget(notify)
        _forget_soon(home, call, notify.notify)


def wait_settled_sync(
    home: Home, call: Call[T], *, host: SyncHost, on_cancel: Callable[[], object]
) -> None:
    """Block until `call` has settled. Ctrl-C calls `on_cancel` first.

    Raises:
      HomeGone: The home's run had ended before, with the call unsettled.
      RuntimeError: The calling thread is the one that would have to do the work.
    """
    if call.settled:
        return
    _refuse_to_block(home)
    if not _follow(home, call, host.notify):
        return
    key = object()
    home.at_end(key, lambda: _give_up(call, host.notify))
    try:
        host.wait_until(lambda: call.settled, on_cancel=on_cancel)
    finally:
        home.forget(key)
        _forget_soon(home, call, host.notify)


def cancel_soon(home: Home, call: Call[T]) -> None:
    """Cancel `call` from anywhere, also from `__del__`; a home that is gone has settled it already."""
    try:
        home.post(call.cancel)
    except HomeGone:
        pass


async def _see_through(home: Home, call: Call[T], submit: Callable[[Call[T]], object]) -> None:
    host = current_host(home)
    notify = host.make_notify()
    home.at_end(notify, lambda: _give_up(call, notify.notify))
    try:
        home.do(_begin, call, submit, notify.notify)
        await host.wait_until(
            lambda: call.settled, notify, on_cancel=lambda: cancel_soon(home, call)
        )
    except HomeGone:  # too late even to post it
        call._home_gone()
        raise
    finally:
        home.forget(notify)


def _see_through_sync(
    home: Home, call: Call[T], submit: Callable[[Call[T]], object], host: SyncHost
) -> None:
    _refuse_to_block(home)
    key = object()
    home.at_end(key, lambda: _give_up(call, host.notify))
    try:
        home.do(_begin, call, submit, host.notify)
        host.wait_until(lambda: call.settled, on_cancel=lambda: cancel_soon(home, call))
    except HomeGone:  # as in `_see_through`
        call._home_gone()
        raise
    finally:
        home.forget(key)
        if not call.settled:  # Ctrl-C, twice or between two lines: nobody waits any more
            cancel_soon(home, call)


def _begin(call: Call[T], submit: Callable[[Call[T]], object], notify: Callable[[], None]) -> None:
    call.on_settled(notify)
    if call.settled:
        return  # it was cancelled before it was asked for
    try:
        submit(call)
    except BaseException as error:  # noqa: BLE001, ASYNC103 - a refusal is a result; else the caller would wait for ever
        call.fail(error)


def _follow(home: Home, call: Call[T], notify: Callable[[], None]) -> bool:
    """Have `notify` called when the call settles; returns False if there is nothing to wait for."""
    try:
        home.do(call.on_settled, notify)
    except HomeGone:
        if not call.settled:  # a home that ends settles what is in it
            raise
        return False
    return True


def _forget_soon(home: Home, call: Call[T], notify: Callable[[], None]) -> None:
    if not call.settled:
        try:
            home.post(call.forget, notify)
        except HomeGone:
            pass


def _refuse_to_block(home: Home) -> None:
    if home.is_here:
        raise RuntimeError(
            "blocking here would stop the run that has to do the work; await it instead"
        )


def _give_up(call: Call[T], notify: Callable[[], None]) -> None:
    """The home's run is over: what has not settled never will, and what was posted last may not have been run."""
    call._home_gone()
    notify()
