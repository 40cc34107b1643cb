"""Hosts as found in the wild: other loops, other runners, notebooks, guests, and processes that end in the middle."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import (
    Call,
    CallCancelled,
    CreditReader,
    CreditStream,
    Home,
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
)

name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

LOOPS_SEEN: list[asyncio.AbstractEventLoop] = []


def submit(call: Call[Any]) -> None:
    trio.lowlevel.spawn_system_task(call.run)


async def answer() -> int:
    return 42


class Hold:
    """A body that stays until it is cancelled, and tells when it came and went."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.left = threading.Event()

    async def body(self) -> None:
        self.entered.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            self.left.set()


async def tour(home: Home) -> None:
    """Everything that a host is good for: an answer, a deadline, a hook that asks again, a stream."""
    assert await ask(home, Call(answer), submit) == 42
    hold = Hold()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await ask(home, Call(hold.body), submit)
    assert hold.left.is_set() == hold.entered.is_set()

    loop, host, context = asyncio.get_running_loop(), current_host(home), contextvars.copy_context()
    context.run(name.set, "caller")

    async def hook(number: int) -> tuple[int, str]:
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)
        return number + await ask(home, Call(answer), submit), name.get()

    async def body() -> tuple[int, str]:
        return await call_host(home, host, context, hook, 1)

    assert await ask(home, Call(body), submit) == (43, "caller")
    assert await read_stream(home, 100) == list(range(100))


async def read_stream(home: Home, count: int) -> list[int]:
    stream: CreditStream[int] = CreditStream(window=8)
    reader = CreditReader(stream, lambda owed: home.do(stream.give_credit, owed))
    notify, read = current_host(home).make_notify(), list[int]()

    async def produce() -> None:
        for number in range(count):
            await stream.send(number)
        stream.close()

    home.do(submit, Call(produce))
    home.do(stream.connect, notify.notify)
    while True:
        try:
            read.append(reader.receive_nowait())
        except trio.WouldBlock:
            await notify.notified()
        except trio.EndOfChannel:
            return read


# Other loops and runners


def test_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    uvloop.run(tour(shared_home()))
    uvloop.run(tour(shared_home()))


@pytest.mark.asyncio
async def test_pytest_asyncio_with_a_loop_of_its_own() -> None:
    await in_a_new_loop()


@pytest.mark.asyncio
async def test_pytest_asyncio_with_another_loop_and_the_same_home() -> None:
    await in_a_new_loop()


async def in_a_new_loop() -> None:
    loop = asyncio.get_running_loop()
    assert loop not in LOOPS_SEEN
    LOOPS_SEEN.append(loop)
    await tour(shared_home())


def test_ten_threads_with_a_loop_each() -> None:
    together = threading.Barrier(10)

    def run(_: int) -> None:
        together.wait(10)
        asyncio.run(tour(current_home()))

    with ThreadPoolExecutor(10) as threads:
        assert list(threads.map(run, range(10))) == [None] * 10


def test_a_loop_inside_a_thread_of_a_loop() -> None:
    async def outer() -> None:
        await asyncio.gather(
            tour(current_home()), asyncio.to_thread(asyncio.run, tour(current_home()))
        )

    asyncio.run(outer())


def test_asyncios_debug_mode(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 60  # says nothing about a busy machine
        await tour(current_home())

    asyncio.run(main(), debug=True)
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks() -> None:
    async def at_once() -> str:
        return name.get()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]  # since 3.12
        home, context = current_home(), contextvars.copy_context()
        context.run(name.set, "caller")
        host = current_host(home)

        async def body() -> list[str]:
            return [await call_host(home, host, context, at_once) for _ in range(3)]

        assert await ask(home, Call(body), submit) == ["caller"] * 3
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(tour(home))

    asyncio.run(main())


