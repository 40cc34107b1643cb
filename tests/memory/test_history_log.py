"""history.jsonl: every entry has a number of its own, whoever writes and whatever happened to the file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import InvalidArgument, StoreError
from nanobot.memory import CLEARED, RECENT_BYTES, SUMMARY, HistoryLog, entries_in
from tests.memory.synced import synced_sizes
from tests.special_files import any_special_file, make_special


def log_in(folder: Path) -> HistoryLog:
    return HistoryLog(folder, now=lambda: datetime(2024, 5, 6, 7, 8))


def entry(cursor: int, content: str, **more: Any) -> dict[str, Any]:
    return {"cursor": cursor, "timestamp": "2024-05-06 07:08", "content": content, **more}


def test_entries_are_numbered_from_one_and_come_back_in_order(tmp_path: Path) -> None:
    log = log_in(tmp_path / "memory")
    assert log.read() == []
    assert not (tmp_path / "memory").exists()
    assert [log.append("one"), log.append("two", "user:a"), log.append("three", "user:b")] == [
        1,
        2,
        3,
    ]
    assert log.read() == [
        entry(1, "one"),
        entry(2, "two", session_key="user:a"),
        entry(3, "three", session_key="user:b"),
    ]
    assert log.read("user:a") == [entry(2, "two", session_key="user:a")]
    assert log.read("") == []
    lines = log.path.read_text().splitlines()
    assert json.loads(lines[0]) == entry(1, "one", kind="note")
    assert (tmp_path / "memory" / ".cursor").read_text() == "3\n"


def old_line(cursor: int, session_key: str | None = None) -> str:
    """As the existing nanobot writes it."""
    more = {} if session_key is None else {"session_key": session_key}
    return json.dumps(entry(cursor, "old", **more)) + "\n"


def kinds(log: HistoryLog) -> list[Any]:
    return [kept.kind for kept in entries_in(log.path.read_bytes())]


def test_a_session_that_begins_anew_is_marked_once_behind_entries_of_an_older_version(
    tmp_path: Path,
) -> None:
    log = log_in(tmp_path)
    log.path.write_text(old_line(1, "a") + old_line(2))
    for _ in range(2):
        log.begin_anew("a")
        log.begin_anew("b")
    assert kinds(log) == [None, None, CLEARED]
    assert log.read("a")[-1]["cursor"] == 3
    with log.path.open("a") as file:
        file.write(old_line(4, "a"))  # the older version is still in use
    log.begin_anew("a")
    log.append("new", "a")
    log.begin_anew("a")
    assert kinds(log) == [None, None, CLEARED, None, CLEARED, "note"]


def test_a_session_that_begins_anew_writes_nothing_where_there_is_nothing_to_mark(
    tmp_path: Path,
) -> None:
    log = log_in(tmp_path / "memory")
    log.begin_anew("a")
    assert not (tmp_path / "memory").exists()
    log.append("noted", "a")
    log.append("summarized", "a", is_summary=True)
    log.begin_anew("a")
    assert kinds(log) == ["note", SUMMARY]
    # What is too far from the end to be shown needs no mark.
    log.path.write_text(old_line(1, "a") + "x" * RECENT_BYTES + "\n")
    log.begin_anew("a")
    assert kinds(log) == [None]


def test_a_mark_that_cannot_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.path.write_text(old_line(1, "a"))
    (tmp_path / ".history.lock").mkdir()
    with pytest.raises(StoreError, match=r"history\.jsonl cannot be written"):
        log.begin_anew("a")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_needs_no_mark_and_is_not_waited_for(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    os.mkfifo(log.path)
    log.begin_anew("a")
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


@any_special_file
def test_what_is_no_file_is_named_and_neither_read_nor_written(tmp_path: Path, kind: str) -> None:
    log = log_in(tmp_path)
    make_special(log.path, kind)
    with pytest.raises(StoreError, match=rf"history\.jsonl cannot be read: not a .* but {kind}"):
        log.read()
    with pytest.raises(StoreError, match=rf"history\.jsonl cannot be written: not a .* but {kind}"):
        log.append("lost")


@any_special_file
def test_a_cursor_that_is_no_file_is_named_before_anything_is_written(
    tmp_path: Path, kind: str
) -> None:
    log = log_in(tmp_path)
    log.append("one")
    (tmp_path / ".cursor").unlink()
    make_special(tmp_path / ".cursor", kind)
    with pytest.raises(StoreError, match=rf"cannot be written: not a .* but {kind} .*\.cursor"):
        log.append("two")
    assert log.read() == [entry(1, "one")]


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("x")
    with pytest.raises(StoreError, match=r"cannot be written: .*memory is not a folder"):
        log_in(tmp_path / "memory").append("x")


def test_a_line_that_is_nested_without_end_is_passed_over(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.append("one")
    with log.path.open("ab") as file:
        line = b'{"cursor": 9, "timestamp": "t", "content": "c", "kind": ' + b"[" * 100_000
        file.write(line + b"\n")
    assert log.append("two") == 2
    assert [one["content"] for one in log.read()] == ["one", "two"]
    assert [one.content for one in entries_in(log.path.read_bytes())] == ["one", "two"]


def test_an_entry_is_on_the_disk_when_it_is_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = synced_sizes(monkeypatch)
    log = log_in(tmp_path)
    for _ in range(2):
        log.append("x" * 1_000)
        assert log.path.stat().st_size in synced


def test_text_comes_back_as_it_was(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    for text in ["", "two\nlines\u2028three", "名前 🐈", 'quote " and \\', "nul \0"]:
        log.append(text, text)
        assert log.read()[-1]["content"] == text
        assert log.read(text)[-1]["session_key"] == text
    log.append("lone \ud800")
    assert log.read()[-1]["content"] == "lone \ufffd"


def test_the_entries_of_any_key_are_found_by_it(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    for key in ("", "user:a", "half of a character \ud800"):
        log.append("said", key)
        assert [entry["content"] for entry in log.read(key)] == ["said"]
    with pytest.raises(InvalidArgument):
        log.read(5)  # type: ignore[arg-type]  # callers may be untyped


def test_what_is_no_text_is_refused_and_what_is_too_long_says_so(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    for text, key in [(7, None), ("x", 7), (None, None)]:
        with pytest.raises(InvalidArgument, match="a history entry is text"):
            log.append(text, key)  # type: ignore[arg-type]  # the point
    log.append("x" * 64_000)
    log.append("x" * 65_000)
    whole, cut = (entry["content"] for entry in log.read())
    assert whole == "x" * 64_000
    assert cut == "x" * 64_000 + "\n[cut here: 1,000 more characters]"


def test_a_torn_line_spoils_neither_the_next_nor_the_numbers(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.append("one")
    with log.path.open("ab") as file:
        file.write(b'{"cursor":2,"timestamp":"2024-05-06 07:08","cont')
    assert log.append("two") == 2
    assert [entry["content"] for entry in log.read()] == ["one", "two"]


GARBAGE = [
    b"",
    b"   ",
    b"not json",
    b"[]",
    b"7",
    b'{"cursor":"7","timestamp":"t","content":"c"}',
    b'{"cursor":7,"timestamp":"t"}',
    b"\xff\xfe",
    b"\0" * 100,
]


@given(st.lists(st.one_of(st.just(None), st.sampled_from(GARBAGE)), max_size=12), st.booleans())
def test_any_garbage_between_entries_is_passed_over(
    lines: list[bytes | None], complete: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = log_in(Path(folder))
        expected = []
        for number, line in enumerate(lines):
            if line is None:
                expected.append(log.append(str(number)))
            else:
                with log.path.open("ab") as file:
                    file.write(line + (b"\n" if complete else b""))
        expected.append(log.append("last"))
        assert [entry["cursor"] for entry in log.read()] == expected
        assert expected == list(range(1, len(expected) + 1))


def test_numbers_go_on_after_the_file_was_shortened_or_removed(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    for _ in range(5):
        log.append("x")
    log.path.write_text("")
    assert log.append("y") == 6
    log.path.unlink()
    assert log.append("z") == 7
    (tmp_path / ".cursor").write_text("torn")
    assert log.append("after") == 8
    (tmp_path / ".cursor").unlink()
    assert log.append("more") == 9
    (tmp_path / ".cursor").write_text("2\n")  # an old one, as after a crash between the two writes
    assert log.append("still") == 10


def test_a_file_of_another_program_is_continued(tmp_path: Path) -> None:
    """As the system wrote it that users come from, and an editor of Windows left it; an entry may be longer than what is read
    at once.
    """
    lines = [
        json.dumps(entry(41, "old", session_key=None), ensure_ascii=False),
        json.dumps(entry(42, "ü" * 200_000), ensure_ascii=False),
    ]
    (tmp_path / "history.jsonl").write_text("\r\n".join(lines), encoding="utf-8-sig")
    log = log_in(tmp_path)
    assert [each.cursor for each in entries_in(log.path.read_bytes())] == [41, 42]
    assert log.append("new") == 43
    assert [each["cursor"] for each in log.read()] == [41, 42, 43]


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").mkdir()
    log = log_in(tmp_path)
    with pytest.raises(StoreError, match=r"history\.jsonl cannot be read"):
        log.read()
    with pytest.raises(StoreError, match=r"history\.jsonl cannot be written"):
        log.append("x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"history\.jsonl cannot be written"):
        log_in(tmp_path / "file").append("x")
    assert log_in(tmp_path / "file").read() == []


def test_threads_get_numbers_of_their_own(tmp_path: Path) -> None:
    got: list[int] = []

    def append() -> None:
        log = log_in(tmp_path)
        got.extend(log.append("x") for _ in range(25))

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(1, 101))
    assert [each["cursor"] for each in log_in(tmp_path).read()] == list(range(1, 101))


WRITER = """
import sys
from pathlib import Path
from nanobot.memory import CLEARED, RECENT_BYTES, SUMMARY, HistoryLog, entries_in
log = HistoryLog(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    print(log.append("x" * 1000, sys.argv[3]), flush=True)
"""


def writer(folder: Path, count: int, key: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(folder), str(count), key]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_processes_get_numbers_of_their_own(tmp_path: Path) -> None:
    writers = [writer(tmp_path, 40, f"process {number}") for number in range(3)]
    printed = [process.communicate(timeout=60)[0] for process in writers]
    got = [int(line) for text in printed for line in text.split()]
    assert sorted(got) == list(range(1, 121))
    log = log_in(tmp_path)
    assert [each["cursor"] for each in log.read()] == list(range(1, 121))
    assert len(log.read("process 1")) == 40


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_what_a_killed_process_was_told_is_there(tmp_path: Path) -> None:
    for round_ in range(3):
        process = writer(tmp_path, 10_000, f"round {round_}")
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(20)]
        process.kill()
        told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
        process.stdout.close()
        log = log_in(tmp_path)
        cursors = [each["cursor"] for each in log.read()]
        assert set(told) <= set(cursors)
        assert cursors == list(range(1, len(cursors) + 1))
        assert log.append("after") == len(cursors) + 1
