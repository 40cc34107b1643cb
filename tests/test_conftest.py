"""What tests/conftest.py promises to every other test."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock


async def test_a_coroutine_test_runs_under_trio() -> None:
    assert trio.lowlevel.in_trio_run()


async def test_autojump_clock_waits_an_hour_in_no_time(autojump_clock: MockClock) -> None:
    started = trio.current_time()
    await trio.sleep(3600)
    assert trio.current_time() - started == 3600


async def test_mock_clock_stands_still_until_it_is_moved(mock_clock: MockClock) -> None:
    with trio.move_on_after(60) as scope:
        mock_clock.jump(61)
        await trio.sleep_forever()
    assert scope.cancelled_caught


@given(st.integers())
async def test_each_hypothesis_example_gets_a_trio_run(number: int) -> None:
    await trio.lowlevel.checkpoint()
    assert number == int(str(number))


@pytest.mark.asyncio
async def test_a_test_marked_asyncio_is_left_to_pytest_asyncio() -> None:
    assert not trio.lowlevel.in_trio_run()


@pytest.mark.parametrize("times", [1, 2])
class TestInAClass:
    async def test_methods_and_parameters_work_too(self, times: int) -> None:
        for _ in range(times):
            await trio.lowlevel.checkpoint()
        assert trio.lowlevel.in_trio_run()


@pytest.mark.xfail(strict=True, raises=pytest.fail.Exception, reason="it leaves a task behind")
async def test_a_task_left_behind_fails_the_test() -> None:
    trio.lowlevel.spawn_system_task(trio.sleep_forever, name="forgotten")
