"""The store in memory keeps the promises of every store, and a few of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing

from nanobot.messages import UserMessage
from nanobot.sessions import InMemoryStore, SessionStore, open_lease
from tests.sessions.store_conformance import OpenStore, StoreConformance


class TestInMemoryStore(StoreConformance):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        @asynccontextmanager
        async def opened() -> AsyncIterator[SessionStore]:
            store = InMemoryStore()
            yield store
            await store.aclose()

        return opened


def ticking() -> Iterator[datetime]:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    while True:
        yield moment
        moment += timedelta(seconds=1)


async def test_times_come_from_the_clock_it_was_given() -> None:
    clock = ticking()
    store = InMemoryStore(now=lambda: next(clock))
    async with open_lease(store, "a") as leased:
        await store.append(leased.lease, [UserMessage("x")])
        await store.append(leased.lease, [UserMessage("y")])
    record = store.read("a")
    assert record is not None
    assert record.created_at == datetime(2024, 1, 1, tzinfo=UTC)
    assert record.updated_at == datetime(2024, 1, 1, 0, 0, 2, tzinfo=UTC)


async def test_a_thousand_turns_at_once_leave_no_trace_of_their_leases() -> None:
    store = InMemoryStore()

    async def turn(number: int) -> None:
        with trio.move_on_after(0 if number % 3 == 0 else 60):
            async with open_lease(store, f"session {number % 10}") as leased:
                await store.append(leased.lease, [UserMessage(str(number))])

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(turn, number)
    assert vars(store)["_tenancies"] == {}
    assert len(vars(store)["_turnstiles"]) == 0
    assert sum(info.message_count for info in store.list_sessions()) == 666


def test_a_lease_does_not_outlive_the_trio_run_that_took_it() -> None:
    store = InMemoryStore()

    async def crash() -> None:
        lease = (await store.acquire_lease("a")).lease
        await store.append(lease, [UserMessage("x")])

    async def go_on() -> None:
        with trio.fail_after(30):
            async with open_lease(store, "a") as leased:
                assert leased.position.sequence == 1

    trio.run(crash)
    trio.run(go_on)
    trio.run(go_on)


def test_two_trio_runs_at_once_take_turns_on_one_session() -> None:
    """Each in a thread of its own; whoever waits is woken across the threads."""
    store = InMemoryStore()

    async def turns() -> None:
        with trio.fail_after(30):
            for _ in range(50):
                async with open_lease(store, "a") as leased:
                    before = leased.position.sequence
                    await trio.lowlevel.checkpoint()
                    position = await store.append(leased.lease, [UserMessage("x")])
                    assert position.sequence == before + 1

    threads = [threading.Thread(target=trio.run, args=(turns,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = store.read("a")
    assert record is not None
    assert record.position.sequence == 150


def test_a_lease_left_behind_by_a_crash_does_not_keep_anybody_from_extending() -> None:
    store = InMemoryStore()

    async def crash() -> None:
        await store.acquire_lease("a")
        assert not store.extend("a", [UserMessage("x")])

    trio.run(crash)
    assert store.extend("a", [UserMessage("x")])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_inherits_the_sessions_but_neither_leases_nor_a_held_lock() -> None:
    """When it forks, one thread is nearly always in the middle of a write, one task owns "a", and another waits for it."""

    def slow_clock() -> datetime:
        time.sleep(0.01)
        return datetime.now(UTC)

    store = InMemoryStore(now=slow_clock)
    stop = threading.Event()
    waiting = threading.Event()

    def write_all_the_time() -> None:
        while not stop.is_set():
            store.replace("busy", [UserMessage("x")])

    async def hold_and_wait() -> None:
        async def wait() -> None:
            async with open_lease(store, "a"):
                pass

        async with trio.open_nursery() as nursery, open_lease(store, "a") as leased:
            await store.append(leased.lease, [UserMessage("x")])
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            waiting.set()
            await trio.to_thread.run_sync(stop.wait)

    async def go_on() -> None:
        async with open_lease(store, "a") as leased:
            await store.append(leased.lease, [UserMessage("y")])

    threads = [
        threading.Thread(target=write_all_the_time),
        threading.Thread(target=trio.run, args=(hold_and_wait,)),
    ]
    for thread in threads:
        thread.start()
    assert waiting.wait(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # who waits for a lock that nobody holds cannot be cancelled
        code = 1
        try:
            trio.run(go_on)
            record = store.read("a")
            code = 0 if record is not None and len(record.messages) == 2 else 2
        finally:
            os._exit(code)
    stop.set()
    for thread in threads:
        thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


async def test_the_list_costs_no_more_than_what_is_asked_for() -> None:
    store = InMemoryStore()
    for number in range(10):
        store.replace(f"s{number}", [UserMessage(str(number))])
    store.extend("s3", [UserMessage("later")])
    assert [info.key for info in store.list_sessions(limit=3)] == ["s3", "s9", "s8"]
