"""Holds a session's lock in the database, so that a test decides when, and in which order, statements are done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psycopg
import trio

from nanobot.sessions._postgres_rows import KeyRow

__all__ = ["in_line", "locked"]


@asynccontextmanager
async def locked(url: str, key: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Hold a session's lock, until what this gives is called. Whoever wants it stands in line, first come, first served."""
    connection = await trio.to_thread.run_sync(lambda: psycopg.connect(url, autocommit=True))
    statement = f"SELECT pg_advisory_lock({KeyRow.of(key).lock})"
    await trio.to_thread.run_sync(connection.execute, statement)

    async def let_go() -> None:
        await trio.to_thread.run_sync(connection.close)

    try:
        yield let_go
    finally:
        connection.close()


def in_line(key: str) -> str:
    """The statement that counts who waits for a session's lock. In the whole database: the key should be the test's own."""
    high, low = divmod(KeyRow.of(key).lock % 2**64, 2**32)
    return (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
        f"AND classid = {high} AND objid = {low}"
    )
