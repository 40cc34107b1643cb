"""Session files of the older version become sessions: once, whole where they can be read, and never changed."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nanobot.messages import AssistantMessage, ToolMessage, UserMessage, check
from nanobot.sessions import open_lease
from nanobot.sessions._sqlite import SqliteStore

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


class Old:
    """A folder with old session files, and stores that look there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "old"
        self.folder.mkdir()
        self.database = folder / "new" / "sessions.sqlite3"
        self.stores: list[SqliteStore] = []

    def store(self) -> SqliteStore:
        store = SqliteStore(self.database, durability="fast", old_files=[self.folder])
        self.stores.append(store)
        return store

    def write(self, key: str, *lines: Any, name: str = "", **head: Any) -> Path:
        first = {"_type": "metadata", "key": key, "metadata": {}, "last_consolidated": 0, **head}
        first.setdefault("created_at", "2025-01-02T03:04:05")
        first.setdefault("updated_at", "2025-01-02T03:04:06")
        encoded = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
        path = self.folder / f"{name or encoded}.jsonl"
        rows = [first, *lines]
        path.write_text(
            "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
        )
        return path


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Old]:
    made = Old(tmp_path)
    yield made
    for store in made.stores:
        store.close()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text, "timestamp": "2025-01-02T03:04:05.000001"}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def test_messages_metadata_times_and_summary_come_over(old: Old) -> None:
    old.write(
        "user:ann",
        user("one"),
        said("two"),
        user("three"),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "done"},
        said("four"),
        metadata={"title": "Ann", "mine": 1, "_last_summary": {"text": "They met."}},
        last_consolidated=2,
    )
    record = old.store().read("user:ann")
    assert record is not None
    assert [message.content for message in record.messages] == [
        *("one", "two", "three", "", "done", "four")
    ]
    assert record.messages[0].timestamp == "2025-01-02T03:04:05.000001"
    assert record.metadata == {"title": "Ann", "mine": 1}
    assert record.created_at == datetime(2025, 1, 2, 3, 4, 5).astimezone()
    assert record.compaction is not None
    assert (record.compaction.through, record.compaction.summary) == (2, "They met.")
    assert check(record.messages) == ()


def test_a_file_that_an_editor_has_saved_comes_over_like_any_other(old: Old) -> None:
    path = old.write(
        "user:ann",
        user("one"),
        said("two"),
        metadata={"title": "Ann", "_last_summary": {"text": "They met."}},
        last_consolidated=2,
    )
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    record = old.store().read("user:ann")
    assert record is not None
    assert [message.content for message in record.messages] == ["one", "two"]
    assert record.metadata == {"title": "Ann"}
    assert record.created_at == datetime(2025, 1, 2, 3, 4, 5).astimezone()
    assert record.compaction is not None


def test_a_broken_history_becomes_legal_and_broken_lines_are_passed_over(old: Old) -> None:
    old.write(
        "a",
        {"_type": "provider_state", "state": {}},
        user("one"),
        "no json\n",
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "user", "content": "/new", "_command": True},
        user("two"),
        {"role": "nobody", "content": "?"},
        said("three"),
        '{"role": "user", "content": "torn',
    )
    record = old.store().read("a")
    assert record is not None
    assert check(record.messages) == ()
    kinds = [type(message) for message in record.messages]
    assert kinds == [UserMessage, AssistantMessage, ToolMessage, UserMessage, AssistantMessage]


@pytest.mark.parametrize("key", ["user:ann", "telegram:42", "ключ", "a/b\\c"])
def test_a_file_is_named_by_its_key_in_either_way(old: Old, key: str) -> None:
    old.write(key, user("one"))
    assert old.store().read(key) is not None


def test_the_oldest_names_are_understood_without_a_first_line(old: Old) -> None:
    (old.folder / "telegram_42.jsonl").write_text(json.dumps(user("one")) + "\n")
    assert old.store().read("telegram:42") is not None


