"""Wake-ups that cross from a Trio run into an event loop of another thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TypeVarTuple, Unpack

import pytest
import trio
import trio.testing

from actors import current_home
from actors._wake_ups import wake_in

Ts = TypeVarTuple("Ts")


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts who calls from other threads, and can be made to fail at it."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.crossings = 0
        self.failure = failure

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        self.crossings += 1
        if self.failure is not None:
            raise self.failure
        return super().call_soon_threadsafe(callback, *args, context=context)

    def run_what_is_due(self) -> None:
        self.call_soon(self.stop)
        self.run_forever()


def nothing() -> None:
    """Who wakes up does not matter."""


@pytest.fixture
def make_loop(request: pytest.FixtureRequest) -> Callable[..., CountingLoop]:
    def make(failure: Exception | None = None) -> CountingLoop:
        loop = CountingLoop(failure)
        request.addfinalizer(loop.close)
        return loop

    return make


def test_all_that_one_pass_of_trio_wakes_in_a_loop_crosses_together_and_in_order(
    make_loop: Callable[..., CountingLoop],
) -> None:
    first, second = make_loop(), make_loop()
    said, at_first, at_second = list[int](), list[int](), list[int]()

    async def wake(number: int) -> None:
        said.append(number)
        wake_in(first, partial(at_first.append, number))
        wake_in(second, partial(at_second.append, number))

    async def main() -> None:
        current_home()
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(wake, number)
        await trio.testing.wait_all_tasks_blocked()
        assert (first.crossings, second.crossings) == (1, 1)
        first.run_what_is_due()
        second.run_what_is_due()
        assert len(said) == 50
        assert at_first == at_second == said
        wake_in(first, nothing)
        await trio.testing.wait_all_tasks_blocked()
        assert first.crossings == 2

    trio.run(main)


def test_what_the_last_pass_of_a_run_says_crosses_too(
    make_loop: Callable[..., CountingLoop],
) -> None:
    loop, arrived = make_loop(), list[int]()

    async def main() -> None:
        current_home()
        wake_in(loop, lambda: arrived.append(1))

    trio.run(main)
    loop.run_what_is_due()
    assert arrived == [1]


def test_what_is_said_outside_of_a_home_or_at_its_end_crosses_at_once(
    make_loop: Callable[..., CountingLoop],
) -> None:
    loop = make_loop()
    wake_in(loop, nothing)
    assert loop.crossings == 1

    async def without_a_home() -> None:
        wake_in(loop, nothing)
        assert loop.crossings == 2

    trio.run(without_a_home)
    assert loop.crossings == 2

    async def main() -> None:
        current_home().at_end("test", lambda: wake_in(loop, nothing))

    trio.run(main)
    assert loop.crossings == 3


def test_a_closed_loop_and_one_that_fails_keep_nobody_elses_wake_ups_back(
    make_loop: Callable[..., CountingLoop], caplog: pytest.LogCaptureFixture
) -> None:
    closed, failing, loop = make_loop(), make_loop(OSError("no pipe")), make_loop()
    closed.close()
    arrived: list[int] = []

    async def main() -> None:
        current_home()
        for number in range(2):
            wake_in(closed, nothing)
            wake_in(failing, nothing)
            wake_in(loop, partial(arrived.append, number))
            await trio.testing.wait_all_tasks_blocked()

    with caplog.at_level(logging.ERROR, "actors.home"):
        trio.run(main)
    loop.run_what_is_due()
    assert arrived == [0, 1]
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [
        failing.failure
    ] * 2
