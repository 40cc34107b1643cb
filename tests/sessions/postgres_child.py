"""What the other processes do in the tests of the PostgreSQL store: `python postgres_child.py COMMAND URL ...`."""

from __future__ import annotations

import os
import random
import sys
from itertools import count
from signal import SIGINT

import trio

from nanobot.errors import StoreError
from nanobot.messages import AssistantMessage, UserMessage
from nanobot.sessions import SessionFenced, open_lease
from nanobot.sessions._postgres import PostgresStore

LEASE_TIMEOUT_S = 2.0


def say(line: str) -> None:
    """One line, at once, whatever happens to this process next."""
    os.write(1, line.encode() + b"\n")


def store_at(url: str) -> PostgresStore:
    return PostgresStore(url, lease_timeout_s=LEASE_TIMEOUT_S, max_connections=4)


async def hold(url: str, key: str) -> None:
    """Own a session until something is read; then try to write to it. Says so if it is asked to stop."""
    store = store_at(url)
    store.on_cancel(lambda key: say(f"asked to stop {key}"))
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


async def follow(url: str, key: str, messages: str) -> None:
    """Say what is written to a session, as it is written."""
    store = store_at(url)
    seen = 0
    async with store.watch(key) as bell:
        say("ready")
        while seen < int(messages):
            record = await trio.to_thread.run_sync(store.read, key)
            for message in () if record is None else record.messages[seen:]:
                say(f"{message.content}")
                seen += 1
            if seen < int(messages):
                await bell.wait()
    await store.aclose()


async def take_turns(url: str, name: str, sessions: str, seconds: str) -> None:
    """Take turns in random sessions, some at a time; a turn is acknowledged when both of its writes have returned."""
    store = store_at(url)
    numbers = count()

    async def talk() -> None:
        while True:
            key = f"session {random.randrange(int(sessions))}"
            turn = f"{name}.{next(numbers)}"
            try:
                async with open_lease(store, key, last=1) as leased:
                    before = leased.position
                    if before.sequence:
                        assert leased.record is not None
                        assert len(leased.record.messages) == 1
                    asked = await store.append(leased.lease, [UserMessage(f"{turn} asks")])
                    assert asked.sequence == before.sequence + 1
                    await trio.sleep(random.random() * 0.02)  # the model
                    answered = await store.append(
                        leased.lease,
                        [AssistantMessage(f"{turn} is answered")],
                        release=random.random() < 0.5,
                    )
                    assert answered.sequence == before.sequence + 2
                    say(f"ack {key}|{turn}")
            except StoreError as error:
                say(f"failed {type(error).__name__} {error}")

    say("ready")
    with trio.move_on_after(float(seconds)) as bound, trio.open_signal_receiver(SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(talk)
            await anext(signals)
            bound.cancel()
    await store.aclose()
    say("done")


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    commands = {"hold": hold, "follow": follow, "take_turns": take_turns}
    trio.run(commands[command], *arguments)  # type: ignore[arg-type]  # as many as the command takes
