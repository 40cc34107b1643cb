"""Homes: what strangers' code does to a run, and what a run's end does to those who wait."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import (
    Call,
    CreditStream,
    Home,
    HomeGone,
    Host,
    HostGone,
    MailboxFull,
    ReadWriteLock,
    Stopped,
    SyncHost,
    ask,
    ask_sync,
    call_host,
    cancel_soon,
    current_home,
    current_host,
    shared_home,
    trio_home,
    wait_settled,
    wait_settled_sync,
)
from actors._run_ended import post_unless_ended


async def answer() -> int:
    return 42


def submit(call: Call[Any]) -> None:
    trio.lowlevel.spawn_system_task(call.run)


def forget(call: Call[Any]) -> None:
    """An engine that takes a call and never thinks of it again."""


class Elsewhere:
    """A Trio run in a thread of its own, for as long as the block."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))

    def __enter__(self) -> Home:
        self._thread.start()
        assert self._ready.wait(10)
        return self._home

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        if self._home.alive:
            self._home.post(self._scope.cancel)
        self._thread.join(10)

    async def _main(self) -> None:
        self._home = trio_home()
        with trio.CancelScope() as self._scope:
            self._ready.set()
            await trio.sleep_forever()


async def test_a_run_has_one_home_and_so_has_the_shared_thread() -> None:
    assert current_home() is trio_home()

    async def home_there() -> Home:
        return current_home()

    shared = shared_home()
    assert await ask(shared, Call(home_there), submit) is shared


def leave() -> NoReturn:
    raise SystemExit("a stranger's way out")


async def test_an_engine_that_exits_or_fails_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    home = shared_home()

    async def engine() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            leave()

    home.start(engine, name="the engine")
    home.post(leave)
    await ask(home, Call(wait_all_tasks_blocked), submit)
    assert home.alive
    assert "the engine ended with an error" in caplog.text
    assert "a posted callback failed" in caplog.text


def test_an_engine_that_fails_while_it_is_stopped_does_not_crash_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entered = threading.Event()

    async def engine() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                entered.set()
                await trio.sleep_forever()
            finally:
                raise KeyError("while closing")

    async def main() -> None:
        home = trio_home()
        home.start(engine, name="the engine")
        await wait_all_tasks_blocked()
        assert entered.is_set()

    trio.run(main)
    assert "the engine ended with an error" in caplog.text
    assert "while closing" in caplog.text


def test_the_end_of_a_run_is_told_once_and_to_late_comers_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []

    async def main() -> Home:
        home = trio_home()
        home.at_end("first", lambda: told.append("first"))
        home.at_end("fails", lambda: told.remove("never there"))
        home.at_end("forgotten", lambda: told.append("forgotten"))
        home.forget("forgotten")
        home.forget("forgotten")
        await trio.lowlevel.checkpoint()
        return home

    home = trio.run(main)
    assert told == ["first"]
    home.at_end("late", lambda: told.append("late"))
    assert told == ["first", "late"]
    assert "a posted callback failed" in caplog.text
    assert not home.alive
    with pytest.raises(HomeGone):
        home.post(told.clear)


