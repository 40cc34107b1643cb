"""Processes of a flow with an approval: each goes on wherever the flow stands, and dies at the step that it is told.

`python -m tests.sdk.parking_child STORE FOLDER:STEP…` runs one after the other, and prints how each ended: -9, or the number of
steps that it took. Steps are the moments before and after each write to the store and each effect of a tool, counted from 1; 0
is never. Each is a fork of a process that has imported everything and started nothing.

STORE is `sqlite`, a file in the folder: a process goes on to the answer. Or it is the URL of a PostgreSQL database: one process
asks and parks, another decides, a third resumes, and so on to the answer; all of them together are one line of what is printed.
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
from nanobot.sessions import Lease, Position, SearchableStore
from nanobot.sessions._record import Compaction
from nanobot.sessions._sqlite import SqliteStore
from nanobot.testing import Answer, ScriptedProvider

LEASE_TIMEOUT_S = 1.0


def key_of(folder: Path) -> str:
    """The session of a flow."""
    return folder.name


class Steps:
    """Counts, and kills this process at one of them, as a power cut would: nothing is closed."""

    def __init__(self, deadly: int) -> None:
        self.deadly = deadly
        self.count = 0

    def step(self) -> None:
        self.count += 1
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)


class DeadlyWrites:
    """The writes of the store that comes next in the order of its classes are steps."""

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
        position: Position = await super().append(  # type: ignore[misc]  # the store's
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
        swapped: bool = super().swap_slip(key, name, old, new)  # type: ignore[misc]  # the store's
        self.steps.step()
        return swapped


class DeadlySqlite(DeadlyWrites, SqliteStore):
    """A store in the folder."""


def open_store(kind: str, folder: Path, steps: Steps) -> SearchableStore:
    """The store of a flow."""
    if kind == "sqlite":
        store = DeadlySqlite(folder / "sessions.db", durability="fast")
    else:
        store = _postgres(kind)
    store.steps = steps
    return store


def _postgres(url: str) -> Any:
    from nanobot.sessions._postgres import PostgresStore  # if the extra is there

    class DeadlyPostgres(DeadlyWrites, PostgresStore):
        """A store that processes share."""

    return DeadlyPostgres(url, synchronous=False, lease_timeout_s=LEASE_TIMEOUT_S)


def answer(request: ModelRequest) -> Answer | str:
    last = request.messages[-1]
    if isinstance(last, UserMessage) and not any(
        isinstance(message, ToolMessage) for message in request.messages
    ):
        calls = [(name, {"what": str(n)}) for n, name in enumerate(["note", "pay", "mark", "pay"])]
        return Answer(tool_calls=calls)
    return "All done."


def open_bot(folder: Path, store: SearchableStore, steps: Steps) -> Nanobot:
    """The same bot in each process."""

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
    return Nanobot.from_config(
        folder / "config.json",
        workspace=folder / "workspace",
        provider=ScriptedProvider(answer),
        store=store,
        tools=[note, pay, mark],
        approver=Park(),
    )


async def go_on(bot: Nanobot, folder: Path) -> str:
    """Do what the flow waits for, as much of it as is one process's: ask, decide or resume. Returns how it ended."""
    key = key_of(folder)
    if await trio.to_thread.run_sync(bot.sessions.get, key) is None:
        result = await bot.run("go", session_key=key)
        return str(result.stop_reason)
    decided = await trio.to_thread.run_sync(decide, bot, folder)
    if decided:
        return "decided"
    try:
        result = await bot.resume(key)
    except NothingToResume:
        return "completed"  # it died after the last write
    return str(result.stop_reason)


def decide(bot: Nanobot, folder: Path) -> int:
    """Approve what waits; returns how much that was."""
    waiting = [each for each in bot.approvals.list(key_of(folder)) if each.state == "waiting"]
    for each in waiting:
        bot.approvals.approve(each.id)
        with (folder / "approved").open("a") as file:
            file.write(each.id + "\n")
    return len(waiting)


async def main(kind: str, folder: Path, deadly: int) -> int:
    """One process; returns its steps."""
    steps = Steps(deadly)
    async with open_bot(folder, open_store(kind, folder, steps), steps) as bot:
        for _ in range(20):
            end = await go_on(bot, folder)
            assert end in ("completed", "decided", "parked"), end
            if end == "completed":
                (folder / "completed").touch()
            if end == "completed" or kind != "sqlite":
                break
    return steps.count


def flow(kind: str, folder: Path, deadly: int) -> int:
    """Processes, until one has the answer or is killed; returns their steps, or minus the signal."""
    count = 0
    while not (folder / "completed").exists():
        end = in_a_fork(kind, folder, deadly - count if deadly else 0)
        if end < 0:
            return end
        count += end
    return count


def in_a_fork(kind: str, folder: Path, deadly: int) -> int:
    """Run one process; returns the number of its steps, or minus the signal that ended it."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(trio.run(main, kind, folder, deadly))
        except BaseException:  # noqa: ASYNC103, BLE001 - whatever it is, this is the end of the fork
            traceback.print_exc()
            os._exit(255)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 255:
        sys.exit("a process of the flow failed")
    return code


if __name__ == "__main__":
    for argument in sys.argv[2:]:
        where, _, step = argument.rpartition(":")
        Path(where).mkdir(exist_ok=True)
        print(flow(sys.argv[1], Path(where), int(step)))
