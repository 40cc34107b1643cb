"""The file of the SQLite store: what is in it stays as it was written, and what is wrong with it is said with its name."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from nanobot.errors import StoreError
from nanobot.messages import AssistantMessage, Message, UserMessage
from nanobot.sessions import Compaction, Durability, open_lease
from nanobot.sessions._rows import message_id
from nanobot.sessions._sqlite import SqliteStore
from nanobot.sessions._sqlite_file import has_fts5, open_for_writing
from nanobot.sessions._sqlite_reads import Readers, list_rows
from nanobot.sessions._sqlite_request import Request
from nanobot.sessions._sqlite_search import _index_some
from nanobot.sessions._sqlite_transaction import Transaction
from nanobot.sessions._sqlite_writes import Addition, add
from tests.special_files import any_special_file, make_special

SAID: list[Message] = [
    *(UserMessage("one"), AssistantMessage("two")),
    *(UserMessage("three"), AssistantMessage("four")),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite3"


@contextmanager
def store_at(path: Path, **options: Any) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path, durability="fast", **options)) as store:
        yield store


def indexed(store: SqliteStore) -> None:
    """See that nothing waits for the index any more."""
    indexer = store._books.indexer
    while indexer.enabled and indexer.due_in_s() is not None:
        time.sleep(0.01)


def rows(path: Path) -> list[tuple[int, bytes]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT id, body FROM message ORDER BY id").fetchall()


def rows_in(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def turn(store: SqliteStore, key: str, text: str) -> None:
    async with open_lease(store, key, last=0) as leased:
        await store.append(leased.lease, [UserMessage(text)])
        await store.append(leased.lease, [AssistantMessage("ok")], metadata={"said": text})


# --- appends only


async def test_what_was_written_is_never_written_again(path: Path) -> None:
    with store_at(path) as store:
        store.replace("a", SAID)
        written = rows(path)
        for number in range(3):
            await turn(store, "a", f"turn {number}")
        async with open_lease(store, "a") as leased:
            await store.append(leased.lease, compaction=Compaction(4, "notes"))
        await turn(store, "b", "another")
        store.clear("b")
        store.flush()
        assert rows(path)[: len(written)] == written
        assert len(rows(path)) == len(written) + 6


async def test_the_last_messages_are_read_without_those_before(path: Path) -> None:
    """Which cannot be read at all here."""
    with store_at(path) as store:
        store.replace("a", SAID * 25)
        first = rows(path)[0][0]
        with closing(sqlite3.connect(path)) as stranger, stranger:
            stranger.execute(
                "UPDATE message SET body = x'00' WHERE id BETWEEN ? AND ?", (first, first + 95)
            )
        record = store.read("a", last=4)
        assert record is not None
        assert list(record.messages) == SAID
        async with open_lease(store, "a", last=4) as leased:
            assert leased.record is not None
            assert list(leased.record.messages) == SAID
        with pytest.raises(StoreError):
            store.read("a")


# --- one write and the others


async def test_a_write_that_fails_leaves_those_that_share_its_transaction(path: Path) -> None:
    class Bug(Exception):
        pass

    def fail(_transaction: object) -> None:
        raise Bug

    with store_at(path) as store:
        store.replace("before", SAID)
        raised: list[Exception] = []

        async def failing() -> None:
            try:
                await Request(fail).answer(store._writer.post)
            except Bug as error:
                raised.append(error)

        assert store._writer.pause(10)  # so that they come to be one transaction
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(turn, store, "a", "x")
                nursery.start_soon(failing)
                nursery.start_soon(turn, store, "b", "y")
                await trio.testing.wait_all_tasks_blocked()
                store._writer.resume()
        finally:
            assert len(raised) == 1
        for key in ("a", "b"):
            record = store.read(key)
            assert record is not None
            assert len(record.messages) == 2


@pytest.mark.parametrize(
    ("at_work", "arrivals", "together", "naps"),
    [
        pytest.param(4, 9, 1, 0, id="too few at work"),
        pytest.param(5, 9, 5, 4, id="until all have come"),
        pytest.param(100, 3, 4, 4, id="until nobody comes"),
        pytest.param(100, 0, 1, 1, id="nobody comes at all"),
        pytest.param(100, 99, 11, 10, id="not for ever"),
    ],
)
def test_where_many_are_at_work_a_commit_waits_for_those_who_come(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_work: int,
    arrivals: int,
    together: int,
    naps: int,
) -> None:
    with store_at(path) as store:
        store.replace("a", SAID)
        indexed(store)
        monkeypatch.setattr(store._writer, "_at_work", lambda: at_work)
        assert shared_commit(monkeypatch, store, arrivals) == (together, naps)


@pytest.mark.parametrize(("crowd", "naps"), [(4, 0), (5, 1)])
def test_who_has_shared_a_commit_is_expected_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, crowd: int, naps: int
) -> None:
    with store_at(path) as store:
        store.replace("a", SAID)
        indexed(store)
        held, gathered, ended = threading.Event(), threading.Event(), threading.Event()

        def holding(_transaction: Transaction) -> None:
            held.set()
            assert gathered.wait(10)

        store._writer.post(Request(holding))
        assert held.wait(10)
        for _ in range(crowd - 1):
            store._writer.post(Request(rows_of_nothing))
        store._writer.post(Request(rows_of_nothing, after=lambda _: ended.set()))
        gathered.set()
        assert ended.wait(10)
        assert shared_commit(monkeypatch, store, 0) == (1, naps)


def rows_of_nothing(_transaction: Transaction) -> None:
    """Work that leaves the database as it is."""


def shared_commit(
    monkeypatch: pytest.MonkeyPatch, store: SqliteStore, arrivals: int
) -> tuple[int, int]:
    """Post a request, and another in each moment that the writer waits, up to so many; returns how many shared the first one's
    commit, and how many moments the writer had waited."""
    writer, sleep = store._writer, time.sleep
    naps: list[float] = []
    carried_out: list[Transaction] = []

    def nap(seconds: float) -> None:
        if threading.current_thread() is not writer._thread:
            return sleep(seconds)
        naps.append(seconds)
        if len(naps) <= arrivals:
            writer.post(Request(carried_out.append))
        return None

    def first(transaction: Transaction) -> int:
        carried_out.append(transaction)
        return len(naps)

    committed: list[tuple[int, int]] = []
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", nap)
        Request(
            first, after=lambda waited: committed.append((len(carried_out), waited))
        ).answer_sync(writer.post)
        writer.drain(10)
    assert carried_out.count(carried_out[0]) == committed[0][0]
    return committed[0]


@pytest.mark.parametrize(("durability", "mode"), [("commit", "FULL"), ("fast", "NORMAL")])
async def test_whether_a_write_waits_for_the_disk_is_what_was_asked_for(
    path: Path, durability: Durability, mode: str
) -> None:
    with closing(SqliteStore(path, durability=durability)) as store:
        async with open_lease(store, "a") as leased:
            connection = store._writer._connection
            assert connection is not None
            (before,) = connection.execute("PRAGMA synchronous").fetchone()
            asked: list[str] = []
            connection.set_trace_callback(asked.append)
            await store.append(leased.lease, SAID)
            assert modes_of_commits(asked, before) == [mode]
            store.flush()
            assert modes_of_commits(asked, before) == [mode, "FULL"]  # whatever was asked for


def modes_of_commits(statements: Sequence[str], before: int) -> list[str]:
    """In which mode each transaction was committed; `before` is SQLite's number of the mode at the start."""
    mode, found = {1: "NORMAL", 2: "FULL"}[before], []
    for statement in statements:
        if statement == "COMMIT":
            found.append(mode)
        elif statement.startswith("PRAGMA synchronous = "):
            mode = statement.rpartition(" ")[2]
    return found


