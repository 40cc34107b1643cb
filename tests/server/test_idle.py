"""Sessions that nobody uses are compacted while the server runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from nanobot.providers import ModelRequest
from nanobot.testing import ScriptedProvider, no_leaks
from tests.server.servers import make_bot, serving

STORY = [
    {"role": role, "content": f"{role} {number}"}
    for number in range(10)
    for role in ("user", "assistant")
]


class Model:
    """Answers, and says when it was asked for a summary."""

    def __init__(self) -> None:
        self.summarized = trio.Event()

    def __call__(self, request: ModelRequest) -> Any:
        if "You keep the notes" not in str(request.messages[0].content):
            return "ok"
        self.summarized.set()
        return "Notes."


async def test_a_session_that_was_idle_is_compacted_and_its_next_turn_finds_the_summary(
    tmp_path: Path,
) -> None:
    model = Model()
    provider = ScriptedProvider(model)
    async with no_leaks():
        bot = make_bot(tmp_path, provider, idleCompactAfterMinutes=0.0002)
        async with serving(bot) as served:
            await bot.sessions.ingest("api:a", STORY)
            assert (await served.chat("one", session_id="a")).status_code == 200
            with trio.fail_after(30):
                await model.summarized.wait()
            assert (await served.chat("two", session_id="a")).status_code == 200
    shown = [str(message.content) for message in provider.requests[-1].messages]
    assert "Notes." in shown[1]
    assert not any("user 0" in text for text in shown)


@pytest.mark.parametrize("minutes", [0, 15])
async def test_a_session_is_left_alone_if_that_is_off_or_too_early(
    tmp_path: Path, minutes: int
) -> None:
    model = Model()
    async with serving(
        make_bot(tmp_path, ScriptedProvider(model), idleCompactAfterMinutes=minutes)
    ) as served:
        await served.bot.sessions.ingest("api:a", STORY)
        for _ in range(2):
            assert (await served.chat("one", session_id="a")).status_code == 200
    assert not model.summarized.is_set()
