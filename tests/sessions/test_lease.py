"""A lease is given back on every way out, and a store that is out of reach does not hold anybody up."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from nanobot.messages import UserMessage
from nanobot.sessions import InMemoryStore, Lease, open_lease


class SlowStore(InMemoryStore):
    """Needs a while to take a lease back."""

    def __init__(self, delay_s: float) -> None:
        super().__init__()
        self.delay_s = delay_s
        self.released: list[Lease] = []

    async def release_lease(self, lease: Lease) -> None:
        await trio.sleep(self.delay_s)
        await super().release_lease(lease)
        self.released.append(lease)


async def test_a_cancelled_turn_waits_until_its_lease_is_back(autojump_clock: MockClock) -> None:
    store = SlowStore(delay_s=3)
    with trio.move_on_after(1):
        async with open_lease(store, "a") as leased:
            await trio.sleep_forever()
    assert store.released == [leased.lease]
    assert trio.current_time() == pytest.approx(4)


async def test_a_store_out_of_reach_holds_a_turn_up_for_five_seconds_at_most(
    autojump_clock: MockClock,
) -> None:
    store = SlowStore(delay_s=float("inf"))
    async with open_lease(store, "a") as leased:
        await store.append(leased.lease, [UserMessage("x")])
        started = trio.current_time()
    assert store.released == []
    assert trio.current_time() - started == pytest.approx(5)


async def test_a_turn_that_fails_gives_its_lease_back_and_its_error_comes_out(
    autojump_clock: MockClock,
) -> None:
    store = SlowStore(delay_s=0)
    with pytest.raises(ZeroDivisionError):
        async with open_lease(store, "a"):
            raise ZeroDivisionError
    assert len(store.released) == 1
