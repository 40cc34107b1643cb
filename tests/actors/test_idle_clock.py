"""One clock for all mailboxes of a directory: exact, leaving nothing behind, and gone when its actors are."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import Directory, Mailbox, RestartPolicy
from actors._idle_clock import IdleClock


def ignore(message: object, reason: BaseException) -> None:
    """Messages that nobody read do not matter here."""


async def read_all(key: str, mailbox: Mailbox[str]) -> None:
    async for _ in mailbox:
        pass


def clock_tasks(nursery: trio.Nursery) -> int:
    return sum(task.name.endswith("IdleClock.run") for task in nursery.child_tasks)


@asynccontextmanager
async def running(clock: IdleClock) -> AsyncIterator[trio.Nursery]:
    """A nursery in which the clock runs until the block ends, however it does."""
    living = ["somebody"]
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            clock.start_soon(nursery, living)
        try:
            yield nursery
        finally:
            living.clear()
            clock.look()


async def test_each_waiter_is_woken_at_its_own_time_in_the_order_of_beginning(
    autojump_clock: MockClock,
) -> None:
    clock = IdleClock(10)
    mailboxes: dict[str, Mailbox[str]] = {name: Mailbox(clock=clock) for name in "abcd"}
    ended: list[tuple[float, str]] = []

    async def read(name: str, after: float) -> None:
        await trio.sleep(after)
        async for _ in mailboxes[name]:
            pass
        ended.append((trio.current_time(), name))

    async with running(clock) as nursery:
        assert clock_tasks(nursery) == 1
        for name, after in (("a", 3), ("b", 1), ("c", 2.5), ("d", 40)):
            nursery.start_soon(read, name, after)
        await trio.sleep(4)
        mailboxes["b"].post_nowait("one more")  # now it began last
        await trio.sleep(50)
        assert ended == [(12.5, "c"), (13, "a"), (14, "b"), (50, "d")]
        assert len(clock) == 0
        assert not clock.expired


@pytest.mark.parametrize("own", [False, True])
async def test_a_wake_up_without_a_message_neither_ends_the_wait_nor_begins_it_anew(
    own: bool, autojump_clock: MockClock
) -> None:
    clock = IdleClock(10)
    mailbox: Mailbox[str] = Mailbox(idle_s=10, clock=None if own else clock)

    async def wake() -> None:
        for _ in range(3):
            await trio.sleep(3)
            mailbox.notify()
        await trio.sleep(1)
        mailbox.notify()  # at the same moment as the end

    async with running(clock) as nursery:
        nursery.start_soon(wake)
        await read_all("key", mailbox)
        assert trio.current_time() == 10


async def test_a_cancelled_wait_loses_no_message_and_leaves_nothing_on_the_clock(
    autojump_clock: MockClock,
) -> None:
    clock = IdleClock(10)
    mailbox: Mailbox[str] = Mailbox(clock=clock)
    async with running(clock):
        async with trio.open_nursery() as readers:
            readers.start_soon(read_all, "key", mailbox)
            await wait_all_tasks_blocked()
            assert len(clock) == 1
            readers.cancel_scope.cancel()
            mailbox.post_nowait("kept")
        assert len(clock) == 0
        assert mailbox.get_nowait() == "kept"

        with trio.move_on_after(10 - trio.current_time()):  # cancelled when its time is over
            await read_all("key", mailbox)
        assert len(clock) == 0
        assert not clock.expired
        await read_all("key", mailbox)  # a new wait, with all of its time
        assert trio.current_time() == 20


async def test_a_second_reader_is_refused_and_the_first_keeps_its_time(
    autojump_clock: MockClock,
) -> None:
    clock = IdleClock(10)
    mailbox: Mailbox[str] = Mailbox(clock=clock)
    refused: list[float] = []

    async def read_too(after: float) -> None:
        await trio.sleep(after)
        with pytest.raises(trio.BusyResourceError):
            await anext(mailbox)
        refused.append(trio.current_time())

    async with running(clock) as nursery:
        nursery.start_soon(read_too, 4)
        await read_all("key", mailbox)
        assert trio.current_time() == 10
        assert refused == [4]


async def test_whoever_was_woken_but_did_not_run_yet_still_has_its_place() -> None:
    clock = IdleClock(0)
    mailbox: Mailbox[str] = Mailbox(clock=clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_all, "key", mailbox)
        await wait_all_tasks_blocked()
        await clock.run([])  # nobody lives: it ends, and wakes nobody
        assert len(clock) == 1
        clock._expire()
        with pytest.raises(trio.BusyResourceError):
            await anext(mailbox)
    assert not clock.expired


async def test_a_message_that_comes_with_the_end_of_the_time_is_read(
    autojump_clock: MockClock,
) -> None:
    read: list[str] = []

    async def keep(key: str, mailbox: Mailbox[str]) -> None:
        async for message in mailbox:
            read.append(message)

    for number in range(20):  # Trio runs what is due at once in a random order
        async with trio.open_nursery() as nursery:
            directory = Directory(nursery, keep, on_undelivered=ignore, idle_s=10)
            directory.post_nowait("key", f"first {number}")
            await trio.sleep(10)
            directory.post_nowait("key", f"second {number}")
    assert read == [f"{which} {number}" for number in range(20) for which in ("first", "second")]


@pytest.mark.parametrize("idle_s", [0, 30])
async def test_the_nursery_ends_with_the_last_actor_and_the_next_actor_starts_the_clock_again(
    idle_s: float, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, read_all, on_undelivered=ignore, idle_s=idle_s)
        assert clock_tasks(nursery) == 0
        for _ in range(3):
            for key in ("a", "b"):
                directory.post_nowait(key, "hello")
            assert clock_tasks(nursery) == 1
            await trio.sleep(idle_s + 1)
            assert len(directory) == 0
            assert len(nursery.child_tasks) == 0
        directory.post_nowait("a", "the last")
    assert trio.current_time() == 3 * (idle_s + 1) + idle_s


async def test_the_nursery_does_not_wait_for_a_time_that_nobody_waits_for(
    autojump_clock: MockClock,
) -> None:
    async def leave(key: str, mailbox: Mailbox[str]) -> None:
        async for message in mailbox:
            if message == "leave":
                return

    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, leave, on_undelivered=ignore, idle_s=30)
        directory.post_nowait("key", "stay")
        await trio.sleep(1)  # the clock sleeps for 29 seconds more
        directory.post_nowait("key", "leave")
    assert trio.current_time() == 1


async def test_an_actor_made_while_the_last_one_leaves_keeps_the_clock(
    autojump_clock: MockClock,
) -> None:
    clocks: list[int] = []

    async def fail_first(key: str, mailbox: Mailbox[str]) -> None:
        if key == "first":
            raise ZeroDivisionError
        await read_all(key, mailbox)

    async with trio.open_nursery() as nursery:

        def make_another(message: str, reason: BaseException) -> None:
            assert len(directory) == 0  # the clock was told so
            directory.post_nowait("second", message)
            clocks.append(clock_tasks(nursery))

        directory = Directory(
            nursery,
            fail_first,
            on_undelivered=make_another,
            idle_s=30,
            policy=RestartPolicy(max_failures=0),
        )
        directory.post_nowait("first", "hello")
    assert clocks == [1]
    assert trio.current_time() == 30


async def test_without_an_end_of_patience_there_is_no_clock() -> None:
    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, read_all, on_undelivered=ignore, idle_s=float("inf"))
        directory.post_nowait("key", "hello")
        await wait_all_tasks_blocked()
        assert clock_tasks(nursery) == 0
        nursery.cancel_scope.cancel()


async def test_a_behavior_that_is_run_again_has_all_of_its_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fragile(key: str, mailbox: Mailbox[str]) -> None:
        async for message in mailbox:
            if message == "poison":
                raise ZeroDivisionError

    async with trio.open_nursery() as nursery:
        directory = Directory(
            nursery,
            fragile,
            on_undelivered=ignore,
            idle_s=30,
            policy=RestartPolicy(first_delay_s=1),
        )
        directory.post_nowait("key", "hello")
        await trio.sleep(20)
        directory.post_nowait("key", "poison")
        directory.post_nowait("key", "after")
    assert "restarting" in caplog.text
    assert trio.current_time() == 20 + 1 + 30


async def test_a_cancelled_nursery_ends_the_clock_but_not_before_those_who_shield_themselves(
    autojump_clock: MockClock,
) -> None:
    async def shielded(key: str, mailbox: Mailbox[str]) -> None:
        with trio.CancelScope(shield=key == "shielded"):
            await read_all(key, mailbox)

    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, shielded, on_undelivered=ignore, idle_s=30)
        for key in ("shielded", "not"):
            directory.post_nowait(key, "hello")
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 30
    assert len(directory) == 0


async def test_the_clock_ends_also_when_handing_back_is_interrupted(
    autojump_clock: MockClock,
) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(message: str, reason: BaseException) -> None:
        raise Interrupted

    async def stuck(key: str, mailbox: Mailbox[str]) -> None:
        await trio.sleep_forever()

    with pytest.RaisesGroup(Interrupted, flatten_subgroups=True, allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            directory = Directory(nursery, stuck, on_undelivered=interrupt)
            directory.post_nowait("key", "hello")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert trio.current_time() == 0


async def test_the_clock_lives_in_its_directorys_context_and_not_in_the_first_senders() -> None:
    color = contextvars.ContextVar("color", default="none")
    async with trio.open_nursery() as nursery:
        color.set("the directory's")
        directory = Directory(nursery, read_all, on_undelivered=ignore)
        color.set("the sender's")
        directory.post_nowait("key", "hello")
        assert {task.context[color] for task in nursery.child_tasks} == {"the directory's"}
        nursery.cancel_scope.cancel()


async def test_a_message_to_an_idle_actor_opens_no_scope_and_wakes_no_clock() -> None:
    called = set[str]()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            called.add(frame.f_code.co_qualname)

    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, read_all, on_undelivered=ignore, idle_s=30)
        directory.post_nowait("key", "hello")
        await wait_all_tasks_blocked()  # the actor waits, and the clock sleeps
        before = sys.getprofile()
        sys.setprofile(note)
        directory.post_nowait("key", "hello again")
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        sys.setprofile(before)
        nursery.cancel_scope.cancel()
    assert {"IdleClock.begin", "IdleClock.end", "Mailbox.get_nowait"} <= called
    assert not {"IdleClock.run", "CancelScope.__enter__"} & called


async def test_while_nobody_is_idle_it_has_no_deadline_for_a_clock_of_tests_to_jump_to() -> None:
    read, go_on = trio.Event(), trio.Event()

    async def work(_key: str, mailbox: Mailbox[int]) -> None:
        async for _message in mailbox:
            read.set()
            await go_on.wait()

    async with trio.open_nursery() as nursery:
        directory = Directory[str, int](nursery, work, on_undelivered=print, idle_s=20)
        directory.post_nowait("a", 1)
        await wait_all_tasks_blocked()
        go_on.set()
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline < 21
        go_on = trio.Event()
        directory.post_nowait("a", 2)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
        nursery.cancel_scope.cancel()
