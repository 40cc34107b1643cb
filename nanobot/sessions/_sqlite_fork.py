"""What becomes of open database files when the process forks.

SQLite forbids to carry a connection across a fork, and it does not help if the child makes a new one: SQLite's table of the locks
that the process holds is copied, while the locks are not, so that the child's connection would believe that it has locks which it
has not. So every store lets go of its file for the moment of the fork, between two transactions, and both processes open it again
when they need it.

`subprocess` does not fork in this sense, and is not concerned.

Source: https://www.sqlite.org/howtocorrupt.html, section 2.6.
"""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol

__all__ = ["ForkAware", "watch_forks"]

# Transactions last milliseconds. One that waits for a disk, or for another process's lock, is not waited for any longer.
_PAUSE_TIMEOUT_S: Final = 2.0


class ForkAware(Protocol):
    """A store, as a fork sees it."""

    def pause(self, timeout_s: float) -> bool:
        """Let go of the file; returns False if that took too long, and is given up."""
        ...

    def resume(self) -> None:
        """In the parent: go on after `pause`."""
        ...

    def begin_anew(self, *, usable: bool) -> None:
        """In the child: forget threads, locks and leases, which the parent has. Not usable, if the file was not let go of."""
        ...


_stores: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_paused: list[ForkAware] = []


def watch_forks(store: ForkAware) -> None:
    """Have the store told of each fork while it lives."""
    _stores.add(store)


def _before() -> None:
    for store in tuple(_stores):
        if store.pause(_PAUSE_TIMEOUT_S):
            _paused.append(store)


def _after_in_parent() -> None:
    while _paused:
        _paused.pop().resume()


def _after_in_child() -> None:
    for store in tuple(_stores):
        store.begin_anew(usable=store in _paused)
    _paused.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
