"""Hearing of what others write to a session, whatever they and the server are doing just then."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
import trio

from nanobot.messages import UserMessage
from nanobot.sessions import open_lease
from tests.sessions.loopback_proxy import open_proxy
from tests.sessions.postgres_server import new_schema, run_sql, until

# After psycopg was looked for: without it these tests skip.
from nanobot.sessions._postgres import PostgresStore  # isort: skip
from nanobot.sessions._postgres_rows import KeyRow  # isort: skip
from tests.sessions.postgres_locks import in_line, locked  # isort: skip
from tests.sessions.postgres_stores import contents, opened  # isort: skip


@pytest.fixture
def url() -> Iterator[str]:
    with new_schema() as url:
        yield url


def beaten(name: str) -> str:
    """The statement that counts the listeners of an application that have said that they live, and wait."""
    return (
        f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND query LIKE '%beat%' "
        "AND state = 'idle'"
    )


async def test_who_begins_to_follow_while_somebody_writes_misses_nothing(url: str) -> None:
    """The writer has looked for followers, and its transaction is not over: what it writes can neither be read nor be told."""
    key, gate = (
        secrets.token_hex(),
        secrets.token_hex(),
    )  # their locks are nobody else's in this database
    async with opened(url) as store, opened(url) as another, locked(url, gate) as let_go:
        assert another.extend(key, [UserMessage("x")])
        slow_end = f"""
            CREATE FUNCTION slow_end() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN PERFORM pg_advisory_xact_lock({KeyRow.of(gate).lock}); RETURN NULL; END';
            CREATE CONSTRAINT TRIGGER slow_end AFTER INSERT ON nanobot_message DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION slow_end()
        """
        run_sql(url, slow_end)
        begun = trio.Event()

        async def follow() -> None:
            async with store.watch(key) as watch:
                begun.set()
                while await contents(store, key) != ["x", "y"]:
                    await watch.wait()

        async def write() -> None:
            await trio.to_thread.run_sync(another.extend, key, [UserMessage("y")])

        async def let_go_when_it_follows() -> None:
            with trio.move_on_after(5) as patience:
                while not begun.is_set() and not run_sql(url, in_line(key))[0][0]:  # noqa: ASYNC110 - of another process
                    await trio.sleep(0.01)
            assert not patience.cancelled_caught
            await let_go()

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await until(url, in_line(gate), 1)
                nursery.start_soon(follow)
                nursery.start_soon(let_go_when_it_follows)


@pytest.mark.parametrize("table", ["nanobot_waiter", "nanobot_follower"])
async def test_a_process_that_was_taken_for_dead_goes_on_to_wait_and_to_follow(
    url: str, table: str
) -> None:
    """As when it was stopped for long: what the others have of it is gone, and its connections are as they were."""
    heard = trio.Event()

    async def wait(store: PostgresStore) -> None:
        async with open_lease(store, "a"):
            heard.set()

    async def follow(store: PostgresStore) -> None:
        async with store.watch("a") as watch:
            while await contents(store, "a") != ["x"]:
                await watch.wait()
            heard.set()

    async with opened(url) as store, opened(url) as another, trio.open_nursery() as nursery:
        async with open_lease(another, "a") as leased:
            nursery.start_soon(wait if table == "nanobot_waiter" else follow, store)
            await until(url, f"SELECT count(*) FROM {table}", 1)
            run_sql(url, f"DELETE FROM {table} RETURNING 1")
            await another.append(leased.lease, [UserMessage("x")])
        with trio.fail_after(10):
            await heard.wait()


async def test_the_database_is_asked_once_by_who_reads_on(url: str) -> None:
    name = secrets.token_hex(8)
    named = f"{url}&application_name={name}"
    asked: set[object] = set()
    # Its second beat comes after two minutes.
    async with opened(named, lease_timeout_s=600) as store, opened(url) as another:
        async with open_lease(store, "a"):
            await until(url, beaten(name), 1)
        for number in range(5):
            async with store.watch("a") as watch:
                assert another.extend("a", [UserMessage(str(number))])
                await watch.wait()
            asked.update(run_sql(url, "SELECT attempt FROM nanobot_follower"))
    assert len(asked) == 1


async def test_what_nobody_follows_any_more_is_forgotten_and_asked_for_anew(url: str) -> None:
    async with opened(url) as store, opened(url) as another:
        for number in range(2):
            async with store.watch("a") as watch:
                assert another.extend("a", [UserMessage(str(number))])
                await watch.wait()
            await until(url, "SELECT count(*) FROM nanobot_follower", 0)


async def test_many_who_follow_what_many_write_miss_nothing(url: str) -> None:
    """Each follows anew for each message, as readers do, so that all steps of writing and following meet."""
    keys = [secrets.token_hex(4) for _ in range(6)]
    count = 40

    async def write(store: PostgresStore, key: str) -> None:
        for number in range(count):
            await trio.to_thread.run_sync(store.extend, key, [UserMessage(str(number))])

    async def follow(store: PostgresStore, key: str) -> None:
        seen = 0
        while seen < count:
            async with store.watch(key) as watch:
                while len(await contents(store, key)) == seen:
                    await watch.wait()
                seen = len(await contents(store, key))

    async with opened(url) as one, opened(url) as two, trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(write, one, key)
            nursery.start_soon(follow, two, key)
            nursery.start_soon(follow, two, key)


async def test_who_follows_hears_of_what_was_written_while_it_was_cut_off(url: str) -> None:
    name = secrets.token_hex(8)
    with open_proxy(f"{url}&application_name={name}") as (proxy, through):
        async with opened(through) as store, opened(url) as another:
            async with open_lease(store, "a"):  # the listener begins
                await until(url, beaten(name), 1)
            async with store.watch("a") as bell:
                proxy.mode = "silent"
                async with open_lease(another, "a") as leased:
                    await another.append(leased.lease, [UserMessage("x")])
                proxy.mode = "pass"
                proxy.cut()
                await bell.wait()


async def test_what_comes_in_one_piece_with_an_answer_is_heard(url: str) -> None:
    """libpq reads both, and the socket says nothing of the second any more."""
    name = secrets.token_hex(8)
    with open_proxy(f"{url}&application_name={name}") as (proxy, through):
        # It beats every two minutes: a beat would find it.
        async with opened(through, lease_timeout_s=600) as store, opened(url) as another:
            lease = (await store.acquire_lease("a")).lease
            await until(url, beaten(name), 1)
            async with store.watch("b") as watch:
                proxy.mode = "late"
                await store.release_lease(lease)
                await until(url, "SELECT count(*) FROM nanobot_lease", 0)
                assert another.extend("b", [UserMessage("x")])
                while not proxy.holds(b"m" + KeyRow.of("b").digest.hex().encode()):  # noqa: ASYNC110 - of a thread
                    await trio.sleep(0.01)
                proxy.deliver()
                with trio.fail_after(10):
                    await watch.wait()
