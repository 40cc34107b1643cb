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
from types import FrameType
from typing import Any

import pytest
import trio

from actors._within import within
from nanobot import Nanobot
from nanobot.messages import ToolMessage, messages_from_openai
from nanobot.testing import Answer, ScriptedProvider, assert_legal_history
from tests.sdk import three_tools
from tests.sdk.three_tools import KEY, OTHERS, STORY, bot_in

ROOT = Path(__file__).parents[2]


Place = tuple[tuple[str, int], ...]
"""Where a task waits: the innermost lines of code that are not a library's."""


class Steps(trio.abc.Instrument):
    """Cancels after so many steps of any task, and notes where the tasks of the bot's run wait, and where they waited then.

    Either the scope of whoever asked is cancelled, which reaches the run a moment later, or at once the run itself.
    """

    def __init__(
        self, bot: Nanobot, scope: trio.CancelScope, left: int, *, run_itself: bool
    ) -> None:
        self._bot = bot
        self._scope = scope
        self.left = left
        self._run_itself = run_itself
        self.struck: set[Place] = set()
        self.seen: set[Place] = set()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        runtime = self._bot._engine.runtime
        run = None if runtime is None else next(iter(runtime._live), None)
        waiting = {place_of(each) for each in tasks_of_runs()} - {()}
        if run is None or not run.call.cancel_called:
            self.seen |= waiting  # some places are for those only who are cancelled
        self.left -= 1
        if self.left == 0:
            if self._run_itself and run is not None:
                run.call.cancel()
            else:
                self._scope.cancel()
        if run is not None and run.call.cancel_called and not self.struck:
            self.struck |= waiting


def tasks_of_runs() -> list[trio.lowlevel.Task]:
    """The tasks of all runs, and of what they do at the same time."""
    found, left = [], [(trio.lowlevel.current_root_task(), False)]
    while left:
        task, inside = left.pop()
        if task is not None:
            inside = inside or any(
                frame.f_code.co_qualname == "Call.run" for frame in frames_of(task)
            )
            if inside:
                found.append(task)
            left += [(child, inside) for each in task.child_nurseries for child in each.child_tasks]
    return found


def frames_of(task: trio.lowlevel.Task) -> list[FrameType]:
    """What the task is in, outermost first."""
    frames = []
    awaited: Any = task.coro
    while awaited is not None:
        prefix = next(
            (each for each in ("cr", "ag", "gi") if hasattr(awaited, f"{each}_frame")), None
        )
        frame = None if prefix is None else getattr(awaited, f"{prefix}_frame")
        if frame is None:
            break
        frames.append(frame)
        if frame.f_code is within.__code__:  # it steps what it awaits by hand
            awaited = frame.f_locals["coroutine"]
        else:
            awaited = getattr(awaited, "gi_yieldfrom" if prefix == "gi" else f"{prefix}_await")
    return frames


def place_of(task: trio.lowlevel.Task) -> Place:
    lines = [
        (Path(frame.f_code.co_filename).name, frame.f_lineno)
        for frame in frames_of(task)
        if "site-packages" not in frame.f_code.co_filename
    ]
    return tuple(lines[-3:])


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
    seen: set[Place] = set()
    struck: set[Place] = set()
    async with bot_in(tmp_path) as bot, bot_in(tmp_path, onwards) as other:
        watcher = other._blueprint._provider
        assert isinstance(watcher, ScriptedProvider)
        await bot.run("Go.", session_key="warm")
        for sweep in range(
            20
        ):  # two, unless tasks that were ready at once always ran in the same order
            for steps in count(1):
                key = f"{KEY} {sweep} {steps}"
                result = None
                with trio.CancelScope() as scope:
                    instrument = Steps(bot, scope, steps, run_itself=sweep % 2 == 0)
                    trio.lowlevel.add_instrument(instrument)
                    try:
                        result = await bot.run("Go.", session_key=key)
                    finally:
                        trio.lowlevel.remove_instrument(instrument)
                seen |= instrument.seen
                struck |= instrument.struck
                before = await goes_on(other, key, watcher)
                for message in messages_from_openai(before):
                    if isinstance(message, ToolMessage):
                        outcomes[message.outcome] += 1
                if result is not None and instrument.left > 0:
                    assert [message["role"] for message in before] == [
                        *("user", "assistant", "tool", "tool", "tool", "assistant")
                    ]
                    break
            if sweep >= 1 and seen <= struck:
                break
    assert seen <= struck, f"no cancel struck here: {seen - struck}"
    assert len(seen) > 8
    assert outcomes["ok"] >= 3
    assert outcomes["cancelled_before_start"] > 0
    assert outcomes["interrupted_may_have_run"] > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.timeout(600)  # a hundred processes, and a machine that may be busy
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
        timeout=500,
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


@pytest.mark.slow
@pytest.mark.timeout(
    600
)  # a hundred processes: the limits are for what hangs, not for a machine that is busy
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("work", ["ingest", "clear", "restore", "compact"])
def test_killed_at_any_statement_whatever_is_done_to_a_session_is_done_whole_or_not_at_all(
    tmp_path: Path, work: str
) -> None:
    ran = subprocess.run(
        [
            sys.executable,
            three_tools.__file__,
            tmp_path,
            str(random.randint(1, 3)),
            "3",
            "1000",
            work,
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=500,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    lines = ran.stdout.splitlines()
    assert lines[-1].startswith("answered")
    assert len(lines) > 8
    story, others = [[message["content"] for message in said] for said in (STORY, OTHERS)]
    ends: Counter[bool] = Counter()

    async def look(number: str) -> None:
        async with bot_in(tmp_path / number, onwards) as bot:
            provider = bot._blueprint._provider
            assert isinstance(provider, ScriptedProvider)
            snapshot = bot.sessions.get(KEY)
            before = [message["content"] for message in await goes_on(bot, KEY, provider)]
            if work == "compact":
                assert snapshot is not None
                assert before == story
                ends[snapshot.compaction is not None] += 1
                return
            old, new = {
                "ingest": ([], story),
                "clear": (story, []),
                "restore": (story, others),
            }[work]
            assert before in (old, new)
            ends[before == new] += 1
            if work == "ingest":
                assert (snapshot is not None) == bool(before)
                assert snapshot is None or snapshot.metadata == {"title": "a story"}

    async def look_at_all() -> None:
        for line in lines:
            await look(line.split()[1])

    trio.run(look_at_all)
    assert set(ends) == {False, True}


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
