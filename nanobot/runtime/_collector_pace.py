"""How often Python looks for garbage while many turns are under way."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["CollectorPace"]

_OBJECTS_PER_RUN: Final = 256
"""What a turn, its caller and its session have while the model answers are 140 objects; twice that, rounded down."""

_FEW: Final = 4
"""So many runs do not fill the room that Python leaves by default."""


class CollectorPace:
    """Lets as many new objects come between two looks for garbage as the runs that are under way have, if that is more than
    the program says. One per runtime; their runs count together, for a process has one collector.

    The collector takes what survives a look for old, and looks at the old again whenever there is a quarter more of it. By
    Python's default it looks after some 700 new objects, which six waiting turns have: then every turn of a crowd is looked at
    five times before it ends, and with thousands of them half of the CPU goes there. With room for all that is under way, most
    turns end before anybody looks. Garbage that only the collector finds stays longer meanwhile, but never takes more room than
    the turns themselves, and the program's own threshold stands again when they have ended. Where it is 0, which turns the
    collector off, or higher than ours, it stands all along.

    A number of runs is rounded up to a power of two, so that a turn rarely has to say anything.
    """

    __slots__ = ("_most",)

    def __init__(self) -> None:
        self._most = 0

    def follow(self, count: Callable[[], int]) -> None:
        """Look how many runs are under way, after each change of that. From any thread."""
        if self._has_room_for(count()):
            return
        with _lock:
            # Again: another thread's change, whose look came before the end of ours, was not followed there.
            while not self._has_room_for(runs := count()):
                self._most = 1 << (runs - 1).bit_length() if runs > _FEW else 0
                _make_room(self, self._most)

    def _has_room_for(self, runs: int) -> bool:
        return self._most >> 2 <= runs <= max(self._most, _FEW)


_lock = threading.RLock()  # a signal handler may begin a run
_most: dict[CollectorPace, int] = {}
_program_says: int | None = None
"""The threshold that ours stands in the place of; None if ours does not stand."""
_we_said = 0


def _make_room(pace: CollectorPace, runs: int) -> None:
    """Under the lock."""
    global _program_says, _we_said
    if runs:
        _most[pace] = runs
    else:
        _most.pop(pace, None)
    stands, *others = gc.get_threshold()
    if _program_says is None or stands != _we_said:
        _program_says = stands  # what was said last, by whomever
    ours = _OBJECTS_PER_RUN * sum(_most.values())
    wanted = max(_program_says, ours) if _program_says else 0
    if wanted != stands:
        gc.set_threshold(wanted, *others)
    _we_said = wanted
    if wanted == _program_says:
        _program_says = None


def _forget_after_fork() -> None:
    """The runs go on in the parent. Whoever held the lock there does not exist here."""
    global _lock
    _lock = threading.RLock()
    for pace in tuple(_most):
        _make_room(pace, 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
