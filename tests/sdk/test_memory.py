"""`bot.memory`: facts that the model is shown, and what compactions leave for later."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nanobot import Nanobot
from nanobot.errors import ConfigError
from nanobot.providers import ModelRequest
from nanobot.testing import ScriptedProvider

if TYPE_CHECKING:
    from tests.sdk.conftest import Host


def is_summary(request: ModelRequest) -> bool:
    return "You keep the notes" in str(request.messages[0].content)


def answer(request: ModelRequest) -> str:
    return "Notes on it." if is_summary(request) else "ok"


def test_what_is_written_is_shown_to_the_model_in_every_session(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        provider = ScriptedProvider(answer)
        async with Nanobot.from_config(provider=provider, workspace=tmp_path / "ws") as bot:
            assert bot.memory.read() == ""
            await bot.run("x", session_key="a")
            bot.memory.write("Alice prefers tea.")
            assert bot.memory.read() == "Alice prefers tea."
            await bot.run("x", session_key="b")
            before, after = (str(request.messages[0].content) for request in provider.requests)
            assert "Alice prefers tea." not in before
            assert "Alice prefers tea." in after
            assert (tmp_path / "ws" / "memory" / "MEMORY.md").read_text() == "Alice prefers tea."

    host.run(story)


def test_history_is_numbered_and_dated_in_the_zone_of_the_user(tmp_path: Path, home: Path) -> None:
    (home / "config.json").write_text(
        '{"agents": {"defaults": {"timezone": "Pacific/Kiritimati", "model": "scripted/m"}},'
        ' "providers": {"scripted": {"apiBase": "http://127.0.0.1:9"}}}'
    )
    with Nanobot.from_config(
        home / "config.json", provider=ScriptedProvider(answer), workspace=tmp_path / "ws"
    ) as bot:
        assert bot.memory.append_history("Something happened.", session_key="a") == 1
        assert bot.memory.append_history("Something else.") == 2
        first, second = bot.memory.read_history()
        assert bot.memory.read_history("a") == [first]
        assert (second["cursor"], second["content"]) == (2, "Something else.")
        ahead = datetime.strptime(first["timestamp"], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        assert 13.9 < (ahead - datetime.now(UTC)).total_seconds() / 3600 < 14.1
    assert len(bot.memory.read_history()) == 2  # also after closing


def test_a_compaction_leaves_its_notes_in_the_history(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        provider = ScriptedProvider(answer)
        async with Nanobot.from_config(provider=provider, workspace=tmp_path / "ws") as bot:
            for number in range(3):
                said = [{"role": "user", "content": f"{number}"}] * 10
                await bot.sessions.ingest("a", said)
                assert bot.memory.read_history("a") == bot.memory.read_history()
                assert len(bot.memory.read_history()) == number  # ingesting updates no memory
                await bot.runtime.compact_idle_session("a", max_suffix=2)
            assert [entry["content"] for entry in bot.memory.read_history("a")] == [
                "Notes on it."
            ] * 3

    host.run(story)


def test_a_history_that_cannot_be_written_does_not_undo_a_compaction(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        workspace = tmp_path / "ws"
        async with Nanobot.from_config(
            provider=ScriptedProvider(answer), workspace=workspace
        ) as bot:
            (workspace / "memory").write_text("a file where the folder should be")
            await bot.sessions.ingest("a", [{"role": "user", "content": "x"}] * 10)
            assert await bot.runtime.compact_idle_session("a", max_suffix=2) == "Notes on it."
            snapshot = bot.sessions.get("a")
            assert snapshot is not None
            assert snapshot.compaction == {"through": 8, "summary": "Notes on it."}

    host.run(story)
    assert "history.jsonl cannot be written" in caplog.text


def test_recent_history_is_shown_to_the_sessions_that_it_concerns(
    host: Host, tmp_path: Path
) -> None:
    provider = ScriptedProvider(lambda _request: "ok")
    bot = Nanobot.from_config(provider=provider, workspace=tmp_path / "ws")

    async def shown_to(key: str) -> str:
        await bot.run("x", session_key=key)
        return str(provider.requests[-1].messages)

    async def story() -> None:
        async with bot:
            bot.memory.append_history("Alice prefers tea.", session_key="alice")
            bot.memory.append_history("The office moved to Oslo.")
            for key, tea in (("alice", True), ("bob", False)):
                shown = await shown_to(key)
                assert ("prefers tea" in shown) is tea
                assert "moved to Oslo" in shown
            before = provider.requests[0].messages
            await bot.run("y", session_key="alice")
            assert provider.requests[-1].messages[: len(before)] == before  # byte for byte
            snapshot = bot.sessions.get("alice")
            assert snapshot is not None
            assert "tea" not in str(snapshot.messages)

    host.run(story)


def test_a_workspace_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "workspace").write_text("x")
    with pytest.raises(ConfigError, match=r"workspace cannot be made: it is there, and no folder"):
        Nanobot.from_config(provider=ScriptedProvider([]), workspace=tmp_path / "workspace")


@pytest.mark.parametrize("workspace", ["", " ", "a\0b"])
def test_an_argument_that_is_no_path_is_called_by_its_name(workspace: str) -> None:
    with pytest.raises(ConfigError, match=r"^workspace: expected the path of a folder"):
        Nanobot.from_config(provider=ScriptedProvider([]), workspace=workspace)