def test_sessions_that_were_written_at_the_same_moment_are_listed_in_order(path: Path) -> None:
    moment = datetime(2025, 1, 2, tzinfo=UTC)
    with store_at(path, now=lambda: moment) as store:
        for key in ("b", "a", "c", "a"):
            store.extend(key, SAID)
        assert [info.key for info in store.list_sessions()] == ["a", "c", "b"]


@pytest.mark.parametrize("remove", [SqliteStore.delete, SqliteStore.clear])
async def test_of_a_session_that_is_gone_no_row_stays_behind(
    path: Path, remove: Callable[[SqliteStore, str], object]
) -> None:
    with store_at(path) as store:
        async with open_lease(store, "a") as leased:
            await store.append(leased.lease, SAID, slips={"turn": b"x"})
        indexed(store)
        has_index = store._books.indexer.enabled
        remove(store, "a")
    with closing(sqlite3.connect(path)) as connection:
        for table in ("message", "slip", "unindexed"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        if has_index:
            found = "SELECT rowid FROM search WHERE search MATCH 'one OR two OR three OR four'"
            assert connection.execute(found).fetchall() == []


def test_a_reader_of_a_file_that_was_replaced_meanwhile_is_not_used_again(path: Path) -> None:
    for name in ("old", "new"):
        with store_at(path.with_name(name)) as store:
            store.replace(name, SAID)
    path.with_name("old").rename(path)
    readers = Readers(path)

    def keys() -> list[str]:
        with readers.snapshot() as connection:
            assert connection is not None
            return [info.key for info in list_rows(connection, None)]

    with readers.snapshot():
        path.with_name("new").replace(path)
        assert keys() == ["new"]
    assert [keys(), keys()] == [["new"], ["new"]]
    readers.close()


def test_no_more_is_found_than_was_asked_for_though_some_is_in_the_index_and_some_not(
    path: Path,
) -> None:
    with store_at(path) as store:
        store.replace("a", [UserMessage("one")] * 3)
        indexed(store)
        store.replace("b", [UserMessage("one")] * 2)
        assert len(store.search("one", 4)) == 4
        indexed(store)
    assert rows_in(path, "unindexed") == 0


@pytest.mark.parametrize("sizes", [(301,), (299, 2, 650, 1), (1,) * 601, (300,), (600, 1)])
def test_the_index_takes_each_message_once_however_writes_and_batches_lie(
    path: Path, sizes: Sequence[int]
) -> None:
    with closing(open_for_writing(path)) as connection:
        if not has_fts5(connection):
            pytest.skip("this SQLite has no FTS5")
        connection.execute("BEGIN IMMEDIATE")
        transaction = Transaction(connection)
        stored: list[int] = []
        for number, size in enumerate(sizes):
            said = Addition.of([UserMessage("word")] * size, None, None)
            add(transaction, b"%d" % number, None, transaction.number(), said, written_at=0)
            first = message_id(number + 1, 1)
            stored += range(first, first + size)
        for round_ in range(1, len(stored) // 300 + 2):
            more = _index_some(transaction)
            found = connection.execute("SELECT rowid FROM search WHERE search MATCH 'word'")
            known = [row for (row,) in found]
            ranges = connection.execute("SELECT first, last FROM unindexed").fetchall()
            left = [one for first, last in ranges for one in range(first, last + 1)]
            assert known + left == stored
            assert connection.execute("SELECT count(*) FROM search_docsize").fetchone() == (
                min(300 * round_, len(stored)),
            )
            if not more:
                break
        else:
            pytest.fail("it does not end")
        assert known == stored


async def test_closing_syncs_what_was_written_before_something_that_need_not_be_synced(
    path: Path,
) -> None:
    store = SqliteStore(path, durability="fast")
    store.replace("a", SAID)
    async with open_lease(store, "a"):  # a lease does not outlive a power cut
        pass
    asked: list[str] = []
    connection = store._writer._connection
    assert connection is not None
    connection.set_trace_callback(asked.append)
    store.close()
    assert "PRAGMA synchronous = FULL" in asked


# --- a file that is not as it should be


def strangers(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")


def of_a_later_version(path: Path) -> None:
    with store_at(path) as store:
        store.replace("a", SAID)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")


def no_database(path: Path) -> None:
    path.write_bytes(b"certainly not a database" * 1000)


def damaged(path: Path) -> None:
    with store_at(path) as store:
        store.replace("a", SAID * 500)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (strangers, "another program"),
        (of_a_later_version, "newer nanobot"),
        (no_database, "is not a SQLite database"),
        (damaged, "is damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_left_as_it_is(
    path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(path)
    before = path.read_bytes()
    with store_at(path) as store:
        for use in (
            lambda: store.read("a"),
            lambda: store.replace("b", SAID),
            lambda: store.extend("a", SAID),
        ):
            with pytest.raises(StoreError, match=said) as told:
                use()
            assert str(path) in str(told.value)
    if spoil is not damaged:  # of which the first page is good, and says that it was opened
        assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@any_special_file
def test_what_is_no_file_is_named_with_what_it_is(path: Path, suffix: str, kind: str) -> None:
    if suffix:
        with store_at(path) as store:
            store.replace("a", SAID)
    special = path.with_name(path.name + suffix)
    make_special(special, kind)
    with store_at(path) as store:
        for use in (lambda: store.read("a"), lambda: store.replace("b", SAID), store.list_sessions):
            with pytest.raises(StoreError, match=rf"not a regular file but {kind}; move") as told:
                use()
            assert f"{special} is" in str(told.value)
    special.rmdir() if kind == "a folder" else special.unlink()
    with store_at(path) as store:
        store.replace("b", SAID)
        assert (store.read("a") is not None) == bool(suffix)


def spoiled(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize("wait", [False, True])
def test_a_message_that_is_damaged_is_told_with_the_file_and_keeps_no_other_from_being_used(
    path: Path, wait: bool
) -> None:
    """A flipped bit that SQLite does not see."""
    with store_at(path) as store:
        store.replace("a", SAID)
        store.replace("b", SAID)
        if wait:
            indexed(store)
        spoiled(path, "UPDATE message SET body = X'7B7B' WHERE id = (SELECT min(id) FROM message)")

        with pytest.raises(StoreError, match="in session 'a', a stored message") as told:
            store.read("a")
        assert str(path) in str(told.value)
        record = store.read("a", last=3)
        assert record is not None
        assert list(record.messages) == SAID[1:]
        assert [(hit.key, hit.sequence) for hit in store.search("one")] == [("b", 1)]
        assert len(store.search("two")) == 2
        assert store.clear("a") is not None
        store.extend("a", SAID)
        assert len(store.search("one")) == 2


@pytest.mark.parametrize("column", ["created_at", "updated_at"])
def test_a_time_that_is_damaged_is_told_with_the_file(path: Path, column: str) -> None:
    with store_at(path) as store:
        store.replace("a", SAID)
        spoiled(path, f"UPDATE session SET {column} = {1 << 62}")
        for use in (lambda: store.read("a"), store.list_sessions):
            with pytest.raises(StoreError, match="time cannot be read") as told:
                use()
            assert str(path) in str(told.value)
        assert store.delete("a")


async def test_a_turn_in_a_damaged_session_is_told_the_file_and_leaves_no_lease(path: Path) -> None:
    with store_at(path) as store:
        store.replace("a", SAID)
        spoiled(path, "UPDATE message SET body = X'7B7B'")
        with pytest.raises(StoreError, match="in session 'a', a stored message") as told:
            await store.acquire_lease("a")
        assert str(path) in str(told.value)
        assert store.extend("a", [])


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE facts SET metadata = X'7B7B'", "metadata cannot be read"),
        (
            "UPDATE facts SET metadata = CAST('{\"x\":' || replace(hex(zeroblob(90000)), '00', '[') AS BLOB)",
            "metadata cannot be read",
        ),
        ("DELETE FROM facts", "lost its metadata"),
    ],
)
async def test_metadata_that_is_damaged_is_told_and_nothing_is_half_written(
    path: Path, statement: str, said: str
) -> None:
    with store_at(path) as store:
        store.replace("a", SAID)
        spoiled(path, statement)
        written = rows(path)
        with pytest.raises(StoreError, match=said) as told:
            store.extend("a", SAID, metadata={"x": 1})
        assert str(path) in str(told.value)
        (info,) = store.list_sessions()
        assert info.message_count == len(SAID)
        assert rows(path) == written
        assert store.delete("a")
        store.replace("a", SAID)


def test_a_session_that_has_lost_its_metadata_is_not_half_cleared(path: Path) -> None:
    with store_at(path) as store:
        store.replace("a", SAID)
        spoiled(path, "DELETE FROM facts")
        with pytest.raises(StoreError, match="lost its metadata"):
            store.clear("a")
        assert len(rows(path)) == len(SAID)


def test_a_database_that_has_lost_its_counter_is_named(path: Path) -> None:
    with store_at(path) as store:
        store.replace("a", SAID)
    spoiled(path, "DELETE FROM counter")
    with store_at(path) as store:
        for use in (lambda: store.read("a"), lambda: store.extend("a", SAID)):
            with pytest.raises(StoreError, match="lost its counter") as told:
                use()
            assert str(path) in str(told.value)


def test_a_file_that_another_program_keeps_locked_is_named_and_used_again_later(
    path: Path,
) -> None:
    with store_at(path, lock_timeout_s=0.1) as store:
        store.replace("a", SAID)
        with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked by another program") as told:
                store.replace("b", SAID)
            assert str(path) in str(told.value)
            record = store.read("a")  # readers do not wait for writers
            assert record is not None
            stranger.execute("ROLLBACK")
        assert store.read("b") is None
        store.replace("b", SAID)


def test_where_no_space_is_left_nothing_is_written_and_the_file_is_named(path: Path) -> None:
    with store_at(path) as store:
        store.replace("a", SAID)
        connection = store._writer._connection
        assert connection is not None
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="no space is left") as told:
            store.replace("a", [UserMessage("x" * 100_000)])
        assert str(path) in str(told.value)
        record = store.read("a")
        assert record is not None
        assert list(record.messages) == SAID
        connection.execute(f"PRAGMA max_page_count = {pages + 1_000}")
        store.replace("a", [UserMessage("x" * 100_000)])


def test_a_file_that_was_deleted_while_in_use_is_begun_anew_and_that_is_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with store_at(path) as store:
        store.replace("a", SAID)
        for each in path.parent.iterdir():
            each.unlink()
        with caplog.at_level(logging.WARNING, "nanobot.sessions"):
            store.replace("b", SAID)
        assert f"{path} was moved or deleted" in caplog.text
        assert [info.key for info in store.list_sessions()] == ["b"]
