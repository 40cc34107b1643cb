"""Keyed actors: made on demand, gone when idle, and nothing lost in between."""

from __future__ import annotations

import contextvars
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import Directory, Mailbox, MailboxClosed, MailboxFull, RestartPolicy

Lost = list[tuple[str, BaseException]]


def keep(lost: Lost) -> Callable[[str, BaseException], None]:
    return lambda message, reason: lost.append((message, reason))


async def test_one_actor_per_key_reads_in_order_while_other_keys_go_on(
    autojump_clock: MockClock,
) -> None:
    seen: list[tuple[float, str, str]] = []

    async def slow(key: str, mailbox: Mailbox[str]) -> None:
        async for message in mailbox:
            await trio.sleep(1)
            seen.append((trio.current_time(), key, message))

    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, slow, on_undelivered=keep([]), idle_s=5)
        for key in ("a", "b"):
            for message in ("one", "two"):
                directory.post_nowait(key, message)
        assert len(directory) == 2
    assert sorted(seen) == [(1, "a", "one"), (1, "b", "one"), (2, "a", "two"), (2, "b", "two")]
    assert len(directory) == 0


async def test_an_idle_actor_passes_away_and_the_next_message_makes_a_new_one(
    autojump_clock: MockClock,
) -> None:
    born: list[float] = []

    async def behavior(key: str, mailbox: Mailbox[str]) -> None:
        born.append(trio.current_time())
        async for _ in mailbox:
            pass

    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, behavior, on_undelivered=keep([]), idle_s=30)
        directory.post_nowait("key", "hello")
        await trio.sleep(29)
        assert len(directory) == 1
        await trio.sleep(2)
        assert len(directory) == 0
        directory.post_nowait("key", "hello again")
        await trio.sleep(1)
    assert born == [0, 31]


async def test_a_message_posted_while_the_actor_says_goodbye_is_read(
    autojump_clock: MockClock,
) -> None:
    read: list[str] = []
    lost: Lost = []

    async def tidy(key: str, mailbox: Mailbox[str]) -> None:
        async for message in mailbox:
            read.append(message)
        await trio.sleep(10)  # closing something slow

    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, tidy, on_undelivered=keep(lost), idle_s=1)
        directory.post_nowait("key", "first")
        await trio.sleep(5)  # the loop has ended, the goodbye has not
        directory.post_nowait("key", "late")
        await trio.sleep(30)
        assert len(directory) == 0
    assert read == ["first", "late"]
    assert lost == []


async def test_a_behavior_that_raises_is_run_again_and_takes_nobody_with_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    read: list[tuple[str, str]] = []

    async def fragile(key: str, mailbox: Mailbox[str]) -> None:
        async for message in mailbox:
            if message == "poison":
                raise ZeroDivisionError(key)
            read.append((key, message))

    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, fragile, on_undelivered=keep([]), idle_s=5)
        for key in ("a", "b"):
            directory.post_nowait(key, "before")
        directory.post_nowait("a", "poison")
        directory.post_nowait("a", "after")
    assert sorted(read) == [("a", "after"), ("a", "before"), ("b", "before")]
    assert "restarting" in caplog.text


async def test_an_actor_that_keeps_failing_hands_back_what_it_did_not_read(
    autojump_clock: MockClock,
) -> None:
    lost: Lost = []

    async def broken(key: str, mailbox: Mailbox[str]) -> None:
        raise ZeroDivisionError

    async with trio.open_nursery() as nursery:
        directory = Directory(
            nursery, broken, on_undelivered=keep(lost), policy=RestartPolicy(max_failures=2)
        )
        directory.post_nowait("key", "never read")
    assert [(message, type(reason)) for message, reason in lost] == [
        ("never read", ZeroDivisionError)
    ]
    assert len(directory) == 0


