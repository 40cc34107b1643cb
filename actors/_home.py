"""Where an engine lives: a Trio run that anybody may post work to."""

from __future__ import annotations

import atexit
import contextvars
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple, Unpack

import trio

from ._errors import HomeGone

__all__ = ["Home", "shared_home", "trio_home"]

Ts = TypeVarTuple("Ts")

_log = logging.getLogger("actors.home")


class Home:
    """A Trio run, seen from outside: the caller's own, or the one in the thread that asyncio and sync callers share.

    All methods may be called from any thread, any loop and from `__del__`.
    """

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._pid = os.getpid()
        self._ended = False
        self._at_end: dict[object, Callable[[], None]] = {}

    @property
    def token(self) -> trio.lowlevel.TrioToken:
        """Trio's own name of the run."""
        return self._token

    @property
    def alive(self) -> bool:
        """Whether work can still be posted. False in a forked child, whose copy of the run has no thread."""
        if self._ended or self._pid != os.getpid():
            return False
        try:
            self._token.run_sync_soon(_nothing, idempotent=True)
        except trio.RunFinishedError:
            self._ended = True
        return not self._ended

    @property
    def is_here(self) -> bool:
        """Whether the current task runs in this home."""
        return trio.lowlevel.in_trio_task() and trio.lowlevel.current_trio_token() is self._token

    def post(self, function: Callable[[Unpack[Ts]], object], *args: Unpack[Ts]) -> None:
        """Call a sync function in the home's run soon. What it raises is logged: in Trio itself it would end the run.

        Raises:
          HomeGone: The run has ended.
        """
        if self._pid != os.getpid():
            raise HomeGone("this process was forked from the one where the engine lives")
        try:
            self._token.run_sync_soon(_guarded, function, args)
        except trio.RunFinishedError:
            raise HomeGone("the Trio run in which the engine lived has ended") from None

    def do(self, function: Callable[[Unpack[Ts]], object], *args: Unpack[Ts]) -> None:
        """Call a sync function in the home's run: now if the current task is there, else soon. Not for `__del__`,
        which may strike in the middle of anything; that is what `post` is for.
        """
        if self.is_here:
            function(*args)
        else:
            self.post(function, *args)

    def start(self, main: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Run an async function as a system task of the home: it outlives its caller and ends with the run.

        What it raises is logged, for in Trio itself it would end the run.
        """

        async def guarded() -> None:
            try:
                await main()
            except Exception:  # noqa: BLE001 - whatever it is, the other engines of this run must not die of it
                _log.exception("%s ended with an error", name)

        self.do(lambda: _spawn(guarded, name))

    def at_end(self, key: object, callback: Callable[[], None]) -> None:
        """Have `callback` called if the run ends without its tasks being unwound, as when Trio itself crashes."""
        self._at_end[key] = callback

    def forget(self, key: object) -> None:
        """Drop what `at_end` registered under `key`."""
        self._at_end.pop(key, None)

    def _end(self) -> None:
        self._ended = True
        while self._at_end:
            _, callback = self._at_end.popitem()
            _guarded(callback, ())


class _SharedThread:
    """A daemon thread that runs Trio for all asyncio and sync callers of this process."""

    def __init__(self) -> None:
        self._started = threading.Event()
        self._scope: trio.CancelScope | None = None
        self.home: Home | None = None
        self.thread = threading.Thread(target=self._run, name="actors-home", daemon=True)
        # A new thread starts in an empty context before 3.14 and in the starter's after; ours belongs to nobody.
        contextvars.Context().run(self.thread.start)
        self._started.wait()

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException:  # noqa: BLE001 - nobody joins a daemon thread to see it
            _log.critical("the shared Trio run has crashed", exc_info=True)
        finally:
            if self.home is not None:
                self.home._end()
            self._started.set()

    async def _main(self) -> None:
        with trio.CancelScope() as self._scope:
            self.home = Home(trio.lowlevel.current_trio_token())
            self._started.set()
            await trio.sleep_forever()

    def stop(self) -> None:
        """End the run and wait for the `finally` blocks in it."""
        if self.home is not None and self._scope is not None and self.home.alive:
            self.home.post(self._scope.cancel)
            self.thread.join(EXIT_WAIT_S)


EXIT_WAIT_S = 5.0
"""How long an exiting interpreter waits for the shared run: longer than any shielded close in it, short for a human."""

_shared: _SharedThread | None = None
_shared_lock = threading.Lock()


def shared_home() -> Home:
    """The home that all asyncio and sync callers of this process share; started when first asked for."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared.home is None or not _shared.home.alive:
            _shared = _SharedThread()
        if _shared.home is None:
            raise HomeGone("the shared Trio run could not be started; see the log of actors.home")
        return _shared.home


_trio_homes: trio.lowlevel.RunVar[Home] = trio.lowlevel.RunVar("actors_home")


def trio_home() -> Home:
    """The home that is the current Trio run itself; one object per run."""
    try:
        return _trio_homes.get()
    except LookupError:
        home = Home(trio.lowlevel.current_trio_token())
        _trio_homes.set(home)
        return home


def _nothing() -> None:
    """Posted to learn whether the run is there."""


def _guarded(function: Callable[..., object], args: tuple[object, ...]) -> None:
    try:
        function(*args)
    except Exception:  # noqa: BLE001 - an error here would be a TrioInternalError and end every engine of the process
        _log.exception("a posted callback failed: %r", function)


def _spawn(main: Callable[[], Awaitable[None]], name: str) -> None:
    trio.lowlevel.spawn_system_task(main, name=name)


def _forget_after_fork() -> None:
    """The child has no thread; its copies of the parent's sockets stay open, for closing them would disturb nothing here
    but could confuse a poll object that both processes share.
    """
    global _shared, _shared_lock
    _shared = None
    _shared_lock = threading.Lock()


@atexit.register
def _stop_at_exit() -> None:
    if _shared is not None:
        _shared.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
