"""Supervision: the pure policy by properties, the shell on a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import (
    ChildFailed,
    GiveUp,
    Restart,
    RestartHistory,
    RestartPolicy,
    open_supervisor,
    supervise,
)

gaps = st.lists(st.floats(0, 100, allow_nan=False), max_size=40)
policies = st.builds(
    RestartPolicy,
    max_failures=st.integers(0, 6),
    window_s=st.floats(0.1, 100),
    first_delay_s=st.floats(0, 5),
    max_delay_s=st.floats(0, 20),
)


@given(policies, gaps)
def test_the_policy_gives_up_exactly_when_a_window_holds_too_many_failures(
    policy: RestartPolicy, gaps: list[float]
) -> None:
    history, now, times = RestartHistory(), 0.0, []
    for gap in gaps:
        now += gap
        times.append(now)
        history, decision = history.failed(policy, now)
        in_window = sum(now - at < policy.window_s for at in times)
        if in_window > policy.max_failures:
            assert decision == GiveUp(failures=in_window)
        else:
            assert isinstance(decision, Restart)
            assert 0 <= decision.delay_s <= policy.max_delay_s


def test_delays_double_up_to_their_limit() -> None:
    policy = RestartPolicy(max_failures=10, first_delay_s=1, max_delay_s=5)
    history, delays = RestartHistory(), []
    for now in range(5):
        history, decision = history.failed(policy, now)
        assert isinstance(decision, Restart)
        delays.append(decision.delay_s)
    assert delays == [1, 2, 4, 5, 5]


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="not a restart policy"):
        RestartPolicy(max_failures=-1)


async def test_a_child_is_restarted_after_its_delay_and_may_then_end(
    autojump_clock: MockClock,
) -> None:
    started: list[float] = []

    async def child() -> None:
        started.append(trio.current_time())
        if len(started) < 4:
            raise ConnectionError("not yet")

    await supervise(child, policy=RestartPolicy(first_delay_s=1, max_delay_s=2), name="child")
    assert started == [0, 1, 3, 5]


async def test_past_its_policy_a_failure_escalates_and_names_the_child(
    autojump_clock: MockClock,
) -> None:
    async def child() -> None:
        raise ConnectionError("never")

    with pytest.raises(ChildFailed, match="server failed 3 times") as escalated:
        await supervise(child, policy=RestartPolicy(max_failures=2), name="server")
    assert isinstance(escalated.value.__cause__, ConnectionError)


async def test_one_child_failing_for_good_ends_the_block_unless_somebody_takes_note(
    autojump_clock: MockClock,
) -> None:
    async def broken() -> None:
        raise ConnectionError

    with pytest.RaisesGroup(ChildFailed):
        async with open_supervisor(RestartPolicy(max_failures=0)) as supervisor:
            supervisor.start_soon(broken, name="broken")
            supervisor.start_soon(trio.sleep_forever, name="healthy")
            await trio.sleep(1)

    noted: list[str] = []
    async with open_supervisor(
        RestartPolicy(max_failures=0), on_give_up=lambda failure: noted.append(failure.name)
    ) as supervisor:
        supervisor.start_soon(broken, name="broken")
        supervisor.start_soon(trio.sleep_forever, name="healthy")
        await trio.sleep(1)
        assert supervisor.children == ("healthy",)
    assert noted == ["broken"]


async def test_a_child_can_be_stopped_for_good_and_its_name_used_again(
    autojump_clock: MockClock,
) -> None:
    ended: list[str] = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("child")

    async with open_supervisor() as supervisor:
        supervisor.start_soon(child, name="child")
        with pytest.raises(ValueError, match="a child named 'child' already"):
            supervisor.start_soon(child, name="child")
        await trio.sleep(1)
        supervisor.stop("child")
        supervisor.stop("nobody")
        await trio.sleep(1)
        assert ended == ["child"]
        supervisor.start_soon(child, name="child")
        await trio.sleep(1)
    assert ended == ["child", "child"]


@pytest.mark.parametrize(
    "numbers",
    [
        {"max_failures": -1},
        {"window_s": 0},
        {"first_delay_s": -0.1},
        {"max_delay_s": -1},
        {"window_s": float("nan")},
        {"first_delay_s": float("nan")},
        {"max_delay_s": float("nan")},
    ],
)
def test_a_policy_with_impossible_numbers_is_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a restart policy"):
        RestartPolicy(**numbers)


async def test_a_supervisor_whose_block_was_left_starts_nobody_and_remembers_nobody() -> None:
    async with open_supervisor() as supervisor:
        pass
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            supervisor.start_soon(trio.sleep_forever, name="late")
    assert supervisor.children == ()
