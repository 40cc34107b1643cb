"""One engine, many hosts: callers under asyncio, uvloop, trio elsewhere, or no loop at all.

These tests cross threads, so they run in real time; what they wait for is an event, never a guess.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import (
    Call,
    CallCancelled,
    Home,
    Host,
    HostCancelled,
    HostGone,
    Notify,
    SyncHost,
    ask,
    ask_sync,
    call_host,
    cancel_soon,
    current_home,
    current_host,
    shared_home,
    wait_settled,
)

color: contextvars.ContextVar[str] = contextvars.ContextVar("color", default="none")


def submit(call: Call[Any]) -> None:
    """The smallest engine there is: each call is a task of the home."""
    trio.lowlevel.spawn_system_task(call.run)


class Steps:
    """A body that reports where it is and holds there until it is cancelled or let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.left = threading.Event()

    async def body(self) -> str:
        self.entered.set()
        try:
            await trio.sleep(60)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)  # a `finally` that takes its time is the case that matters
            self.left.set()
        return "never"


def under_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(bounded())


def test_asyncio_callers_get_results_errors_and_their_own_context() -> None:
    async def read_color() -> str:
        return color.get()

    async def fail() -> None:
        raise ZeroDivisionError("from the engine")

    async def main() -> None:
        home = current_home()
        color.set("green")
        assert await ask(home, Call(read_color), submit) == "green"
        with pytest.raises(ZeroDivisionError, match="from the engine"):
            await ask(home, Call(fail), submit)

    under_asyncio(main)


def test_a_cancelled_asyncio_caller_leaves_only_after_the_finally_blocks_ran() -> None:
    async def main() -> None:
        steps = Steps()
        task = asyncio.create_task(ask(current_home(), Call(steps.body), submit))
        await asyncio.to_thread(steps.entered.wait)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # an impatient caller does not get out sooner
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps.left.is_set()

    under_asyncio(main)


def test_wait_for_times_out_cleanly() -> None:
    async def main() -> None:
        steps = Steps()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(current_home(), Call(steps.body), submit), 0.05)
        assert steps.left.is_set() == steps.entered.is_set()

    under_asyncio(main)


def test_a_second_asyncio_run_and_a_closed_loop_find_the_engine_well() -> None:
    async def answer() -> int:
        return 42

    steps = Steps()

    async def start_and_leave() -> None:
        call = Call(steps.body)
        current_home().post(submit, call)
        await asyncio.to_thread(steps.entered.wait)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(start_and_leave())
    pending = loop.create_task(wait_settled(shared_home(), Call(answer)))
    loop.run_until_complete(asyncio.sleep(0))
    pending.cancel()
    loop.run_until_complete(asyncio.gather(pending, return_exceptions=True))
    loop.close()

    async def main() -> None:
        assert await ask(current_home(), Call(answer), submit) == 42

    under_asyncio(main)
    under_asyncio(main)


def test_a_notification_for_a_closed_loop_is_dropped() -> None:
    loop = asyncio.new_event_loop()

    async def make() -> Callable[[], None]:
        return current_host(shared_home()).make_notify().notify

    notify = loop.run_until_complete(make())
    loop.close()
    notify()


def test_uvloop_callers_are_served_like_any_other() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")

    async def answer() -> str:
        return color.get()

    async def main() -> str:
        color.set("blue")
        steps = Steps()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(current_home(), Call(steps.body), submit), 0.05)
        return await ask(current_home(), Call(answer), submit)

    assert uvloop.run(main()) == "blue"


async def test_trio_callers_share_their_run_with_the_engine() -> None:
    steps = Steps()

    async def who() -> trio.lowlevel.TrioToken:
        return trio.lowlevel.current_trio_token()

    home = current_home()
    assert await ask(home, Call(who), submit) is trio.lowlevel.current_trio_token()
    with trio.move_on_after(0.05) as scope:
        await ask(home, Call(steps.body), submit)
    assert scope.cancelled_caught
    assert steps.left.is_set()


async def test_a_trio_caller_may_use_an_engine_in_another_run() -> None:
    home, steps = shared_home(), Steps()

    async def answer() -> int:
        return 42

    assert await ask(home, Call(answer), submit) == 42
    with trio.move_on_after(0.05) as scope:
        await ask(home, Call(steps.body), submit)
    assert scope.cancelled_caught
    assert steps.left.is_set()


