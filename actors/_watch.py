"""Looking now and then whether a loop that somebody waits in was closed; a closed loop tells nobody."""

from __future__ import annotations

import logging
from typing import Protocol

import trio

from ._notify import TrioNotify

__all__ = ["Watch", "Watched", "watch_here"]

_log = logging.getLogger("actors.watch")

LOOK_S = 1.0
"""How long a closed loop goes unnoticed. A look costs 0.1 µs per call that is out."""


class Watched(Protocol):
    """What has to do with a loop that may be closed at any time."""

    @property
    def keeps_run(self) -> bool:
        """Whether a task of the run waits for it, so that the run cannot end before."""
        ...

    def look(self) -> None:
        """See whether it was."""
        ...


class Watch:
    """All that is to be looked at in one Trio run; there is one for each."""

    __slots__ = ("_awake", "_changed", "_watched")

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._changed = TrioNotify()
        self._awake = False

    def add(self, watched: Watched) -> None:
        """Have `watched.look()` called every `LOOK_S` seconds until it is discarded."""
        self._watched.add(watched)
        if self._awake:
            self._changed.notify()
        else:
            self._look_in_the_background()

    def discard(self, watched: Watched) -> None:
        """Look at it no more."""
        self._watched.discard(watched)
        if watched.keeps_run or not self._watched:
            self._changed.notify()

    async def look_for_ever(self) -> None:
        """Be the one who looks, in a run whose main task has nothing else to do, and so needs no task for it."""
        self._awake = True
        try:
            while True:
                while not self._watched:
                    await self._changed.notified()
                await trio.sleep(LOOK_S)
                self._look()
        finally:
            self._awake = False
            if self._watched:
                self._look_in_the_background()

    def _look_in_the_background(self) -> None:
        try:
            trio.lowlevel.spawn_system_task(self._look_while_needed, name="watch over callers")
        except RuntimeError:
            return  # the run is past its last task, and those who wait are about to be told
        self._awake = True

    async def _look_while_needed(self) -> None:
        try:
            while self._watched:
                await self._wait_and_look()
        except trio.Cancelled:
            with trio.CancelScope(
                shield=True
            ):  # the run is ending, and may be waiting for a loop that was closed
                while any(watched.keeps_run for watched in self._watched):
                    await self._wait_and_look()
            raise
        finally:
            self._awake = False

    async def _wait_and_look(self) -> None:
        with trio.move_on_after(LOOK_S):
            await self._changed.notified()
            return
        self._look()

    def _look(self) -> None:
        for watched in tuple(self._watched):
            try:
                watched.look()
            except Exception:  # noqa: BLE001 - a host may be a stranger's code; the others are looked at all the same
                _log.exception("could not see whether the loop of %r is open", watched)


_watches: trio.lowlevel.RunVar[Watch] = trio.lowlevel.RunVar("actors_watch")


def watch_here() -> Watch:
    """The watch of the current Trio run."""
    try:
        return _watches.get()
    except LookupError:
        watch = Watch()
        _watches.set(watch)
        return watch