async def test_a_cancelled_nursery_hands_back_every_message_exactly_once() -> None:
    lost: Lost = []

    async def stuck(key: str, mailbox: Mailbox[str]) -> None:
        async for _ in mailbox:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, stuck, on_undelivered=keep(lost))
        for message in ("being worked on", "waiting", "waiting too"):
            directory.post_nowait("key", message)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [message for message, _ in lost] == ["waiting", "waiting too"]
    assert all(isinstance(reason, MailboxClosed) for _, reason in lost)
    assert len(directory) == 0


async def test_a_full_mailbox_and_a_closed_directory_refuse(autojump_clock: MockClock) -> None:
    async def stuck(key: str, mailbox: Mailbox[str]) -> None:
        async for _ in mailbox:
            await trio.sleep(10)

    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, stuck, on_undelivered=keep([]), capacity=1, idle_s=1)
        directory.post_nowait("key", "being worked on")
        await wait_all_tasks_blocked()
        directory.post_nowait("key", "waiting")
        with pytest.raises(MailboxFull):
            directory.post_nowait("key", "one too many")
        directory.close()
        with pytest.raises(MailboxClosed):
            directory.post_nowait("another key", "too late")
        assert list(directory) == ["key"]


async def test_an_actor_lives_in_its_directorys_context_and_not_in_its_first_senders() -> None:
    color = contextvars.ContextVar("color", default="none")
    seen: list[str] = []

    async def look(key: str, mailbox: Mailbox[str]) -> None:
        async for _ in mailbox:
            seen.append(color.get())

    color.set("the directory's")
    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, look, on_undelivered=keep([]))
        color.set("the sender's")
        directory.post_nowait("key", "hello")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert seen == ["the directory's"]


async def test_a_directory_whose_nursery_has_ended_refuses_every_message() -> None:
    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, read_all, on_undelivered=keep([]))
    for _ in range(2):
        with pytest.raises(MailboxClosed, match="nursery"):
            directory.post_nowait("key", "too late")
    assert len(directory) == 0


async def test_a_failing_on_undelivered_loses_no_message_and_ends_no_actor(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[str] = []
    read: list[str] = []

    def complain(message: str, reason: BaseException) -> None:
        lost.append(message)
        raise KeyError(message)

    async def picky(key: str, mailbox: Mailbox[str]) -> None:
        if key == "broken":
            raise ZeroDivisionError
        async for message in mailbox:
            read.append(message)

    async with trio.open_nursery() as nursery:
        directory = Directory(
            nursery, picky, on_undelivered=complain, policy=RestartPolicy(max_failures=0)
        )
        directory.post_nowait("well", "first")
        for message in ("one", "two"):
            directory.post_nowait("broken", message)
        await trio.sleep(1)
        directory.post_nowait("well", "second")
    assert lost == ["one", "two"]
    assert read == ["first", "second"]
    assert caplog.text.count("on_undelivered failed") == 2


async def test_a_behavior_that_returns_without_reading_stops_nobody_else(
    autojump_clock: MockClock,
) -> None:
    async def lazy(key: str, mailbox: Mailbox[str]) -> None:
        """Read nothing at all."""

    lost: Lost = []
    async with trio.open_nursery() as nursery:
        directory = Directory(nursery, lazy, on_undelivered=keep(lost))
        directory.post_nowait("key", "hello")
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert [message for message, _ in lost] == ["hello"]


async def read_all(key: str, mailbox: Mailbox[str]) -> None:
    async for _ in mailbox:
        pass


@pytest.mark.parametrize(
    ("capacity", "idle_s"), [(1, -1), (-1, 1), (1, float("nan")), (float("nan"), 1)]
)
async def test_numbers_that_no_mailbox_can_have_are_refused_at_once(
    capacity: float, idle_s: float
) -> None:
    with pytest.raises(ValueError, match="not a mailbox"):
        Mailbox(capacity=capacity, idle_s=idle_s)
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="not a mailbox"):
            Directory(nursery, read_all, on_undelivered=keep([]), capacity=capacity, idle_s=idle_s)
