"""What a bot keeps on disk: where, for whom, and what happens when the disk does not play along."""

from __future__ import annotations

import base64
import gc
import json
import os
import sqlite3
import stat
import subprocess
import sys
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import closing
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from nanobot import Nanobot
from nanobot.config import read_workspace_id
from nanobot.errors import ConfigError, StoreError
from nanobot.sessions import DATABASE_NAME, InMemoryStore
from nanobot.testing import ScriptedProvider, no_leaks

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

HELLO = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi there"}]


class Place:
    """A configuration and a workspace on disk, for any number of bots."""

    def __init__(self, folder: Path, **sessions: Any) -> None:
        self.folder = folder
        self.config = folder / "etc" / "config.json"
        self.workspace = folder / "ws"
        self.config.parent.mkdir()
        settings = {
            "providers": {"scripted": {"apiBase": "http://127.0.0.1:9/v1"}},
            "sessions": sessions,
        }
        self.config.write_text(json.dumps(settings))

    def bot(self, script: Any = None, **more: Any) -> Nanobot:
        provider = ScriptedProvider(repeat("ok") if script is None else script)
        return Nanobot.from_config(
            self.config, workspace=self.workspace, provider=provider, model="scripted/m", **more
        )

    @property
    def database(self) -> Path:
        workspace_id = read_workspace_id(self.workspace)
        assert workspace_id is not None
        return self.config.parent / "sessions" / workspace_id / DATABASE_NAME


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def said(bot: Nanobot, key: str = "a") -> list[str]:
    snapshot = bot.sessions.get(key)
    return [] if snapshot is None else [message["content"] for message in snapshot.messages]


def test_a_conversation_outlives_its_bot(host: Host, place: Place) -> None:
    async def story() -> None:
        async with no_leaks():
            for number in range(3):
                async with place.bot() as bot:
                    await bot.run(f"{number}", session_key="a")
        bot = place.bot()
        assert said(bot) == ["0", "ok", "1", "ok", "2", "ok"]
        assert [info.message_count for info in bot.sessions.list()] == [6]
        await bot.aclose()

    host.run(story)
    assert stat.S_IMODE(place.database.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.database.parent.stat().st_mode) == 0o700


def test_nothing_is_made_or_opened_before_a_session_is_needed(host: Host, place: Place) -> None:
    async def story() -> None:
        async with no_leaks():
            async with place.bot() as bot:
                assert [entry.name for entry in place.config.parent.iterdir()] == ["config.json"]
                assert not (place.workspace / ".nanobot").exists()
                assert bot.sessions.flush() == 0
            assert [entry.name for entry in place.config.parent.iterdir()] == ["config.json"]
            async with place.bot() as bot:
                assert bot.sessions.get("a") is None
            assert place.database.exists()

    host.run(story)


def test_sessions_can_be_read_after_closing_and_written_no_more(host: Host, place: Place) -> None:
    async def story() -> None:
        async with no_leaks():
            async with place.bot() as bot:
                await bot.run("hello", session_key="a")
            assert said(bot) == ["hello", "ok"]
            assert bot.sessions.search("hello")[0].key == "a"
            assert [info.key for info in bot.sessions.list()] == ["a"]
            with pytest.raises(StoreError, match="closed"):
                bot.sessions.delete("a")
            unused = place.bot()
            await unused.aclose()
            assert said(unused) == ["hello", "ok"]

    host.run(story)


def test_two_bots_on_one_configuration_see_each_others_turns(host: Host, place: Place) -> None:
    async def story() -> None:
        one_asked = ScriptedProvider(repeat("one"))
        other_asked = ScriptedProvider(repeat("other"))

        def bot_on(provider: ScriptedProvider) -> Nanobot:
            return Nanobot.from_config(
                place.config, workspace=place.workspace, provider=provider, model="scripted/m"
            )

        async with bot_on(one_asked) as one, bot_on(other_asked) as other:
            await one.run("1", session_key="a")
            await other.run("2", session_key="a")
            await one.run("3", session_key="a")
            shown = [str(message.content) for message in one_asked.requests[-1].messages[1:]]
            assert [text.partition("\n\n[")[0] for text in shown] == ["1", "one", "2", "other", "3"]
            assert said(one) == said(other) == ["1", "one", "2", "other", "3", "one"]
            await host.gather(
                *[lambda bot=bot: bot.run("x", session_key="b") for bot in [one, other] * 5]
            )
            turns = said(one, "b")
            assert turns[::2] == ["x"] * 10
            assert sorted(turns[1::2]) == ["one"] * 5 + ["other"] * 5

    host.run(story)


def test_bots_with_another_workspace_have_sessions_of_their_own(place: Place) -> None:
    with place.bot() as bot:
        bot.run_sync("x", session_key="a")
    place.workspace = place.folder / "elsewhere"
    with place.bot() as bot:
        assert bot.sessions.list() == []


