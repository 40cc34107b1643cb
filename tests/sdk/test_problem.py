"""What keeps a run from beginning, as it is told to those who watch a server."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from nanobot import Nanobot
from nanobot.errors import StoreError
from nanobot.sessions import InMemoryStore, SessionInfo
from nanobot.testing import ScriptedProvider
from tests.sdk.bots import KEY, make_bot


class Down(InMemoryStore):
    """A store whose database is gone, at an address that is nobody's business."""

    def list_sessions(self, *, limit: int | None = None) -> tuple[SessionInfo, ...]:
        raise StoreError("cannot reach postgres.internal")


class Hanging(InMemoryStore):
    """A store that does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.began = threading.Event()
        self.go = threading.Event()

    def list_sessions(self, *, limit: int | None = None) -> tuple[SessionInfo, ...]:
        self.asked += 1
        self.began.set()
        self.go.wait(20)
        return ()


def bot_with(store: InMemoryStore) -> Nanobot:
    return Nanobot.from_config(provider=ScriptedProvider(["hi"]), store=store)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


async def test_a_bot_that_can_work_has_none_and_a_closed_one_says_so() -> None:
    async with bot_with(InMemoryStore()) as bot:
        assert await bot.runtime.problem() == ""
        assert bot.runtime.statistics().live_runs == 0
    assert await bot.runtime.problem() == "the bot is closed"


async def test_a_store_that_fails_is_told_and_the_log_says_how(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with bot_with(Down()) as bot:
        assert await bot.runtime.problem() == "the store cannot be used"
    assert "postgres.internal" in caplog.text


async def test_a_store_that_hangs_is_told_and_holds_one_thread_however_often_it_is_asked(
    autojump_clock: MockClock,
) -> None:
    store = Hanging()
    async with bot_with(store) as bot:
        for _ in range(3):
            assert await bot.runtime.problem() == "the store cannot be used"
        await trio.to_thread.run_sync(store.began.wait)  # Trio's time does not wait for threads
        assert store.asked == 1
        store.go.set()
        while await bot.runtime.problem():
            pass  # the thread that was left behind has yet to end


async def test_a_model_that_cannot_be_used_is_told_without_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"caFile": str(tmp_path / "gone.pem")}
    async with make_bot(tmp_path, "https://127.0.0.1:9/v1", provider_settings=settings) as bot:
        assert await bot.runtime.problem() == "the model cannot be used"
    assert "caFile" in caplog.text
    assert KEY not in caplog.text


def test_presets_are_named_the_configured_model_first(tmp_path: Path) -> None:
    presets = {"fast": {"model": "m2"}}
    with make_bot(tmp_path, "http://127.0.0.1:9/v1", presets=presets) as bot:
        assert bot.runtime.presets == ("default", "fast")


async def test_asyncio_callers_may_ask_too() -> None:
    async def ask() -> str:
        async with bot_with(InMemoryStore()) as bot:
            return await bot.runtime.problem()

    assert await trio.to_thread.run_sync(lambda: asyncio.run(ask())) == ""
