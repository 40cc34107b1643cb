"""A turn that asks for three tools at once, for tests that end it in the middle; as a program, for those that kill it.

`python three_tools.py FOLDER FIRST STEP LAST [WORK]`: for each number in the range, a process of its own runs the turn, or what
else `WORK` says, with its sessions in `FOLDER/NUMBER`, and kills itself before or after that call of SQLite. Prints the number
of each process that was killed, and ends after the first one that got to its answer.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import trio

from nanobot import Nanobot, tool
from nanobot.messages import ToolMessage
from nanobot.providers import ModelRequest
from nanobot.testing import Answer, ScriptedProvider

KEY = "the session"


@tool(read_only=True)
async def look(place: str) -> str:
    """Look at a place."""
    await trio.lowlevel.checkpoint()
    return f"nothing at {place}"


@tool
async def wait(place: str) -> str:
    """Wait at a place."""
    await trio.sleep(0.001)
    return f"waited at {place}"


@tool
def think(place: str) -> str:
    """Think, in a thread."""
    return f"thought at {place}"


def answer(request: ModelRequest) -> Answer:
    """Three tools for a question, an answer for their results."""
    if isinstance(request.messages[-1], ToolMessage):
        return Answer(["It ", "is ", "done."])
    places = [("look", {"place": "a"}), ("wait", {"place": "b"}), ("think", {"place": "c"})]
    return Answer(["Let ", "me."], tool_calls=places)


def bot_in(folder: Path, script: Any = answer) -> Nanobot:
    """A bot with its configuration, its sessions and its workspace in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.json"
    if not config.exists():
        settings = {
            "providers": {"scripted": {"apiBase": "http://127.0.0.1:9/v1"}},
            "sessions": {"durability": "fast"},
        }
        config.write_text(json.dumps(settings))
    return Nanobot.from_config(
        config,
        workspace=folder / "ws",
        model="scripted/m",
        provider=ScriptedProvider(script),
        tools=[look, wait, think],
    )


def _die_at(statement: int) -> None:
    """Kill this process where a thread is about to have SQLite do the n-th thing, or has just had it done."""
    lock = threading.Lock()
    left = [statement]

    def watch(_frame: object, event: str, called: object) -> None:
        if event in ("c_call", "c_return") and isinstance(
            getattr(called, "__self__", None), sqlite3.Connection
        ):
            with lock:
                left[0] -= 1
                if left[0] <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(watch)


STORY = [
    {"role": role, "content": f"{role} {number}"}
    for number in range(20)
    for role in ("user", "assistant")
]
OTHERS = [{"role": "user", "content": "something else"}]


def _run_and_die(folder: Path, statement: int, work: str) -> None:
    if work not in ("turn", "ingest"):
        with bot_in(folder) as before:
            before.sessions.ingest_sync(KEY, STORY)
            other = before.sessions.ingest_sync("other", OTHERS)
    _die_at(statement)  # only threads that start from now on are watched
    with bot_in(folder) as bot:
        match work:
            case "turn":
                assert bot.run_sync("Go.", session_key=KEY).content == "It is done."
            case "ingest":
                bot.sessions.ingest_sync(KEY, STORY, {"title": "a story"})
            case "clear":
                bot.sessions.clear(KEY)
            case "restore":
                bot.sessions.restore(other, KEY)
            case "compact":
                assert bot.runtime.compact_idle_session_sync(KEY)


def _main(folder: Path, first: int, step: int, last: int, work: str) -> None:
    import nanobot.sessions._sqlite  # noqa: F401 - once, and not in each child

    for statement in range(first, last, step):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _run_and_die(folder / str(statement), statement, work)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            print("answered", statement, flush=True)
            return
        assert code == -signal.SIGKILL, code
        print("killed", statement, flush=True)


if __name__ == "__main__":
    first, step, last = map(int, sys.argv[2:5])
    _main(Path(sys.argv[1]), first, step, last, *sys.argv[5:] or ["turn"])