def test_an_ephemeral_run_leaves_no_trace_on_disk(host: Host, place: Place) -> None:
    async def story() -> None:
        async with place.bot(repeat("unheard-of answer")) as bot:
            await bot.run("first", session_key="a")
            await bot.run("the canary sings", session_key="a", ephemeral=True)
            await bot.run("the canary sings", session_key="b", ephemeral=True)
            assert said(bot) == ["first", "unheard-of answer"]
            assert bot.sessions.get("b") is None
            assert bot.sessions.search("canary") == []
            assert len(bot.sessions.list()) == 1

    host.run(story)
    for path in place.folder.rglob("*"):
        if path.is_file():
            assert b"canary" not in path.read_bytes(), path


def test_the_memory_store_leaves_nothing_on_disk(host: Host, tmp_path: Path) -> None:
    place = Place(tmp_path, store="memory")

    async def story() -> None:
        async with place.bot() as bot:
            await bot.run("hello", session_key="a")
            assert said(bot) == ["hello", "ok"]
            assert [hit.excerpt for hit in bot.sessions.search("hel")] == ["hello"]

    host.run(story)
    assert not (tmp_path / "etc" / "sessions").exists()


@pytest.mark.parametrize("durability", ["commit", "fast"])
def test_durability_is_configured(tmp_path: Path, durability: str) -> None:
    place = Place(tmp_path, durability=durability)
    with place.bot() as bot:
        bot.run_sync("hello", session_key="a")
        store = bot._store._made[None]  # type: ignore[attr-defined]  # what was made of the configuration
        assert store._durability == durability
        assert bot.sessions.flush() == 1
        assert bot.sessions.flush() == 0


def test_a_durability_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="durability"):
        Place(tmp_path, durability="eternal").bot()


def test_a_workspace_around_the_sessions_is_refused_at_once(place: Place) -> None:
    place.workspace = place.folder
    with pytest.raises(ConfigError, match="contains the folder"):
        place.bot()
    assert place.bot(store=InMemoryStore()).sessions.list() == []


