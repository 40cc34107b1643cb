"""A session that is taken for a new one: its first message goes along with the lease, and is there once, whatever happens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from nanobot import Nanobot
from nanobot.context._workspace_files import WorkspaceFiles, WorkspaceTexts
from nanobot.messages import UserMessage, check
from nanobot.providers import ModelRequest
from nanobot.sessions import InMemoryStore
from nanobot.testing import ScriptedProvider, scripted_server
from tests.sdk.bots import make_bot

if TYPE_CHECKING:
    from tests.sdk.conftest import Host


def said(request: ModelRequest) -> list[str]:
    """What the model was shown of its user; fails unless every service would accept it."""
    assert check(request.messages) == ()
    return [
        str(message.content).partition("\n\n")[0]
        for message in request.messages
        if isinstance(message, UserMessage)
    ]


def test_a_run_that_is_cancelled_before_its_turn_begins_leaves_no_gap(
    home: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []
    read = WorkspaceFiles.read

    async def stuck(files: WorkspaceFiles) -> WorkspaceTexts:
        looks.append(True)
        if len(looks) == 1:
            await trio.sleep_forever()
        return await read(files)

    monkeypatch.setattr(WorkspaceFiles, "read", stuck)
    model = ScriptedProvider(["Two.", "Three."])

    async def story() -> None:
        async with Nanobot.from_config(provider=model, store=InMemoryStore()) as bot:
            first = await bot.run_streamed("One.", session_key="new")
            while not looks:
                await host.sleep(0.002)
            await first.cancel()
            assert (await bot.run("Two?", session_key="new")).content == "Two."
            assert (await bot.run("Three?", session_key="new")).content == "Three."

    host.run(story)
    assert [said(request) for request in model.requests] == [
        ["One.", "Two?"],
        ["One.", "Two?", "Three?"],
    ]


def test_a_bot_that_takes_a_session_for_new_reads_what_another_has_written(
    home: Path, host: Host
) -> None:
    model = ScriptedProvider(["One.", "Two.", "Three."])
    store = InMemoryStore()

    async def story() -> None:
        one, other = (Nanobot.from_config(provider=model, store=store) for _ in range(2))
        async with one, other:
            for bot, text in ((one, "One?"), (other, "Two?"), (one, "Three?")):
                assert (await bot.run(text, session_key="shared")).error is None

    host.run(story)
    assert [said(request) for request in model.requests] == [
        ["One?"],
        ["One?", "Two?"],
        ["One?", "Two?", "Three?"],
    ]


def test_a_run_whose_time_is_over_before_its_turn_begins_asks_nobody(
    home: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing before the request need be waited for: the message is stored, and the connection is there."""
    read = WorkspaceFiles.read

    async def slow(files: WorkspaceFiles) -> WorkspaceTexts:
        await trio.sleep(0.2)
        return await read(files)

    async def story() -> None:
        with scripted_server(["one", "never asked"]) as server:
            async with make_bot(home, server.base_url) as bot:
                assert (await bot.run("One?", session_key="a")).content == "one"
                monkeypatch.setattr(WorkspaceFiles, "read", slow)
                result = await bot.run("Two?", session_key="b", timeout_s=0.1)
                assert result.stop_reason == "timeout"
            assert len(server.requests) == 1

    host.run(story)
