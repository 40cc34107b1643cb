"""Several processes on one PostgreSQL database: turns follow each other, the dead are found out, a stale owner writes nothing."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from nanobot.errors import StoreError
from nanobot.messages import AssistantMessage, Message, UserMessage
from nanobot.sessions import Lease, Leased, SessionFenced, open_lease
from tests.sessions.loopback_proxy import open_proxy
from tests.sessions.postgres_cluster import open_cluster
from tests.sessions.postgres_server import new_schema, run_sql, until

# After psycopg was looked for: without it these tests skip.
from nanobot.sessions._postgres import PostgresStore  # isort: skip
from nanobot.sessions._postgres_rows import KeyRow  # isort: skip
from tests.sessions import postgres_child  # isort: skip
from tests.sessions.postgres_locks import in_line, locked  # isort: skip
from tests.sessions.postgres_stores import contents, opened  # isort: skip
from tests.sessions.postgres_child import LEASE_TIMEOUT_S  # isort: skip

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url() -> Iterator[str]:
    with new_schema() as url:
        yield url


@contextmanager
def child(command: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """One of the programs in `postgres_child`, killed at the end."""
    assert postgres_child.__file__ is not None
    with running(postgres_child.__file__, command, *map(str, arguments)) as process:
        yield process


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Python, with these arguments, killed at the end."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await trio.to_thread.run_sync(process.stdout.readline)).strip()


# --- what a turn costs


async def test_a_plain_turn_takes_two_round_trips(url: str) -> None:
    """One that gets the lease and reads what is new, one that writes, gives the lease back and tells who waits."""
    with open_proxy(url) as (proxy, through):
        async with opened(through) as store:
            for key in ("warm", "a"):
                async with open_lease(store, key) as leased:
                    await store.append(leased.lease, [UserMessage("x")])
            await until(url, "SELECT count(*) FROM nanobot_lease", 0)
            proxy.round_trips = 0
            leased = await store.acquire_lease("a", covered=0)
            assert leased.record is not None
            said: list[Message] = [UserMessage("hello"), AssistantMessage("hi")]
            await store.append(leased.lease, said, release=True)
            assert proxy.round_trips == 2
            await store.release_lease(leased.lease)
            assert proxy.round_trips == 2


async def test_nothing_is_asked_while_nothing_happens(url: str) -> None:
    with open_proxy(url) as (proxy, through):
        async with opened(through) as store:
            async with open_lease(store, "a") as leased:
                await store.append(leased.lease, [UserMessage("x")])
            await until(url, "SELECT count(*) FROM nanobot_lease", 0)
            proxy.round_trips = 0
            await trio.sleep(LEASE_TIMEOUT_S / 2)  # two beats, if there were any
            assert proxy.round_trips == 0


# --- order


async def test_processes_get_a_session_in_the_order_in_which_they_came(url: str) -> None:
    order: list[int] = []

    async def turn(store: PostgresStore, number: int) -> None:
        async with open_lease(store, "a", last=0) as leased:
            order.append(number)
            await store.append(leased.lease, [UserMessage(str(number))])

    async with opened(url) as first, trio.open_nursery() as nursery:
        async with open_lease(first, "a"):
            for number in range(5):
                store = await _entered(nursery, url)
                nursery.start_soon(turn, store, number)
                await until(url, "SELECT count(*) FROM nanobot_waiter", number + 1)
            nursery.start_soon(turn, first, 5)
        await until(url, "SELECT sequence FROM nanobot_session", 6)
        assert order == [0, 1, 2, 3, 4, 5]
        assert await contents(first, "a") == [str(number) for number in range(6)]
        nursery.cancel_scope.cancel()


async def _entered(nursery: trio.Nursery, url: str) -> PostgresStore:
    async def hold(task_status: trio.TaskStatus[PostgresStore]) -> None:
        async with opened(url) as store:
            task_status.started(store)
            await trio.sleep_forever()

    store: PostgresStore = await nursery.start(hold)
    return store


async def test_a_session_is_handed_on_by_a_notification_and_nobody_looks_for_it(url: str) -> None:
    """With leases for an hour, processes look after twelve minutes; this test has seconds."""
    one = PostgresStore(url, lease_timeout_s=3600.0)
    two = PostgresStore(url, lease_timeout_s=3600.0)
    with open_proxy(url) as (proxy, through), trio.fail_after(20):
        three = PostgresStore(through, lease_timeout_s=3600.0)
        for give_back in ("with the write", "alone", "by closing"):
            async with trio.open_nursery() as nursery:
                leased = await one.acquire_lease("a")

                async def wait(store: PostgresStore) -> None:
                    async with open_lease(store, "a"):
                        pass

                for number, store in enumerate((two, three), start=1):
                    nursery.start_soon(wait, store)
                    await until(url, "SELECT count(*) FROM nanobot_waiter", number)
                await trio.sleep(0.1)  # three has heard that it has to wait
                asked = proxy.round_trips
                await trio.sleep(0.3)
                assert proxy.round_trips == asked
                match give_back:
                    case "with the write":
                        await one.append(leased.lease, [UserMessage("x")], release=True)
                    case "alone":
                        await one.release_lease(leased.lease)
                    case _:
                        await one.aclose()
        await two.aclose()
        await three.aclose()


async def test_who_gives_up_waiting_is_passed_over(url: str) -> None:
    async with opened(url) as one, opened(url) as two, opened(url) as three:
        async with trio.open_nursery() as nursery:
            async with open_lease(one, "a"):
                with trio.CancelScope() as impatient:
                    async with trio.open_nursery() as waiting:
                        waiting.start_soon(two.acquire_lease, "a")
                        await until(url, "SELECT count(*) FROM nanobot_waiter", 1)

                        async def patient() -> None:
                            async with open_lease(three, "a"):
                                pass

                        nursery.start_soon(patient)
                        await until(url, "SELECT count(*) FROM nanobot_waiter", 2)
                        impatient.cancel()
                await until(url, "SELECT count(*) FROM nanobot_waiter", 1)
        await until(url, "SELECT count(*) FROM nanobot_waiter", 0)


# --- from elsewhere


async def test_a_process_hears_what_another_writes_and_is_asked_to_stop_by_a_third(
    url: str,
) -> None:
    with child("follow", url, "a", 2) as follower, child("hold", url, "a") as owner:
        assert await line_of(owner) == "held"
        assert await line_of(follower) == "ready"
        assert await line_of(follower) == "from the first owner"
        async with opened(url) as store:
            assert await trio.to_thread.run_sync(store.request_cancel, "a")
            assert await line_of(owner) == "asked to stop a"
            assert not await trio.to_thread.run_sync(store.request_cancel, "nobody's")
        output, _ = await trio.to_thread.run_sync(lambda: owner.communicate("go on\n", 30))
        assert (
            output.splitlines()[-1] == "written"
        )  # and before it, for each beat, that it was asked to stop
        assert await line_of(follower) == "much later"


# --- death and sleep


async def test_the_turn_of_a_process_that_was_killed_is_taken_over(url: str) -> None:
    with child("hold", url, "a") as process:
        assert await line_of(process) == "held"
        async with opened(url) as store:
            process.kill()
            async with open_lease(store, "a") as leased:
                assert leased.position.sequence == 1
                await store.append(leased.lease, [UserMessage("from the second owner")])
            assert await contents(store, "a") == ["from the first owner", "from the second owner"]
            await until(url, "SELECT count(*) FROM nanobot_owner", 1)  # nothing of it is left


async def test_a_process_that_slept_past_its_lease_writes_nothing_when_it_wakes(url: str) -> None:
    with child("hold", url, "a") as process:
        assert await line_of(process) == "held"
        async with opened(url) as store:
            process.send_signal(signal.SIGSTOP)
            async with open_lease(store, "a") as leased:  # which has written nothing yet
                process.send_signal(signal.SIGCONT)
                output, _ = await trio.to_thread.run_sync(
                    lambda: process.communicate("go on\n", 30)
                )
                assert output == "fenced\n"
                await store.append(leased.lease, [UserMessage("from the second owner")])
            assert await contents(store, "a") == ["from the first owner", "from the second owner"]


async def test_a_turn_that_lost_its_lease_ends_before_the_next_one_of_its_process_begins(
    url: str,
) -> None:
    async with opened(url) as one, opened(url) as another:
        given: list[Leased] = []

        async def next_turn() -> None:
            async with open_lease(one, "a") as leased:
                given.append(leased)

        async with trio.open_nursery() as nursery:
            async with open_lease(one, "a") as lost:
                run_sql(url, "DELETE FROM nanobot_lease")
                nursery.start_soon(next_turn)
                with pytest.raises(SessionFenced):
                    await one.append(lost.lease, [UserMessage("late")])
                for number in range(5):  # round trips of others: time enough to overtake
                    async with open_lease(another, "a") as leased:
                        await another.append(leased.lease, [UserMessage(str(number))])
                assert not given
        assert [each.position.sequence for each in given] == [5]


@pytest.mark.slow  # it waits for leases to run out, or not to
async def test_a_process_that_lives_keeps_its_lease_however_long_its_turn_takes(url: str) -> None:
    with child("hold", url, "a") as process:
        assert await line_of(process) == "held"
        async with opened(url) as store:
            with trio.move_on_after(2 * LEASE_TIMEOUT_S) as waiting:
                await store.acquire_lease("a")
            assert waiting.cancelled_caught
            assert not await trio.to_thread.run_sync(store.extend, "a", [UserMessage("no")])
            output, _ = await trio.to_thread.run_sync(lambda: process.communicate("go on\n", 30))
            assert output == "written\n"


@pytest.mark.slow  # it waits for leases to run out, or not to
async def test_the_clock_of_a_process_says_nothing_about_its_lease(url: str) -> None:
    """A process whose clock is a year ahead, and one whose clock is a year behind, own a session like any other."""
    for shift in ("+1y", "-1y"):
        wrong = f"import time\nt = time.time\ntime.time = lambda: t() {shift[0]} 31536000\n"
        program = f"{wrong}import runpy, sys\nsys.argv = ['x', 'hold', {url!r}, {shift!r}]\n"
        program += f"runpy.run_path({str(postgres_child.__file__)!r}, run_name='__main__')\n"
        with running("-c", program) as process:
            assert await line_of(process) == "held"
            async with opened(url) as store:
                with trio.move_on_after(1.5 * LEASE_TIMEOUT_S) as waiting:
                    await store.acquire_lease(shift)
                assert waiting.cancelled_caught
                output, _ = await trio.to_thread.run_sync(process.communicate, "go on\n")
                assert output == "written\n"


async def test_a_clock_of_the_server_that_jumps_ahead_costs_a_turn_and_mixes_nothing(
    url: str,
) -> None:
    """For the tables it is all the same whether the clock goes ahead or what they say of time lies back."""
    name = secrets.token_hex(8)
    async with (  # both beat once, and then not for the time of this test
        opened(f"{url}&application_name={name}", lease_timeout_s=3600.0) as one,
        opened(url, lease_timeout_s=3600.0) as two,
    ):
        leased = await one.acquire_lease("a")
        await one.append(leased.lease, [UserMessage("from the first owner")])
        beaten = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND query LIKE '%beat%'"
        await until(url, beaten, 1)
        await _shift(url, "-2 hours")
        async with open_lease(two, "a") as taken_over:
            with pytest.raises(SessionFenced):
                await one.append(leased.lease, [UserMessage("too late")])
            await one.release_lease(leased.lease)
            await two.append(taken_over.lease, [UserMessage("from the second owner")])
        async with open_lease(one, "a") as again:  # and it has lost nothing else
            await one.append(again.lease, [UserMessage("well again")])
        said = ["from the first owner", "from the second owner", "well again"]
        assert await contents(one, "a") == said


@pytest.mark.slow  # it waits until the lease of the dead one has run out
async def test_a_clock_of_the_server_that_is_set_back_keeps_the_dead_no_longer(url: str) -> None:
    with child("hold", url, "a") as process:
        assert await line_of(process) == "held"
        process.kill()
        await trio.to_thread.run_sync(process.wait)
        await _shift(url, "1 hour")
        async with opened(url) as store, open_lease(store, "a") as leased:
            assert leased.position.sequence == 1


async def _shift(url: str, interval: str) -> None:
    statement = f"UPDATE nanobot_owner SET expires_at = expires_at + interval '{interval}'"
    await trio.to_thread.run_sync(run_sql, url, statement)


def test_a_forked_child_has_the_sessions_and_the_parent_its_leases(url: str) -> None:
    store = PostgresStore(url, lease_timeout_s=LEASE_TIMEOUT_S)

    async def in_the_child(lease: Lease) -> int:
        with trio.fail_after(20):
            with pytest.raises(SessionFenced):
                await store.append(lease, [UserMessage("from the child, with the parent's lease")])
            async with open_lease(store, "b") as leased:
                await store.append(leased.lease, [UserMessage("from the child")])
            await store.aclose()
        return 0

    async def in_the_parent() -> None:
        with trio.fail_after(40):
            async with open_lease(store, "a") as leased:
                await store.append(leased.lease, [UserMessage("before the fork")])
                pid = await trio.to_thread.run_sync(_forked, in_the_child, leased.lease)
                _, status = await trio.to_thread.run_sync(os.waitpid, pid, 0)
                assert os.waitstatus_to_exitcode(status) == 0
                await store.append(leased.lease, [UserMessage("after it")])
            assert await contents(store, "a") == ["before the fork", "after it"]
            assert await contents(store, "b") == ["from the child"]
            await store.aclose()

    trio.run(in_the_parent)


def _forked(main: Callable[[Lease], Awaitable[int]], lease: Lease) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.set_wakeup_fd(-1)  # that of the parent's Trio run
            code = trio.run(main, lease)
        except BaseException:  # noqa: BLE001, ASYNC103 - the forked child ends here, and says why
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


# --- connections


async def test_connections_that_are_terminated_are_made_anew_and_nothing_is_written_twice(
    url: str,
) -> None:
    terminate = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name = %s AND pid <> pg_backend_pid()"
    )
    async with opened(f"{url}&application_name=victim") as store:
        async with open_lease(store, "a") as leased:
            for number in range(5):
                await trio.to_thread.run_sync(run_sql, url, terminate, "victim")
                await store.append(leased.lease, [UserMessage(str(number))])
        await trio.to_thread.run_sync(run_sql, url, terminate, "victim")
        assert await trio.to_thread.run_sync(store.extend, "b", [UserMessage("x")])
        assert await contents(store, "a") == ["0", "1", "2", "3", "4"]


async def test_a_write_whose_answer_is_lost_is_written_once(url: str) -> None:
    """The server has it, the connection goes before it can say so, and the write is sent again."""
    with open_proxy(url) as (proxy, through):
        async with opened(through) as store:
            for release in (False, True):
                # Its lock is nobody else's in this database, nor does the lease of the round before, which is given back when
                # the connection is there again, stand in line for it.
                key = secrets.token_hex()
                async with open_lease(store, key, last=0) as leased:
                    async with locked(url, key) as let_go:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(
                                partial(
                                    store.append, leased.lease, [UserMessage("x")], release=release
                                )
                            )
                            await until(url, in_line(key), 1)
                            proxy.cut()
                            await let_go()
                assert await contents(store, key) == ["x"]


@pytest.mark.parametrize("new", [False, True])
async def test_a_lease_whose_answer_is_lost_has_its_messages_once(url: str, new: bool) -> None:
    """The server has them, the connection goes before it can say so, and the request is sent again."""
    with open_proxy(url) as (proxy, through):
        async with opened(through) as store:
            key = secrets.token_hex()  # its lock is nobody else's in this database
            known = None
            if new:
                async with open_lease(store, "other"):
                    pass  # what the first request of all makes is made
            else:
                async with open_lease(store, key) as leased:
                    known = await store.append(leased.lease, [UserMessage("x")], release=True)
            async with locked(url, key) as let_go, trio.open_nursery() as nursery:

                async def turn() -> None:
                    async with open_lease(
                        store, key, unless_at=known, messages=[UserMessage("once")]
                    ) as leased:
                        assert leased.appended
                        assert leased.record is None
                        assert leased.position.sequence == (1 if new else 2)
                        assert leased.position.epoch == leased.lease.epoch
                        await store.append(leased.lease, [AssistantMessage("answer")])

                nursery.start_soon(turn)
                await until(url, in_line(key), 1)
                proxy.cut()
                await until(url, in_line(key), 2)
                await let_go()
            assert await contents(store, key) == [*([] if new else ["x"]), "once", "answer"]


async def test_messages_of_a_lost_answer_are_said_to_be_unknown_if_somebody_wrote_since(
    url: str,
) -> None:
    with open_proxy(url) as (proxy, through):
        async with opened(through) as store, opened(url) as another:
            key = secrets.token_hex()
            async with open_lease(store, key) as leased:
                known = await store.append(leased.lease, [UserMessage("x")], release=True)

            async def turn() -> None:
                with pytest.raises(StoreError, match=r"may or may not"):
                    await store.acquire_lease(key, unless_at=known, messages=[UserMessage("lost")])

            async with locked(url, key) as let_go, trio.open_nursery() as nursery:
                nursery.start_soon(turn)
                await until(url, in_line(key), 1)
                replace = partial(another.replace, key, [UserMessage("instead")])
                nursery.start_soon(trio.to_thread.run_sync, replace)
                await until(url, in_line(key), 2)
                proxy.cut()
                await until(url, in_line(key), 3)  # sent again, behind the other two
                await let_go()
            async with open_lease(store, key) as leased:
                await store.append(leased.lease, [UserMessage("well again")])
            assert await contents(store, key) == ["instead", "well again"]


async def test_a_lease_that_is_cancelled_when_its_messages_are_on_the_way_is_given(
    url: str,
) -> None:
    async with opened(url) as store:
        key = secrets.token_hex()
        async with open_lease(store, key) as leased:
            known = await store.append(leased.lease, [UserMessage("x")], release=True)
        given: list[Leased] = []
        async with locked(url, key) as let_go, trio.open_nursery() as nursery:

            async def turn() -> None:
                messages: list[Message] = [UserMessage("once")]
                given.append(await store.acquire_lease(key, unless_at=known, messages=messages))

            nursery.start_soon(turn)
            await until(url, in_line(key), 1)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await let_go()
        assert [each.appended for each in given] == [True]
        await store.append(given[0].lease, [AssistantMessage("answer")], release=True)
        assert await contents(store, key) == ["x", "once", "answer"]


async def test_a_request_for_a_lease_that_comes_late_does_nothing(url: str) -> None:
    """It was given up, and its process has asked again since: it must not take the lease from its own process."""
    async with opened(url) as store, open_lease(store, "a") as leased:
        await store.append(leased.lease, [UserMessage("x")])
        row, owner = KeyRow.of("a"), store._desk.owner
        late = "SELECT o_token FROM nanobot_acquire(%s, %s, %s, 0, '2 s', NULL, NULL, NULL, NULL)"
        assert run_sql(url, late, row.digest, row.lock, owner) == [(None,)]
        await store.append(leased.lease, [UserMessage("still mine")])


async def test_a_slip_whose_answer_is_lost_is_not_put_over_what_somebody_made_of_it(
    url: str,
) -> None:
    """The server has it, somebody swaps it, and then it is sent again: as when a turn is parked and approved at once."""
    with open_proxy(url) as (proxy, through):
        async with opened(through) as store, opened(url) as another:
            key = secrets.token_hex()  # its lock is nobody else's in this database
            async with open_lease(store, key) as leased:
                await store.append(leased.lease, [UserMessage("x")], slips={"turn": b"old"})
                swap = partial(another.swap_slip, key, "turn", b"asks", b"decided")
                swapped: list[bool] = []

                async def decide() -> None:
                    swapped.append(await trio.to_thread.run_sync(swap))

                async with locked(url, key) as let_go:
                    async with trio.open_nursery() as nursery:
                        write = partial(store.append, leased.lease, slips={"turn": b"asks"})
                        nursery.start_soon(write)
                        await until(url, in_line(key), 1)
                        nursery.start_soon(decide)
                        await until(url, in_line(key), 2)
                        proxy.cut()
                        await until(url, in_line(key), 3)  # sent again, behind the other two
                        await let_go()
                assert swapped == [True]
                assert another.list_slips("turn") == ((key, b"decided"),)
                await store.append(leased.lease, slips={"turn": b"next"})
                assert another.list_slips("turn") == ((key, b"next"),)


async def test_a_slip_that_gave_the_lease_back_and_lost_its_answer_is_said_to_be_unknown(
    url: str,
) -> None:
    """Messages say under which lease they were written; a slip cannot, so nobody is told that it was, or was not."""
    with open_proxy(url) as (proxy, through):
        async with opened(through) as store:
            key = secrets.token_hex()
            async with open_lease(store, key) as leased:
                await store.append(leased.lease, [UserMessage("x")])
                async with locked(url, key) as let_go:
                    async with trio.open_nursery() as nursery:

                        async def write() -> None:
                            with pytest.raises(StoreError, match=r"may or may not"):
                                await store.append(
                                    leased.lease, slips={"turn": b"asks"}, release=True
                                )

                        nursery.start_soon(write)
                        await until(url, in_line(key), 1)
                        proxy.cut()
                        await until(url, in_line(key), 2)
                        await let_go()
            assert store.list_slips("turn") == ((key, b"asks"),)


@pytest.mark.slow  # it waits for leases to run out, or not to
async def test_a_network_that_swallows_everything_costs_a_turn_and_no_more(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanobot.sessions._postgres.ANSWER_TIMEOUT_S", 0.5)
    with open_proxy(url) as (proxy, through):
        async with opened(f"{through}&connect_timeout=2") as store, opened(url) as healthy:
            monkeypatch.setattr(store._connections, "_patience_s", 0.5)
            leased = await store.acquire_lease("a")
            await store.append(leased.lease, [UserMessage("before")])
            proxy.mode = "silent"
            with pytest.raises(StoreError, match=r"may or may not"):
                await store.append(leased.lease, [UserMessage("into the void")])
            with pytest.raises(StoreError):
                await store.append(leased.lease, [UserMessage("and another")])
            async with open_lease(healthy, "a") as taken_over:  # when the lease has expired
                await healthy.append(taken_over.lease, [UserMessage("from another")])
            proxy.mode = "pass"
            proxy.cut()
            with pytest.raises((SessionFenced, StoreError)):
                await store.append(leased.lease, [UserMessage("too late")])
            await store.release_lease(leased.lease)
            assert await contents(healthy, "a") == ["before", "from another"]
            async with open_lease(store, "a") as again:
                await store.append(again.lease, [UserMessage("well again")])


@pytest.mark.slow  # it waits for leases to run out, or not to
async def test_who_finds_no_connection_free_is_told_and_loses_no_lease(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(url, max_connections=1) as store:
        monkeypatch.setattr(store._connections, "_patience_s", 0.3)
        async with open_lease(store, "a") as leased:

            def occupy() -> None:
                store._connections.run(
                    lambda connection, _: connection.execute("SELECT pg_sleep(3)").fetchone()
                )

            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, occupy)
                await until(
                    url,
                    "SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3)'",
                    True,
                )
                with pytest.raises(StoreError, match=r"sessions\.maxConnections"):
                    await trio.to_thread.run_sync(store.read, "a")
            await store.append(leased.lease, [UserMessage("still mine")])  # it went on beating


async def test_transactions_that_the_server_undoes_are_done_again(url: str) -> None:
    """Serialization failures and deadlocks, raised by the server itself: some of the first, then none."""
    async with opened(url) as store:
        await trio.to_thread.run_sync(store.read, "a")
        run_sql(url, "CREATE SEQUENCE failures")
        run_sql(
            url,
            """CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF nextval('failures') % 3 <> 0 THEN
                   RAISE EXCEPTION 'not now' USING ERRCODE = CASE nextval('failures') % 2 WHEN 0 THEN '40001' ELSE '40P01' END;
               END IF; RETURN NEW; END $$""",
        )
        for table in ("nanobot_message", "nanobot_lease"):
            run_sql(
                url,
                f"CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail()",
            )
        for number in range(5):
            async with open_lease(store, "a") as leased:
                await store.append(leased.lease, [UserMessage(str(number))])
        assert await trio.to_thread.run_sync(store.extend, "a", [UserMessage("5")])
        assert await contents(store, "a") == ["0", "1", "2", "3", "4", "5"]
        assert run_sql(url, "SELECT last_value > 10 FROM failures") == [(True,)]


async def test_another_isolation_level_of_the_server_makes_no_difference(url: str) -> None:
    async with opened(
        url.replace(
            "search_path", "default_transaction_isolation%3Dserializable%20-c%20search_path"
        )
    ) as store:
        async with open_lease(store, "a") as leased:
            await store.append(leased.lease, [UserMessage("x")])
        assert await contents(store, "a") == ["x"]


@pytest.mark.slow  # it makes a server
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_that_is_restarted_costs_a_turn_nothing_but_time(mode: str) -> None:
    with open_cluster() as cluster:
        async with opened(cluster.url) as store, opened(cluster.url) as another:
            async with trio.open_nursery() as nursery:
                async with open_lease(store, "a") as leased:
                    await store.append(leased.lease, [UserMessage("before")])
                    await trio.to_thread.run_sync(store.read, "a")

                    async def wait() -> None:
                        async with open_lease(another, "a") as waited:
                            await another.append(waited.lease, [UserMessage("who waited")])

                    nursery.start_soon(wait)
                    await until(cluster.url, "SELECT count(*) FROM nanobot_waiter", 1)
                    await trio.to_thread.run_sync(cluster.stop, mode)
                    nursery.start_soon(trio.to_thread.run_sync, cluster.start)
                    await store.append(leased.lease, [UserMessage("after")])
            assert await contents(store, "a") == ["before", "after", "who waited"]