def test_of_sessions_that_nobody_uses_nothing_is_kept_but_their_rows(
    host: Host, tmp_path: Path
) -> None:
    place = Place(tmp_path, durability="fast")

    async def story() -> None:
        async with place.bot(lambda _request: "ok") as bot:
            for number in range(200):
                await bot.run("x", session_key=f"s{number}")
            store = bot._store._made[None]  # type: ignore[attr-defined]  # what was made of the configuration
            assert (len(store._tenancies), store._tenancies.sessions()) == (0, 0)
            assert bot.sessions.flush() == 200
            runtime = bot._engine.runtime
            assert runtime is not None
            sessions = bot._blueprint.turn_maker(runtime).sessions
            assert len(sessions) <= runtime.live_sessions  # which pass away when they are idle

    host.run(story)
    with closing(sqlite3.connect(place.database)) as connection:
        for table in ("lease", "ticket", "owner"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def kept() -> int:
    """How many objects there are, and entries in all dicts, lists, sets and queues: a key in a dict is no object of its own.

    Weak references keep nothing. A connection of `sqlite3` has a list of them, one for each of the last 200 cursors.
    """
    gc.collect()
    found = [each for each in gc.get_objects() if type(each) is not weakref.ref]
    return len(found) + sum(
        len(each)
        for each in found
        if type(each) in CONTAINERS
        and not (type(each) is list and each and type(each[0]) is weakref.ref)
    )


CONTAINERS = (dict, list, set, deque, OrderedDict)


def test_sessions_that_nobody_uses_leave_nothing_in_memory(tmp_path: Path) -> None:
    """Objects are counted and not bytes, for what allocators and SQLite keep is not ours."""
    place = Place(tmp_path, durability="fast")

    async def use(bot: Nanobot, first: int, last: int) -> int:
        numbers = iter(range(first, last))

        async def lane() -> None:
            for number in numbers:
                await bot.run("x", session_key=f"session {number}")

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(lane)
        runtime = bot._engine.runtime
        assert runtime is not None
        while runtime.live_sessions:  # noqa: ASYNC110 - nobody tells of it
            await trio.sleep(1)
        return await trio.to_thread.run_sync(kept)

    async def story() -> None:
        provider = ScriptedProvider(repeat("ok"), record=False)
        async with Nanobot.from_config(
            place.config, workspace=place.workspace, provider=provider, model="scripted/m"
        ) as bot:
            before = await use(bot, 0, 100)
            after = await use(bot, 100, 500)
            assert after - before < 200  # of 400 sessions

    trio.run(story, clock=MockClock(rate=30))


# --- sessions of the older version


def old_session(folder: Path, key: str, *contents: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    path = folder / f"{name}.jsonl"
    head = {
        "_type": "metadata",
        "key": key,
        "created_at": "2025-01-02T03:04:05.678901",
        "updated_at": "2025-01-02T04:04:05",
        "metadata": {"title": f"about {key}"},
        "last_consolidated": 0,
    }
    lines = [head] + [
        {"role": role, "content": content, "timestamp": "2025-01-02T03:04:05"}
        for role, content in zip(["user", "assistant"] * len(contents), contents, strict=False)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_sessions_of_the_older_version_go_on_and_their_files_stay_as_they_are(
    host: Host, place: Place
) -> None:
    place.bot().sessions.list()  # gives the workspace its id
    beside, inside = place.database.parent, place.workspace / "sessions"
    files = [
        old_session(beside, "user:alice", "My name is Alice.", "Hello Alice."),
        old_session(inside, "user:bob", "My name is Bob.", "Hello Bob."),
    ]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]

    async def story() -> None:
        async with place.bot() as bot:
            result = await bot.run("Who am I?", session_key="user:alice")
            assert "My name is Alice." in str(result.messages)
            assert said(bot, "user:bob") == ["My name is Bob.", "Hello Bob."]
            infos = {info.key: info for info in bot.sessions.list()}
            assert [*infos] == ["user:alice", "user:bob"]
            assert infos["user:bob"].title == "about user:bob"
            assert [hit.key for hit in bot.sessions.search("bob name")] == ["user:bob"] * 1
            bot.sessions.delete("user:bob")
        async with place.bot() as bot:  # once is once
            assert [info.key for info in bot.sessions.list()] == ["user:alice"]
            assert len(said(bot, "user:alice")) == 4

    host.run(story)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before


# --- a disk that does not play along


def blocked(place: Place) -> None:
    """A file stands where the folder of the sessions should be."""
    (place.config.parent / "sessions").write_text("")


def corrupt(place: Place) -> None:
    """The database is no database."""
    with place.bot() as bot:
        bot.sessions.list()
    place.database.write_bytes(b"certainly not a database" * 1000)


@pytest.mark.parametrize("spoil", [blocked, corrupt])
def test_without_a_store_the_answer_is_returned_and_the_error_names_the_file(
    host: Host, place: Place, spoil: Callable[[Place], None]
) -> None:
    spoil(place)

    async def story() -> None:
        async with no_leaks():
            async with place.bot() as bot:
                for _ in range(2):
                    result = await bot.run("hello", session_key="a")
                    assert (result.content, result.error) == ("ok", None)
                    assert result.metadata["persisted"] is False
                    named = str(place.config.parent / "sessions")
                    assert named in result.metadata["store_error"]
                events = [event async for event in bot.stream("hello", session_key="a")]
                assert events[-1].type == "run.completed"
                assert events[-1].metadata["persisted"] is False
                with pytest.raises(StoreError, match="sessions"):
                    bot.sessions.get("a")
                with pytest.raises(StoreError, match="sessions"):
                    await bot.sessions.ingest("a", HELLO)

    host.run(story)


def test_a_store_that_is_mended_is_used_again(host: Host, place: Place) -> None:
    blocked(place)

    async def story() -> None:
        async with place.bot() as bot:
            result = await bot.run("lost", session_key="a")
            assert result.metadata["persisted"] is False
            (place.config.parent / "sessions").unlink()
            result = await bot.run("kept", session_key="a")
            assert "persisted" not in result.metadata
            assert said(bot) == ["kept", "ok"]

    host.run(story)


CHILD = """
import json, os, resource, sys
from itertools import repeat
from nanobot import Nanobot
from nanobot.sessions import InMemoryStore
from nanobot.testing import ScriptedProvider

config, workspace, trouble = sys.argv[1:]

def make(**more):
    provider = ScriptedProvider(repeat("ok"))
    return Nanobot.from_config(
        config, workspace=workspace, provider=provider, model="scripted/m", **more
    )

import nanobot.sessions._sqlite  # another user may not be able to read Python's own files
make(store=InMemoryStore()).run_sync("hello")
bot = make()
if trouble == "read-only":
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
if trouble == "full":
    bot.run_sync("before", session_key="a")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
result = bot.run_sync("x" * 100_000, session_key="a")
print(json.dumps([result.content, result.metadata.get("persisted"), result.metadata.get("store_error")]))
shown = [message["content"][:6] for message in result.messages[1:]]
if trouble == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps(shown), flush=True)
os._exit(0)
"""


def in_child(place: Place, trouble: str) -> list[Any]:
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, str(place.config), str(place.workspace), trouble],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
def test_on_a_full_disk_nothing_is_half_written_and_the_answer_is_returned(place: Place) -> None:
    (content, persisted, error), shown = in_child(place, "full")
    assert (content, persisted) == ("ok", False)
    assert str(place.database) in error
    assert shown[:2] == ["before", "ok"]  # what was there could still be read
    with place.bot() as bot:
        assert said(bot) == ["before", "ok"]
        bot.run_sync("after", session_key="a")
        assert said(bot) == ["before", "ok", "after", "ok"]
    with closing(sqlite3.connect(place.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="no users")
def test_in_a_read_only_folder_the_answer_is_returned(place: Place) -> None:
    for folder in (*reversed(place.folder.parents), place.folder, place.config.parent):
        if not folder.stat().st_mode & stat.S_IXOTH and os.geteuid() == 0:
            folder.chmod(folder.stat().st_mode | 0o755)
    place.config.parent.chmod(0o555)
    try:
        (content, persisted, error), _ = in_child(place, "read-only")
    finally:
        place.config.parent.chmod(0o755)
    assert (content, persisted) == ("ok", False)
    assert str(place.config.parent / "sessions") in error
