"""A store that comes into being when somebody first needs it."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import trio

from nanobot.errors import UsageError
from nanobot.messages import Message

from ._lease import Lease, Leased
from ._record import Compaction, Position, SessionRecord
from ._search import SearchHit
from ._signals import SessionWatch, signals_of
from ._snapshot import SessionInfo
from ._store import PlacedStore, SearchableStore

__all__ = ["DeferredStore"]


class DeferredStore:
    """Stands in front of a store that is made with the first use, in whatever thread that is.

    Implements `SessionStore`, `SessionSearch` and `SessionSignals`. A store that cannot be made is tried again with the next use.
    Closing one that was never used makes nothing; who reads afterwards gets what there is.
    """

    def __init__(self, make: Callable[[], SearchableStore]) -> None:
        """Make nothing yet.

        Args:
          make: Makes the store, which it must not use. May block. May be called twice at once, by two threads; of what it
            returns then, one is dropped unused.
        """
        self._make = make
        self._made: dict[
            None, SearchableStore
        ] = {}  # none or one: `setdefault` decides who was first
        self._making: trio.lowlevel.RunVar[trio.Lock] = trio.lowlevel.RunVar("making")
        self._closed = False
        self._cancels: list[Callable[[str], object]] = []

    @property
    def opened(self) -> bool:
        """Whether the store was made."""
        return bool(self._made)

    @property
    def blocks(self) -> bool:
        """See `SessionStore.blocks`. Making the store blocks in any case."""
        return not self._made or self._made[None].blocks

    @property
    def place(self) -> Hashable:
        """See `PlacedStore.place`. Of a store that says of no place, itself."""
        store = self._store()
        return store.place if isinstance(store, PlacedStore) else id(store)

    # --- turns

    async def acquire_lease(
        self,
        key: str,
        *,
        last: int | None = None,
        covered: int | None = None,
        unless_at: Position | None = None,
        messages: Sequence[Message] = (),
    ) -> Leased:
        """See `SessionStore.acquire_lease`."""
        store = await self._store_soon()
        return await store.acquire_lease(
            key, last=last, covered=covered, unless_at=unless_at, messages=messages
        )

    async def release_lease(self, lease: Lease) -> None:
        """See `SessionStore.release_lease`."""
        await self._leased_from().release_lease(lease)

    async def append(
        self,
        lease: Lease,
        messages: Sequence[Message] = (),
        *,
        metadata: Mapping[str, Any] | None = None,
        compaction: Compaction | None = None,
        slips: Mapping[str, bytes | None] | None = None,
        release: bool = False,
    ) -> Position:
        """See `SessionStore.append`."""
        return await self._leased_from().append(
            lease,
            messages,
            metadata=metadata,
            compaction=compaction,
            slips=slips,
            release=release,
        )

    async def aclose(self) -> None:
        """See `SessionStore.aclose`."""
        self._closed = True
        if self._made:
            await self._made[None].aclose()

    # --- everybody, from anywhere

    def read(
        self, key: str, *, last: int | None = None, covered: int | None = None
    ) -> SessionRecord | None:
        """See `SessionStore.read`."""
        return self._store().read(key, last=last, covered=covered)

    def list_sessions(self, *, limit: int | None = None) -> tuple[SessionInfo, ...]:
        """See `SessionStore.list_sessions`."""
        return self._store().list_sessions(limit=limit)

    def search(self, text: str, limit: int = 20) -> tuple[SearchHit, ...]:
        """See `SessionSearch.search`."""
        return self._store().search(text, limit)

    def list_slips(self, name: str, *, key: str | None = None) -> tuple[tuple[str, bytes], ...]:
        """See `SessionStore.list_slips`."""
        return self._store().list_slips(name, key=key)

    def swap_slip(self, key: str, name: str, old: bytes, new: bytes | None) -> bool:
        """See `SessionStore.swap_slip`."""
        return self._store().swap_slip(key, name, old, new)

    def extend(
        self, key: str, messages: Sequence[Message], *, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        """See `SessionStore.extend`."""
        return self._store().extend(key, messages, metadata=metadata)

    def replace(
        self,
        key: str,
        messages: Sequence[Message],
        *,
        metadata: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
        compaction: Compaction | None = None,
        slips: Mapping[str, bytes] | None = None,
        only_new: bool = False,
    ) -> Position:
        """See `SessionStore.replace`."""
        return self._store().replace(
            key,
            messages,
            metadata=metadata,
            created_at=created_at,
            compaction=compaction,
            slips=slips,
            only_new=only_new,
        )

    def clear(self, key: str) -> SessionRecord | None:
        """See `SessionStore.clear`."""
        return self._store().clear(key)

    def delete(self, key: str) -> bool:
        """See `SessionStore.delete`."""
        return self._store().delete(key)

    def flush(self) -> int:
        """See `SessionStore.flush`."""
        return self._made[None].flush() if self._made else 0

    def close(self) -> None:
        """See `SessionStore.close`."""
        self._closed = True
        if self._made:
            self._made[None].close()

    # --- signals

    def request_cancel(self, key: str) -> bool:
        """See `SessionSignals.request_cancel`."""
        return signals_of(self._store()).request_cancel(key)

    def on_cancel(self, cancel: Callable[[str], object]) -> None:
        """See `SessionSignals.on_cancel`. Makes no store: where there is none yet, nothing runs on its sessions."""
        self._cancels.append(cancel)

    @asynccontextmanager
    async def watch(self, key: str) -> AsyncIterator[SessionWatch]:
        """See `SessionSignals.watch`."""
        store = await self._store_soon()
        async with signals_of(store).watch(key) as watch:
            yield watch

    def _cancel(self, key: str) -> None:
        for cancel in tuple(self._cancels):
            cancel(key)

    # --- the store

    def _store(self) -> SearchableStore:
        if not self._made:
            made = self._make()
            if self._made.setdefault(None, made) is made:
                signals_of(made).on_cancel(_weakly(self._cancel))
            if self._closed:
                self._made[None].close()  # unused, so that it has nothing to wait for
        return self._made[None]

    async def _store_soon(self) -> SearchableStore:
        if not self._made:
            async with self._lock():  # one task of this run makes it, however many need it
                if not self._made:
                    await trio.to_thread.run_sync(self._store, abandon_on_cancel=True)
        return self._made[None]

    def _lock(self) -> trio.Lock:
        try:
            return self._making.get()
        except LookupError:
            self._making.set(trio.Lock())
            return self._making.get()

    def _leased_from(self) -> SearchableStore:
        """The store that gave a lease; there is none of which there is a lease, and not the store."""
        if not self._made:
            raise UsageError("the lease is not from this store")
        return self._made[None]


def _weakly(method: Callable[[str], object]) -> Callable[[str], object]:
    """A method that does nothing any more once its object is gone."""
    reference = weakref.WeakMethod(method)

    def call(key: str) -> None:
        method = reference()
        if method is not None:
            method(key)

    return call
