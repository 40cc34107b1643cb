"""Where an engine lives: a Trio run that anybody may post work to."""

from __future__ import annotations

import atexit
import contextvars
import gc
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVarTuple, Unpack

import trio

from ._cancelled import split_cancelled
from ._errors import HomeGone
from ._run_ended import post_unless_ended, run_ended
from ._watch import watch_here

if TYPE_CHECKING:
    from ._host_trio import TrioHost

__all__ = ["Home", "in_living_home", "shared_home", "trio_home"]

Ts = TypeVarTuple("Ts")

_log = logging.getLogger("actors.home")


class Home:
    """A Trio run, seen from outside: the caller's own, or the one in the thread that asyncio and sync callers share.

    All methods may be called from any thread, any loop and from `__del__`.

    Attributes:
      token: Trio's own name of the run.
      local_host: The host of callers who live here too, once there was one.
    """

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.token = token
        self._forks = _forks
        self._ended = False
        self._posted: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._crossing = (
            False  # whether the run was told of something posted, and has not looked yet
        )
        self._at_end: dict[object, Callable[[], None]] = {}
        self.local_host: TrioHost | None = None

    @property
    def alive(self) -> bool:
        """Whether work can still be posted. False in a forked child, whose copy of the run has no thread."""
        return not self._ended and not self.forked and not run_ended(self.token)

    @property
    def forked(self) -> bool:
        """Whether this is a forked child's copy of a home that is its parent's."""
        return self._forks != _forks

    @property
    def is_here(self) -> bool:
        """Whether the current task runs in this home."""
        return trio.lowlevel.in_trio_task() and trio.lowlevel.current_trio_token() is self.token

    def post(self, function: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Call a sync function in the home's run soon. What it raises is logged: in Trio itself it would end the run.

        All that is posted before the run looks crosses with one system call, after which the run's thread wants the
        interpreter at once: hundreds of callers who begin together would otherwise hand it back and forth for each.

        Raises:
          HomeGone: The run has ended.
        """
        if self.forked:
            raise HomeGone("this process was forked from the one where the engine lives")
        self._posted.append((function, args))
        # The run clears the flag before it looks. So whoever sees it set has posted in time for that look.
        if self._ended or not (self._crossing or self._cross()):
            raise HomeGone("the Trio run in which the engine lived has ended")

    def _cross(self) -> bool:
        """Have the run look at what was posted; returns False if it is over."""
        try:
            # Inside: Ctrl-C may strike between any two lines, and must not leave it set.
            self._crossing = True
            if post_unless_ended(self.token, self._arrive):
                return True
            self._crossing = False
        except BaseException:
            self._crossing = False
            # Whoever has posted meanwhile saw the flag and left the crossing to us.
            post_unless_ended(self.token, self._arrive)
            raise
        return False

    def _arrive(self) -> None:
        self._crossing = False
        # What these post crosses anew: others have their turn in between.
        for _ in range(len(self._posted)):
            function, args = self._posted.popleft()
            _guarded(function, args)

    def do(self, function: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Call a sync function in the home's run: now if the current task is there, else soon. Not for `__del__`,
        which may strike in the middle of anything; that is what `post` is for.

        Raises:
          HomeGone: The run has ended. What a function called now raises is raised here.
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
            except (trio.Cancelled, GeneratorExit):
                raise
            except BaseException as raised:  # noqa: BLE001 - the other engines of this run must not die of it
                cancelled, error = split_cancelled(raised)
                if error is not None:  # a cancelled nursery raises its cancellations as a group
                    _log.error("%s ended with an error", name, exc_info=error)
                if cancelled is not None:
                    raise cancelled from None

        self.do(lambda: _spawn(guarded, name))

    def at_end(self, key: object, callback: Callable[[], None]) -> None:
        """Have `callback` called when the run is over, in whatever way; at once if it is. What it raises is logged.

        By then tasks have been unwound, or will never be, as when Trio itself crashes. The callback runs in the thread
        of the run, outside of any task.
        """
        self._at_end[key] = callback
        if self._ended:
            self._call_at_end(key)

    def forget(self, key: object) -> None:
        """Drop what `at_end` registered under `key`."""
        self._at_end.pop(key, None)

    def _end(self) -> None:
        self._ended = True
        self._posted.clear()  # of a run that crashed, which looks no more
        for key in tuple(self._at_end):
            self._call_at_end(key)

    def _call_at_end(self, key: object) -> None:
        callback = self._at_end.pop(key, None)  # only one of two threads gets it
        if callback is not None:
            _guarded(callback, ())


class _EndOfRun(trio.abc.Instrument):
    """Tells a home that its run is over; also when Trio crashes, which unwinds nothing."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def after_run(self) -> None:
        self._home._end()


class _SharedThread:
    """A daemon thread that runs Trio for all asyncio and sync callers of this process."""

    def __init__(self) -> None:
        self._started = threading.Event()
        self._scope = trio.CancelScope()
        self._home: Home | None = None
        self._thread = threading.Thread(target=self._run, name="actors-home", daemon=True)
        # A new thread starts in an empty context before 3.14 and in the starter's after; ours belongs to nobody.
        contextvars.Context().run(self._thread.start)

    def home(self) -> Home | None:
        """The home in this thread once it has started, or None if it has ended or could not start."""
        self._started.wait()
        return self._home if self._home is not None and self._home.alive else None

    def _run(self) -> None:
        crashed = False
        try:
            trio.run(self._main)
        except BaseException:  # noqa: BLE001, ASYNC103 - nobody joins a daemon thread to see it
            crashed = True
            _log.critical("the shared Trio run has crashed", exc_info=True)
        finally:
            self._started.set()
        if crashed:
            # The tasks that it dropped are closed here, in their own thread, and not wherever garbage is collected next.
            gc.collect()

    async def _main(self) -> None:
        with self._scope:
            self._home = trio_home()
            self._started.set()
            await watch_here().look_for_ever()

    def stop(self) -> None:
        """End the run and wait for the `finally` blocks in it."""
        home = self.home()
        if home is not None:
            try:
                home.post(self._scope.cancel)
            except HomeGone:
                pass  # it has just ended by itself
            self._thread.join(EXIT_WAIT_S)


EXIT_WAIT_S = 5.0
"""How long an exiting interpreter waits for the shared run: longer than any shielded close in it, short for a human."""

_shared: _SharedThread | None = None
_shared_lock = threading.Lock()


def shared_home() -> Home:
    """The home that all asyncio and sync callers of this process share; started when first asked for.

    Raises:
      HomeGone: It could not be started.
    """
    global _shared
    with _shared_lock:
        home = None if _shared is None else _shared.home()
        if home is None:
            _shared = _SharedThread()
            _stop_with_worker()
            home = _shared.home()
        if home is None:
            raise HomeGone("the shared Trio run could not be started; see the log of actors.home")
        return home


_trio_homes: trio.lowlevel.RunVar[Home] = trio.lowlevel.RunVar("actors_home")


def trio_home() -> Home:
    """The home that is the current Trio run itself; one object per run."""
    try:
        return _trio_homes.get()
    except LookupError:
        home = Home(trio.lowlevel.current_trio_token())
        _trio_homes.set(home)
        trio.lowlevel.add_instrument(_EndOfRun(home))
        return home


def in_living_home() -> bool:
    """Whether the caller is in a task of a home's run, and the run goes on: one that crashes still calls callbacks."""
    if not trio.lowlevel.in_trio_task():
        return False
    try:
        return not _trio_homes.get()._ended
    except LookupError:
        return False


def _guarded(function: Callable[..., object], args: tuple[object, ...]) -> None:
    try:
        function(*args)
    except BaseException:  # noqa: BLE001, ASYNC103 - Trio would take it for a bug of its own and end every engine there
        _log.exception("a posted callback failed: %r", function)


def _spawn(main: Callable[[], Awaitable[None]], name: str) -> None:
    trio.lowlevel.spawn_system_task(main, name=name)


_forks = 0
"""How often this process and those it descends from were forked. Asked at each wait, where `os.getpid()` would be one system
call more."""


def _forget_after_fork() -> None:
    """The child has no thread. Its copies of the parent's sockets stay open: closing them would gain little here, but
    could confuse a poll object that both processes share.
    """
    global _forks, _shared, _shared_lock
    _forks += 1
    _shared = None
    _shared_lock = threading.Lock()


@atexit.register
def _stop_at_exit() -> None:
    if _shared is not None:
        _shared.stop()


def _stop_with_worker() -> None:
    """Worker processes of multiprocessing may leave by `os._exit`, past `atexit`, but run finalizers of their own before."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        # deferred: in a worker it is loaded already, and elsewhere nobody needs it
        from multiprocessing.util import Finalize

        Finalize(None, _stop_at_exit, exitpriority=0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
