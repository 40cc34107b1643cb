"""The SQLite store keeps the promises of every store, and a few of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nanobot.sessions import Durability, SessionStore
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