class Crossings:
    """Stands between a home and Trio: counts what crosses, and may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.error: BaseException | None = None
        self._post = post_unless_ended
        monkeypatch.setattr("actors._home.post_unless_ended", self)

    def __call__(self, *args: Any, **options: Any) -> bool:
        self.count += 1
        if self.error is not None:
            raise self.error
        return self._post(*args, **options)


def test_what_is_posted_before_the_run_looks_crosses_together_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    held, done = threading.Event(), threading.Event()
    with Elsewhere() as home:
        home.post(held.wait)
        crossings = Crossings(monkeypatch)
        for number in range(100):
            home.post(seen.append, number)
        held.set()
        home.post(done.set)
        assert done.wait(10)
    assert seen == [*range(100)]
    assert crossings.count in (1, 2)  # the last one may have come after the look


def test_what_a_posted_function_posts_comes_behind_what_others_have_posted() -> None:
    seen: list[str] = []
    done = threading.Event()
    with Elsewhere() as home:

        def first() -> None:
            home.token.run_sync_soon(seen.append, "another's")
            home.post(seen.append, "posted by the first")
            home.post(done.set)
            seen.append("first")

        held = threading.Event()
        home.post(held.wait)
        home.post(first)
        home.post(seen.append, "second")
        held.set()
        assert done.wait(10)
    assert seen == ["first", "second", "another's", "posted by the first"]


def test_ctrl_c_while_something_crosses_does_not_keep_others_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = threading.Event()
    with Elsewhere() as home:
        crossings = Crossings(monkeypatch)
        crossings.error = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            home.post(lambda: None)
        crossings.error = None
        home.post(done.set)
        assert done.wait(10)


class Strike:
    """Ctrl-C in the current thread, at one place of some functions; before it, another thread comes in between."""

    def __init__(self, place: int, functions: tuple[Callable[..., Any], ...]) -> None:
        self.struck = False
        self._left = place
        self._codes = [function.__code__ for function in functions]
        self._before: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def after(self, before: Callable[[], None]) -> Iterator[None]:
        """Strike in the block, after `before` was called in another thread."""
        self._before = before
        traced_by_others = sys.gettrace()
        sys.settrace(self._enter)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                yield
        finally:
            sys.settrace(traced_by_others)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code not in self._codes:
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode" and not self.struck:
            self._left -= 1
            if self._left < 0:
                self.struck = True
                other = threading.Thread(target=self._before)
                other.start()
                other.join()
                raise KeyboardInterrupt
        return self._step


def hold(looking: threading.Event, held: threading.Event) -> None:
    looking.set()
    held.wait(10)


def test_ctrl_c_anywhere_in_a_crossing_leaves_behind_nothing_that_others_have_posted() -> None:
    for place in itertools.count():
        strike = Strike(place, (Home._cross, post_unless_ended))
        looking, held, done = threading.Event(), threading.Event(), threading.Event()
        with Elsewhere() as home:
            home.post(hold, looking, held)
            assert looking.wait(10)
            with strike.after(partial(home.post, done.set)):
                home.post(looking.clear)
            held.set()
            if not strike.struck:
                break
            assert done.wait(10), f"struck at {place}"
    assert place > 10


def test_each_who_posts_to_a_run_that_has_crashed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with Elsewhere() as home:
        monkeypatch.setattr("actors._home.post_unless_ended", lambda *args, **options: False)
        for _ in range(2):
            with pytest.raises(HomeGone):
                home.post(print)
        monkeypatch.undo()


def test_whoever_waits_for_a_forgotten_call_is_told_when_the_run_ends() -> None:
    host = SyncHost()

    def wait_sync(home: Home, call: Call[int]) -> None:
        wait_settled_sync(home, call, host=host, on_cancel=lambda: None)

    async def main(home: Home, end: Callable[[], None]) -> None:
        followed: Call[int] = Call(answer)
        waits = [
            asyncio.create_task(ask(home, Call(answer), forget)),
            asyncio.create_task(wait_settled(home, followed)),
            asyncio.create_task(asyncio.to_thread(wait_sync, home, followed)),
            asyncio.create_task(
                asyncio.to_thread(ask_sync, home, Call(answer), forget, host=SyncHost())
            ),
        ]
        await asyncio.sleep(
            0.05
        )  # either order of waiting and ending is fine; this one is the rarer in practice
        await asyncio.to_thread(end)
        async with asyncio.timeout(10):
            asked, _, _, asked_sync = await asyncio.gather(*waits, return_exceptions=True)
        assert isinstance(asked, HomeGone)
        assert isinstance(asked_sync, HomeGone)
        assert followed.settled
        with pytest.raises(HomeGone):
            await ask(home, Call(answer), submit)
        await wait_settled(home, followed)
        late: Call[int] = Call(answer)
        await wait_settled(home, late)
        with pytest.raises(HomeGone):
            late.result()

    elsewhere = Elsewhere()
    with elsewhere as home:
        asyncio.run(main(home, elsewhere.end))


def test_a_call_that_runs_when_its_run_ends_says_so_after_its_finally_blocks() -> None:
    left = threading.Event()

    async def hold(entered: Callable[[], None]) -> None:
        entered()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            left.set()

    async def main(home: Home, end: Callable[[], None]) -> None:
        entered = threading.Event()
        waiting = asyncio.create_task(ask(home, Call(lambda: hold(entered.set)), submit))
        await asyncio.to_thread(entered.wait)
        await asyncio.to_thread(end)
        with pytest.raises(Stopped, match="the engine was stopped"):
            await waiting
        assert left.is_set()

    elsewhere = Elsewhere()
    with elsewhere as home:
        asyncio.run(main(home, elsewhere.end))


def refuse(call: Call[Any]) -> NoReturn:
    raise MailboxFull(1)


def test_a_refusal_to_take_a_call_is_its_result() -> None:
    async def under_asyncio() -> None:
        async with asyncio.timeout(10):
            with pytest.raises(MailboxFull):
                await ask(current_home(), Call(answer), refuse)

    async def under_trio() -> None:
        with trio.fail_after(10), pytest.raises(MailboxFull):
            await ask(current_home(), Call(answer), refuse)

    asyncio.run(under_asyncio())
    trio.run(under_trio)
    with pytest.raises(MailboxFull):
        ask_sync(shared_home(), Call(answer), refuse, host=SyncHost())


async def test_a_call_that_was_cancelled_before_it_was_asked_for_never_reaches_the_engine() -> None:
    for home in (trio_home(), shared_home()):
        call: Call[int] = Call(answer)
        call.cancel()
        with pytest.raises(Exception, match="cancelled before it started"):
            await ask(home, call, refuse)


async def test_blocking_the_run_that_has_to_do_the_work_is_refused() -> None:
    home = trio_home()
    with pytest.raises(RuntimeError, match="await it instead"):
        ask_sync(home, Call(answer), submit, host=SyncHost())
    with pytest.raises(RuntimeError, match="await it instead"):
        wait_settled_sync(home, Call(answer), host=SyncHost(), on_cancel=lambda: None)

    async def body() -> int:
        return ask_sync(shared_home(), Call(answer), submit, host=SyncHost())

    with pytest.raises(RuntimeError, match="await it instead"):
        await ask(shared_home(), Call(body), submit)


def test_waiting_again_and_again_with_a_deadline_keeps_nothing() -> None:
    async def main() -> None:
        home = current_home()
        call: Call[None] = Call(trio.sleep_forever)
        home.post(submit, call)
        for _ in range(20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wait_settled(home, call), 0.002)
        listeners: Call[int] = Call(lambda: count_listeners(call))
        assert await ask(home, listeners, submit) == 0
        cancel_soon(home, call)
        await wait_settled(home, call)

    asyncio.run(main())


async def count_listeners(call: Call[Any]) -> int:
    return len(call._callbacks)  # the only way to see a leak that ends with the call


def test_a_run_that_is_ending_finds_out_that_a_loop_was_closed_under_its_last_host_call() -> None:
    loop, entered, gave_up = asyncio.new_event_loop(), threading.Event(), threading.Event()

    async def hook() -> None:
        loop.stop()
        await loop.create_future()

    async def find_host() -> Host:
        return current_host(home)

    async def body() -> None:
        entered.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True), contextlib.suppress(HostGone):
                await call_host(home, host, contextvars.copy_context(), hook)
            gave_up.set()

    elsewhere = Elsewhere()
    with elsewhere as home:
        host = loop.run_until_complete(find_host())
        home.post(submit, Call(body))
        assert entered.wait(10)
        ending = threading.Thread(target=elsewhere.end)
        ending.start()
        loop.run_forever()  # until the hook stops it
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # the point of this test, not a mistake
        loop.close()
        assert gave_up.wait(10)
        ending.join()


async def test_ctrl_c_is_felt_where_we_wait_and_not_between_two_lines() -> None:
    protected: list[bool] = []

    def look() -> None:
        protected.append(trio.lowlevel.currently_ki_protected())

    def look_and_refuse(call: Call[int]) -> None:
        look()
        call.settle(0)

    async def main() -> None:
        look()
        await ask(trio_home(), Call(answer), look_and_refuse)
        lock = ReadWriteLock(on_contention=look)
        await lock.acquire(exclusive=True)
        with trio.move_on_after(0):
            await lock.acquire(exclusive=True)
        stream: CreditStream[int] = CreditStream()
        stream.connect(look)
        await stream.send(1)

    await trio.to_thread.run_sync(trio.run, main)
    assert protected == [False, True, True, True]
