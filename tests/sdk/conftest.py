"""One body, every host: the same async story under asyncio and under trio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trio

Story = Callable[[], Coroutine[Any, Any, None]]
LIMIT_S = 30


class Host:
    """A way to run an async story, and the few things that are not the same everywhere."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, story: Story, limit_s: float = LIMIT_S) -> None:
        """Run the story in a loop of its own; a story that hangs fails."""
        if self.name == "asyncio":
            asyncio.run(asyncio.wait_for(story(), limit_s))
        else:

            async def bounded() -> None:
                with trio.fail_after(limit_s):
                    await story()

            trio.run(bounded)

    async def sleep(self, seconds: float) -> None:
        if self.name == "asyncio":
            await asyncio.sleep(seconds)
        else:
            await trio.sleep(seconds)

    async def gather(self, *stories: Story) -> None:
        """Run several stories at once."""
        if self.name == "asyncio":
            async with asyncio.TaskGroup() as group:
                for story in stories:
                    group.create_task(story())
        else:
            async with trio.open_nursery() as nursery:
                for story in stories:
                    nursery.start_soon(story)

    async def cancel_after(self, seconds: float, story: Story) -> bool:
        """Run a story and cancel it after a while; returns whether it was cancelled."""
        if self.name == "asyncio":
            try:
                await asyncio.wait_for(story(), seconds)
            except TimeoutError:
                return True
            return False
        with trio.move_on_after(seconds) as scope:
            await story()
        return scope.cancelled_caught


@pytest.fixture(params=["asyncio", "trio"])
def host(request: pytest.FixtureRequest) -> Host:
    """Each test that takes it runs under asyncio and under trio."""
    return Host(request.param)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HOME of its own for each test, so that no real configuration is read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path
