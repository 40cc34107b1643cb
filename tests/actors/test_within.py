"""Awaiting in another context: its variables and nobody else's, and all that awaiting does otherwise."""

from __future__ import annotations

import contextvars
import gc
import traceback
import types
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest
import trio
from trio.lowlevel import checkpoint
from trio.testing import wait_all_tasks_blocked

from actors._within import within

SPEAKER: contextvars.ContextVar[str] = contextvars.ContextVar("SPEAKER", default="nobody")


@pytest.fixture
def without_gc() -> Iterator[None]:
    """Only reference counts bring memory back during this test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def context_of(speaker: str) -> contextvars.Context:
    context = contextvars.Context()
    context.run(SPEAKER.set, speaker)
    return context


@types.coroutine
def pause() -> Generator[str, str, str]:
    """Wait for whoever drives this coroutine by hand."""
    return (yield "paused")


# Variables -----------------------------------------------------------------------------------


async def test_the_variables_seen_are_those_of_the_context() -> None:
    SPEAKER.set("outside")

    async def seen() -> str:
        return SPEAKER.get()

    assert await within(context_of("inside"), seen) == "inside"
    assert await within(contextvars.Context(), seen) == "nobody"
    assert SPEAKER.get() == "outside"


async def test_the_function_itself_is_called_in_the_context() -> None:
    async def returned(value: str) -> str:
        return value

    context = context_of("inside")
    assert await within(context, lambda: returned(SPEAKER.get())) == "inside"


async def test_what_is_set_inside_stays_in_that_context() -> None:
    SPEAKER.set("outside")
    context = context_of("before")

    async def set_twice() -> None:
        SPEAKER.set("first")
        await checkpoint()
        assert SPEAKER.get() == "first"
        SPEAKER.set("second")

    await within(context, set_twice)
    assert SPEAKER.get() == "outside"
    assert context[SPEAKER] == "second"


async def test_each_step_between_checkpoints_is_in_the_context_and_others_run_in_theirs() -> None:
    SPEAKER.set("outside")
    seen: list[str] = []

    async def speak(times: int) -> None:
        for number in range(times):
            assert SPEAKER.get() == (f"inside {number}" if number else "inside")
            await checkpoint()
            SPEAKER.set(f"inside {number + 1}")

    async def listen(times: int) -> None:
        for _ in range(times):
            seen.append(SPEAKER.get())
            await checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, 6)
        context = context_of("inside")
        await within(context, lambda: speak(5))
        seen.append(SPEAKER.get())
    assert seen == ["outside"] * 7
    assert context[SPEAKER] == "inside 5"


async def test_tasks_started_inside_begin_with_copies_of_the_context() -> None:
    SPEAKER.set("outside")
    seen: list[str] = []

    async def child() -> None:
        seen.append(SPEAKER.get())
        SPEAKER.set("child")
        await checkpoint()
        seen.append(SPEAKER.get())

    async def parent() -> str:
        SPEAKER.set("parent")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            SPEAKER.set("parent, later")
        return SPEAKER.get()

    context = context_of("inside")
    assert await within(context, parent) == "parent, later"
    assert seen == ["parent", "child"]
    assert (SPEAKER.get(), context[SPEAKER]) == ("outside", "parent, later")


async def test_one_within_another_is_in_its_own_context() -> None:
    inner, outer = context_of("inner"), context_of("outer")

    async def deepest() -> str:
        await checkpoint()
        return SPEAKER.get()

    async def between() -> tuple[str, str]:
        seen = await within(inner, deepest)
        await checkpoint()
        return seen, SPEAKER.get()

    assert await within(outer, between) == ("inner", "outer")


# What comes out ------------------------------------------------------------------------------


async def test_what_the_function_returns_is_returned() -> None:
    value = object()

    async def at_once() -> object:
        return value

    async def later() -> object:
        for _ in range(5):
            await checkpoint()
        return value

    assert await within(contextvars.Context(), at_once) is value
    assert await within(contextvars.Context(), later) is value


@pytest.mark.parametrize("checkpoints", [0, 3])
async def test_what_the_function_raises_comes_out_with_its_traceback(checkpoints: int) -> None:
    error = LookupError("inside")

    async def fail_below() -> None:
        raise error

    async def fail() -> None:
        for _ in range(checkpoints):
            await checkpoint()
        await fail_below()

    with pytest.raises(LookupError, match=r"^inside$") as caught:
        await within(contextvars.Context(), fail)
    assert caught.value is error
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-2:] == ["fail", "fail_below"]
    assert (error.__context__, error.__cause__) == (None, None)


async def test_a_function_that_fails_before_it_is_awaited_raises_all_the_same() -> None:
    def fail() -> types.CoroutineType[None, None, None]:
        raise LookupError(SPEAKER.get())

    with pytest.raises(LookupError, match=r"^inside$"):
        await within(context_of("inside"), fail)


def test_what_is_sent_and_thrown_reaches_the_function() -> None:
    heard: list[str] = []

    async def inner() -> str:
        heard.append(await pause())
        try:
            await pause()
        except KeyError as error:
            heard.append(f"{SPEAKER.get()} caught {error.args[0]}")
        heard.append(await pause())
        return "done"

    async def outer() -> str:
        return await within(context_of("inside"), inner)

    coroutine = outer()
    assert coroutine.send(None) == "paused"
    assert coroutine.send("one") == "paused"
    assert coroutine.throw(KeyError("two")) == "paused"
    with pytest.raises(StopIteration) as end:
        coroutine.send("three")
    assert end.value.value == "done"
    assert heard == ["one", "inside caught two", "three"]


# Cancelling and closing ----------------------------------------------------------------------


async def test_cancelling_reaches_it_and_it_cleans_up_in_the_context() -> None:
    SPEAKER.set("outside")
    seen: list[str] = []
    context = context_of("inside")

    async def sleep() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            seen.append(f"{SPEAKER.get()} was cancelled")
            raise
        finally:
            with trio.CancelScope(shield=True):
                await checkpoint()
            seen.append(f"{SPEAKER.get()} cleaned up")
            SPEAKER.set("cleaned up")

    async with trio.open_nursery() as nursery:

        async def call() -> None:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_once_asleep, scope)
                await within(context, sleep)
            assert scope.cancelled_caught
            seen.append(SPEAKER.get())

        nursery.start_soon(call)
    assert seen == ["inside was cancelled", "inside cleaned up", "outside"]
    assert context[SPEAKER] == "cleaned up"


async def cancel_once_asleep(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_a_scope_inside_catches_its_own_cancellation() -> None:
    async def time_out() -> str:
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.sleep_forever()
        assert scope.cancelled_caught
        await checkpoint()
        return SPEAKER.get()

    assert await within(context_of("inside"), time_out) == "inside"


async def test_a_context_in_use_is_refused() -> None:
    called: list[str] = []
    context = context_of("inside")

    async def inner() -> None:
        called.append("inner")

    async def outer() -> None:
        with pytest.raises(RuntimeError, match="already entered"):
            await within(context, inner)
        called.append(SPEAKER.get())

    await within(context, outer)
    with pytest.raises(RuntimeError, match="already entered"):
        await within(trio.lowlevel.current_task().context, inner)
    assert called == ["inside"]
    await within(context, inner)  # it is free again
    assert called == ["inside", "inner"]


def test_closing_who_awaits_it_runs_the_cleanup_in_the_context() -> None:
    seen: list[str] = []
    context = context_of("inside")

    async def inner() -> None:
        try:
            await pause()
        except GeneratorExit:
            seen.append("closed")
            raise
        finally:
            seen.append(SPEAKER.get())
            SPEAKER.set("cleaned up")

    async def outer() -> None:
        try:
            await within(context, inner)
        finally:
            seen.append(f"outer: {SPEAKER.get()}")

    coroutine = outer()
    assert coroutine.send(None) == "paused"
    assert seen == []
    coroutine.close()
    assert seen == ["closed", "inside", "outer: nobody"]
    assert context[SPEAKER] == "cleaned up"


# Memory --------------------------------------------------------------------------------------


Function = Callable[[], Coroutine[Any, Any, None]]


class Payload:
    """What a function drags along."""


@pytest.mark.parametrize("ending", ["fails at once", "fails later", "is cancelled"])
async def test_the_memory_of_a_function_that_failed_comes_back_without_a_collection(
    ending: str, without_gc: None
) -> None:
    payloads: list[weakref.ref[Payload]] = []

    async def fail() -> None:
        payload = Payload()
        payloads.append(weakref.ref(payload))
        if ending == "fails later":
            await checkpoint()
        if ending == "is cancelled":
            await trio.sleep_forever()
        raise ValueError

    async def caught() -> BaseException | None:
        with trio.CancelScope() as scope:
            if ending == "is cancelled":
                scope.cancel()
            try:
                await within(contextvars.Context(), fail)
            except ValueError as error:
                return error
        return None

    error = await caught()
    if ending == "is cancelled":
        await checkpoint()  # until then Trio itself remembers what it has thrown
    else:
        assert payloads[0]() is not None  # the traceback holds the frame
    del error
    assert payloads[0]() is None


async def test_the_memory_of_an_error_thrown_in_comes_back_without_a_collection(
    without_gc: None,
) -> None:
    payloads: list[weakref.ref[Payload]] = []

    async def inner() -> None:
        payload = Payload()
        payloads.append(weakref.ref(payload))
        await pause()

    async def outer() -> None:
        await within(contextvars.Context(), inner)

    def drive() -> bool:
        coroutine = outer()
        coroutine.send(None)
        try:
            coroutine.throw(KeyError("thrown in"))
        except KeyError:
            return True
        return False

    assert drive()
    assert payloads[0]() is None


async def test_an_error_that_is_kept_does_not_keep_the_function(without_gc: None) -> None:
    async def fail() -> None:
        raise ValueError

    def function_and_payload() -> tuple[list[Function], weakref.ref[Payload]]:
        payload = Payload()

        def call(_payload: Payload = payload) -> Coroutine[Any, Any, None]:
            return fail()

        return [call], weakref.ref(payload)

    functions, payload = function_and_payload()
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - it says nothing
        await within(contextvars.Context(), functions.pop())
    assert caught.value.__traceback__ is not None
    assert payload() is None


async def test_a_function_that_raises_what_closing_does_is_not_taken_for_closed() -> None:
    async def inner() -> None:
        raise GeneratorExit

    with pytest.raises(RuntimeError, match="raised GeneratorExit"):
        await within(context_of("inside"), inner)
