"""What the other processes do in the tests of the SQLite store: `python sqlite_child.py COMMAND PATH ...`."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from contextlib import closing
from itertools import count
from pathlib import Path

import trio

from nanobot.messages import AssistantMessage, UserMessage
from nanobot.sessions import Durability, SessionFenced, open_lease
from nanobot.sessions._sqlite import SqliteStore

LEASE_TIMEOUT_S = 2.0


def say(line: str) -> None:
    """One line, at once, whatever happens to this process next."""
    os.write(1, line.encode() + b"\n")


def store_at(path: str, durability: Durability = "fast") -> SqliteStore:
    return SqliteStore(Path(path), durability=durability, lease_timeout_s=LEASE_TIMEOUT_S)


async def take_turns(path: str, key: str, name: str, turns: str) -> None:
    """Ask and answer, in two writes; nobody else may get in between."""
    store = store_at(path)
    say("ready")
    for number in range(int(turns)):
        async with open_lease(store, key, last=1) as leased:
            before = leased.position.sequence
            asked = await store.append(leased.lease, [UserMessage(f"{name} asks {number}")])
            assert asked.sequence == before + 1
            await trio.lowlevel.checkpoint()
            position = await store.append(
                leased.lease, [AssistantMessage(f"{name} answers {number}")]
            )
            assert position.sequence == before + 2
        say(f"{name} {number}")
    await store.aclose()


async def append_forever(path: str, durability: Durability) -> None:
    """Several sessions at once; each write has three messages, and is said when it has returned."""
    store = store_at(path, durability)

    async def session(key: str) -> None:
        for number in count():
            async with open_lease(store, key, last=0) as leased:
                position = await store.append(
                    leased.lease,
                    [UserMessage(f"{leased.position.sequence} {part}") for part in range(3)],
                    metadata={"number": number},
                )
            say(f"{key} {position.sequence}")

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(session, f"session {number}")


def open_new() -> None:
    """Write one session to each database that is named on a line, and say what came of it."""
    say("ready")
    for line in sys.stdin:
        path, name = line.split()
        store = store_at(path)
        try:
            store.replace(name, [UserMessage(name)])
            say("written")
        except Exception as error:  # noqa: BLE001 - whoever asked says what may happen
            say(repr(error))
        store.close()


async def hold(path: str, key: str) -> None:
    """Own a session until something is read; then try to write to it."""
    store = store_at(path)
    async with open_lease(store, key) as leased:
        await store.append(leased.lease, [UserMessage("from the first owner")])
        say("held")
        await trio.to_thread.run_sync(sys.stdin.readline)
        try:
            await store.append(leased.lease, [UserMessage("much later")])
        except SessionFenced:
            say("fenced")
        else:
            say("written")
    await store.aclose()


def leave_while_writing(path: str) -> None:
    """The interpreter exits while threads that it does not wait for are writing."""
    store = store_at(path, "commit")
    store.replace("first", [])
    with closing(sqlite3.connect(path)) as another:
        another.execute("BEGIN IMMEDIATE")  # so that the writer is behind, however fast it is
        for number in range(20):
            messages = [UserMessage("x" * 1000)] * 200
            threading.Thread(
                target=store.replace, args=(f"session {number}", messages), daemon=True
            ).start()
        while store._writer._queue.qsize() < 2:
            time.sleep(0.001)
    say("leaving")


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    match command:
        case "take_turns":
            trio.run(take_turns, *arguments)  # type: ignore[arg-type]  # as many as the command takes
        case "append_forever":
            trio.run(append_forever, *arguments)  # type: ignore[arg-type]  # as above
        case "hold":
            trio.run(hold, *arguments)  # type: ignore[arg-type]  # as above
        case "open_new":
            open_new()
        case "leave_while_writing":
            leave_while_writing(*arguments)