def test_once_is_once_and_the_files_stay_as_they_are(old: Old) -> None:
    paths = [old.write(f"s{n}", user(f"{n}"), said("ok")) for n in range(20)]
    before = [(path.read_bytes(), path.stat()) for path in paths]
    store = old.store()
    assert len(store.list_sessions()) == 20
    assert store.delete("s0")
    assert store.clear("s1") is not None
    assert store.extend("s2", [UserMessage("more")])
    store.close()
    again = old.store()
    assert len(again.list_sessions()) == 19
    for key, count in (("s1", 0), ("s2", 3), ("s3", 2)):
        record = again.read(key)
        assert record is not None
        assert len(record.messages) == count
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths] == [
        (content, status.st_mtime_ns) for content, status in before
    ]


def test_a_file_that_changes_is_read_again_unless_its_session_went_on_here(old: Old) -> None:
    for key in ("a", "b"):
        old.write(key, user("one"))
    store = old.store()
    assert store.extend("b", [AssistantMessage("here")])
    assert len(store.list_sessions()) == 2
    store.close()
    for key in ("a", "b"):
        path = old.write(key, user("one"), said("there"))
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1_000_000))
    again = old.store()
    assert _texts(again, "a") == ["one", "there"]
    assert _texts(again, "b") == ["one", "here"]


def test_a_file_that_changes_within_one_tick_of_its_clock_is_read_again(old: Old) -> None:
    path = old.write("a", user("one"))
    status = path.stat()
    store = old.store()
    assert _texts(store, "a") == ["one"]
    store.close()
    old.write("a", user("one"), said("there"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert _texts(old.store(), "a") == ["one", "there"]


@pytest.mark.parametrize("latest", ["", "user_ann"])
def test_of_two_files_of_one_session_the_latest_counts(old: Old, latest: str) -> None:
    for age, name in enumerate(["", "user_ann"], 1):
        path = old.write("user:ann", user(f"in {name!r}"), name=name)
        when = 10_000 if name == latest else age
        os.utime(path, ns=(when, when))
    assert _texts(old.store(), "user:ann") == [f"in {latest!r}"]


async def test_a_file_that_changes_takes_nothing_from_a_turn_that_is_running(old: Old) -> None:
    old.write("a", user("one"))
    store = old.store()
    async with open_lease(store, "a") as leased:
        old.write("a", user("one"), said("there"))
        other = old.store()
        assert len(other.list_sessions()) == 1
        await store.append(leased.lease, [AssistantMessage("here")])
    assert _texts(store, "a") == ["one", "here"]


async def test_a_turn_finds_its_old_session_before_anybody_has_looked_for_others(old: Old) -> None:
    for number in range(50):
        old.write(f"s{number}", user(f"{number}"))
    store = old.store()
    async with open_lease(store, "s49") as leased:
        assert leased.record is not None
        await store.append(leased.lease, [AssistantMessage("answer")])
    assert _texts(store, "s49") == ["49", "answer"]


def test_what_is_no_file_keeps_no_session_from_coming(old: Old) -> None:
    """A link that leads nowhere, one that leads to itself, a folder, bytes that are no session."""
    (old.folder / "a.jsonl").symlink_to(old.folder / "nowhere")
    (old.folder / "b.jsonl").symlink_to(old.folder / "b.jsonl")
    (old.folder / "c.jsonl").mkdir()
    (old.folder / "d.jsonl").write_bytes(b"\xff\x00 no session\n" * 3)
    (old.folder / "e.jsonl").write_bytes(b"")
    for number in range(3):
        old.write(f"channel:{number}/x", user(f"{number}"), name=f"channel_{number}_x")
    store = old.store()
    assert sorted(info.key for info in store.list_sessions()) == [
        f"channel:{number}/x" for number in range(3)
    ]
    assert _texts(store, "channel:1/x") == ["1"]


def test_two_stores_that_bring_the_same_files_make_each_session_once(old: Old) -> None:
    for number in range(30):
        old.write(f"s{number}", user("one"), said("two"))
    one, other = old.store(), old.store()
    assert one.read("s3") == other.read("s3")
    assert len(one.list_sessions()) == len(other.list_sessions()) == 30
    assert all(info.message_count == 2 for info in one.list_sessions())


def _texts(store: SqliteStore, key: str) -> list[object]:
    record = store.read(key)
    assert record is not None
    return [message.content for message in record.messages]
