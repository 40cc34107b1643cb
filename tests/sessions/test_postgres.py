"""The PostgreSQL store keeps the promises of every store."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from nanobot.config import config_from_tree, load_config
from nanobot.errors import ConfigError, StoreError
from nanobot.messages import UserMessage
from nanobot.sessions import SessionStore, configured_store, open_lease
from tests.sessions.postgres_server import new_schema, run_sql
from tests.sessions.store_conformance import OpenStore, StoreConformance

# After psycopg was looked for: without it these tests skip.
import psycopg  # isort: skip
from nanobot.sessions import _postgres_schema  # isort: skip
from nanobot.sessions._postgres import PostgresStore  # isort: skip
from nanobot.sessions._postgres_address import Address  # isort: skip
from nanobot.sessions._postgres_rows import KeyRow  # isort: skip
from nanobot.sessions._postgres_schema import SCHEMA  # isort: skip


@pytest.fixture
def url() -> Iterator[str]:
    with new_schema() as url:
        yield url


class TestPostgres(StoreConformance):
    @pytest.fixture
    def open_store(self, url: str) -> OpenStore:
        @asynccontextmanager
        async def opened() -> AsyncIterator[SessionStore]:
            store = PostgresStore(url, synchronous=False)  # nobody pulls the plug here
            yield store
            await store.aclose()

        return opened


# --- the address


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bot:hunter2@db.example:5433/nanobot",
        "host=db.example port=5433 dbname=nanobot user=bot password=hunter2",
    ],
)
def test_the_password_is_shown_nowhere(url: str) -> None:
    address = Address(url)
    assert address.shown == "db.example:5433/nanobot"
    store = PostgresStore(url)
    assert "hunter2" not in f"{address!r} {store!r}"
    assert address.parameters["password"] == "hunter2"


@pytest.mark.parametrize("url", ["postgresql://bot:hun%ter2@h/db", "sqlite://bot:hunter2", "x"])
def test_an_address_that_cannot_be_read_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"sessions\.url") as caught:
        Address(url)
    told = "".join(traceback.format_exception(caught.value))
    assert "hun" not in str(caught.value)
    assert "hunter2" not in told.replace(url, "")


def test_a_server_that_lets_nobody_in_is_named_and_its_answer_told(url: str) -> None:
    store = PostgresStore(url.replace("//test@", "//nobody@").replace("//postgres@", "//nobody@"))
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:5432/.*nobody"):
        store.read("a")


# --- the schema


def test_processes_that_start_at_once_make_the_tables_once(url: str) -> None:
    stores = [PostgresStore(url) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda store: store.read("a"), stores)) == [None] * 8
    assert run_sql(url, "SELECT version FROM nanobot_schema") == [(len(SCHEMA),)]


def test_an_older_schema_is_brought_up_to_date_and_a_newer_one_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PostgresStore(url).extend("a", [UserMessage("kept")])
    later = (
        *SCHEMA,
        "CREATE TABLE nanobot_later (x integer); INSERT INTO nanobot_later VALUES (1)",
    )
    monkeypatch.setattr(_postgres_schema, "SCHEMA", later)
    with ThreadPoolExecutor(4) as threads:
        for record in threads.map(lambda _: PostgresStore(url).read("a"), range(4)):
            assert record is not None
            assert record.messages == (UserMessage("kept"),)
    assert run_sql(url, "SELECT x FROM nanobot_later") == [(1,)]
    monkeypatch.undo()
    with pytest.raises(StoreError, match="newer nanobot"):
        PostgresStore(url).read("a")


async def test_of_a_session_that_is_over_no_row_is_left(url: str) -> None:
    store = PostgresStore(url, synchronous=False)
    for key in ("cleared", "deleted"):
        async with open_lease(store, key) as leased:
            await store.append(leased.lease, [UserMessage("x")], slips={"turn": b"x"})
    await trio.to_thread.run_sync(store.clear, "cleared")
    await trio.to_thread.run_sync(store.delete, "deleted")
    await store.aclose()
    for table, rows in (("session", 1), ("message", 0), ("slip", 0), ("lease", 0), ("owner", 0)):
        assert run_sql(url, f"SELECT count(*) FROM nanobot_{table}") == [(rows,)], table


@pytest.mark.parametrize("setting", ["on", "off"])
async def test_messages_that_go_along_with_a_lease_wait_for_the_disk_as_others_do(
    url: str, setting: str
) -> None:
    """A lease alone need not outlive a crash of the server."""
    store = PostgresStore(url)
    async with open_lease(store, "a") as leased:
        known = await store.append(leased.lease, [UserMessage("x")], release=True)
    await store.aclose()
    row = KeyRow.of("a")
    acquire = "SELECT o_status FROM nanobot_acquire_and_write(%s, %s, 1, 1, '2 s', NULL, NULL, %s, %s, 1, %s, %s, %s, %s, '')"
    values = (known.epoch, known.version, known.sequence, row.key, [b"{}"], ["x"])
    with psycopg.connect(url) as connection:
        connection.execute(f"SET LOCAL synchronous_commit = {setting}")
        assert connection.execute(acquire, (*row[:2], *values)).fetchone() == ("done",)
        assert connection.execute("SHOW synchronous_commit").fetchone() == (setting,)
        connection.rollback()


def test_two_schemas_of_one_database_are_two_sets_of_sessions(url: str) -> None:
    with new_schema() as another:
        assert PostgresStore(url).extend("a", [UserMessage("here")])
        assert PostgresStore(another).read("a") is None


# --- the configuration


def test_a_bot_keeps_its_sessions_where_the_configuration_says(url: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    settings = {
        "sessions": {"store": "postgres", "url": "${NANOBOT_URL}", "maxConnections": 2},
        "providers": {"scripted": {"apiBase": "http://127.0.0.1:9/v1"}},
    }
    path.write_text(json.dumps(settings))
    config = load_config(path, env={"NANOBOT_URL": url})
    assert url not in repr(config)
    store = configured_store(config, tmp_path)
    assert store.extend("a", [UserMessage("hello")])
    store.close()
    record = PostgresStore(url).read("a")
    assert record is not None


def test_a_missing_url_or_library_says_in_one_line_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_from_tree({"sessions": {"store": "postgres"}}, path=None, env={})
    with pytest.raises(ConfigError, match=r"sessions\.url"):
        configured_store(config, tmp_path)
    config = config_from_tree(
        {"sessions": {"store": "postgres", "url": "postgresql://h/d"}}, path=None, env={}
    )
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install") as caught:
        configured_store(config, tmp_path)
    assert "\n" not in str(caught.value)
