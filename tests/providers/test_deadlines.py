"""One task for all deadlines: each is met at its moment, and the task sleeps as long as it may."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from nanobot.providers._address import address_from_url
from nanobot.providers._connection import HTTPConnection
from nanobot.providers._deadlines import Bounded, Deadlines
from nanobot.providers._exchange import ExchangeLimits
from nanobot.providers._pool import ConnectionPool
from nanobot.providers._request_head import RequestHead
from nanobot.providers._transport_errors import TransportTimeout
from tests.providers.loopback import Peer, serving


class Thing:
    """Has a deadline, and tells when it expired."""

    def __init__(self, on_expired: Callable[[], None] = lambda: None) -> None:
        self.deadline = math.inf
        self.expired_at: list[float] = []
        self._on_expired = on_expired

    def expire(self) -> None:
        self.deadline = math.inf
        self.expired_at.append(trio.current_time())
        self._on_expired()


class Watched(set[Bounded]):
    """Counts how often somebody goes through it."""

    def __init__(self) -> None:
        super().__init__()
        self.walks = 0

    def __iter__(self) -> Iterator[Bounded]:
        self.walks += 1
        return super().__iter__()


@asynccontextmanager
async def looking_after(watched: set[Bounded]) -> AsyncIterator[Deadlines]:
    deadlines = Deadlines(watched)
    try:
        yield deadlines
    finally:
        await deadlines.aclose()
        assert tasks_alive() == 0


def bound(deadlines: Deadlines, watched: set[Bounded], deadline: float) -> Thing:
    thing = Thing()
    watched.add(thing)
    postpone(deadlines, thing, deadline)
    return thing


def postpone(deadlines: Deadlines, thing: Thing, deadline: float) -> None:
    thing.deadline = deadline
    deadlines.note(deadline)


def tasks_alive() -> int:
    root = trio.lowlevel.current_root_task()
    assert root is not None  # we are inside a run
    tasks = [task for nursery in root.child_nurseries for task in nursery.child_tasks]
    return sum(task.name == "deadlines" for task in tasks)


# When they expire ----------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["earliest first", "latest first", "shuffled"])
async def test_each_expires_at_its_own_moment_in_whatever_order_they_are_noted(
    order: str, autojump_clock: MockClock
) -> None:
    watched: set[Bounded] = set()
    moments = [1 + number / 4 for number in range(40)]
    if order == "latest first":
        moments.reverse()
    elif order == "shuffled":
        random.Random(7).shuffle(moments)
    async with looking_after(watched) as deadlines:
        things = {moment: bound(deadlines, watched, moment) for moment in moments}
        assert tasks_alive() == 1
        await trio.sleep_until(20)
        assert {moment: thing.expired_at for moment, thing in things.items()} == {
            moment: [moment] for moment in moments
        }


async def test_those_of_the_same_moment_expire_together(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with looking_after(watched) as deadlines:
        things = [bound(deadlines, watched, 3) for _ in range(10)]
        await trio.sleep_until(5)
        assert [thing.expired_at for thing in things] == [[3]] * 10
        assert watched.walks == 2  # for who is due, and for the next deadline


async def test_one_whose_deadline_has_passed_already_expires_at_once(
    autojump_clock: MockClock,
) -> None:
    watched: set[Bounded] = set()
    async with looking_after(watched) as deadlines:
        await trio.sleep_until(10)
        late, now = bound(deadlines, watched, 4), bound(deadlines, watched, 10)
        await wait_all_tasks_blocked()
        assert (late.expired_at, now.expired_at) == ([10], [10])


async def test_one_whose_deadline_moved_on_expires_at_the_new_one(
    autojump_clock: MockClock,
) -> None:
    watched: set[Bounded] = set()
    async with looking_after(watched) as deadlines:
        moved, other = bound(deadlines, watched, 2), bound(deadlines, watched, 3)
        await trio.sleep_until(1)
        postpone(deadlines, moved, 7)
        await trio.sleep_until(6)
        assert (moved.expired_at, other.expired_at) == ([], [3])
        await trio.sleep_until(10)
        assert (moved.expired_at, other.expired_at) == ([7], [3])


async def test_an_earlier_deadline_that_is_noted_later_shortens_the_nap(
    autojump_clock: MockClock,
) -> None:
    watched: set[Bounded] = set()
    async with looking_after(watched) as deadlines:
        first = bound(deadlines, watched, 100)
        await wait_all_tasks_blocked()  # asleep until then
        second = bound(deadlines, watched, 5)
        await trio.sleep_until(1)
        third = bound(deadlines, watched, 3)
        await trio.sleep_until(4)
        assert (second.expired_at, third.expired_at) == ([], [3])
        fourth = bound(deadlines, watched, 50)  # and after a nap as well
        await trio.sleep_until(200)
        everyone = [first, second, third, fourth]
        assert [thing.expired_at for thing in everyone] == [[100], [5], [3], [50]]


async def test_one_that_has_left_is_not_expired(autojump_clock: MockClock) -> None:
    watched: set[Bounded] = set()
    async with looking_after(watched) as deadlines:
        gone, kept = bound(deadlines, watched, 2), bound(deadlines, watched, 4)
        await trio.sleep_until(1)
        watched.remove(gone)
        await trio.sleep_until(10)
        assert (gone.expired_at, kept.expired_at) == ([], [4])


async def test_expiring_may_take_things_away_and_set_new_deadlines(
    autojump_clock: MockClock,
) -> None:
    watched: set[Bounded] = set()
    successor = Thing()
    watched.add(successor)

    def leave() -> None:
        watched.remove(leaver)
        postpone(deadlines, successor, 3)

    async with looking_after(watched) as deadlines:
        leaver = Thing(leave)
        watched.add(leaver)
        last = bound(deadlines, watched, 8)
        postpone(deadlines, leaver, 2)
        await trio.sleep_until(10)
        expired = [thing.expired_at for thing in (leaver, successor, last)]
        assert expired == [[2], [3], [8]]


# The task ------------------------------------------------------------------------------------


async def test_the_task_ends_with_the_last_deadline_and_starts_again_with_the_next(
    autojump_clock: MockClock,
) -> None:
    watched: set[Bounded] = set()
    async with looking_after(watched) as deadlines:
        first, bystander = bound(deadlines, watched, 2), bound(deadlines, watched, math.inf)
        await trio.sleep_until(1)
        assert tasks_alive() == 1
        await trio.sleep_until(3)
        assert (first.expired_at, tasks_alive()) == ([2], 0)

        second = bound(deadlines, watched, 5)
        assert tasks_alive() == 1
        watched.clear()  # so that nothing is left when it looks
        await trio.sleep_until(4)
        assert tasks_alive() == 1  # nobody wakes it for that
        await trio.sleep_until(6)
        assert (second.expired_at, tasks_alive()) == ([], 0)

        third = bound(deadlines, watched, 9)
        await trio.sleep_until(10)
        assert (third.expired_at, tasks_alive()) == ([9], 0)
        assert bystander.expired_at == []


async def test_infinity_starts_no_task(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with looking_after(watched) as deadlines:
        bound(deadlines, watched, math.inf)
        assert tasks_alive() == 0
        await trio.sleep_until(1_000)
        assert (tasks_alive(), watched.walks) == (0, 0)


async def test_closing_ends_the_task_and_a_later_note_starts_another(
    autojump_clock: MockClock,
) -> None:
    watched: set[Bounded] = set()
    async with looking_after(watched) as deadlines:
        await deadlines.aclose()  # nothing to do
        forgotten = bound(deadlines, watched, 2)
        await wait_all_tasks_blocked()
        await deadlines.aclose()
        assert tasks_alive() == 0
        await trio.sleep_until(3)
        assert forgotten.expired_at == []

        watched.remove(forgotten)
        later = bound(deadlines, watched, 7)  # later than what it would have looked at
        assert tasks_alive() == 1
        await trio.sleep_until(10)
        assert (later.expired_at, tasks_alive()) == ([7], 0)


async def test_closing_ends_a_task_that_has_not_run_yet(autojump_clock: MockClock) -> None:
    watched: set[Bounded] = set()
    async with looking_after(watched) as deadlines:
        thing = bound(deadlines, watched, 2)
        await deadlines.aclose()
        assert (tasks_alive(), thing.expired_at) == (0, [])


async def test_closing_waits_for_the_task_however_often_it_was_closed_before(
    autojump_clock: MockClock,
) -> None:
    watched: set[Bounded] = set()
    async with looking_after(watched) as deadlines:
        for _ in range(10):
            bound(deadlines, watched, 2)
            await wait_all_tasks_blocked()
            await deadlines.aclose()
            assert tasks_alive() == 0


async def test_a_thousand_deadlines_that_move_on_all_the_time_wake_it_once_per_limit(
    autojump_clock: MockClock,
) -> None:
    limit, rounds_per_limit, limits = 10, 20, 10
    watched = Watched()
    async with looking_after(watched) as deadlines:
        things = [bound(deadlines, watched, limit) for _ in range(1_000)]
        for _ in range(limits * rounds_per_limit):
            await trio.sleep(limit / rounds_per_limit)
            for thing in things:
                postpone(deadlines, thing, trio.current_time() + limit)
        assert not any(thing.expired_at for thing in things)
        wake_ups = watched.walks / 2  # for who is due, and for the next deadline
        assert limits - 1 <= wake_ups <= limits * 1.2
        end = trio.current_time() + limit
        await trio.sleep_until(end + 1)
        assert [thing.expired_at for thing in things] == [[end]] * 1_000


# In a pool -----------------------------------------------------------------------------------


async def until_it_hangs_up(peer: Peer) -> None:
    """Read everything, answer nothing."""
    while await peer.stream.receive_some(65536):
        pass


async def read_nothing(_peer: Peer) -> None:
    await trio.sleep_forever()


async def test_a_server_that_never_answers_is_given_up_in_the_phase_read() -> None:
    pool = ConnectionPool()
    async with serving(until_it_hangs_up) as url:
        head = RequestHead("POST", address_from_url(url))
        begun = trio.current_time()
        with pytest.raises(TransportTimeout, match="did not answer in time") as caught:
            await pool.exchange(head, b"{}", ExchangeLimits(read_s=0.1, write_s=20))
        assert caught.value.phase == "read"
        assert trio.current_time() - begun >= 0.1
        assert (pool.statistics().open, pool.statistics().created) == (0, 1)
        await pool.aclose()
        assert tasks_alive() == 0


async def test_a_server_that_never_reads_is_given_up_in_the_phase_write() -> None:
    pool = ConnectionPool()
    async with serving(read_nothing) as url:
        head = RequestHead("POST", address_from_url(url))
        begun = trio.current_time()
        with pytest.raises(TransportTimeout, match="did not accept the request") as caught:
            await pool.exchange(head, b"x" * 20_000_000, ExchangeLimits(read_s=20, write_s=0.1))
        assert caught.value.phase == "write"
        assert trio.current_time() - begun >= 0.1
        assert (pool.statistics().open, pool.statistics().created) == (0, 1)
        await pool.aclose()
        assert tasks_alive() == 0


async def test_of_two_requests_the_one_with_the_shorter_limit_is_given_up_alone() -> None:
    pool, asked, given_up = ConnectionPool(), trio.Event(), list[float]()

    async def take_note(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await until_it_hangs_up(peer)

    async with serving(take_note) as url:
        head = RequestHead("POST", address_from_url(url))

        async def give_up(limit_s: float) -> None:
            with pytest.raises(TransportTimeout):
                await pool.exchange(head, b"{}", ExchangeLimits(read_s=limit_s))
            given_up.append(limit_s)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up, 20)
            await asked.wait()
            await give_up(0.1)
            assert pool.statistics().open == 1
            nursery.cancel_scope.cancel()
        assert given_up == [0.1]
        assert pool.statistics().open == 0
        await pool.aclose()


async def test_a_connection_that_was_closed_when_its_answer_had_just_come_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under TLS there is a checkpoint between the bytes and whoever waits for them."""
    received = HTTPConnection._receive

    async def received_too_late(connection: HTTPConnection) -> bytes:
        data = await received(connection)
        for exchange in tuple(pool._in_flight):
            exchange.expire()
        return data

    async def answer(peer: Peer) -> None:
        await peer.request()
        await peer.reply("200 OK", b"ok")
        await until_it_hangs_up(peer)

    monkeypatch.setattr(HTTPConnection, "_receive", received_too_late)
    pool = ConnectionPool()
    async with serving(answer) as url:
        exchange = await pool.exchange(RequestHead("POST", address_from_url(url)), b"{}")
        assert exchange.read_nowait() == b"ok"
        assert (pool.statistics().open, pool.statistics().idle) == (0, 0)
        await pool.aclose()


async def test_at_rest_it_has_no_deadline_for_a_clock_of_tests_to_jump_to(
    mock_clock: MockClock,
) -> None:
    watched: set[Bounded] = set()
    async with looking_after(watched) as deadlines:
        bound(deadlines, watched, 20)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline < 21
        watched.clear()
        deadlines.rest()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        bound(deadlines, watched, 20)
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline < 21
