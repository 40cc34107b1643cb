"""Storms of random cancels on real threads: whatever is cut off, and wherever, nothing is left of it.

One small engine owns one of everything: a directory of actors, a fair lock, a supervisor, streams. Errands are run in it by
callers under asyncio, under Trio here and elsewhere, and by threads without a loop. Each is cut off at a random moment, by
its caller or from outside. The short storms take about a second each; the long one is marked `slow`.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from actors import (
    ActorsError,
    Call,
    CreditReader,
    CreditStream,
    Directory,
    Home,
    Host,
    Mailbox,
    MailboxClosed,
    MailboxFull,
    ReadWriteLock,
    RestartPolicy,
    Stopped,
    Supervisor,
    SyncHost,
    ask,
    ask_sync,
    call_host,
    cancel_soon,
    current_host,
    open_supervisor,
    shared_home,
    trio_home,
    wait_settled,
    wait_settled_sync,
)

SHORT = 1_000
"""Errands of a short storm, per kind of caller."""
LONG = 30_000
"""Errands of the long one."""
JOIN_S = 300.0
"""How long a test waits for its threads; only a failing one waits that long."""
MOMENT_S = 0.004
"""The longest that an errand stays anywhere, and that a caller is patient."""
KEYS = 24
THREADS = 6
PATIENT = RestartPolicy(max_failures=10**6, first_delay_s=0.0005, max_delay_s=0.0005)


class Engine:
    """One of everything that owns something, alive in one home."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.chance = random.Random(random.getrandbits(64))
        self.lock = ReadWriteLock(on_contention=self._reconsider)
        self.streams: set[CreditStream[int]] = set()
        self.errands: list[Errand] = []
        self.supervisor: Supervisor
        self.end: Call[None] = Call(_by_hand)
        self.ready: Call[None] = Call(_by_hand)
        self._directory: Directory[int, Call[None]]
        self._close = trio.Event()
        self._others: set[trio.lowlevel.Task] = set()

    def start(self) -> None:
        self.home.start(self._serve, name="engine")

    def close_soon(self) -> None:
        self.home.post(self._close.set)

    def post(self, call: Call[None]) -> None:
        """Send a call to one of the actors. A full mailbox refuses it."""
        self._directory.post_nowait(self.chance.randrange(KEYS), call)

    async def nothing_is_left(self) -> None:
        """In the home: wait until all of the storm has passed, and fail if it does not pass."""
        with trio.move_on_after(10):
            while self._what_is_left():  # noqa: ASYNC110 - see below
                await trio.sleep(0.01)  # many things have to end, the last ones by the clock
        assert self._what_is_left() == []

    def _what_is_left(self) -> list[str]:
        new = _tasks_of_this_run() - self._others - {trio.lowlevel.current_task()}
        left = [f"task {task.name}" for task in new]
        left += [f"actor {key}" for key in self._directory]
        left += [f"child {name}" for name in self.supervisor.children]
        left += ["hold"] * self.lock.holders + ["ticket"] * self.lock.waiting
        left += ["stream"] * len(self.streams)
        return left

    async def _serve(self) -> None:
        async with open_supervisor(PATIENT) as self.supervisor, trio.open_nursery() as nursery:
            self._directory = Directory(
                nursery,
                self._behave,
                on_undelivered=lambda call, reason: call.fail(reason),
                capacity=5,
                idle_s=MOMENT_S,
                policy=PATIENT,
            )
            self._others = _tasks_of_this_run()
            self.ready.settle(None)
            await self._close.wait()
            nursery.cancel_scope.cancel()
        self.end.settle(None)

    async def _behave(self, key: int, mailbox: Mailbox[Call[None]]) -> None:
        async for call in mailbox:
            await call.run()
            if self.chance.random() < 0.02:
                raise ZeroDivisionError("now and then an actor fails")

    def _reconsider(self) -> None:
        for stream in self.streams:
            stream.reconsider()