@pytest.mark.parametrize("eager", [False, True])
def test_a_hook_that_exits_ends_its_own_program_and_not_the_engine(eager: bool) -> None:
    if eager and sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    heard: list[str] = []

    async def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        home = current_home()
        host, context = current_host(home), contextvars.copy_context()

        async def body() -> None:
            try:
                await call_host(home, host, context, leave)
            except SystemExit:
                heard.append("exit")

        if eager:
            asyncio.get_running_loop().set_task_factory(
                asyncio.eager_task_factory  # type: ignore[attr-defined,unused-ignore]  # since 3.12
            )
        await ask(home, Call(body), submit)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert heard == ["exit"]
    asyncio.run(tour(shared_home()))


def test_anyios_cancel_scopes() -> None:
    anyio = pytest.importorskip("anyio", reason="anyio is not installed")

    async def main() -> None:
        hold = Hold()
        with anyio.move_on_after(0.02) as scope:
            await ask(current_home(), Call(hold.body), submit)
        assert scope.cancelled_caught
        assert hold.left.is_set() == hold.entered.is_set()
        with anyio.fail_after(10):
            await tour(current_home())

    asyncio.run(main())
    anyio.run(main)


def test_a_deadline_around_a_deadline_is_not_swallowed() -> None:
    async def main() -> None:
        hold = Hold()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02) as outer:
                async with asyncio.timeout(0.02):
                    await ask(current_home(), Call(hold.body), submit)
                await asyncio.sleep(60)  # where the outer one strikes, if the inner one was first
        assert outer.expired()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(main())


# Loops that end before the work does


def test_a_loop_that_is_closed_early_takes_its_calls_with_it() -> None:
    home, hold = shared_home(), Hold()
    call = Call(hold.body)

    async def wait_a_little() -> None:
        waiting = asyncio.create_task(ask(home, call, submit))
        await asyncio.to_thread(hold.entered.wait)
        waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # the point of this test, not a mistake

    loop = closed_after(wait_a_little)
    assert hold.left.wait(10)
    with pytest.raises(CallCancelled):
        result_of(call)
    wait_until_forgotten(loop)
    asyncio.run(tour(home))


def test_a_loop_that_is_closed_under_one_who_only_follows_leaves_the_call_alone() -> None:
    home, hold = shared_home(), Hold()
    call = Call(hold.body)
    home.post(submit, call)

    async def wait_a_little() -> None:
        following = asyncio.create_task(wait_settled(home, call))
        following._log_destroy_pending = False  # type: ignore[attr-defined]  # the point of this test, not a mistake
        await asyncio.to_thread(hold.entered.wait)

    wait_until_forgotten(closed_after(wait_a_little))
    assert not call.settled
    cancel_soon(home, call)
    with pytest.raises(CallCancelled):
        result_of(call)


