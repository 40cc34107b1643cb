"""A turn that ends in the middle, by a cancel or by the death of its process, leaves a session that goes on.

After each of them the session is read back from disk, held against the rules of every wire format, and asked again.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
import trio

from nanobot import Nanobot
from nanobot.messages import ToolMessage, messages_from_openai
from nanobot.testing import Answer, ScriptedProvider, assert_legal_history
from tests.sdk import three_tools
from tests.sdk.three_tools import KEY, bot_in

ROOT = Path(__file__).parents[2]


class Steps(trio.abc.Instrument):
    """Cancels a scope after so many steps of any task."""

    def __init__(self, scope: trio.CancelScope, left: int) -> None:
        self._scope = scope
        self._left = left

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


async def goes_on(bot: Nanobot, key: str, provider: ScriptedProvider) -> list[dict[str, object]]:
    """Assert that the session is legal on disk, and that its next turn is; returns what was there before that."""
    snapshot = bot.sessions.get(key)
    before = [] if snapshot is None else snapshot.messages
    assert_legal_history(before)
    result = await bot.run("And now?", session_key=key)
    assert (result.error, result.content) == (None, "Onwards.")
    assert "persisted" not in result.metadata
    assert_legal_history(provider.requests[-1].messages[:-1])
    snapshot = bot.sessions.get(key)
    assert snapshot is not None
    assert_legal_history(snapshot.messages)
    assert snapshot.messages[: len(before)] == before
    assert [message["content"] for message in snapshot.messages[-2:]] == ["And now?", "Onwards."]
    return before


def onwards(_request: object) -> Answer:
    return Answer("Onwards.")


async def test_cancelled_at_any_checkpoint_a_turn_leaves_a_legal_session_that_goes_on(
    tmp_path: Path,
) -> None:
    outcomes: Counter[str] = Counter()
    async with bot_in(tmp_path) as bot, bot_in(tmp_path, onwards) as other:
        watcher = other._blueprint._provider
        assert isinstance(watcher, ScriptedProvider)
        await bot.run("Go.", session_key="warm")
        for steps in count(1):
            key = f"{KEY} {steps}"
            result = None
            with trio.CancelScope() as scope:
                instrument = Steps(scope, steps)
                trio.lowlevel.add_instrument(instrument)
                try:
                    result = await bot.run("Go.", session_key=key)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            before = await goes_on(other, key, watcher)
            for message in messages_from_openai(before):
                if isinstance(message, ToolMessage):
                    outcomes[message.outcome] += 1
            if result is not None and not scope.cancel_called:
                assert [message["role"] for message in before] == [
                    *("user", "assistant", "tool", "tool", "tool", "assistant")
                ]
                break
    assert steps > 20  # or this did not look at every step
    assert outcomes["ok"] >= 3
    assert outcomes["cancelled_before_start"] > 0
    assert outcomes["interrupted_may_have_run"] > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_statement_a_process_leaves_a_legal_session_that_goes_on(
    tmp_path: Path, step: int
) -> None:
    first = random.randint(1, step)
    ran = subprocess.run(
        [sys.executable, three_tools.__file__, tmp_path, *map(str, (first, step, 1000))],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=110,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    lines = ran.stdout.splitlines()
    assert lines[-1].startswith("answered")
    assert len(lines) > 100 / step
    lengths: Counter[int] = Counter()

    async def look(number: str) -> None:
        async with bot_in(tmp_path / number, onwards) as bot:
            provider = bot._blueprint._provider
            assert isinstance(provider, ScriptedProvider)
            before = await goes_on(bot, KEY, provider)
            roles = [str(message["role"]) for message in before]
            whole = ["user", "assistant", "tool", "tool", "tool", "assistant"]
            assert roles == whole[: len(roles)]  # never half of the tool round
            lengths[len(roles)] += 1

    async def look_at_all() -> None:
        for line in lines:
            await look(line.split()[1])

    trio.run(look_at_all)
    assert set(lengths) == {0, 1, 5, 6}


TURNS = 25

HAMMER = """
import sys
from pathlib import Path
from tests.sdk.three_tools import KEY, bot_in

name, folder, turns = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
with bot_in(folder) as bot:
    for number in range(turns):
        result = bot.run_sync(f"{name} {number}", session_key=KEY)
        assert result.error is None and "persisted" not in result.metadata, result
"""


def test_processes_hammering_one_session_never_interleave_lose_or_repeat_a_turn(
    tmp_path: Path,
) -> None:
    bot_in(tmp_path).close()
    names = ["ann", "ben"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, name, str(tmp_path), str(TURNS)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for name in names
    ]
    assert [process.wait(100) for process in processes] == [0, 0]
    with bot_in(tmp_path) as bot:
        snapshot = bot.sessions.get(KEY)
    assert snapshot is not None
    messages = snapshot.messages
    assert_legal_history(messages)
    turn = ["user", "assistant", "tool", "tool", "tool", "assistant"]
    assert [message["role"] for message in messages] == turn * (TURNS * len(names))
    asked = [message["content"] for message in messages if message["role"] == "user"]
    for name in names:
        assert [text for text in asked if text.startswith(name)] == [
            f"{name} {number}" for number in range(TURNS)
        ]
