"""The fair lock among tasks: exclusion, order, cancellation and shared holds, on a virtual clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import ReadWriteLock


@dataclass
class Visit:
    """One task's plan: when it comes, how long it stays, when it is cancelled."""

    exclusive: bool
    comes_at: int
    stays: int
    cancelled_at: int | None


@dataclass
class Room:
    """What was seen inside."""

    readers: int = 0
    writers: int = 0
    arrivals: list[int] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)


visits = st.lists(
    st.builds(
        Visit,
        exclusive=st.booleans(),
        comes_at=st.integers(0, 5),
        stays=st.integers(0, 5),
        cancelled_at=st.none() | st.integers(0, 8),
    ),
    max_size=14,
)


async def visit(number: int, plan: Visit, lock: ReadWriteLock, room: Room) -> None:
    await trio.sleep(plan.comes_at)
    deadline = float("inf") if plan.cancelled_at is None else float(plan.cancelled_at)
    with trio.move_on_at(deadline):
        room.arrivals.append(number)
        hold = await lock.acquire(exclusive=plan.exclusive)
        room.entries.append(number)
        try:
            room.writers += plan.exclusive
            room.readers += not plan.exclusive
            assert room.writers == 0 or (room.writers, room.readers) == (1, 0)
            await trio.sleep(plan.stays)
        finally:
            room.writers -= plan.exclusive
            room.readers -= not plan.exclusive
            hold.release()


@given(visits)
def test_whatever_comes_and_is_cancelled_the_lock_excludes_in_order_and_ends_empty(
    plans: list[Visit],
) -> None:
    room, lock = Room(), ReadWriteLock()

    async def main() -> None:
        assert trio.current_time() == 0  # so plans may speak of absolute times
        with trio.fail_after(1000):
            async with trio.open_nursery() as nursery:
                for number, plan in enumerate(plans):
                    nursery.start_soon(visit, number, plan, lock, room)

    clock = MockClock(autojump_threshold=0)
    trio.run(main, clock=clock)
    assert (lock.holders, lock.waiting, lock.exclusively_held) == (0, 0, False)
    position = {number: place for place, number in enumerate(room.arrivals)}
    for place, earlier in enumerate(room.entries):
        for later in room.entries[place + 1 :]:
            conflict = plans[earlier].exclusive or plans[later].exclusive
            assert not conflict or position[earlier] < position[later]


async def test_a_cancelled_writer_lets_in_the_readers_behind_it() -> None:
    lock = ReadWriteLock()
    entered: list[str] = []

    async def reader(name: str) -> None:
        await lock.acquire(exclusive=False)
        entered.append(name)

    async def writer(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await lock.acquire(exclusive=True)

    async with trio.open_nursery() as nursery:
        await lock.acquire(exclusive=False)
        scope = await nursery.start(writer)
        await wait_all_tasks_blocked()
        nursery.start_soon(reader, "behind the writer")
        await wait_all_tasks_blocked()
        assert entered == []
        scope.cancel()
        await wait_all_tasks_blocked()
    assert entered == ["behind the writer"]


async def test_a_shared_hold_is_kept_until_its_last_owner_lets_go() -> None:
    lock = ReadWriteLock()
    hold = await lock.acquire(exclusive=True)
    hold.share()
    hold.release()
    assert lock.exclusively_held
    hold.release()
    assert not lock.exclusively_held
    assert hold.released
    with pytest.raises(RuntimeError, match="released already"):
        hold.release()
    with pytest.raises(RuntimeError, match="cannot be shared"):
        hold.share()


async def test_contention_is_announced_to_whoever_wants_to_make_room() -> None:
    announced: list[int] = []
    lock = ReadWriteLock(on_contention=lambda: announced.append(lock.waiting))
    first = lock.request(exclusive=False, on_grant=lambda: None)
    assert announced == []
    second = lock.request(exclusive=True, on_grant=lambda: None)
    assert announced == [1]
    second.release()
    first.release()
    assert lock.holders == 0


async def test_a_request_that_its_own_announcement_fails_has_not_joined_the_queue() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    lock = ReadWriteLock(on_contention=fail)
    first = lock.request(exclusive=True, on_grant=lambda: None)
    with pytest.raises(ZeroDivisionError):
        lock.request(exclusive=True, on_grant=lambda: None)
    assert lock.waiting == 0
    first.release()
    assert lock.holders == 0


async def test_a_listener_that_fails_keeps_nobody_out(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def fail() -> None:
        raise ZeroDivisionError

    lock = ReadWriteLock()
    writer = lock.request(exclusive=True, on_grant=lambda: None)
    holds = [
        lock.request(exclusive=False, on_grant=fail),
        lock.request(exclusive=False, on_grant=lambda: told.append("second")),
    ]
    writer.release()
    assert told == ["second"]
    assert all(hold.granted for hold in holds)
    assert "a listener of a granted hold failed" in caplog.text


async def test_a_hold_that_was_given_back_by_the_listener_before_is_not_announced() -> None:
    told: list[str] = []
    lock = ReadWriteLock()
    writer = lock.request(exclusive=True, on_grant=lambda: None)
    lock.request(exclusive=False, on_grant=lambda: second.release())
    second = lock.request(exclusive=False, on_grant=lambda: told.append("second"))
    writer.release()
    assert told == []
    assert lock.holders == 1
