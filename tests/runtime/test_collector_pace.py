"""How often Python looks for garbage follows the runs under way, and what the program says stands before and after."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest

from nanobot.runtime import _collector_pace
from nanobot.runtime._collector_pace import CollectorPace


@pytest.fixture(autouse=True)
def threshold(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What the program says, here Python's own of 3.11. Nothing of other tests counts."""
    before = gc.get_threshold()
    monkeypatch.setattr(_collector_pace, "_most", {})
    monkeypatch.setattr(_collector_pace, "_program_says", None)
    gc.set_threshold(700, *before[1:])
    yield 700
    assert not _collector_pace._most
    gc.set_threshold(*before)


def note(pace: CollectorPace, runs: int) -> None:
    pace.follow(lambda: runs)


def now() -> int:
    return gc.get_threshold()[0]


def test_a_few_runs_change_nothing(threshold: int) -> None:
    pace = CollectorPace()
    for runs in (1, 2, 3, 4, 3, 2, 1, 0):
        note(pace, runs)
        assert now() == threshold


def test_many_runs_have_room_and_leave_none_behind(threshold: int) -> None:
    pace = CollectorPace()
    rooms = []
    for runs in (*range(5_001), *reversed(range(5_000))):
        note(pace, runs)
        rooms.append(now())
        assert now() >= 256 * runs or runs <= 4
    assert max(rooms) == 256 * 8_192
    assert now() == threshold


def test_it_is_said_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(_collector_pace, "_make_room", lambda _pace, runs: said.append(runs))
    pace = CollectorPace()
    for runs in (*range(1_001), *[1_000, 999] * 100, *reversed(range(1_000))):
        note(pace, runs)
    assert said == [8, 16, 32, 64, 128, 256, 512, 1_024, 256, 64, 16, 0]


def test_runtimes_of_one_process_have_room_together(threshold: int) -> None:
    one, other = CollectorPace(), CollectorPace()
    note(one, 100)
    note(other, 1_000)
    assert now() == 256 * (128 + 1_024)
    note(one, 0)
    assert now() == 256 * 1_024
    note(other, 0)
    assert now() == threshold


@pytest.mark.parametrize("said", [0, 50_000])
def test_a_program_that_wants_less_looking_has_it(said: int) -> None:
    gc.set_threshold(said)
    pace = CollectorPace()
    note(pace, 100)
    assert now() == said
    note(pace, 0)
    assert now() == said


def test_what_the_program_says_meanwhile_stands_in_the_end() -> None:
    pace = CollectorPace()
    note(pace, 100)
    gc.set_threshold(900, 5, 7)
    note(pace, 1_000)
    assert gc.get_threshold() == (256 * 1_024, 5, 7)
    note(pace, 0)
    assert gc.get_threshold() == (900, 5, 7)


def test_a_forked_child_has_no_runs(threshold: int) -> None:
    pace = CollectorPace()
    note(pace, 100)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(now()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reading, 20)) == threshold
    assert now() == 256 * 128
    note(pace, 0)


def test_a_change_that_nobody_else_has_seen_is_seen(threshold: int) -> None:
    """The last run ends while another thread makes room for it, and looks before there is any."""
    pace = CollectorPace()
    counts = iter([100, 100])

    def count() -> int:
        return next(counts, 0)

    pace.follow(count)
    assert now() == threshold


def test_runtimes_in_many_threads(threshold: int) -> None:
    def live() -> None:
        pace = CollectorPace()
        for runs in (*range(300), *reversed(range(300))):
            note(pace, runs)

    threads = [threading.Thread(target=live) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert now() == threshold
