"""What was taken in without being stored: it waits here for the next run, or for somebody to save it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from nanobot.messages import Message

__all__ = ["Pending", "Unsaved"]


class Pending(Struct, frozen=True):
    """Messages to be appended to one session, and entries to be put over its metadata (None: there are none)."""

    messages: tuple[Message, ...] = ()
    metadata: dict[str, Any] | None = None


class Unsaved:
    """Pending messages by session key, above a store. May be used from any thread.

    A run that owns a session saves with its own writes: it takes what `get` gives, and says `forget` when that is
    written. `add` is called by runs only, too, so nothing is added in between.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pending: dict[str, Pending] = {}
        _living.add(self)

    def __contains__(self, key: str) -> bool:
        return key in self._pending

    def add(
        self, key: str, messages: Sequence[Message], metadata: Mapping[str, Any] | None
    ) -> None:
        """Put something behind what is pending for the session."""
        with self._lock:
            before = self._pending.get(key, Pending())
            merged = (
                before.metadata if metadata is None else {**(before.metadata or {}), **metadata}
            )
            self._pending[key] = Pending((*before.messages, *messages), merged)

    def get(self, key: str) -> Pending | None:
        """What is pending for the session, or None. Waits while `save` is at work on something."""
        if key not in self._pending:  # most sessions, and no lock to wait for
            return None
        with self._lock:
            return self._pending.get(key)

    def forget(self, key: str, saved: Pending) -> None:
        """Note that `saved`, which `get` gave, needs to wait no longer."""
        with self._lock:
            if self._pending.get(key) is saved:
                del self._pending[key]

    def drop(self, key: str) -> bool:
        """Give up what is pending for the session; returns whether there was anything."""
        with self._lock:
            return self._pending.pop(key, None) is not None

    def save(self, write: Callable[[str, Pending], bool]) -> None:
        """Have everything written by `write`, which returns False for a session that cannot be written now.

        While one session is written nobody else takes what is pending for it: it is never written twice.
        """
        for key in tuple(self._pending):
            with self._lock:
                pending = self._pending.get(key)
                if pending is not None and write(key, pending):
                    del self._pending[key]

    def reset_lock(self) -> None:
        """In a forked child: the thread that may have held the lock is not there."""
        self._lock = threading.RLock()


_living: weakref.WeakSet[Unsaved] = weakref.WeakSet()


def _reset_locks() -> None:
    for unsaved in _living:
        unsaved.reset_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_locks)
