"""Several processes on one SQLite file: turns alternate, the dead are found out, a stale owner writes nothing."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import trio

from nanobot.messages import AssistantMessage, UserMessage
from nanobot.sessions import Durability, SessionFenced, open_lease
from nanobot.sessions._sqlite import SqliteStore
from nanobot.sessions._sqlite_file import _refuse_strangers, open_for_writing
from nanobot.sessions._sqlite_process import Process, is_dead, this_process
from tests.sessions import sqlite_child
from tests.sessions.sqlite_child import LEASE_TIMEOUT_S, store_at

ROOT = Path(__file__).parents[2]


@contextmanager
def child(command: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """One of the programs in `sqlite_child`, killed at the end."""
    assert sqlite_child.__file__ is not None
    with subprocess.Popen(
        [sys.executable, sqlite_child.__file__, command, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def assert_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.timeout(600)  # the limits are for what hangs, not for a machine that is busy
@pytest.mark.parametrize("turns", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_processes_hammering_one_session_never_interleave_lose_or_repeat_a_turn(
    tmp_path: Path, turns: int
) -> None:
    path = tmp_path / "sessions.sqlite3"
    names = ["ann", "ben", "cem"]
    with (
        child("take_turns", path, "a", "ann", turns) as ann,
        child("take_turns", path, "a", "ben", turns) as ben,
        child("take_turns", path, "a", "cem", turns) as cem,
    ):
        for process in (ann, ben, cem):
            output, _ = process.communicate(timeout=500)
            assert process.returncode == 0, output
    with closing(store_at(str(path))) as store:
        record = store.read("a")
    assert record is not None
    said = [message.content for message in record.messages]
    assert len(said) == 2 * turns * len(names)
    for asked, answered in zip(said[::2], said[1::2], strict=True):
        assert isinstance(asked, str)
        assert answered == asked.replace("asks", "answers")
    for name in names:
        assert [text for text in said if str(text).startswith(f"{name} asks")] == [
            f"{name} asks {number}" for number in range(turns)
        ]
    assert_sound(path)


@pytest.mark.slow
def test_processes_that_are_killed_among_others_leave_the_others_turns_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sessions.sqlite3"
    turns, killed = 150, 0
    with (
        child("take_turns", path, "a", "ann", turns) as ann,
        child("take_turns", path, "a", "ben", turns) as ben,
    ):
        while ann.poll() is None or ben.poll() is None:
            with child("take_turns", path, "a", f"dead{killed}", 1_000_000) as process:
                read_line(process)
                time.sleep(random.random() * 0.5)
                process.kill()
                killed += 1
                process.communicate(timeout=30)
        for process in (ann, ben):
            output, _ = process.communicate(timeout=30)
            assert process.returncode == 0, output
    with closing(store_at(str(path))) as store:
        record = store.read("a")
    assert record is not None
    said = [str(message.content) for message in record.messages]
    whole: list[str] = []
    while said:
        asked = said.pop(0)
        if said and said[0] == asked.replace("asks", "answers"):
            del said[0]
            whole.append(asked)
        else:
            assert asked.startswith(
                "dead"
            )  # it was killed before its answer, and the next took over
    for name in ("ann", "ben"):
        assert [text for text in whole if text.startswith(name)] == [
            f"{name} asks {number}" for number in range(turns)
        ]
    assert killed > 1
    assert_sound(path)


@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_processes_that_make_one_database_at_once_all_write_to_it(
    tmp_path: Path, rounds: int
) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(child("open_new")) for _ in range(6)]
        for process in processes:
            assert read_line(process) == "ready"
        for number in range(rounds):
            path = tmp_path / str(number) / "sessions.sqlite3"
            for name, process in enumerate(processes):
                assert process.stdin is not None
                process.stdin.write(f"{path} {name}\n")
                process.stdin.flush()
            assert [read_line(process) for process in processes] == ["written"] * 6
            with closing(store_at(str(path))) as store:
                assert sorted(info.key for info in store.list_sessions()) == [*"012345"]
            assert_sound(path)


def test_a_process_with_many_turns_waiting_lets_another_process_have_its_turn(
    tmp_path: Path,
) -> None:
    """In order of arrival: of ten that wait here, all but the first came after the one that waits there."""
    path = tmp_path / "sessions.sqlite3"
    order: list[str] = []

    async def turn(store: SqliteStore, name: str) -> None:
        async with open_lease(store, "a", last=0) as leased:
            await store.append(leased.lease, [UserMessage(name)])
            order.append(name)

    async def here() -> None:
        ours, theirs = store_at(str(path)), store_at(str(path))  # two stores are as two processes
        async with trio.open_nursery() as nursery:
            async with open_lease(ours, "a"):
                nursery.start_soon(turn, theirs, "theirs")
                await _until(lambda: _count(path, "ticket") == 1)
                for number in range(10):
                    nursery.start_soon(turn, ours, f"ours {number}")
                await trio.testing.wait_all_tasks_blocked(0.05)
        assert order[0] == "theirs"
        assert sorted(order[1:]) == sorted(f"ours {number}" for number in range(10))
        assert _count(path, "ticket") == 0
        await ours.aclose()
        await theirs.aclose()

    trio.run(_bounded, here)


def test_the_lease_of_a_process_that_was_killed_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"

    async def here(process: subprocess.Popen[str]) -> None:
        async with _open(path) as store:
            with trio.move_on_after(0.3) as waiting:
                await store.acquire_lease("a")
            assert waiting.cancelled_caught  # it is alive
            process.kill()  # and stays a zombie, for nobody has waited for it yet
            started = time.monotonic()
            async with open_lease(store, "a") as leased:
                assert time.monotonic() - started < LEASE_TIMEOUT_S
                assert leased.position.sequence == 1
                await store.append(leased.lease, [UserMessage("from the second owner")])
            assert _count(path, "owner") == 1  # and nothing of it is left

    with child("hold", path, "a") as process:
        assert read_line(process) == "held"
        trio.run(_bounded, here, process)


@pytest.mark.parametrize("stale_while_owned", [True, False])
def test_a_process_that_was_stopped_for_long_loses_its_lease_and_cannot_write_when_it_goes_on(
    tmp_path: Path, stale_while_owned: bool
) -> None:
    path = tmp_path / "sessions.sqlite3"

    async def go_on(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGCONT)
        output, _ = await trio.to_thread.run_sync(lambda: process.communicate("go on\n", 30))
        assert output == "fenced\n"

    async def here(process: subprocess.Popen[str]) -> None:
        async with _open(path) as store:
            process.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            async with open_lease(store, "a") as leased:
                waited_s = time.monotonic() - started
                assert LEASE_TIMEOUT_S <= waited_s < LEASE_TIMEOUT_S + 10
                await store.append(leased.lease, [UserMessage("from the second owner")])
                if stale_while_owned:
                    await go_on(process)
            assert store.extend("a", [])
            if not stale_while_owned:
                await go_on(process)
            record = store.read("a")
            assert record is not None
            assert record.messages == (
                UserMessage("from the first owner"),
                UserMessage("from the second owner"),
            )

    with child("hold", path, "a") as process:
        assert read_line(process) == "held"
        trio.run(_bounded, here, process)


def test_a_process_that_lives_keeps_its_lease_however_long_its_turn_takes(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"

    async def here(process: subprocess.Popen[str]) -> None:
        async with _open(path) as store:
            with trio.move_on_after(2 * LEASE_TIMEOUT_S) as waiting:
                await store.acquire_lease("a")
            assert waiting.cancelled_caught
            assert not store.extend("a", [UserMessage("meanwhile")])
            await _until(lambda: _count(path, "ticket") == 0)
            output, _ = await trio.to_thread.run_sync(lambda: process.communicate("go on\n", 30))
            assert output == "written\n"
            assert store.extend("a", [])

    with child("hold", path, "a") as process:
        assert read_line(process) == "held"
        trio.run(_bounded, here, process)


async def test_two_stores_in_one_process_see_each_others_turns(tmp_path: Path) -> None:
    async with _open(tmp_path / "x") as one, _open(tmp_path / "x") as other:
        async with open_lease(one, "a") as leased:
            position = await one.append(leased.lease, [UserMessage("1")])
            assert not other.extend("a", [UserMessage("no")])
        async with open_lease(other, "a", unless_at=position) as leased:
            assert leased.record is None  # a copy is good whoever made it
            moved = await other.append(leased.lease, [AssistantMessage("2")])
        async with open_lease(one, "a", unless_at=position) as leased:
            assert leased.position == moved
            assert leased.record is not None
            assert len(leased.record.messages) == 2
            assert other.clear("a") is not None
            with pytest.raises(Exception, match="cleared"):
                await one.append(leased.lease, [UserMessage("3")])


async def test_of_owners_that_were_waited_for_and_left_nothing_is_remembered(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x"
    async with _open(path) as store:
        for _ in range(5):
            async with _open(path) as other:
                async with open_lease(other, "a"):
                    assert not store.extend("a", [UserMessage("it is theirs")])
                    watched = len(store._desk._watched)
                assert watched == 1  # those before have left
            assert store.extend("a", [UserMessage("it is free")])


async def test_who_lost_a_lease_does_not_give_back_that_of_the_next_owner(tmp_path: Path) -> None:
    path = tmp_path / "x"
    async with _open(path) as store, _open(path) as other:
        lost = (await store.acquire_lease("a")).lease
        _do(path, "DELETE FROM lease")  # as when the process hung for long
        async with open_lease(other, "a") as leased:
            await store.release_lease(lost)
            store.flush()  # which comes after it
            await other.append(leased.lease, [UserMessage("still mine")])


async def test_a_process_that_was_taken_for_dead_makes_itself_known_again(tmp_path: Path) -> None:
    path = tmp_path / "x"
    async with _open(path) as store, _open(path) as other:
        store.extend("a", [])
        _do(path, "DELETE FROM owner")  # as when it hung for long
        async with open_lease(store, "b") as leased:
            await _until(lambda: _count(path, "owner") == 1)
            assert not other.extend("b", [UserMessage("it is theirs")])
            await store.append(leased.lease, [UserMessage("still mine")])


async def test_a_lease_that_could_not_be_given_back_is_given_back_later(tmp_path: Path) -> None:
    """The row is found by the next beat, as if the disk had been full when the lease was given back."""
    path = tmp_path / "x"
    async with _open(path) as store, _open(path) as other:
        async with open_lease(store, "a"):
            with closing(sqlite3.connect(path)) as stranger:
                (row,) = stranger.execute("SELECT * FROM lease").fetchall()
        await _until(lambda: _count(path, "lease") == 0)
        with closing(sqlite3.connect(path)) as stranger, stranger:
            stranger.execute("INSERT INTO lease VALUES (?, ?, ?, ?)", row)
        with trio.fail_after(20):
            async with open_lease(other, "a"):
                pass


def test_the_lease_of_a_trio_run_that_crashed_is_given_to_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    store, other = store_at(str(path)), store_at(str(path))

    async def crash() -> None:
        await store.acquire_lease("a")

    async def go_on() -> None:
        async with open_lease(other, "a"):
            pass

    trio.run(crash)
    trio.run(_bounded, go_on)
    trio.run(crash)
    assert store.extend("a", [])  # here it is seen at once
    store.close()
    other.close()


# --- kill -9


@pytest.mark.timeout(600)  # as above: sixty processes
@pytest.mark.parametrize("durability", ["commit", "fast"])
@pytest.mark.parametrize("rounds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_what_a_killed_process_leaves_is_whole_writes_and_all_that_had_returned(
    tmp_path: Path, durability: Durability, rounds: int
) -> None:
    path = tmp_path / "sessions.sqlite3"
    for _ in range(rounds):
        with child("append_forever", path, durability) as process:
            first = read_line(process)
            time.sleep(random.random() * 0.4)
            process.kill()
            output, _ = process.communicate(timeout=30)
        *said, torn = f"{first}\n{output}".split("\n")
        del torn  # the last line may not be whole
        promised: Counter[str] = Counter()
        for line in said:
            key, _, sequence = line.rpartition(" ")
            promised[key] = max(promised[key], int(sequence))
        assert promised
        with closing(store_at(str(path), durability)) as store:
            for info in store.list_sessions():
                record = store.read(info.key)
                assert record is not None
                assert len(record.messages) == info.message_count == record.position.sequence
                assert info.message_count >= promised[info.key]
                assert list(record.messages) == [
                    UserMessage(f"{start} {part}")
                    for start in range(0, info.message_count, 3)
                    for part in range(3)
                ]
            assert store.extend("session 0", [])  # no lease of the dead is in the way
        assert_sound(path)


def test_an_exiting_interpreter_writes_what_it_was_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    with child("leave_while_writing", path) as process:
        output, _ = process.communicate(timeout=60)
        assert output == "leaving\n"
        assert process.returncode == 0
    with closing(store_at(str(path))) as store:
        written = [info for info in store.list_sessions() if info.key != "first"]
    assert len(written) >= 2
    assert {info.message_count for info in written} == {200}


# --- fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_and_its_parent_go_on_with_the_same_sessions(tmp_path: Path) -> None:
    """The parent writes and reads all the time, and holds a lease, which the child cannot use and has to wait for."""
    path = tmp_path / "sessions.sqlite3"
    store = store_at(str(path))

    async def in_child(inherited: object) -> int:
        with trio.fail_after(30):
            record = store.read("a")
            if record is None or record.messages != (UserMessage("x"),):
                return 2
            try:
                await store.append(inherited, [UserMessage("y")])  # type: ignore[arg-type]  # a lease
            except SessionFenced:
                pass
            else:
                return 3
            if store.extend("a", [UserMessage("z")]):
                return 4
            for number in range(20):
                async with open_lease(store, "b") as leased:
                    await store.append(leased.lease, [UserMessage(f"child {number}")])
            await store.aclose()
        return 0

    async def here() -> None:
        async with open_lease(store, "a") as leased:
            await store.append(leased.lease, [UserMessage("x")])
            stop = False

            def read_all_the_time() -> None:
                while not stop:
                    store.read("a")
                    store.list_sessions()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, read_all_the_time)
                try:
                    for _ in range(3):
                        child_pid = await trio.to_thread.run_sync(_forked, in_child, leased.lease)
                        for number in range(20):
                            async with open_lease(store, "b") as other:
                                await store.append(other.lease, [UserMessage(f"parent {number}")])
                        _, status = await trio.to_thread.run_sync(os.waitpid, child_pid, 0)
                        assert os.waitstatus_to_exitcode(status) == 0
                finally:
                    stop = True
            await store.append(leased.lease, [])

    trio.run(_bounded, here)
    said = store.read("b")
    assert said is not None
    assert Counter(str(message.content).split()[0] for message in said.messages) == {
        "child": 60,
        "parent": 60,
    }
    store.close()
    assert_sound(path)


def _forked(main: object, *arguments: object) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.set_wakeup_fd(-1)  # that of the parent's Trio run
            code = trio.run(main, *arguments)  # type: ignore[arg-type]  # an async function
        except BaseException:  # noqa: BLE001, ASYNC103 - the forked child ends here, and says why
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


# --- processes


def test_this_process_is_alive_and_one_that_ended_is_dead() -> None:
    here = this_process()
    assert not is_dead(here)
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        pass
    assert is_dead(Process(here.scope, process.pid, ""))
    assert is_dead(Process(here.scope, process.pid, "12345"))


@pytest.mark.skipif(
    not this_process().started, reason="this system does not say when processes started"
)
def test_a_process_with_the_number_of_a_dead_one_is_not_taken_for_it() -> None:
    here = this_process()
    assert is_dead(Process(here.scope, here.pid, "1"))


def test_of_a_process_in_another_container_nobody_can_tell() -> None:
    assert not is_dead(Process("another boot", 2**22 + 1, "1"))


# ---


def _open(path: Path) -> _Opened:
    return _Opened(store_at(str(path)))


class _Opened:
    def __init__(self, store: SqliteStore) -> None:
        self.store = store

    async def __aenter__(self) -> SqliteStore:
        return self.store

    async def __aexit__(self, *_: object) -> None:
        await self.store.aclose()


def _do(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as stranger, stranger:
        stranger.execute(statement)


def _count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)


async def _until(condition: object) -> None:
    with trio.fail_after(20):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110 - what it waits for is in another process
            await trio.sleep(0.01)


async def _bounded(story: object, *arguments: object) -> None:
    with trio.fail_after(60):
        await story(*arguments)  # type: ignore[operator]  # an async function


def test_a_database_that_another_process_makes_right_now_is_not_a_strangers(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    with closing(sqlite3.connect(path)) as maker:
        maker.execute("PRAGMA journal_mode = WAL").fetchall()
    looks: list[str] = []

    def make_it_meanwhile(statement: str) -> None:
        looks.append(statement)
        if "sqlite_master" in statement:  # after the look for a mark, before the look for tables
            open_for_writing(path).close()

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.set_trace_callback(make_it_meanwhile)
        _refuse_strangers(connection, path)
        connection.set_trace_callback(None)
        assert any("sqlite_master" in look for look in looks)
        _refuse_strangers(connection, path)
        assert connection.execute("PRAGMA user_version").fetchone() != (0,)
