"""Several calls of one iteration: what runs beside what, in which order, and what is left after a cancel."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from nanobot.messages import ToolCall
from nanobot.tools import (
    Batch,
    RunContext,
    ToolResult,
    Toolset,
    Workspace,
    denied,
    execute_all,
    tool,
)


class Diary:
    """Tools that write down when they started and ended, by the name they were given."""

    def __init__(self) -> None:
        self.started: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    async def _work(self, name: str, seconds: float) -> str:
        self.started[name] = trio.current_time()
        await trio.sleep(seconds)
        self.ended[name] = trio.current_time()
        return f"{name} done"

    @tool(read_only=True)
    async def read(self, name: str, seconds: float) -> str:
        return await self._work(name, seconds)

    @tool
    async def write(self, name: str, seconds: float) -> str:
        return await self._work(name, seconds)

    @tool(read_only=True, exclusive=True)
    async def alone(self, name: str, seconds: float) -> str:
        return await self._work(name, seconds)

    @tool(read_only=True)
    async def fail(self, name: str, seconds: float) -> str:
        await self._work(name, seconds)
        raise ValueError(name)

    @property
    def tools(self) -> Toolset:
        return Toolset([self.read, self.write, self.alone, self.fail])

    def times(self) -> dict[str, tuple[float, float]]:
        """From when to when each call ran, from the first start on."""
        zero = min(self.started.values())
        return {
            name: (start - zero, self.ended[name] - zero) for name, start in self.started.items()
        }


def calls(*asked: str) -> list[ToolCall]:
    """`"read 2"` becomes a call of `read` that takes two seconds; its place is its name."""
    made = []
    for index, each in enumerate(asked):
        name, _, seconds = each.partition(" ")
        arguments = f'{{"name": "{index}", "seconds": {seconds or 1}}}'
        made.append(ToolCall(f"call-{index}", name, arguments))
    return made


def outcomes(batch: Batch) -> list[str]:
    return [result.message.outcome for result in batch.results]


async def test_neighbors_that_only_read_run_at_once_and_the_rest_in_order(
    autojump_clock: MockClock, context: RunContext
) -> None:
    diary = Diary()
    asked = calls(
        "read 3", "read 1", "write", "write", "read 2", "alone", "read", "nothing", "read"
    )
    results = await execute_all(Batch(asked), diary.tools, context)
    assert [result.message.tool_call_id for result in results] == [call.id for call in asked]
    assert diary.times() == {
        "0": (0, 3),
        "1": (0, 1),
        "2": (3, 4),
        "3": (4, 5),
        "4": (5, 7),
        "5": (7, 8),
        "6": (8, 9),
        "8": (8, 9),
    }


async def test_each_call_is_announced_in_order_and_told_of_as_it_ends(
    autojump_clock: MockClock, context: RunContext
) -> None:
    heard: list[str] = []

    async def on_start(index: int, call: ToolCall) -> None:
        assert call.id == f"call-{index}"
        heard.append(f"start {index}")

    async def on_result(index: int, result: ToolResult) -> None:
        heard.append(f"end {index} {result.message.content}")

    await execute_all(
        Batch(calls("read 3", "read 1", "read 2", "write")),
        Diary().tools,
        context,
        on_start=on_start,
        on_result=on_result,
    )
    assert heard == [
        "start 0",
        "start 1",
        "start 2",
        "end 1 1 done",
        "end 2 2 done",
        "end 0 0 done",
        "start 3",
        "end 3 3 done",
    ]


async def test_only_of_calls_that_must_not_be_run_twice_is_it_noted_that_they_begin(
    autojump_clock: MockClock, context: RunContext
) -> None:
    diary = Diary()
    noted: list[int] = []

    async def on_begin(index: int) -> None:
        assert str(index) not in diary.started
        noted.append(index)

    asked = calls("read", "write", "alone", "nosuch", "write")
    await execute_all(Batch(asked), diary.tools, context, on_begin=on_begin)
    assert noted == [1, 4]


async def test_a_call_that_fails_changes_nothing_for_the_others(
    autojump_clock: MockClock, context: RunContext
) -> None:
    batch = Batch(calls("read", "fail 0.5", "nosuch", "read 2", "write"))
    assert not batch.settled
    results = await execute_all(batch, Diary().tools, context)
    assert [result.ok for result in results] == [True, False, False, True, True]
    assert outcomes(batch) == ["ok", "error", "error", "ok", "ok"]
    assert batch.settled


async def test_a_slow_listener_is_told_one_thing_at_a_time(
    autojump_clock: MockClock, context: RunContext
) -> None:
    busy = 0

    async def on_result(index: int, result: ToolResult) -> None:
        nonlocal busy
        busy += 1
        assert busy == 1
        await trio.sleep(1)
        busy -= 1

    started = trio.current_time()
    await execute_all(
        Batch(calls("read", "read", "read")), Diary().tools, context, on_result=on_result
    )
    assert trio.current_time() - started == 4


async def test_whoever_announces_may_deny_a_call_or_change_its_arguments(
    autojump_clock: MockClock, context: RunContext
) -> None:
    diary = Diary()
    told: list[str] = []

    async def on_start(index: int, call: ToolCall) -> ToolCall | ToolResult | None:
        if index == 0:
            return denied(call, "not today.")
        if index == 1:
            return ToolCall("other id", "write", '{"name": "changed", "seconds": 2}')
        return None

    async def on_result(index: int, result: ToolResult) -> None:
        told.append(result.message.outcome)

    batch = Batch(calls("read", "read", "read", "write"))
    results = await execute_all(batch, diary.tools, context, on_start=on_start, on_result=on_result)
    assert outcomes(batch) == ["denied", "ok", "ok", "ok"]
    assert results[0].message.content == "Error: This call was not allowed, and not run: not today."
    assert results[1].message.content == "changed done"
    assert results[1].message.tool_call_id == "call-1"
    assert results[1].message.name == "read"
    assert sorted(diary.started) == ["2", "3", "changed"]
    assert told[0] == "denied"


async def test_a_model_that_asks_for_hundreds_gets_a_few_at_a_time(
    autojump_clock: MockClock, context: RunContext
) -> None:
    diary = Diary()
    results = await execute_all(Batch(calls(*["read"] * 100)), diary.tools, context)
    assert all(result.ok for result in results)
    starts = [start for start, _ in diary.times().values()]
    assert [starts.count(second) for second in range(4)] == [32, 32, 32, 4]


async def test_a_hundred_runs_with_five_calls_each_mix_nothing_up(
    autojump_clock: MockClock, root: Path
) -> None:
    @tool(read_only=True)
    async def whose(context: RunContext, name: str, seconds: float) -> str:
        await trio.sleep(seconds)
        return f"{context.session_key} {name}"

    async def one(session: int) -> None:
        asked = [
            ToolCall(f"{session}-{n}", "whose", f'{{"name": "{n}", "seconds": {random.random()}}}')
            for n in range(5)
        ]
        context = RunContext(confined=Workspace(root), session_key=f"session-{session}")
        results = await execute_all(Batch(asked), Toolset([whose]), context)
        assert [result.message.tool_call_id for result in results] == [call.id for call in asked]
        assert [result.message.content for result in results] == [
            f"session-{session} {n}" for n in range(5)
        ]

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for session in range(100):
            nursery.start_soon(one, session)
    assert trio.current_time() - started < 1  # all at once


async def test_no_calls_are_no_work(context: RunContext) -> None:
    batch = Batch([])
    assert await execute_all(batch, Toolset(), context) == ()
    assert batch.settled


class CallbackFailed(Exception):
    """Raised by a callback under test."""


@pytest.mark.parametrize("point", ["start", "result"])
@pytest.mark.parametrize("kind", ["read", "write"])
async def test_what_a_callback_raises_ends_the_batch_and_comes_out_as_it_is(
    point: str, kind: str, autojump_clock: MockClock, context: RunContext
) -> None:
    async def fails(index: int, _: Any) -> None:
        if index == 1:
            raise CallbackFailed

    batch = Batch(calls(f"{kind} 1", f"{kind} 2", f"{kind} 5", "write"))
    with pytest.raises(CallbackFailed):
        if point == "start":
            await execute_all(batch, Diary().tools, context, on_start=fails)
        else:
            await execute_all(batch, Diary().tools, context, on_result=fails)
    assert {
        ("start", "read"): ["interrupted_may_have_run", *["cancelled_before_start"] * 3],
        ("start", "write"): ["ok", *["cancelled_before_start"] * 3],
        ("result", "read"): ["ok", "ok", "interrupted_may_have_run", "cancelled_before_start"],
        ("result", "write"): ["ok", "ok", "cancelled_before_start", "cancelled_before_start"],
    }[point, kind] == outcomes(batch)


async def test_after_a_cancel_every_call_has_an_outcome(
    autojump_clock: MockClock, context: RunContext
) -> None:
    batch = Batch(calls("write", "read 1", "read 9", "read 0.5", "write", "read"))
    with trio.move_on_after(2.5) as scope:
        await execute_all(batch, Diary().tools, context)
    assert scope.cancelled_caught
    assert outcomes(batch) == [
        "ok",
        "ok",
        "interrupted_may_have_run",
        "ok",
        "cancelled_before_start",
        "cancelled_before_start",
    ]
    assert not batch.settled
    assert batch.results[2].message.content == (
        "Error: The run was cancelled during this call. It may have run in part or in full: check before you repeat it."
    )
    assert (
        batch.results[5].error == "The run was cancelled before this call started; it was not run."
    )
    assert [result.message.name for result in batch.results] == [
        "write",
        "read",
        "read",
        "read",
        "write",
        "read",
    ]


async def test_several_calls_that_are_cancelled_raise_one_cancelled(context: RunContext) -> None:
    caught: list[BaseException] = []
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                try:
                    await execute_all(Batch(calls("read", "read")), Diary().tools, context)
                except BaseException as error:
                    caught.append(error)
                    raise

            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert [type(error) for error in caught] == [trio.Cancelled]


async def test_no_tool_starts_once_the_run_is_cancelled(context: RunContext) -> None:
    ran: list[str] = []

    @tool
    async def cancels() -> str:
        scope.cancel()
        return "I had finished"

    @tool
    async def never() -> None:
        ran.append("never")

    batch = Batch([ToolCall("1", "cancels"), ToolCall("2", "never")])
    with trio.CancelScope() as scope:
        await execute_all(batch, Toolset([cancels, never]), context)
    assert scope.cancelled_caught
    assert ran == []
    assert outcomes(batch) == ["ok", "cancelled_before_start"]
    assert batch.results[0].message.content == "I had finished"


async def test_a_cancel_before_the_start_leaves_all_calls_unstarted(context: RunContext) -> None:
    batch = Batch(calls("write", "read"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await execute_all(batch, Diary().tools, context)
    assert outcomes(batch) == ["cancelled_before_start"] * 2


async def test_a_sync_tool_that_outlives_the_cancel_may_have_run(context: RunContext) -> None:
    release, ended = threading.Event(), threading.Event()

    @tool
    def stubborn() -> None:
        release.wait(30)
        ended.set()

    batch = Batch([ToolCall("1", "stubborn"), ToolCall("2", "stubborn")])
    with trio.move_on_after(0.05):
        await execute_all(batch, Toolset([stubborn]), context)
    assert outcomes(batch) == ["interrupted_may_have_run", "cancelled_before_start"]
    release.set()
    assert await trio.to_thread.run_sync(ended.wait, 10)


KINDS = st.sampled_from(["read", "write", "alone", "fail", "nosuch"])
SECONDS = st.integers(0, 4)
ASKED = st.lists(st.builds(lambda kind, seconds: f"{kind} {seconds}", KINDS, SECONDS), max_size=8)


def in_a_run(asked: list[str], cancel_after_s: float) -> tuple[Diary, Batch, bool]:
    """Run a batch on a virtual clock, cancelled at a moment."""
    diary, batch = Diary(), Batch(calls(*asked))

    async def main() -> bool:
        with trio.move_on_after(cancel_after_s) as scope:
            await execute_all(batch, diary.tools, RunContext(confined=Workspace("unused")))
        return scope.cancelled_caught

    return diary, batch, trio.run(main, clock=MockClock(autojump_threshold=0))


@given(asked=ASKED)
def test_whatever_is_asked_the_order_holds(asked: list[str]) -> None:
    diary, batch, _ = in_a_run(asked, 1000)
    assert batch.settled
    shares = {"read", "fail"}
    for later, later_asked in enumerate(asked):
        for earlier, earlier_asked in enumerate(asked[:later]):
            between = [each.split()[0] for each in asked[earlier : later + 1]]
            if str(later) not in diary.started or str(earlier) not in diary.started:
                assert "nosuch" in (later_asked.split()[0], earlier_asked.split()[0])
            elif not set(between) <= shares | {"nosuch"}:
                assert diary.ended[str(earlier)] <= diary.started[str(later)]
            else:
                assert diary.started[str(earlier)] == diary.started[str(later)]


@given(asked=ASKED, cancel_after_s=st.floats(0, 20))
def test_whenever_it_is_cancelled_each_call_has_the_outcome_that_is_true(
    asked: list[str], cancel_after_s: float
) -> None:
    diary, batch, cancelled = in_a_run(asked, cancel_after_s)
    assert len(batch.results) == len(asked)
    assert cancelled or batch.settled
    for index, result in enumerate(batch.results):
        name, outcome = str(index), result.message.outcome
        assert result.message.tool_call_id == f"call-{index}"
        if outcome == "cancelled_before_start":
            assert name not in diary.started
        elif outcome == "interrupted_may_have_run":
            assert name in diary.started
            assert name not in diary.ended
        elif asked[index].startswith("nosuch"):
            assert outcome == "error"
        else:
            assert name in diary.ended
            assert outcome == ("error" if asked[index].startswith("fail") else "ok")