def test_sync_callers_block_and_serve_what_the_engine_asks_of_them() -> None:
    home, host = shared_home(), SyncHost()
    seen: list[str] = []

    async def hook(name: str) -> str:
        seen.append(threading.current_thread().name)
        await asyncio.sleep(0)
        return f"{name} {color.get()}"

    color.set("red")
    context = contextvars.copy_context()

    async def body() -> str:
        return await call_host(home, host, context, hook, "hello")

    assert ask_sync(home, Call(body), submit, host=host) == "hello red"
    assert seen == [threading.current_thread().name]
    host.close()


def test_a_sync_callers_hook_is_cancelled_with_its_call_before_or_after_it_begins() -> None:
    home = shared_home()

    def cancelled(begun: bool) -> bool:
        """Whether the hook ran to its `finally`; it is cancelled after it began, or while it waits for the thread."""
        host, left, cancelled_there = SyncHost(), False, threading.Event()

        async def hook() -> None:
            nonlocal left
            if begun:
                cancel_soon(home, call)
            try:
                await asyncio.sleep(60)
            finally:
                left = True

        async def body() -> None:
            if not begun:
                host.start(busy, (), contextvars.copy_context(), lambda *_: None)
            await call_host(home, host, contextvars.copy_context(), hook)

        async def busy() -> None:
            cancel_soon(home, call)
            home.post(cancelled_there.set)
            assert cancelled_there.wait(
                10
            )  # blocks the thread's own loop, so that the hook cannot begin before

        call = Call(body)
        with pytest.raises(CallCancelled):
            ask_sync(home, call, submit, host=host)
        host.close()
        return left

    assert cancelled(begun=True)
    assert not cancelled(begun=False)


@pytest.mark.parametrize("strikes", ["before the cancellation", "after it", "in the wait"])
@pytest.mark.parametrize("wait", [SyncHost.wait_until, SyncHost.wait_once])
def test_a_second_ctrl_c_leaves_wherever_it_strikes(
    wait: Callable[..., None], strikes: str
) -> None:
    """Once the engine was told of the first one, a second may come before the thread is back in its wait."""
    host = SyncHost()
    cancelled: list[bool] = []

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    def on_cancel() -> None:
        if strikes == "before the cancellation":
            ctrl_c()
        cancelled.append(True)
        if strikes == "after it":
            ctrl_c()

    host._work.put(ctrl_c)
    if strikes == "in the wait":
        host._work.put(ctrl_c)
    host._work.put(unreached)
    with pytest.raises(KeyboardInterrupt):
        wait(host, done=lambda: False, on_cancel=on_cancel)
    assert host.gone
    assert len(cancelled) == (strikes != "before the cancellation")


def unreached() -> None:
    raise AssertionError("the thread waits again")


async def test_an_answer_that_arrives_with_the_news_of_a_closed_loop_wakes_nobody_twice(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    host = ClosingHost()

    async def hook() -> None:
        raise AssertionError("this host only pretends")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call_host, current_home(), host, contextvars.copy_context(), hook)
        await wait_all_tasks_blocked()
        assert host.finished is not None
        host.finished(None, None)  # posted, not yet arrived
        nursery.cancel_scope.cancel()
    await trio.sleep(5)  # and the look at host calls finds nothing to look at
    assert caplog.text == ""


class ClosingHost:
    """A loop that has just been closed when somebody wants to cancel something on it."""

    gone = False
    finished: Callable[[Any, BaseException | None], None] | None = None

    def start(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        context: contextvars.Context,
        finished: Callable[[Any, BaseException | None], None],
    ) -> Callable[[], None]:
        self.finished = finished

        def cancel() -> None:
            raise HostGone("closed")

        return cancel


def test_hooks_run_on_the_callers_loop_in_the_callers_context_and_may_call_back() -> None:
    async def main() -> None:
        home = current_home()
        color.set("yellow")
        host, context, loop = (
            current_host(home),
            contextvars.copy_context(),
            asyncio.get_running_loop(),
        )

        async def inner() -> str:
            return "inner"

        async def hook(number: int) -> tuple[int, str, bool, str]:
            here = asyncio.get_running_loop() is loop
            return number, color.get(), here, await ask(home, Call(inner), submit)

        async def body() -> tuple[int, str, bool, str]:
            return await call_host(home, host, context, hook, 7)

        assert await ask(home, Call(body), submit) == (7, "yellow", True, "inner")

    under_asyncio(main)


