"""`run(..., ephemeral=True, history=...)`: a transcript in the place of the session's history."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanobot.errors import InvalidArgument, InvalidMessage
from nanobot.testing import scripted_server
from tests.sdk.bots import make_bot, shown
from tests.sdk.conftest import Host

SAID = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Capital of France?"},
    {"role": "assistant", "content": "Paris."},
]


def test_the_model_is_shown_the_transcript_and_nothing_is_kept(tmp_path: Path, host: Host) -> None:
    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            await bot.run("My name is Ann.", session_key="s")
            result = await bot.run("And of Spain?", session_key="s", ephemeral=True, history=SAID)
            assert result.content == "Madrid."
            session = bot.sessions.get("s")
            assert session is not None
            assert len(session.messages) == 2
            assert len(bot.sessions.list()) == 1

    with scripted_server(["Hello, Ann.", "Madrid."]) as server:
        host.run(story)
        said = [message.content for message in shown(server.requests[1])]
    assert said[1:4] == ["Be brief.", "Capital of France?", "Paris."]
    assert not any("Ann" in str(content) for content in said)


def test_a_transcript_is_checked_before_anything_happens(tmp_path: Path, host: Host) -> None:
    async def story() -> None:
        async with make_bot(tmp_path, "http://127.0.0.1:9/v1") as bot:
            with pytest.raises(InvalidArgument, match="ephemeral"):
                await bot.run("Hi", history=SAID)
            with pytest.raises(InvalidMessage, match=r"messages\[0\]"):
                await bot.run("Hi", ephemeral=True, history=[{"role": "nobody", "content": ""}])

    host.run(story)
