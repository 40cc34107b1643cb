"""Wake-ups inside a Trio run: remembered, not lost by a cancellation, and harmless after a crash."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import TrioNotify


async def test_a_notification_before_the_wait_is_remembered_once() -> None:
    notify = TrioNotify()
    notify.notify()
    notify.notify()
    await notify.notified()
    with trio.move_on_after(0) as scope:
        await notify.notified()
    assert scope.cancelled_caught


async def test_a_cancelled_wait_loses_no_notification() -> None:
    notify = TrioNotify()
    notify.notify()
    with trio.CancelScope() as scope:
        scope.cancel()
        await notify.notified()
    await notify.notified()  # would wait for ever


async def test_a_notification_that_meets_a_cancellation_is_there_for_the_next_wait() -> None:
    notify = TrioNotify()

    async def wait() -> None:
        await notify.notified()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()  # aborts the wait first
        notify.notify()
    await notify.notified()


async def test_the_wrong_thread_is_an_error_and_the_waiter_goes_on_waiting() -> None:
    notify = TrioNotify()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notify.notified)
        await wait_all_tasks_blocked()
        with pytest.raises(RuntimeError):
            await trio.to_thread.run_sync(notify.notify)
        notify.notify()
