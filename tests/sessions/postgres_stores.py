"""PostgreSQL stores as tests open them: soon without leases if they fall silent, and with a bound on what hangs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from nanobot.sessions._postgres import PostgresStore
from tests.sessions.postgres_child import LEASE_TIMEOUT_S

__all__ = ["contents", "opened"]


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url, **{"lease_timeout_s": LEASE_TIMEOUT_S, **options})  # type: ignore[arg-type]  # by name
    try:
        with trio.fail_after(60):  # noqa: ASYNC100 - what it bounds is the block
            yield store
    finally:
        await store.aclose()


async def contents(store: PostgresStore, key: str) -> list[object]:
    record = await trio.to_thread.run_sync(store.read, key)
    return [] if record is None else [message.content for message in record.messages]
