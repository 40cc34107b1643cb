"""Calls: one result whatever happens, told to everybody who wants to know, and no memory kept after it."""

from __future__ import annotations

import gc
import traceback
import weakref
from collections.abc import Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import Call, CallCancelled, Stopped, ask, current_home


async def nothing() -> None:
    """The body of a call that is settled by hand."""


@pytest.fixture
def without_gc() -> Iterator[None]:
    """Only reference counts bring memory back during this test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_listener_that_fails_keeps_nobody_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    call, heard = Call(nothing), list[str]()
    call.on_settled(lambda: heard.append("first"))
    call.on_settled(lambda: heard.remove("never there"))
    call.on_settled(lambda: heard.append("last"))
    call.settle(None)
    call.on_settled(lambda: heard.remove("never there"))  # at once, and just as harmless
    assert heard == ["first", "last"]
    assert caplog.text.count("a listener of a settled call failed") == 2


def test_a_listener_that_was_taken_back_hears_nothing() -> None:
    call, heard = Call(nothing), list[str]()

    def hear() -> None:
        heard.append("heard")

    call.on_settled(hear)
    call.forget(hear)
    call.forget(hear)  # and again, which is nothing
    call.settle(None)
    assert heard == []


def test_the_first_of_several_results_stands() -> None:
    call: Call[int] = Call(trio.sleep_forever)
    heard: list[int] = []
    call.on_settled(lambda: heard.append(call.result()))
    call.settle(1)
    call.settle(2)
    call.fail(ValueError())
    call.cancel()
    assert call.result() == 1
    assert heard == [1]


async def test_an_error_that_a_stopped_body_raises_is_the_result_and_the_cancellation_the_tasks() -> (
    None
):
    async def fail_on_the_way_out() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while closing")

    async def body() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_on_the_way_out)
            nursery.start_soon(trio.sleep_forever)

    call = Call(body)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="while closing")):
        call.result()


async def test_a_body_that_was_only_stopped_says_so_also_from_inside_a_nursery() -> None:
    async def body() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)

    call = Call(body)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(Stopped, match="the engine was stopped"):
        call.result()


async def test_a_cancelled_call_settles_after_its_finally_blocks_and_leaves_its_task_alone() -> (
    None
):
    left = False

    async def body() -> None:
        nonlocal left
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            assert not call.settled
            left = True

    call = Call(body)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run)
        await wait_all_tasks_blocked()
        call.cancel()
        assert not call.settled
    assert left
    assert not nursery.cancel_scope.cancel_called
    with pytest.raises(CallCancelled):
        call.result()


async def test_each_asker_sees_where_the_body_failed_and_not_where_the_others_asked() -> None:
    async def body() -> None:
        raise ValueError

    def lines_seen() -> int:
        try:
            call.result()
        except ValueError as error:
            return len(traceback.extract_tb(error.__traceback__))
        raise AssertionError("it has failed")

    call = Call(body)
    await call.run()
    assert lines_seen() == lines_seen() == lines_seen()


async def test_the_memory_of_a_failed_call_comes_back_without_a_collection(
    without_gc: None,
) -> None:
    class Payload:
        """What a body drags along."""

    def failing_call() -> tuple[Call[None], weakref.ref[Payload]]:
        payload = Payload()

        async def body(payload: Payload = payload) -> None:
            raise ValueError

        return Call(body), weakref.ref(payload)

    async def ask_and_forget() -> weakref.ref[Payload]:
        call, payload = failing_call()
        calls = [call]
        del call
        try:
            await ask(current_home(), calls.pop(), lambda call: nursery.start_soon(call.run))
        except ValueError:
            pass
        return payload

    async with trio.open_nursery() as nursery:
        payload = await ask_and_forget()
        await wait_all_tasks_blocked()
        assert payload() is None