class Errand:
    """One call, and all that can be asked about its end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.chance = random.Random(engine.chance.getrandbits(64))
        self.patience_s = self.chance.random() * MOMENT_S * 2
        self.stream: CreditStream[int] | None = None
        self.host: Host | None = None
        self.inside = 0
        self.settled = 0
        plans = (self._stay, self._share_the_lock, self._hold_the_lock, self._hire, self._visit)
        plan: Callable[[], Awaitable[None]] = self.chance.choice(plans)
        if self.chance.random() < 0.3:
            plan = self._stream
            self.stream = CreditStream(window=4, may_wait=lambda: not engine.lock.contended)
        self.call: Call[None] = Call(partial(self._enter, plan))
        self.call.on_settled(self._count)
        engine.errands.append(self)

    def check_it_is_over(self) -> None:
        """What holds whenever a caller is back, by whatever way it came."""
        assert self.call.settled
        assert self.settled == 1
        assert self.inside == 0, "the caller was let go before the `finally` blocks had run"

    def begin(self) -> None:
        """In the home: post the call without waiting for it."""
        try:
            self.engine.post(self.call)
        except ActorsError as refused:
            self.call.fail(refused)

    def reader(self, stream: CreditStream[int]) -> CreditReader[int]:
        return CreditReader(stream, lambda count: self.engine.home.do(stream.give_credit, count))

    def _count(self) -> None:
        self.settled += 1

    async def _enter(self, plan: Callable[[], Awaitable[None]]) -> None:
        self.inside += 1
        try:
            await plan()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.chance.random() * MOMENT_S / 4)
            self.inside -= 1

    async def _stay(self) -> None:
        await trio.sleep(self.chance.random() * MOMENT_S)

    async def _share_the_lock(self) -> None:
        await self._with_lock(exclusive=False)

    async def _hold_the_lock(self) -> None:
        await self._with_lock(exclusive=True)

    async def _with_lock(self, *, exclusive: bool) -> None:
        hold = await self.engine.lock.acquire(exclusive=exclusive)
        try:
            assert self.engine.lock.exclusively_held == exclusive
            if self.chance.random() < 0.3:
                self.engine.home.start(partial(self._keep, hold.share().release), name="sharer")
            await self._stay()
        finally:
            hold.release()

    async def _keep(self, release: Callable[[], None]) -> None:
        try:
            await self._stay()
        finally:
            release()

    async def _hire(self) -> None:
        name = f"child of {id(self)}"

        async def fragile() -> None:
            await self._stay()
            raise ValueError("children fail, that is what supervisors are for")

        self.engine.supervisor.start_soon(fragile, name=name)
        try:
            await self._stay()
        finally:
            self.engine.supervisor.stop(name)

    async def _visit(self) -> None:
        """Call back to the caller's loop, which asks the engine for something else."""
        if self.host is not None:
            context = contextvars.copy_context()
            await call_host(self.engine.home, self.host, context, self._nested)

    async def _nested(self) -> None:
        self.inside += 1
        try:
            call: Call[None] = Call(self._stay)
            await ask(self.engine.home, call, spawn)
        finally:
            self.inside -= 1

    async def _stream(self) -> None:
        stream = self.stream
        assert stream is not None
        self.engine.streams.add(stream)
        try:
            for number in range(40):
                await stream.send(number, size_bytes=1)
        finally:
            stream.close()
            self.engine.streams.discard(stream)


def spawn(call: Call[Any]) -> None:
    trio.lowlevel.spawn_system_task(call.run)


async def _by_hand() -> None:
    """The body of a call that is settled by hand."""


