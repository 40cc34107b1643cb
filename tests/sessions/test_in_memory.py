"""The store in memory keeps the promises of every store, and a few of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trio

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
    record = await store.load("a")
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
    assert vars(store)["_ownerships"] == {}
    assert sum(info.message_count for info in await store.list_sessions()) == 666


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