def closed_after(
    main: Callable[[], Coroutine[Any, Any, None]],
) -> weakref.ref[asyncio.AbstractEventLoop]:
    """A loop that was closed with tasks pending in it."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return weakref.ref(loop)


def wait_until_forgotten(loop: weakref.ref[asyncio.AbstractEventLoop]) -> None:
    """The engine looks once in a second whether loops were closed, and then keeps nothing of them."""
    deadline = time.monotonic() + 10
    while loop() is not None:
        assert time.monotonic() < deadline, (
            "something keeps the loop and all tasks that were pending in it"
        )
        time.sleep(0.01)
        gc.collect()


def result_of(call: Call[Any]) -> object:
    """The result of a call that has settled or is about to."""
    return ask_sync(shared_home(), Call(lambda: until_settled(call)), submit, host=SyncHost())


async def until_settled(call: Call[Any]) -> object:
    settled = trio.Event()
    call.on_settled(settled.set)
    await settled.wait()
    return call.result()


def test_a_task_that_is_cancelled_when_its_loop_shuts_down_waits_for_the_finally_blocks() -> None:
    hold = Hold()

    async def leave_behind() -> None:
        waiting = asyncio.create_task(ask(current_home(), Call(hold.body), submit))
        await asyncio.to_thread(hold.entered.wait)
        assert not waiting.done()

    asyncio.run(leave_behind())
    assert hold.left.is_set()


# Trio as a guest of asyncio


def test_a_trio_guest_asks_the_shared_home_and_serves_its_own_host_loop() -> None:
    """Trio runs inside the asyncio loop of this thread. Its tasks are callers; and its run is a home for asyncio's tasks."""

    async def guest(ready: Callable[[Home, Callable[[], None]], None]) -> str:
        done = trio.Event()
        ready(trio_home(), done.set)
        elsewhere = shared_home()
        assert await ask(elsewhere, Call(answer), submit) == 42
        hold = Hold()
        with trio.move_on_after(0.02) as scope:
            await ask(elsewhere, Call(hold.body), submit)
        assert scope.cancelled_caught
        assert hold.left.is_set() == hold.entered.is_set()

        async def hook() -> str:
            return f"{name.get()} in {trio.lowlevel.current_task().name.rpartition('.')[2]}"

        context = contextvars.copy_context()
        context.run(name.set, "guest")
        host = current_host(elsewhere)

        async def body() -> str:
            return await call_host(elsewhere, host, context, hook)

        said = await ask(elsewhere, Call(body), submit)
        await done.wait()
        return said

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[tuple[Home, Callable[[], None]]] = loop.create_future()
        said: asyncio.Future[str] = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest,
            lambda home, done: ready.set_result((home, done)),
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=lambda outcome: said.set_result(outcome.unwrap()),
            host_uses_signal_set_wakeup_fd=True,
        )
        home, done = await ready
        await tour(home)
        home.post(done)
        assert await said == "guest in run"

    asyncio.run(main())


def test_a_trio_guest_that_ends_answers_those_who_wait_for_it() -> None:
    async def guest(ready: Callable[[Home], None]) -> None:
        ready(trio_home())
        await trio.sleep(0.02)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        home: asyncio.Future[Home] = loop.create_future()
        over = asyncio.Event()
        trio.lowlevel.start_guest_run(
            guest,
            home.set_result,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=lambda _: over.set(),
            host_uses_signal_set_wakeup_fd=True,
        )
        hold = Hold()
        with pytest.raises(Stopped):
            await ask(await home, Call(hold.body), submit)
        assert hold.left.is_set()
        await over.wait()

    asyncio.run(main())


