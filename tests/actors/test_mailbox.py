"""Mailboxes: order, bounds, two lanes, and an end that misses nothing."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import Mailbox, MailboxClosed, MailboxFull


async def test_messages_are_read_in_the_order_they_were_posted_urgent_ones_first() -> None:
    mailbox: Mailbox[str] = Mailbox()
    mailbox.post_nowait("first")
    mailbox.post_nowait("second")
    mailbox.post_nowait("at once", urgent=True)
    assert [mailbox.get_nowait() for _ in range(3)] == ["at once", "first", "second"]
    with pytest.raises(trio.WouldBlock):
        mailbox.get_nowait()


async def test_a_full_mailbox_refuses_but_never_what_is_urgent() -> None:
    mailbox: Mailbox[str] = Mailbox(capacity=1)
    mailbox.post_nowait("fits")
    with pytest.raises(MailboxFull) as refused:
        mailbox.post_nowait("does not")
    assert refused.value.capacity == 1
    mailbox.post_nowait("must", urgent=True)
    assert len(mailbox) == 2


async def test_the_iteration_ends_after_the_idle_time_and_not_before(
    autojump_clock: MockClock,
) -> None:
    mailbox: Mailbox[str] = Mailbox(idle_s=30)
    read: list[tuple[float, str]] = []

    async def post_late() -> None:
        await trio.sleep(29)
        mailbox.post_nowait("just in time")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(post_late)
        async for message in mailbox:
            read.append((trio.current_time(), message))
    assert read == [(29, "just in time")]
    assert trio.current_time() == 59


async def test_a_withdrawn_message_is_never_read() -> None:
    mailbox: Mailbox[object] = Mailbox()
    kept, taken_back = object(), object()
    mailbox.post_nowait(kept)
    mailbox.post_nowait(taken_back)
    assert mailbox.position(taken_back) == 1
    assert mailbox.withdraw(taken_back)
    assert not mailbox.withdraw(taken_back)
    assert mailbox.position(taken_back) is None
    assert mailbox.get_nowait() is kept
    assert len(mailbox) == 0


async def test_closing_gives_back_what_nobody_read_and_refuses_the_rest() -> None:
    mailbox: Mailbox[str] = Mailbox()
    mailbox.post_nowait("ordinary")
    mailbox.post_nowait("urgent", urgent=True)
    assert mailbox.close() == ("urgent", "ordinary")
    assert mailbox.close() == ()
    with pytest.raises(MailboxClosed):
        mailbox.post_nowait("too late")
    assert [message async for message in mailbox] == []


async def test_a_cancelled_reader_loses_no_message() -> None:
    mailbox: Mailbox[str] = Mailbox()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                async for _ in mailbox:
                    raise AssertionError("the reader was cancelled before it could read")

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            scope.cancel()
            mailbox.post_nowait("kept")
    assert mailbox.get_nowait() == "kept"


async def test_two_readers_at_once_are_refused() -> None:
    mailbox: Mailbox[str] = Mailbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.notified)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await mailbox.notified()
        nursery.cancel_scope.cancel()
