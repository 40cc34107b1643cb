"""How many of a crowd begin at once, so that the first are far ahead when the last begin."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

__all__ = ["Pace"]


class Pace:
    """Lets so many begin, then lets the loop make a pass over all tasks, then so many more.

    Trio runs all tasks that can run, one step each, before it runs any of them again. Thousands that begin together therefore
    go through each stage together: the first of their requests leaves when the last is ready, and all that they need is alive
    at once, which costs memory, cache misses and the garbage collector's time. Here those who have begun are taken through the
    stages while the others wait. Nobody waits for what others wait for: only for passes, one for each `at_once` before them.

    Lives in one Trio run, and has no task: a full pace costs one callback.

    Args:
      at_once: How many begin between two passes.
    """

    __slots__ = ("_at_once", "_left", "_token", "_waiting")

    def __init__(self, at_once: int) -> None:
        self._at_once = self._left = at_once
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: deque[Callable[[], object]] = deque()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self) -> bool:
        """Whether one more may begin now; if so, it counts as having done so."""
        if not self._left:
            return False
        self._left -= 1
        if not self._left:
            self._token.run_sync_soon(self._refill)
        return True

    def later(self, begin: Callable[[], object]) -> None:
        """For whom `take` refused: call `begin`, which must not raise, when it is their turn."""
        self._waiting.append(begin)

    def _refill(self) -> None:
        self._left = self._at_once
        while self._waiting and self._left:
            self._left -= 1
            self._waiting.popleft()()
        if not self._left:
            self._token.run_sync_soon(self._refill)
