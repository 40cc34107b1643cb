"""The SQLite store keeps the promises of every store, and a few of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from nanobot.messages import UserMessage
from nanobot.sessions import Durability, SessionStore, open_lease
from nanobot.sessions._sqlite import SqliteStore
from tests.sessions.store_conformance import OpenStore, StoreConformance


class _OnDisk(StoreConformance):
    durability: Durability

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        @asynccontextmanager
        async def opened() -> AsyncIterator[SessionStore]:
            store = SqliteStore(tmp_path / "sessions.sqlite3", durability=self.durability)
            yield store
            await store.aclose()

        return opened


class TestCommit(_OnDisk):
    durability = "commit"


class TestFast(_OnDisk):
    durability = "fast"


async def test_a_database_of_the_first_version_gets_a_place_for_slips(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    store = SqliteStore(path, durability="fast")
    async with open_lease(store, "a") as leased:
        await store.append(leased.lease, [UserMessage("kept")])
    await store.aclose()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE slip")
        connection.execute("PRAGMA user_version = 1")
    store = SqliteStore(path, durability="fast")
    async with open_lease(store, "a") as leased:
        assert leased.slips == {}
        await store.append(leased.lease, slips={"turn": b"x"})
    assert store.list_slips("turn") == (("a", b"x"),)
    record = store.read("a")
    assert record is not None
    assert record.messages == (UserMessage("kept"),)
    await store.aclose()
