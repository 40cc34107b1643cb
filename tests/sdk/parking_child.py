"""Processes of a flow with an approval: each goes on wherever the flow stands, and dies at the step that it is told.

`python -m tests.sdk.parking_child FOLDER:STEP…` runs one after the other, and prints how each ended: -9, or the number of steps
that it took to the answer. Steps are the moments before and after each write to the store and each effect of a tool, counted
from 1; 0 is never. Each is a fork of a process that has imported everything and started nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from nanobot import Nanobot, Park, tool
from nanobot.errors import NothingToResume
from nanobot.messages import Message, ToolMessage, UserMessage
from nanobot.providers import ModelRequest
from nanobot.sessions import Lease, Position
from nanobot.sessions._record import Compaction
from nanobot.sessions._sqlite import SqliteStore
from nanobot.testing import Answer, ScriptedProvider

KEY = "a"


class Steps:
    """Counts, and kills this process at one of them, as a power cut would: nothing is closed."""

    def __init__(self, deadly: int) -> None:
        self.deadly = deadly
        self.count = 0

    def step(self) -> None:
        self.count += 1
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)


class DeadlyStore(SqliteStore):
    """A store whose writes are steps."""

    steps: Steps

    async def append(
        self,
        lease: Lease,
        messages: Sequence[Message] = (),
        *,
        metadata: Mapping[str, Any] | None = None,
        compaction: Compaction | None = None,
        slips: Mapping[str, bytes | None] | None = None,
        release: bool = False,
    ) -> Position:
        self.steps.step()
        position = await super().append(
            lease,
            messages,
            metadata=metadata,
            compaction=compaction,
            slips=slips,
            release=release,
        )
        self.steps.step()
        return position

    def swap_slip(self, key: str, name: str, old: bytes, new: bytes | None) -> bool:
        self.steps.step()
        swapped = super().swap_slip(key, name, old, new)
        self.steps.step()
        return swapped


def answer(request: ModelRequest) -> Answer | str:
    last = request.messages[-1]
    if isinstance(last, UserMessage) and not any(
        isinstance(message, ToolMessage) for message in request.messages
    ):
        calls = [(name, {"what": str(n)}) for n, name in enumerate(["note", "pay", "mark", "pay"])]
        return Answer(tool_calls=calls)
    return "All done."


async def main(folder: Path, deadly: int) -> int:
    steps = Steps(deadly)

    def effect(line: str) -> str:
        steps.step()
        with (folder / "effects").open("a") as file:
            file.write(line + "\n")
        steps.step()
        return "ok"

    @tool
    def note(what: str) -> str:
        """Note."""
        return effect(f"note {what}")

    @tool(approval="ask")
    def pay(what: str) -> str:
        """Pay."""
        return effect(f"pay {what}")

    @tool(idempotent=True)
    def mark(what: str) -> str:
        """Mark."""
        return effect(f"mark {what}")

    (folder / "config.json").write_text(
        json.dumps(
            {
                "agents": {"defaults": {"model": "openai/m", "resumable": True}},
                "providers": {"openai": {"apiKey": "sk-test"}},
            }
        )
    )
    store = DeadlyStore(folder / "sessions.db", durability="fast")
    store.steps = steps
    bot = Nanobot.from_config(
        folder / "config.json",
        workspace=folder / "workspace",
        provider=ScriptedProvider(answer),
        store=store,
        tools=[note, pay, mark],
        approver=Park(),
    )
    async with bot:
        for _ in range(10):
            if bot.sessions.get(KEY) is None:
                result = await bot.run("go", session_key=KEY)
            else:
                for waiting in bot.approvals.list():
                    if waiting.state == "waiting":
                        bot.approvals.approve(waiting.id)
                        with (folder / "approved").open("a") as file:
                            file.write(waiting.id + "\n")
                try:
                    result = await bot.resume(KEY)
                except NothingToResume:
                    break  # it died after the last write
            if result.stop_reason == "completed":
                break
            assert result.stop_reason == "parked", result
    return steps.count


def in_a_fork(folder: Path, deadly: int) -> int:
    """Run one process; returns the number of its steps, or minus the signal that ended it."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(trio.run(main, folder, deadly))
        except BaseException:  # noqa: BLE001 - whatever it is, this is the end of the fork
            traceback.print_exc()
            os._exit(255)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 255:
        sys.exit("a process of the flow failed")
    return code


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        where, _, step = argument.rpartition(":")
        Path(where).mkdir(exist_ok=True)
        print(in_a_fork(Path(where), int(step)))
