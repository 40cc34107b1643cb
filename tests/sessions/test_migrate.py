"""All sessions of one store are taken to another; killed at any moment, it goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import pytest

from nanobot.messages import AssistantMessage, UserMessage
from nanobot.sessions import Compaction, InMemoryStore, SearchableStore, migrate_sessions
from nanobot.sessions._sqlite import SqliteStore
from tests.sessions.store_conformance import ODD_KEYS, numbered

Opened: TypeAlias = Callable[[], SearchableStore]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "sessions.sqlite3", durability="fast")
    fill(store)
    yield store
    store.close()


@pytest.fixture
def postgres() -> Iterator[SearchableStore]:
    from tests.sessions.postgres_server import new_schema

    from nanobot.sessions._postgres import PostgresStore  # isort: skip

    with new_schema() as url:
        store = PostgresStore(url, synchronous=False)
        yield store
        store.close()


def fill(store: SearchableStore) -> None:
    for number, key in enumerate(ODD_KEYS):
        store.replace(
            key,
            [*numbered(1, number), AssistantMessage(f"nul \x00 {key[:100]!r}")],
            metadata={"title": "é\x00", "number": number, "deep": {"b": [1.5, None], "a": True}},
            created_at=datetime(2020, 1, 1 + number, 3, 4, 5, 678901, tzinfo=UTC),
            compaction=Compaction(number // 2, "notes\x00") if number else None,
        )


def test_everything_arrives_and_goes_back_again(
    sqlite: SqliteStore, postgres: SearchableStore, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    migrated = migrate_sessions(
        sqlite, postgres, on_progress=lambda *progress: told.append(progress)
    )
    assert migrated.complete
    assert (migrated.copied, migrated.found) == (len(ODD_KEYS), 0)
    assert migrated.source == migrated.target
    assert migrated.target.sessions == len(ODD_KEYS)
    assert told[0] == ("copying", 1, len(ODD_KEYS))
    assert told[-1] == ("comparing", len(ODD_KEYS), len(ODD_KEYS))
    before, after = sqlite.list_sessions(), postgres.list_sessions()
    assert [(info.key, info.message_count, info.created_at) for info in before] == [
        (info.key, info.message_count, info.created_at) for info in after
    ]
    back = SqliteStore(tmp_path / "back.sqlite3", durability="fast")
    assert migrate_sessions(postgres, back).target == migrated.source
    back.close()


@pytest.mark.parametrize("killed_after", [1, 5, 16, 20])
def test_one_that_was_killed_goes_on_where_it_was(
    sqlite: SqliteStore, postgres: SearchableStore, killed_after: int
) -> None:
    class Killed(Exception):
        pass

    calls = 0

    def kill(_phase: str, _done: int, _of: int) -> None:
        nonlocal calls
        calls += 1
        if calls == killed_after:
            raise Killed

    with pytest.raises(Killed):
        migrate_sessions(sqlite, postgres, on_progress=kill)
    sqlite.extend("case", [UserMessage("said between")])  # and what has changed is brought along
    migrated = migrate_sessions(sqlite, postgres)
    assert migrated.complete
    done = min(killed_after, len(ODD_KEYS))
    changed = "case" in ODD_KEYS[:done]
    assert (migrated.copied, migrated.found) == (
        len(ODD_KEYS) - done + changed,
        done - changed,
    )


def test_turns_that_are_parked_are_taken_along(
    sqlite: SqliteStore, postgres: SearchableStore
) -> None:
    sqlite.replace("parked", numbered(1, 1), slips={"turn": b"waits", "other": b"left out"})
    migrated = migrate_sessions(sqlite, postgres, slips=["turn"])
    assert migrated.complete
    assert postgres.list_slips("turn") == (("parked", b"waits"),)
    assert postgres.list_slips("other") == ()
    sqlite.swap_slip("parked", "turn", b"waits", b"is decided")
    again = migrate_sessions(sqlite, postgres, slips=["turn"])
    assert (again.complete, again.copied) == (True, 1)
    assert again.target.digest != migrated.target.digest
    assert postgres.list_slips("turn") == (("parked", b"is decided"),)


def test_a_session_that_has_gone_another_way_in_the_target_stays_as_it_is(
    sqlite: SqliteStore, postgres: SearchableStore
) -> None:
    migrate_sessions(sqlite, postgres)
    postgres.extend("user:alice", [UserMessage("only there")])
    before = postgres.read("user:alice")
    migrated = migrate_sessions(sqlite, postgres)
    assert migrated.refused == ("user:alice",)
    assert not migrated.complete
    assert postgres.read("user:alice") == before


def test_what_is_written_meanwhile_is_reported(sqlite: SqliteStore) -> None:
    target = InMemoryStore()

    def write(phase: str, done: int, _of: int) -> None:
        if (phase, done) == ("comparing", 1):
            sqlite.extend("case", [UserMessage("meanwhile")])

    migrated = migrate_sessions(sqlite, target, on_progress=write)
    assert migrated.differing == ("case",)
    assert not migrated.complete
