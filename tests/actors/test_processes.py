"""Where processes begin and end: forks, exits and Ctrl-C, each in an interpreter of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

PRELUDE = """
import asyncio, os, signal, sys, threading, time, trio
from actors import *

def submit(call):
    trio.lowlevel.spawn_system_task(call.run)

async def answer():
    return 42

async def hold():
    print("entered", flush=True)
    try:
        await trio.sleep(60)
    finally:
        print("left", flush=True)
"""


started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def no_program_outlives_its_test() -> Iterator[None]:
    yield
    while started:
        with started.pop() as process:
            process.kill()


def start(program: str) -> subprocess.Popen[str]:
    started.append(
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(program)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )
    return started[-1]


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    return process.communicate(timeout=30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_gets_an_engine_of_its_own_and_the_parent_keeps_its() -> None:
    process = start(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of fork with threads: that is the point here
        async def main():
            return await ask(current_home(), Call(answer), submit)
        print(asyncio.run(main()), flush=True)
        home = shared_home()
        child = os.fork()
        if child == 0:
            assert not home.alive
            try:
                home.post(print)
            except HomeGone as gone:
                print("forked" in str(gone), flush=True)
            print(asyncio.run(main()), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(asyncio.run(main()), flush=True)
        """
    )
    out, err = finish(process)
    assert (process.returncode, err) == (0, "")
    assert out.split() == ["42", "True", "42", "42"]


def test_an_exiting_interpreter_lets_finally_blocks_run() -> None:
    process = start(
        """
        ready = threading.Event()
        async def body():
            ready.set()
            await hold()
        shared_home().post(submit, Call(body))
        ready.wait()
        """
    )
    out, err = finish(process)
    assert (process.returncode, err) == (0, "")
    assert out.split() == ["entered", "left"]


@pytest.mark.parametrize("host", ["asyncio", "sync", "trio"])
def test_ctrl_c_ends_the_work_before_it_ends_the_program(host: str) -> None:
    process = start(
        f"""
        async def main():
            await ask(current_home(), Call(hold), submit)
        try:
            match {host!r}:
                case "asyncio": asyncio.run(main())
                case "trio": trio.run(main)
                case "sync": ask_sync(shared_home(), Call(hold), submit, host=SyncHost())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "entered\n"
    process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert (process.returncode, err) == (0, "")
    assert out.split() == ["left", "interrupted"]


def test_a_second_ctrl_c_leaves_at_once() -> None:
    process = start(
        """
        async def stubborn():
            print("entered", flush=True)
            try:
                await trio.sleep(60)
            finally:
                with trio.CancelScope(shield=True):
                    print("stubborn", flush=True)
                    await trio.sleep(60)
        try:
            ask_sync(shared_home(), Call(stubborn), submit, host=SyncHost())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            os._exit(0)
        """
    )
    assert process.stdout is not None
    for line in ("entered\n", "stubborn\n"):
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert (process.returncode, err) == (0, "")
    assert out.split() == ["interrupted"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_between_asking_and_waiting_still_waits_for_the_end(moment: str) -> None:
    process = start(
        f"""
        home = shared_home()
        do = home.do
        entered = threading.Event()
        async def lingering():
            entered.set()
            try:
                await trio.sleep(60)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.05)
                    print("left", flush=True)
        def struck(*args):
            home.do = do
            if {moment!r} == "after":
                do(*args)
                entered.wait()
            signal.raise_signal(signal.SIGINT)
        home.do = struck
        try:
            ask_sync(home, Call(lingering), submit, host=SyncHost())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            os._exit(0)
        """
    )
    out, err = finish(process)
    assert (process.returncode, err) == (0, "")
    assert out.split() == (["left"] if moment == "after" else []) + ["interrupted"]


def test_a_crash_of_trio_itself_is_announced_and_the_next_caller_gets_a_new_run() -> None:
    process = start(
        """
        import logging
        logging.getLogger("actors").addHandler(logging.NullHandler())
        async def crash():
            raise ZeroDivisionError("a system task that fails is how Trio crashes")
        home = shared_home()
        ended = threading.Event()
        home.at_end("test", ended.set)
        home.post(lambda: trio.lowlevel.spawn_system_task(crash))
        assert ended.wait(10)
        home_again = shared_home()
        assert home_again is not home and home_again.alive
        print(ask_sync(home_again, Call(answer), submit, host=SyncHost()))
        """
    )
    out, err = finish(process)
    assert process.returncode == 0, err
    assert out.split() == ["42"]


CRASH = """
import logging
logging.getLogger("actors").addHandler(logging.NullHandler())

async def crash():
    def fail(_):
        raise ZeroDivisionError("an abort function that fails is how Trio crashes without unwinding anything")
    with trio.move_on_after(0):
        await trio.lowlevel.wait_task_rescheduled(fail)
"""


def test_a_crash_that_unwinds_nothing_still_answers_everybody_who_waits() -> None:
    process = start(
        CRASH
        + textwrap.dedent(
            """
            home, ready, go, crashed = None, *(threading.Event() for _ in range(3))

            async def engine():
                global home
                home = current_home()
                ready.set()
                await trio.to_thread.run_sync(go.wait)
                await crash()

            def run_engine():
                try:
                    trio.run(engine)
                except trio.TrioInternalError:
                    crashed.set()

            async def outcome(awaitable):
                try:
                    await awaitable
                except HomeGone:
                    return "gone"

            def sync_outcome():
                try:
                    ask_sync(home, Call(trio.sleep_forever), submit, host=SyncHost())
                except HomeGone:
                    return "gone"

            async def main():
                running, lost, followed = Call(hold), Call(answer), Call(answer)
                waits = [
                    asyncio.create_task(outcome(ask(home, running, submit))),
                    asyncio.create_task(outcome(ask(home, lost, lambda call: None))),  # an engine that forgets
                    asyncio.create_task(asyncio.to_thread(sync_outcome)),
                    asyncio.create_task(wait_settled(home, followed)),
                ]
                while running.state != "running":
                    await asyncio.sleep(0.01)
                go.set()
                async with asyncio.timeout(20):
                    print(await asyncio.gather(*waits), flush=True)
                thread.join()
                assert crashed.is_set()
                assert followed.settled and not home.alive
                print(await outcome(ask(home, Call(answer), submit)), flush=True)

            thread = threading.Thread(target=run_engine)
            thread.start()
            ready.wait()
            asyncio.run(main())
            """
        )
    )
    out, _ = finish(process)  # what Trio and the garbage collector say about the crash is on stderr
    assert process.returncode == 0
    assert [line for line in out.splitlines() if line not in ("entered", "left")] == [
        "['gone', 'gone', 'gone', None]",
        "gone",
    ]


def test_a_crashed_runs_waiter_is_told_nothing_and_a_host_that_crashed_is_gone() -> None:
    process = start(
        CRASH
        + """
hosts, notify = [], TrioNotify()

async def main():
    hosts.append(current_host(shared_home()))
    hosts.append(hosts[0].make_notify())
    trio.lowlevel.spawn_system_task(notify.notified)
    await trio.testing.wait_all_tasks_blocked()
    await crash()

import trio.testing
try:
    trio.run(main)
except trio.TrioInternalError:
    print("crashed", flush=True)
notify.notify()
host, foreign_notify = hosts
foreign_notify.notify()
assert host.gone
try:
    host.start(answer, (), None, print)
except HostGone:
    print("gone", flush=True)
"""
    )
    out, _ = finish(process)
    assert process.returncode == 0
    assert out.split() == ["crashed", "gone"]
