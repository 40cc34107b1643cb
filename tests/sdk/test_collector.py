"""A crowd of runs has the collector look seldom, and is gone from it in the end, whatever end that is."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from nanobot import Nanobot
from nanobot.runtime import _collector_pace
from nanobot.sessions import InMemoryStore
from nanobot.testing import Answer, ScriptedProvider
from tests.sdk.test_queueing import until

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

CROWD = 50


@pytest.fixture
def threshold(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What the program says; nothing of other tests counts."""
    before = gc.get_threshold()
    monkeypatch.setattr(_collector_pace, "_most", {})
    monkeypatch.setattr(_collector_pace, "_program_says", None)
    yield before[0]
    assert not _collector_pace._most
    gc.set_threshold(*before)


def silent_bot() -> Nanobot:
    """A bot whose model never answers."""
    model = ScriptedProvider([Answer("Yes.", before_first_delta_s=3600)] * CROWD)
    return Nanobot.from_config(provider=model, store=InMemoryStore())


def room() -> int:
    return gc.get_threshold()[0]


def test_a_crowd_has_room_until_it_has_ended(home: Path, host: Host, threshold: int) -> None:
    async def story() -> None:
        bot = silent_bot()
        runs = [
            await bot.run_streamed("Hello.", session_key=f"user:{number}")
            for number in range(CROWD)
        ]
        await until(lambda: bot.runtime.statistics().live_runs == CROWD)
        assert room() == max(threshold, 256 * 64)
        for run in runs:
            await run.cancel()
        # The sessions are idle now, and have an eighth of it.
        assert room() == max(threshold, 256 * 16)
        await bot.aclose()
        assert room() == threshold

    host.run(story)


def test_a_crowd_that_is_cancelled_before_the_engine_is_there_is_forgotten(
    home: Path, host: Host, threshold: int
) -> None:
    async def story() -> None:
        async with silent_bot() as bot:
            rooms: list[int] = []

            async def ask(number: int) -> None:
                try:
                    await bot.run("Hello.", session_key=f"user:{number}")
                finally:
                    rooms.append(room())

            async def crowd() -> None:
                await host.gather(*(partial(ask, number) for number in range(CROWD)))

            assert await host.cancel_after(0, crowd)
            assert len(rooms) in (0, CROWD)  # a task that is cancelled at once may never begin
        assert room() == threshold

    host.run(story)


def test_a_crowd_ends_with_the_loop_it_lived_in(home: Path, threshold: int) -> None:
    bot = silent_bot()

    async def abandoned() -> None:
        runs = [
            await bot.run_streamed("Hello.", session_key=f"user:{number}")
            for number in range(CROWD)
        ]
        await until(lambda: bot.runtime.statistics().live_runs == len(runs))
        assert room() == max(threshold, 256 * 64)

    trio.run(abandoned)
    assert room() == threshold