def test_what_a_hook_raises_is_raised_in_the_engine() -> None:
    async def main() -> None:
        home = current_home()
        host = current_host(home)

        async def hook() -> None:
            raise KeyError("hook")

        async def body() -> str:
            with pytest.raises(KeyError, match="hook"):
                await call_host(home, host, contextvars.copy_context(), hook)
            return "survived"

        assert await ask(home, Call(body), submit) == "survived"

    under_asyncio(main)


def test_cancelling_the_engines_side_cancels_the_hook_and_waits_for_it() -> None:
    async def main() -> None:
        home = current_home()
        host, entered, left = current_host(home), asyncio.Event(), False

        async def hook() -> None:
            nonlocal left
            entered.set()
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)  # noqa: ASYNC102 - cancelled once only; what it takes is the case that matters
                left = True

        async def body() -> None:
            await call_host(home, host, contextvars.copy_context(), hook)

        call = Call(body)
        task = asyncio.create_task(ask(home, call, submit))
        await entered.wait()
        cancel_soon(home, call)
        with pytest.raises(CallCancelled):
            await task
        assert left

    under_asyncio(main)


async def test_a_cancelled_hook_in_a_foreign_trio_run_is_a_cancelled_call() -> None:
    home = shared_home()
    host, entered, left = current_host(home), trio.Event(), False

    async def hook() -> None:
        nonlocal left
        entered.set()
        try:
            await trio.sleep_forever()
        finally:
            left = True

    async def body() -> None:
        await call_host(home, host, contextvars.copy_context(), hook)

    call = Call(body)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def waiting() -> None:
            with pytest.raises(CallCancelled):
                await ask(home, call, submit)

        await entered.wait()
        cancel_soon(home, call)
    assert left


def test_a_hook_for_a_trio_run_that_is_past_its_last_task_is_refused_and_harms_nobody() -> None:
    answers: list[BaseException | None] = []

    async def hook() -> None:
        raise AssertionError("never run")

    async def last_words(host: Host) -> AsyncIterator[None]:  # noqa: ASYNC900 - forgetting one is the point
        try:
            yield
        finally:  # Trio closes forgotten async generators when all its tasks are gone
            host.start(hook, (), contextvars.copy_context(), lambda _, error: answers.append(error))

    async def main() -> AsyncIterator[None]:
        generator = last_words(current_host(shared_home()))
        await anext(generator)
        return generator

    generator = trio.run(main)
    del generator
    assert [type(answer) for answer in answers] == [HostGone]


async def cancelled_by_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


async def awaits_something_cancelled() -> None:
    other = asyncio.ensure_future(asyncio.sleep(60))
    other.cancel()
    await other


@pytest.mark.parametrize("hook", [cancelled_by_itself, awaits_something_cancelled])
def test_a_hook_that_its_own_loop_cancels_is_an_error_not_a_cancellation(
    hook: Callable[[], Coroutine[object, object, None]],
) -> None:
    async def main() -> None:
        home = current_home()
        host = current_host(home)

        async def body() -> str:
            with pytest.raises(HostCancelled, match="its own event loop"):
                await call_host(home, host, contextvars.copy_context(), hook)
            return "survived"

        assert await ask(home, Call(body), submit) == "survived"

    under_asyncio(main)


def test_a_loop_that_closes_under_a_hook_does_not_keep_the_engine_waiting() -> None:
    home, entered, gave_up = shared_home(), threading.Event(), threading.Event()
    loop = asyncio.new_event_loop()

    async def hook() -> None:
        entered.set()
        loop.stop()
        await asyncio.get_running_loop().create_future()

    async def start() -> None:
        host, context = current_host(home), contextvars.copy_context()

        async def body() -> None:
            try:
                await call_host(home, host, context, hook)
            except HostGone:
                gave_up.set()

        home.post(submit, Call(body))

    loop.run_until_complete(start())
    loop.run_forever()
    assert entered.is_set()
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # the point of this test, not a mistake
    loop.close()
    assert gave_up.wait(10)


