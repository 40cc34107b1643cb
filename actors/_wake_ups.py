"""Wake-ups from a Trio run into event loops of other threads: all of one pass of Trio's loop cross together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import trio

from ._home import in_living_home

__all__ = ["wake_in"]

_log = logging.getLogger("actors.home")


def wake_in(loop: asyncio.AbstractEventLoop, arrive: Callable[[], None]) -> None:
    """Have `arrive` called in another thread's event loop soon; never, if that is closed. Never blocks.

    From a Trio task it crosses when Trio has nothing else to do at the moment, together with all that other tasks had to
    say by then. A crossing costs two system calls here and three there, and the other thread wants the interpreter at
    once; so with many streams it is the most of what an event costs, and what wakes up after this pass has more to take.
    """
    if not in_living_home():  # there is no pass that would come to its end
        _cross(loop, arrive)
        return
    try:
        wake_ups = _here.get()
    except LookupError:
        wake_ups = _WakeUps()
        _here.set(wake_ups)
        trio.lowlevel.add_instrument(wake_ups)
    wake_ups.waiting.setdefault(loop, []).append(arrive)


class _WakeUps(trio.abc.Instrument):
    """What is to cross from one Trio run at the end of this pass."""

    def __init__(self) -> None:
        self.waiting: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}

    def before_io_wait(self, timeout: float) -> None:
        if self.waiting:
            self.after_run()

    def after_run(self) -> None:
        waiting, self.waiting = self.waiting, {}
        for loop, arrivals in waiting.items():
            try:
                _cross(loop, _call_all, loop, arrivals)
            except Exception:  # noqa: BLE001 - a stranger's loop; Trio would call this instrument never again
                _log.exception("an event loop cannot be woken: %r", loop)


_here: trio.lowlevel.RunVar[_WakeUps] = trio.lowlevel.RunVar("actors_wake_ups")


def _cross(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        pass  # the loop is closed, and whoever waited there is gone with it


def _call_all(loop: asyncio.AbstractEventLoop, functions: Sequence[Callable[[], None]]) -> None:
    for place, function in enumerate(functions):
        try:
            function()
        except (
            BaseException
        ):  # its own matter, and the loop's; the others' waiters would wait for ever
            if rest := functions[place + 1 :]:
                loop.call_soon(_call_all, loop, rest)
            raise
