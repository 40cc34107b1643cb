"""Whose messages a turn takes, among runs that come, go, and get turns of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import Mailbox
from nanobot.agent import RunResult
from nanobot.messages import UserMessage
from nanobot.runtime import Run, Steering

Said = Callable[[], Awaitable[UserMessage]]


async def never(run: Run) -> RunResult[Any]:
    raise AssertionError("no run of these tests gets that far")


def says(text: str) -> Said:
    async def said() -> UserMessage:
        return UserMessage(text)

    return said


class Session:
    """A session whose turn is `host`, and the runs that stand in its mailbox."""

    def __init__(self) -> None:
        self.steering = Steering()
        self.mailbox: Mailbox[Run] = Mailbox()
        self.host = Run("a", never)

    def add(self, said: Said) -> Run:
        run = Run("a", never, on_busy="steer", said=said)
        self.mailbox.post_nowait(run)
        self.steering.add(run, self.mailbox)
        return run

    def cancel(self, run: Run) -> None:
        self.mailbox.withdraw(run)  # as the runtime does
        run.call.cancel()

    async def take(self) -> list[Any]:
        return [message.content for message in await self.steering.take(self.host)]


async def test_what_was_taken_waits_no_more() -> None:
    session = Session()
    session.add(says("one"))
    session.add(says("two"))
    assert session.steering.waits("a")
    assert await session.take() == ["one", "two"]
    assert not session.steering.waits("a")
    assert len(session.mailbox) == 0


async def test_nothing_is_kept_of_a_run_that_went_away() -> None:
    session = Session()
    session.cancel(session.add(says("never mind")))
    assert not session.steering.waits("a")


async def test_a_run_that_got_a_turn_of_its_own_is_not_asked() -> None:
    async def asked_again() -> UserMessage:
        raise AssertionError("its files would be read twice")

    session = Session()
    session.add(asked_again)
    session.mailbox.get_nowait()
    assert await session.take() == []
    assert not session.steering.waits("a")


@pytest.mark.parametrize("its_own_turn", [False, True])
async def test_who_leaves_while_another_makes_its_message_is_not_heard(its_own_turn: bool) -> None:
    session = Session()

    async def slow() -> UserMessage:
        if its_own_turn:
            assert session.mailbox.get_nowait() is leaves
        else:
            session.cancel(leaves)
        return UserMessage("slow")

    leaves = session.add(says("leaves"))
    session.add(slow)
    assert await session.take() == ["slow"]
    assert leaves.host is None