def _tasks_of_this_run() -> set[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found, new = set[trio.lowlevel.Task](), {root}
    while new:
        found |= new
        new = {
            child
            for task in new
            for nursery in task.child_nurseries
            for child in nursery.child_tasks
        }
    return found


# Callers


async def run_errand(errand: Errand) -> None:
    """Under any loop: run an errand, or follow its events and leave in the middle."""
    home = errand.engine.home
    errand.host = current_host(home)
    try:
        if errand.stream is None:
            await ask(home, errand.call, errand.engine.post)
        else:
            await follow(errand, errand.stream)
    except ActorsError:
        pass  # refused, or cancelled from outside
    finally:
        errand.check_it_is_over()


async def follow(errand: Errand, stream: CreditStream[int]) -> None:
    home = errand.engine.home
    reader, notify = errand.reader(stream), current_host(home).make_notify()
    enough, read = errand.chance.randrange(60), list[int]()
    home.post(errand.begin)
    try:
        home.do(errand.call.on_settled, notify.notify)
        home.do(stream.connect, notify.notify)
        while len(read) < enough:
            try:
                read.append(reader.receive_nowait())
            except trio.EndOfChannel:
                break
            except trio.WouldBlock:
                if errand.call.settled and not stream.buffered:
                    break  # it was cut off before it could say anything
                await notify.notified()
    finally:
        assert read == list(range(len(read)))
        cancel_soon(home, errand.call)
        await wait_settled(home, errand.call, on_cancel=lambda: None)  # noqa: ASYNC102 - a wait that sees itself through


def run_errand_sync(errand: Errand, host: SyncHost) -> None:
    home = errand.engine.home
    errand.host = host
    try:
        if errand.stream is None:
            ask_sync(home, errand.call, errand.engine.post, host=host)
        else:
            follow_sync(errand, errand.stream, host)
    except ActorsError:
        pass  # refused, or cancelled from outside
    finally:
        errand.check_it_is_over()


def follow_sync(errand: Errand, stream: CreditStream[int], host: SyncHost) -> None:
    home, call = errand.engine.home, errand.call
    reader, enough, read = errand.reader(stream), errand.chance.randrange(60), list[int]()
    home.post(errand.begin)
    home.post(call.on_settled, host.notify)
    home.post(stream.connect, host.notify)
    while len(read) < enough:
        try:
            read.append(reader.receive_nowait())
        except trio.EndOfChannel:
            break
        except trio.WouldBlock:
            if call.settled and not stream.buffered:
                break
            host.wait_once(done=lambda: call.settled, on_cancel=lambda: cancel_soon(home, call))
    assert read == list(range(len(read)))
    cancel_soon(home, call)
    wait_settled_sync(home, call, host=host, on_cancel=lambda: None)


async def storm_under_asyncio(engine: Engine, count: int) -> None:
    async def impatient(errand: Errand) -> None:
        try:
            async with asyncio.timeout(errand.patience_s):
                await run_errand(errand)
        except TimeoutError:
            pass

    async def pestered(errand: Errand) -> None:
        task = asyncio.create_task(run_errand(errand))
        while not task.done():
            await asyncio.sleep(errand.chance.random() * MOMENT_S)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        errand.check_it_is_over()
        assert task.cancelled() or task.exception() is None

    for _ in range(0, count, 50):
        errands = [Errand(engine) for _ in range(50)]
        await asyncio.gather(
            *(errand.chance.choice((impatient, pestered, run_errand))(errand) for errand in errands)
        )
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def storm_under_trio(engine: Engine, count: int) -> None:
    async def impatient(errand: Errand) -> None:
        with trio.move_on_after(errand.patience_s):
            await run_errand(errand)

    for _ in range(0, count, 50):
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                errand = Errand(engine)
                nursery.start_soon(errand.chance.choice((impatient, run_errand)), errand)
            if engine.chance.random() < 0.2:
                await trio.sleep(MOMENT_S)
                nursery.cancel_scope.cancel()


def storm_in_threads(engine: Engine, count: int) -> None:
    def work() -> None:
        host = SyncHost()
        try:
            for _ in range(count // THREADS):
                run_errand_sync(Errand(engine), host)
        finally:
            host.close()

    join(*(in_thread(work) for _ in range(THREADS)))


# Storms


@contextmanager
def engine_in_the_shared_thread() -> Iterator[Engine]:
    """An engine that strangers cancel errands in, and that is empty at the end."""
    engine, host = Engine(shared_home()), SyncHost()
    threads = set(threading.enumerate())
    engine.start()
    wait_settled_sync(engine.home, engine.ready, host=host, on_cancel=lambda: None)
    over = threading.Event()
    stranger = threading.Thread(target=cancel_at_random, args=(engine, over))
    stranger.start()
    try:
        yield engine
    finally:
        over.set()
        stranger.join()
        engine_is_empty: Call[None] = Call(engine.nothing_is_left)
        try:
            ask_sync(engine.home, engine_is_empty, spawn, host=host)
        finally:
            engine.close_soon()
            wait_settled_sync(engine.home, engine.end, host=host, on_cancel=lambda: None)
    for errand in engine.errands:
        errand.check_it_is_over()
    assert set(threading.enumerate()) <= threads


def cancel_at_random(engine: Engine, over: threading.Event) -> None:
    while not over.wait(engine.chance.random() * MOMENT_S):
        if engine.errands:
            cancel_soon(engine.home, engine.chance.choice(engine.errands[-40:]).call)


Started = tuple[threading.Thread, list[BaseException]]


def in_thread(function: Callable[[], object]) -> Started:
    """Start a function in a thread; what it raises is raised by `join`."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            function()
        except BaseException as failure:  # noqa: BLE001, ASYNC103 - raised again in the test's thread
            failures.append(failure)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread, failures


def join(*started: Started) -> None:
    for thread, failures in started:
        thread.join(JOIN_S)
        assert not thread.is_alive(), "somebody waits for ever"
        for failure in failures:
            raise failure


def test_a_storm_under_asyncio_leaves_nothing() -> None:
    with engine_in_the_shared_thread() as engine:
        asyncio.run(storm_under_asyncio(engine, SHORT))


def test_a_storm_under_uvloop_leaves_nothing() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    with engine_in_the_shared_thread() as engine:
        uvloop.run(storm_under_asyncio(engine, SHORT))


def test_a_storm_from_a_trio_run_elsewhere_leaves_nothing() -> None:
    with engine_in_the_shared_thread() as engine:
        trio.run(storm_under_trio, engine, SHORT)


def test_a_storm_from_several_threads_without_a_loop_leaves_nothing() -> None:
    with engine_in_the_shared_thread() as engine:
        storm_in_threads(engine, SHORT)


async def test_a_storm_in_the_engines_own_trio_run_leaves_nothing() -> None:
    engine = Engine(trio_home())
    engine.start()
    await wait_settled(engine.home, engine.ready)
    await storm_under_trio(engine, SHORT)
    await engine.nothing_is_left()
    engine.close_soon()
    await wait_settled(engine.home, engine.end)
    for errand in engine.errands:
        errand.check_it_is_over()


def all_at_once(count: int) -> None:
    with engine_in_the_shared_thread() as engine:
        join(
            in_thread(lambda: asyncio.run(storm_under_asyncio(engine, count))),
            in_thread(lambda: trio.run(storm_under_trio, engine, count)),
            in_thread(lambda: storm_in_threads(engine, count)),
        )


def test_a_storm_from_every_host_at_once_leaves_nothing() -> None:
    all_at_once(SHORT // 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_long_storm_from_every_host_at_once_leaves_nothing() -> None:
    all_at_once(LONG)


def test_a_run_that_ends_in_the_middle_of_a_storm_answers_everybody() -> None:
    for _ in range(10):
        engine_that_ends_under_its_callers()


def engine_that_ends_under_its_callers() -> None:
    engines: list[Engine] = []
    ready = threading.Event()

    async def live_shortly() -> None:
        engine = Engine(trio_home())
        engine.start()
        await wait_settled(engine.home, engine.ready)
        engines.append(engine)
        ready.set()
        await trio.sleep(engine.chance.random() * 0.02)

    run = in_thread(lambda: trio.run(live_shortly))
    assert ready.wait(10)
    join(
        run,
        in_thread(lambda: asyncio.run(one_by_one(engines[0]))),
        in_thread(lambda: trio.run(one_by_one, engines[0])),
        in_thread(lambda: one_by_one_sync(engines[0])),
    )


async def one_by_one(engine: Engine) -> None:
    """Errands until the home is gone; each that was begun comes to its end."""
    while engine.home.alive:
        call, settled = endless_call()
        try:
            await ask(engine.home, call, engine.post)
        except ENDED:
            assert settled == [True]
            assert call.settled


def one_by_one_sync(engine: Engine) -> None:
    host = SyncHost()
    while engine.home.alive:
        call, settled = endless_call()
        try:
            ask_sync(engine.home, call, engine.post, host=host)
        except ENDED:
            assert settled == [True]
            assert call.settled


ENDED = (Stopped, MailboxClosed, MailboxFull)
"""How the end of a run looks to those who wait in it, or come too late."""


def endless_call() -> tuple[Call[None], list[bool]]:
    call: Call[None] = Call(trio.sleep_forever)
    settled: list[bool] = []
    call.on_settled(partial(settled.append, True))
    return call, settled


# Each call settles exactly once, in every order of what can happen to it.

steps = st.lists(st.sampled_from(["settle", "fail", "cancel", "run", "stop", "pass"]), max_size=12)


@given(steps)
def test_a_call_settles_exactly_once_in_every_order_of_events(steps: list[str]) -> None:
    async def main() -> None:
        inside = 0
        settled: list[int] = []

        async def body() -> int:
            nonlocal inside
            inside += 1
            try:
                await trio.sleep_forever()
                return 1
            finally:
                with trio.CancelScope(shield=True):
                    await trio.lowlevel.checkpoint()
                inside -= 1

        call: Call[int] = Call(body)
        by_hand = False
        call.on_settled(lambda: settled.append(inside))
        async with trio.open_nursery() as nursery:
            for step in steps:
                match step:
                    case "settle":
                        by_hand = by_hand or not call.settled
                        call.settle(2)
                    case "fail":
                        by_hand = by_hand or not call.settled
                        call.fail(ValueError())
                    case "cancel":
                        call.cancel()
                    case "run":
                        nursery.start_soon(call.run)
                    case "stop":
                        nursery.cancel_scope.cancel()
                    case "pass":
                        await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        call.cancel()
        assert len(settled) == 1
        assert by_hand or settled == [0], "settled by its end, and not before its end"
        assert inside == 0

    trio.run(main)
