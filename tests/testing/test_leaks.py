"""A block that leaves something behind fails and says what; one that does not passes at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from actors import Home, current_home, shared_home
from nanobot.errors import UsageError
from nanobot.testing import LeakError, no_leaks, scripted_server
from nanobot.testing._leaks import _tasks_in

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are seen on Linux only")


@contextmanager
def leaks(*expected: str) -> Iterator[None]:
    """The block must leave behind exactly what these patterns describe."""
    with pytest.raises(LeakError) as caught:
        yield
    assert len(caught.value.leaks) == len(expected), caught.value.leaks
    for pattern in expected:
        assert any(re.fullmatch(pattern, leak) for leak in caught.value.leaks), caught.value.leaks
    listed = "\n  ".join(("still alive 0.05 s after the end of the block:", *caught.value.leaks))
    assert str(caught.value) == listed


def test_a_block_that_cleans_up_passes_and_does_not_wait(tmp_path: Path) -> None:
    started = time.monotonic()
    with no_leaks(within_s=30):
        (tmp_path / "file").write_text("x")
        subprocess.run([sys.executable, "-c", ""], check=True)
        with scripted_server([]) as server:
            socket.create_connection((server.host, server.port)).close()
        asyncio.run(asyncio.sleep(0))
        trio.run(trio.sleep, 0)
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    assert time.monotonic() - started < 15


def test_a_socket_is_named_with_its_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with leaks(rf"socket \d+, 127\.0\.0\.1:\d+ -> 127\.0\.0\.1:{port}"):
            with no_leaks(within_s=0.05):
                left = socket.create_connection(("127.0.0.1", port))
        left.close()


def test_a_listener_a_pair_and_a_named_socket_are_told_apart(tmp_path: Path) -> None:
    named = str(tmp_path / "s")
    with contextlib.ExitStack() as left:
        with leaks(
            r"socket \d+, 127\.0\.0\.1:\d+", r"socket \d+", r"socket \d+", r"socket \d+, /.*/s"
        ):
            with no_leaks(within_s=0.05):
                left.enter_context(socket.create_server(("127.0.0.1", 0)))
                for end in socket.socketpair():
                    left.enter_context(end)
                left.enter_context(socket.socket(socket.AF_UNIX)).bind(named)


def test_a_file_is_named_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "left open"
    with leaks(rf"file \d+, {re.escape(str(path))}"):
        with no_leaks(within_s=0.05):
            left = path.open("w")
    left.close()


def test_a_pipe_is_two_files() -> None:
    with leaks(r"file \d+, pipe:\[\d+\]", r"file \d+, pipe:\[\d+\]"):
        with no_leaks(within_s=0.05):
            ends = os.pipe()
    for end in ends:
        os.close(end)


def test_a_file_that_was_open_before_may_be_closed_in_the_block(tmp_path: Path) -> None:
    before = (tmp_path / "before").open("w")
    with no_leaks():
        before.close()


def test_a_thread_is_named() -> None:
    stop = threading.Event()
    with leaks("thread 'left behind', a daemon"):
        with no_leaks(within_s=0.05):
            thread = threading.Thread(target=stop.wait, name="left behind", daemon=True)
            thread.start()
    stop.set()
    thread.join()


def test_a_child_process_is_named_with_its_command() -> None:
    with leaks(r"child process \d+, sleep 60"):
        with no_leaks(within_s=0.05):
            process = subprocess.Popen(["sleep", "60"])
    process.kill()
    process.wait()


def test_a_child_that_ended_is_a_leak_until_somebody_waits_for_it() -> None:
    with leaks(r"child process \d+, ended, but nobody waited for it"):
        with no_leaks(within_s=0.05):
            process = subprocess.Popen(["sleep", "60"])
            process.send_signal(signal.SIGKILL)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.wait()


def test_what_ends_on_its_own_is_waited_for() -> None:
    with no_leaks(within_s=30):
        threading.Timer(0.05, int).start()


def test_a_block_that_raises_is_not_checked(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        with no_leaks(within_s=0.05):
            left = (tmp_path / "left").open("w")
            raise KeyError("says more")
    left.close()


async def test_under_trio_a_task_is_named_with_the_place_where_it_waits() -> None:
    async def left_behind() -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with leaks(r"Trio task '.*left_behind', in left_behind \(.*test_leaks\.py:\d+\)"):
            async with no_leaks(within_s=0.05):
                nursery.start_soon(left_behind)
        nursery.cancel_scope.cancel()


async def test_under_trio_a_task_that_never_ran_is_named_too() -> None:
    async with trio.open_nursery() as nursery:
        with leaks(r"Trio task .*sleep_forever.*"):
            async with no_leaks(within_s=0.05):
                nursery.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()


async def test_under_trio_a_clean_block_passes() -> None:
    async with no_leaks(within_s=30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0)
            nursery.start_soon(trio.sleep, 0)
        await trio.to_thread.run_sync(int)
        async with scripted_server([]) as server:
            await (await trio.open_tcp_stream(server.host, server.port)).aclose()


async def test_under_trio_what_ends_on_its_own_is_waited_for() -> None:
    async with trio.open_nursery() as nursery:
        async with no_leaks(within_s=30):
            nursery.start_soon(trio.sleep, 0.05)


async def test_a_clock_that_stands_still_does_not_stop_the_wait(mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        with leaks(r"Trio task .*sleep_forever.*"):
            async with no_leaks(within_s=0.05):
                nursery.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()


async def test_under_trio_a_raising_block_is_not_checked() -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(KeyError):
            async with no_leaks(within_s=0.05):
                nursery.start_soon(trio.sleep_forever)
                raise KeyError("says more")
        nursery.cancel_scope.cancel()


async def test_the_wait_can_be_cancelled() -> None:
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.05) as patience:
            async with no_leaks(within_s=3600):
                nursery.start_soon(trio.sleep_forever)
        assert patience.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_a_block_may_be_left_in_another_task_than_it_was_entered_in() -> None:
    block = no_leaks(within_s=0.05)
    await block.__aenter__()
    async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - for the other task
        nursery.start_soon(block.__aexit__, None, None, None)


def test_under_asyncio_tasks_are_named_and_waited_for() -> None:
    async def waits() -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        async with no_leaks(within_s=30):
            soon = asyncio.create_task(asyncio.sleep(0.05))
            await asyncio.to_thread(int)
        assert soon.done()
        with leaks(r"asyncio task 'left behind', in waits \(.*test_leaks\.py:\d+\)"):
            async with no_leaks(within_s=0.05):
                left = asyncio.create_task(waits(), name="left behind")
        left.cancel()
        await asyncio.wait([left])

    asyncio.run(main())


def test_the_tasks_of_the_engine_in_its_thread_are_seen_from_outside() -> None:
    home = shared_home()
    stop: list[trio.CancelScope] = []

    async def left_behind() -> None:
        with trio.CancelScope() as scope:
            stop.append(scope)
            await trio.sleep_forever()

    with leaks(r"Trio task 'left behind', in .*"):
        with no_leaks(within_s=0.05):
            home.start(left_behind, name="left behind")
    with no_leaks(within_s=30):
        home.post(stop[0].cancel)

    async def main() -> None:
        with leaks(r"Trio task 'left behind', in .*"):
            async with no_leaks(within_s=0.05):
                home.start(left_behind, name="left behind")
        home.post(stop[1].cancel)

    asyncio.run(main())


def test_of_an_engine_that_has_ended_nothing_is_left() -> None:
    async def main() -> Home:
        return current_home()

    assert _tasks_in(trio.run(main)) == set()


async def test_under_trio_with_says_what_to_use() -> None:
    with pytest.raises(UsageError, match="use `async with no_leaks"):
        with no_leaks():
            pass


def test_under_asyncio_with_says_what_to_use() -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match="use `async with no_leaks"):
            with no_leaks():
                pass

    asyncio.run(main())


def test_a_wait_that_no_clock_could_make_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no_leaks\(within_s=…\)"):
        no_leaks(within_s=-1)
