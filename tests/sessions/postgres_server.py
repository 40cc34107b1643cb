"""The PostgreSQL server that tests use: a schema of their own each, so that they run side by side.

`NANOBOT_TEST_POSTGRES` names it; otherwise one at 127.0.0.1:5432 is looked for. Without any, tests skip and say so.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from urllib.parse import quote

import pytest
import trio

psycopg = pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

__all__ = ["new_schema", "run_sql", "server_url", "until"]

_LOOKED_FOR = (
    "postgresql://test@127.0.0.1:5432/test",
    "postgresql://postgres@127.0.0.1:5432/test",
    "postgresql://postgres@127.0.0.1:5432/postgres",
)


@cache
def server_url() -> str | None:
    """Where the server is, or None if there is none."""
    named = os.environ.get("NANOBOT_TEST_POSTGRES")
    for url in (named,) if named else _LOOKED_FOR:
        try:
            with psycopg.connect(url, connect_timeout=2, autocommit=True) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            continue
        return url
    return None


def require_server() -> str:
    """Where the server is; skips the test, and says why, if there is none."""
    url = server_url()
    if url is None:
        pytest.skip(
            "no PostgreSQL: none at 127.0.0.1:5432 lets the user test or postgres in, and NANOBOT_TEST_POSTGRES names no other"
        )
    return url


def run_sql(url: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Run one statement, as a person at psql would."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        cursor = connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description is not None else []


async def until(url: str, statement: str, expected: object) -> None:
    """Wait until a query of one number returns it."""
    while await trio.to_thread.run_sync(run_sql, url, statement) != [(expected,)]:  # noqa: ASYNC110 - of another process
        await trio.sleep(0.02)


@contextmanager
def new_schema(url: str | None = None) -> Iterator[str]:
    """A schema of one's own; gives the URL that leads to it. It is dropped at the end."""
    server = require_server() if url is None else url
    name = f"nanobot_test_{secrets.token_hex(6)}"
    run_sql(server, f"CREATE SCHEMA {name}")
    separator = "&" if "?" in server else "?"
    try:
        yield f"{server}{separator}options={quote(f'-c search_path={name}')}"
    finally:
        run_sql(server, f"DROP SCHEMA {name} CASCADE")