def test_a_second_task_at_one_notification_is_refused_by_every_host() -> None:
    async def under_asyncio() -> None:
        notify = current_host(shared_home()).make_notify()
        first = asyncio.create_task(_notified(notify))
        await asyncio.sleep(0)
        with pytest.raises(trio.BusyResourceError):
            await notify.notified()
        notify.notify()
        await first

    async def under_trio(home: Home) -> None:
        notify = current_host(home).make_notify()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notify.notified)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await notify.notified()
            notify.notify()

    asyncio.run(under_asyncio())
    trio.run(under_trio, shared_home())


async def _notified(notify: Notify) -> None:
    await notify.notified()


def test_a_loop_that_makes_no_tasks_fails_the_hook_and_leaves_no_coroutine_behind() -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError("no tasks today")

    async def hook() -> None:
        raise AssertionError("never run")

    async def main() -> None:
        home, loop = current_home(), asyncio.get_running_loop()
        host = current_host(home)

        async def body() -> str:
            with pytest.raises(ZeroDivisionError, match="no tasks today"):
                await call_host(home, host, contextvars.copy_context(), hook)
            return "survived"

        asked = asyncio.create_task(ask(home, Call(body), submit))
        loop.set_task_factory(refuse)
        try:
            assert await asked == "survived"
        finally:
            loop.set_task_factory(None)

    under_asyncio(main)


def test_a_sync_callers_hooks_leave_the_threads_own_loop_alone() -> None:
    home, host = shared_home(), SyncHost()

    async def hook() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def body() -> bool:
        loops = {await call_host(home, host, contextvars.copy_context(), hook) for _ in range(2)}
        return len(loops) == 1

    own = asyncio.new_event_loop()
    asyncio.set_event_loop(own)
    try:
        assert ask_sync(home, Call(body), submit, host=host)
        host.close()
        host.close()
        assert asyncio.get_event_loop() is own
        with pytest.raises(HostGone, match="no longer waits"):
            host.start(hook, (), contextvars.copy_context(), print)
    finally:
        asyncio.set_event_loop(None)
        own.close()


def test_a_sync_caller_inside_a_running_loop_cannot_serve_hooks_and_says_so() -> None:
    home, host = shared_home(), SyncHost()

    async def hook() -> None:
        raise AssertionError("never run")

    async def body() -> str:
        with pytest.raises(RuntimeError, match="running event loop"):
            await call_host(home, host, contextvars.copy_context(), hook)
        return "survived"

    async def main() -> None:
        assert ask_sync(home, Call(body), submit, host=host) == "survived"

    under_asyncio(main)
    host.close()


def test_a_posted_callback_that_fails_takes_nobody_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    home, after = shared_home(), threading.Event()
    home.post(lambda: 1 // 0)
    home.post(after.set)
    assert after.wait(10)
    assert home.alive
    assert "a posted callback failed" in caplog.text


def test_a_thread_of_trio_callers_finds_an_engine_gone_with_its_run() -> None:
    homes: list[Home] = []

    async def borrow() -> None:
        homes.append(current_home())

    trio.run(borrow)

    async def answer() -> int:
        return 42

    async def main() -> None:
        with pytest.raises(Exception, match="has ended"):
            await ask(homes[0], Call(answer), submit)

    under_asyncio(main)
    assert not homes[0].alive


def test_a_storm_of_cancels_leaves_every_call_settled_and_every_body_left() -> None:
    chance = random.Random(5)
    entered = left = 0

    async def body(stays: float) -> None:
        nonlocal entered, left
        entered += 1
        try:
            await trio.sleep(stays)
        finally:
            left += 1

    async def one(home: Home, calls: list[Call[None]]) -> None:
        stays = chance.random() * 0.02
        call = Call(lambda: body(stays))
        calls.append(call)
        try:
            async with asyncio.timeout(chance.random() * 0.02):
                await ask(home, call, submit)
        except TimeoutError:
            pass
        assert call.settled

    async def main() -> None:
        calls: list[Call[None]] = []
        await asyncio.gather(*(one(current_home(), calls) for _ in range(1000)))
        assert all(call.settled for call in calls)
        assert entered == left

    under_asyncio(main)