# Processes


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_get_an_engine_of_their_own(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform cannot {method}")
    program = """
        import asyncio, multiprocessing, sys
        from {module} import child_of_multiprocessing, tour
        from actors import shared_home

        if __name__ == "__main__":
            asyncio.run(tour(shared_home()))
            context = multiprocessing.get_context({method!r})
            here, there = context.Pipe()
            children = [context.Process(target=child_of_multiprocessing, args=(there,)) for _ in range(2)]
            for child in children:
                child.start()
            for child in children:
                child.join()
                assert child.exitcode == 0, child.exitcode
            print(sorted(here.recv() for _ in range(4)))
            asyncio.run(tour(shared_home()))
    """
    # 3.12 warns of a fork with threads around: that is the point here
    out, err = run_program(
        program.format(method=method, module="test_wild_hosts"), "-W", "ignore::DeprecationWarning"
    )
    assert err == ""
    assert out.strip() == "['left', 'left', 'toured', 'toured']"


def child_of_multiprocessing(there: Connection) -> None:
    asyncio.run(tour(shared_home()))
    there.send("toured")
    entered = threading.Event()

    async def hold() -> None:
        entered.set()
        try:
            await trio.sleep_forever()
        finally:
            there.send("left")

    shared_home().post(submit, Call(hold))
    entered.wait()


EXITS: dict[str, str] = {
    "sys.exit() in a task": """
        async def main():
            asyncio.create_task(ask(current_home(), Call(hold), submit))
            await asyncio.to_thread(entered.wait)
            sys.exit(3)

        asyncio.run(main())
    """,
    "an error in the main task": """
        async def main():
            asyncio.create_task(ask(current_home(), Call(hold), submit))
            await asyncio.to_thread(entered.wait)
            raise SystemExit(3)

        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(main())
        finally:
            waiting = asyncio.all_tasks(loop)
            for task in waiting:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
            loop.close()
    """,
    # What a daemon thread prints while the interpreter ends may have the lock of stdout's buffer, at which CPython aborts.
    "a daemon thread whose loop still waits": """
        def wait_for_ever():
            try:
                asyncio.run(ask(shared_home(), Call(hold), submit))
            except Stopped:
                os.write(1, b"stopped")

        threading.Thread(target=wait_for_ever, daemon=True).start()
        entered.wait()
        sys.exit(3)
    """,
    "a daemon thread that blocks": """
        def wait_for_ever():
            try:
                ask_sync(shared_home(), Call(hold), submit, host=SyncHost())
            except Stopped:
                os.write(1, b"stopped")

        threading.Thread(target=wait_for_ever, daemon=True).start()
        entered.wait()
        sys.exit(3)
    """,
    "a loop that was left running nothing": """
        async def start():
            asyncio.get_running_loop().create_task(ask(shared_home(), Call(hold), submit))
            await asyncio.to_thread(entered.wait)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(start())
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # leaving it pending is the point
        loop.close()
        sys.exit(3)
    """,
}


@pytest.mark.parametrize("way_out", EXITS)
def test_an_interpreter_that_exits_under_live_calls_lets_their_finally_blocks_run(
    way_out: str,
) -> None:
    prelude = """
        import asyncio, os, sys, threading, trio
        from actors import Call, Stopped, SyncHost, ask, ask_sync, current_home, shared_home

        entered = threading.Event()

        def submit(call):
            trio.lowlevel.spawn_system_task(call.run)

        async def hold():
            entered.set()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.05)
                print("left", flush=True)
    """
    out, err = run_program(prelude, EXITS[way_out], "-W", "error", status=3)
    assert err == ""
    assert out.split()[0] == "left"


@pytest.mark.notebook
def test_cells_of_a_notebook_share_a_home() -> None:
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    out, _ = run_program(
        '''
        from jupyter_client.manager import start_new_kernel

        def run(code):
            said = []
            reply = client.execute_interactive(
                code,
                timeout=60,
                output_hook=lambda message: said.append(
                    message["content"].get("text") or "".join(message["content"].get("traceback", ()))
                ),
            )
            print(reply["content"]["status"], *said, flush=True)

        manager, client = start_new_kernel(kernel_name="python3")
        try:
            run("""
        import asyncio, trio
        from actors import Call, ask, current_home
        def submit(call): trio.lowlevel.spawn_system_task(call.run)
        async def answer(): return 42
        home = current_home()
        print(await ask(home, Call(answer), submit), end="")
        """)
            run("""
        async def hold():
            try:
                await trio.sleep_forever()
            finally:
                print("left", end="")
        try:
            await asyncio.wait_for(ask(home, Call(hold), submit), 0.1)
        except TimeoutError:
            print(" in time", current_home() is home, end="")
        """)
        finally:
            client.stop_channels()
            manager.shutdown_kernel()
        '''
    )
    assert "".join(out.split("ok")).split() == ["42", "left", "in", "time", "True"]


def run_program(*parts: str, status: int = 0) -> tuple[str, str]:
    """Run a program in an interpreter of its own; parts that begin with a dash, and their values, are its options."""
    sources = [textwrap.dedent(part) for part in parts if "\n" in part]
    options = [part for part in parts if "\n" not in part]
    path = os.pathsep.join([str(Path.cwd()), str(Path(__file__).parent)])
    ended = subprocess.run(
        [sys.executable, *options, "-c", "\n".join(sources)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    return ended.stdout, ended.stderr
