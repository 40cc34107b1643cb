"""Asking an engine for something and waiting for the result, from any loop or none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import trio

from ._call import Call
from ._current_host import current_host
from ._errors import HomeGone
from ._home import Home
from ._host import Host
from ._host_sync import SyncHost
from ._host_trio import TrioHost
from ._watch import Watch, watch_here

__all__ = ["ask", "ask_sync", "cancel_soon", "wait_settled", "wait_settled_sync"]

T = TypeVar("T")


@trio.lowlevel.enable_ki_protection  # Ctrl-C is felt where we wait, not between posting the call and waiting for it
async def ask(home: Home, call: Call[T], submit: Callable[[Call[Any]], object]) -> T:
    """Hand `call` to the engine by `submit`, which runs in its home, and wait for the result.

    A cancelled caller cancels the call and leaves only when it has settled, then raises its own cancellation. What
    `submit` raises becomes the result. A call that was cancelled already is not submitted. In each case the call has
    settled when this returns or raises.

    Raises:
      HomeGone: The home's run has ended, before or during the call. Otherwise what the call raises.
    """
    host = current_host(home)
    notify = host.make_notify()
    waiter = _Waiter(home, call, notify, host)
    try:
        waiter.begin(submit)
        del submit  # it has been called, and thousands may wait
        await host.wait_until_over(waiter, notify)
    finally:
        waiter.leave()
    try:
        return call.result()
    finally:
        # An error's traceback refers to this frame, and the call to the error.
        del call, waiter


def ask_sync(
    home: Home, call: Call[T], submit: Callable[[Call[Any]], object], *, host: SyncHost
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
    call has settled. A home that ends, or has ended, settles the call with `HomeGone`.
    """
    if call.settled:
        return
    host = current_host(home)
    notify = host.make_notify()
    waiter = _Waiter(home, call, notify, host, on_cancel)
    if not waiter.follow():
        return
    try:
        if on_cancel is not None:
            await host.wait_until_over(waiter, notify)
        else:
            while not call.settled:
                await notify.notified()
    finally:
        waiter.leave()


def wait_settled_sync(
    home: Home, call: Call[T], *, host: SyncHost, on_cancel: Callable[[], object]
) -> None:
    """Block until `call` has settled. Ctrl-C calls `on_cancel` first.

    Raises:
      RuntimeError: The calling thread is the one that would have to do the work.
    """
    if call.settled:
        return
    _refuse_to_block(home)
    waiter = _Waiter(home, call, host, on_cancel=on_cancel)
    _block(waiter, host, waiter.follow)


def cancel_soon(home: Home, call: Call[T]) -> None:
    """Cancel `call` from anywhere, also from `__del__`; a home that is gone has settled it already."""
    try:
        home.post(call.cancel)
    except HomeGone:
        pass


def _see_through_sync(
    home: Home, call: Call[T], submit: Callable[[Call[Any]], object], host: SyncHost
) -> None:
    _refuse_to_block(home)
    waiter = _Waiter(home, call, host)
    _block(waiter, host, partial(waiter.begin, submit))


def _block(waiter: _Waiter[T], host: SyncHost, start: Callable[[], object]) -> None:
    try:
        start()
        host.wait_until(waiter.is_over, on_cancel=waiter.cancel)
    except BaseException:
        # Not over: a second Ctrl-C, after which the host is gone; or the first, before the wait had begun.
        if not waiter.is_over():
            waiter.cancel()
            if not host.gone and waiter.follow():
                host.wait_until(waiter.is_over, on_cancel=waiter.cancel)
        raise
    finally:
        waiter.leave()


class _Wakeable(Protocol):
    def notify(self) -> None: ...


class _Waiter(Generic[T]):
    """Somebody who waits for a call: woken when it settles or its home ends, and missed if their own loop is closed.

    `begin` or `follow`, then `leave`, are called by who waits, and so are `is_over` and `cancel`; everything else happens in the
    home.
    """

    __slots__ = (
        "_call",
        "_home",
        "_host",
        "_is_asker",
        "_is_here",
        "_notify",
        "_on_cancel",
        "_watch",
    )

    keeps_run = False

    def __init__(
        self,
        home: Home,
        call: Call[T],
        notify: _Wakeable,
        host: Host | None = None,
        on_cancel: Callable[[], object] | None = None,
    ) -> None:
        self._home = home
        self._call = call
        self._notify = notify
        self._on_cancel = on_cancel
        self._host = (
            host  # None for a thread without a loop, which does not go away under its own wait
        )
        self._is_here = isinstance(host, TrioHost) and host.local  # then it ends with the home
        self._is_asker = False
        self._watch: Watch | None = None

    def begin(self, submit: Callable[[Call[Any]], object]) -> None:
        """Have the call submitted. It settles in every case; with `HomeGone` if it is too late, which is raised too."""
        self._is_asker = True
        if self._is_here:
            self._submit(submit)
            return
        self._home.at_end(self, self._home_gone)
        try:
            self._home.do(self._submit, submit)
        except HomeGone:
            self._call._home_gone()
            raise

    def follow(self) -> bool:
        """Wait for a call that somebody else asked for; returns False if it has settled."""
        if not self._is_here:
            self._home.at_end(self, self._home_gone)
        try:
            self._home.do(self._attach)
        except HomeGone:
            self._home.forget(self)
            self._call._home_gone()
        return not self._call.settled

    def is_over(self) -> bool:
        """Whether there is nothing to wait for."""
        return self._call.settled

    def cancel(self) -> None:
        """Have the call end soon, or do what is to be done in place of that."""
        if self._on_cancel is None:
            cancel_soon(self._home, self._call)
        else:
            self._on_cancel()

    def leave(self) -> None:
        """Wait no more."""
        if not self._is_here:
            self._home.forget(self)
        if not self._call.settled:
            try:
                self._home.post(self._detach)
            except HomeGone:
                pass

    def look(self) -> None:
        """Give up if the loop of who waits was closed under them: what only they asked for is not needed."""
        if self._host is not None and self._host.gone:
            if self._is_asker:
                self._call.cancel()
            else:
                self._home.forget(self)
                self._detach()

    def _submit(self, submit: Callable[[Call[Any]], object]) -> None:
        self._attach()
        if self._call.settled:
            return  # it was cancelled before it was asked for
        try:
            submit(self._call)
        except BaseException as error:  # noqa: BLE001, ASYNC103 - a refusal is a result; else who asked would wait for ever
            self._call.fail(error)

    def _attach(self) -> None:
        self._call.on_settled(self._settled)
        if self._host is not None and not self._is_here and not self._call.settled:
            self._watch = watch_here()
            self._watch.add(self)

    def _detach(self) -> None:
        self._call.forget(self._settled)
        if self._watch is not None:
            self._watch.discard(self)

    def _settled(self) -> None:
        if (
            not self._is_here
        ):  # nothing may keep a waiter whose loop is gone: it will not come to `leave`
            self._home.forget(self)
            if self._watch is not None:
                self._watch.discard(self)
        self._notify.notify()

    def _home_gone(self) -> None:
        self._call._home_gone()
        self._notify.notify()  # also if the call was posted too late to know this waiter


def _refuse_to_block(home: Home) -> None:
    if home.is_here:
        raise RuntimeError(
            "blocking here would stop the run that has to do the work; await it instead"
        )
