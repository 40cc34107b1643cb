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
from actors._host_asyncio import _AsyncioNotify
from actors._wake_ups import _call_all, wake_in

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


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_wake_up_that_fails_keeps_those_it_crossed_with_from_nothing(
    error: type[BaseException],
) -> None:
    arrived: list[str] = []
    told: list[object] = []

    def fail() -> None:
        raise error

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, context: told.append(context.get("exception")))
    functions: list[Callable[[], None]]
    functions = [partial(arrived.append, "before"), fail, fail, partial(arrived.append, "after")]
    loop.call_soon(_call_all, loop, functions)
    failures = 0
    for _ in range(3):
        try:
            loop.run_until_complete(asyncio.sleep(0))
        except SystemExit:
            failures += 1
    loop.close()
    assert arrived == ["before", "after"]
    assert failures + len(told) == 2


class CancelledBetweenTwoLines(asyncio.Future[None]):
    """Was not done when somebody asked, and is cancelled right behind, as the handler of Ctrl-C does it."""

    def done(self) -> bool:
        self.cancel()
        return False


def test_a_waiter_that_ctrl_c_cancels_while_it_is_woken_fails_nobody() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        notify = _AsyncioNotify(loop)
        notify._future = CancelledBetweenTwoLines(loop=loop)
        assert notify._future.done() is False
        notify._arrive()
        notify._future = None
        await asyncio.wait_for(notify.notified(), 10)  # nor is the wake-up lost

    asyncio.run(main())
