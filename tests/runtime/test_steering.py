"""Whose messages a turn takes, among runs that come, go, and get turns of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import CallCancelled, CreditReader, CreditStream, Mailbox
from nanobot.agent import RunResult, StreamEvent
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

    def add(self, said: Said, stream: CreditStream[StreamEvent] | None = None) -> Run:
        run = Run("a", never, on_busy="steer", said=said, stream=stream)
        self.mailbox.post_nowait(run)
        self.steering.add(run, self.mailbox)
        return run

    def cancel(self, run: Run) -> None:
        self.mailbox.withdraw(run)  # as the runtime does
        run.call.cancel()

    async def take(self) -> list[Any]:
        return [message.content for message in await self.steering.take(self.host)]


async def test_what_was_taken_waits_no_more(caplog: pytest.LogCaptureFixture) -> None:
    session = Session()
    run = session.add(says("one"))
    session.add(says("two"))
    assert session.steering.waits("a")
    assert await session.take() == ["one", "two"]
    assert not session.steering.waits("a")
    assert len(session.mailbox) == 0
    run.call.cancel()
    assert caplog.messages == []  # where an error of what is called at the end would be


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


class Told:
    """One run, whose events are read, in the turn of another."""

    def __init__(self) -> None:
        self.session = Session()
        self.host = self.session.host
        self.stream: CreditStream[StreamEvent] = CreditStream()
        self.run = self.session.add(says("hear me"), self.stream)
        self._reader = CreditReader(self.stream, self.stream.give_credit)

    def events(self) -> list[StreamEvent]:
        found: list[StreamEvent] = []
        while True:
            try:
                found.append(self._reader.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return found


async def test_who_reads_only_the_stream_of_what_steered_has_the_whole_answer() -> None:
    told = Told()
    await told.session.take()
    assert told.events() == [
        StreamEvent("run.started", iteration=0, metadata={"session_key": "a", "steered": True})
    ]
    said_by = {"provider": "p", "model": "m"}
    result = RunResult(
        "Yes.", usage={"total_tokens": 7}, metadata={"iterations": 3, "latency_ms": 1, **said_by}
    )
    told.host.call.settle(result)
    metadata = {**result.metadata, "steered": True}
    assert told.run.call.result() == RunResult("Yes.", usage=result.usage, metadata=metadata)
    assert told.events() == [
        StreamEvent("text.delta", "Yes.", iteration=2),
        StreamEvent(
            "text.completed", content="Yes.", iteration=2, resuming=False, metadata=said_by
        ),
        StreamEvent(
            "run.completed",
            content="Yes.",
            result=told.run.call.result(),
            iteration=2,
            usage=result.usage,
            metadata=metadata,
        ),
    ]
    assert "steered" not in result.metadata


async def test_a_turn_that_failed_is_told_as_a_failure_with_what_there_is_of_it() -> None:
    told = Told()
    await told.session.take()
    told.events()
    result = RunResult(
        "So f", usage={"total_tokens": 7}, stop_reason="error", error="cut", metadata={"status": 5}
    )
    told.host.call.settle(result)
    assert told.events() == [
        StreamEvent("text.delta", "So f", iteration=0),
        StreamEvent(
            "run.failed",
            content="So f",
            iteration=0,
            usage=result.usage,
            error="cut",
            metadata={"status": 5, "steered": True, "reason": "error"},
        ),
    ]


async def test_an_answer_without_text_has_no_delta() -> None:
    told = Told()
    await told.session.take()
    told.host.call.settle(RunResult("", metadata={"iterations": 0}))
    _, completed, ended = told.events()
    assert (completed.type, ended.type) == ("text.completed", "run.completed")
    assert (completed.iteration, ended.iteration) == (0, 0)
    assert completed.metadata == {"provider": "", "model": ""}


async def test_what_is_raised_in_a_turn_is_raised_by_who_steered_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = Session()
    run = session.add(says("hear me"))
    await session.take()
    session.host.partial = lambda: RunResult("so far")
    bug = ZeroDivisionError("a bug")
    session.host.call.fail(bug)
    assert run.call.failure is bug
    assert caplog.messages == []


async def test_of_a_turn_that_was_cancelled_there_is_what_it_has() -> None:
    for partial in (lambda: RunResult("so far", stop_reason="cancelled"), None):
        session = Session()
        run = session.add(says("hear me"))
        await session.take()
        session.host.partial = partial
        session.host.call.cancel()
        if partial is None:
            assert isinstance(run.call.failure, CallCancelled)
        else:
            assert (run.call.result().content, run.call.result().stop_reason) == (
                "so far",
                "cancelled",
            )
            assert run.call.result().metadata == {"steered": True}


async def test_who_goes_away_after_it_was_heard_is_told_nothing_more() -> None:
    told = Told()
    await told.session.take()
    told.run.call.cancel()
    assert [event.type for event in told.events()] == ["run.started", "run.failed"]
    told.host.call.settle(RunResult("Yes."))
    assert told.events() == []
    assert isinstance(told.run.call.failure, CallCancelled)


async def test_a_turn_does_not_wait_for_its_reader_while_somebody_who_steered_it_waits() -> None:
    session = Session()
    host = session.host = Run("a", never, stream=CreditStream(window=1))
    assert host.events is not None
    stream = host.events.stream
    stream.may_wait = lambda: not host.waiters
    run = session.add(says("hear me"))
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(stream.send, StreamEvent("text.delta", "la"))
            await wait_all_tasks_blocked()
        assert (host.waiters, stream.buffered, stream.waiting) == (0, 1, True)
        await session.take()
        await wait_all_tasks_blocked()
        assert (host.waiters, stream.buffered) == (1, 2)
        run.call.cancel()
        assert host.waiters == 0
