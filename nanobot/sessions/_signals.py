"""Hearing of what happens to a session, and asking its runs to stop, from wherever the store reaches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol, runtime_checkable

import trio

from ._record import Position
from ._store import SessionStore, read_soon

__all__ = ["SessionSignals", "SessionWatch", "signals_of"]

# A look costs some 50 us where there is a disk, and whoever follows a session is a person who reads.
_LOOK_S: Final = 0.1


class SessionWatch(Protocol):
    """Somebody's place at one session."""

    async def wait(self) -> None:
        """Wait until the session may have changed since this returned last, or since the watch began."""
        ...


@runtime_checkable
class SessionSignals(Protocol):
    """What a store offers beside sessions if it can tell its users of each other."""

    def request_cancel(self, key: str) -> bool:
        """Ask every process that has the session, or waits for it, to cancel its runs there; returns whether there was one.

        A plain function as those of `SessionStore`. It does not wait for the end of the runs.
        """
        ...

    def on_cancel(self, cancel: Callable[[str], object]) -> None:
        """Have this called with the key of each session whose runs here are asked to stop; in any thread, never raises."""
        ...

    def watch(self, key: str) -> AbstractAsyncContextManager[SessionWatch]:
        """Be told, for the length of a block, when the session is written, cleared or deleted, by whomever."""
        ...


def signals_of(store: SessionStore) -> SessionSignals:
    """The store's own signals; for a store that has none, some that look again and again, and ask nobody to stop."""
    return store if isinstance(store, SessionSignals) else _Looking(store)


class _Looking:
    """Signals of a store that tells nobody anything."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def request_cancel(self, key: str) -> bool:
        return False

    def on_cancel(self, cancel: Callable[[str], object]) -> None:
        return

    @asynccontextmanager
    async def watch(self, key: str) -> AsyncIterator[SessionWatch]:
        yield _Look(self._store, key, await _position(self._store, key))


class _Look:
    def __init__(self, store: SessionStore, key: str, seen: Position | None) -> None:
        self._store = store
        self._key = key
        self._seen = seen

    async def wait(self) -> None:
        while True:
            now = await _position(self._store, self._key)
            if now != self._seen:
                self._seen = now
                return
            await trio.sleep(_LOOK_S)


async def _position(store: SessionStore, key: str) -> Position | None:
    record = await read_soon(store, key, last=0)
    return None if record is None else record.position
