"""Runs whose message goes into the turn that is running on their session, instead of into a turn of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from actors import CallCancelled, Mailbox
from nanobot.agent import (
    STREAM_EVENT_RUN_COMPLETED,
    STREAM_EVENT_RUN_FAILED,
    STREAM_EVENT_RUN_STARTED,
    STREAM_EVENT_TEXT_COMPLETED,
    STREAM_EVENT_TEXT_DELTA,
    RunResult,
    StreamEvent,
)
from nanobot.errors import NanobotError
from nanobot.messages import UserMessage

from ._run import Run
from ._run_events import RunEvents

__all__ = ["Steering"]


class Steering:
    """Knows the runs that may steer the turn of their session. One per runtime; lives in the engine.

    Such a run stands in its session's mailbox like any other. The turn takes it out when it takes its message, in one step;
    one that is not taken gets its turn in its place. So no message is lost, and none is heard twice.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, dict[Run, Mailbox[Run]]] = {}  # insertion-ordered

    def add(self, run: Run, mailbox: Mailbox[Run]) -> None:
        """A run has come that stands in this mailbox."""
        self._waiting.setdefault(run.session_key, {})[run] = mailbox
        run.call.on_settled(lambda: self._forget(run))

    def waits(self, session_key: str) -> bool:
        """Whether there may be something to take."""
        return session_key in self._waiting

    async def take(self, host: Run) -> Sequence[UserMessage]:
        """Take the messages that wait for the session of `host`, whose turn they go into. Those runs end with that turn.

        Cancellation: nothing was taken.
        """
        said: dict[Run, UserMessage] = {}
        while (run := self._next(host.session_key, said)) is not None:
            assert run.said is not None
            try:
                said[run] = await run.said()
            except NanobotError as error:  # the caller's mistake, such as a file that is not there
                run.call.fail(error)
        taken: list[UserMessage] = []
        for run, message in said.items():  # no checkpoint from here on
            mailbox = self._waiting.get(run.session_key, {}).get(run)
            if mailbox is not None and mailbox.withdraw(run):  # else it was cancelled meanwhile
                self._forget(run)
                _join(run, host)
                taken.append(message)
        return taken

    def _next(self, session_key: str, said: dict[Run, UserMessage]) -> Run | None:
        for run, mailbox in tuple(self._waiting.get(session_key, {}).items()):
            if mailbox.position(run) is None:
                self._forget(run)  # it has a turn of its own by now
            elif run not in said:
                return run
        return None

    def _forget(self, run: Run) -> None:
        waiting = self._waiting.get(run.session_key)
        if waiting is not None:
            waiting.pop(run, None)
            if not waiting:
                del self._waiting[run.session_key]


def _join(run: Run, host: Run) -> None:
    """From now on the run waits for the end of the turn that has its message."""
    run.host = host
    if run.events is not None:
        metadata = {"session_key": run.session_key, "steered": True}
        run.events.nowait(StreamEvent(STREAM_EVENT_RUN_STARTED, iteration=0, metadata=metadata))
    # Whoever reads the events of that turn may be waiting for this one.
    host.waiters += 1
    if host.events is not None:
        host.events.stream.reconsider()
    run.call.on_settled(lambda: _leave(host))
    host.call.on_settled(lambda: _end_with(run, host))


def _leave(host: Run) -> None:
    host.waiters -= 1


def _end_with(run: Run, host: Run) -> None:
    """Give a run the result of the turn that it has steered."""
    if run.settled:
        return  # its caller did not wait
    failure = host.call.failure
    if failure is None:
        result = host.call.result()
    elif isinstance(failure, CallCancelled) and host.partial is not None:
        result = host.partial()
    else:
        run.call.fail(failure)
        return
    result = replace(result, metadata={**result.metadata, "steered": True})
    if run.events is not None:
        _tell_end(run.events, result)
    run.call.settle(result)


def _tell_end(events: RunEvents, result: RunResult) -> None:
    """The answer in one piece: who reads only this stream has the whole of it."""
    iteration = max(0, int(result.metadata.get("iterations", 1)) - 1)
    if result.content:
        events.nowait(StreamEvent(STREAM_EVENT_TEXT_DELTA, result.content, iteration=iteration))
    if result.error is not None:
        events.nowait(
            StreamEvent(
                STREAM_EVENT_RUN_FAILED,
                content=result.content,
                iteration=iteration,
                usage=dict(result.usage),
                error=result.error,
                metadata={**result.metadata, "reason": result.stop_reason},
            )
        )
        return
    events.nowait(
        StreamEvent(
            STREAM_EVENT_TEXT_COMPLETED,
            content=result.content,
            iteration=iteration,
            resuming=False,
            metadata={name: result.metadata.get(name, "") for name in ("provider", "model")},
        )
    )
    events.nowait(
        StreamEvent(
            STREAM_EVENT_RUN_COMPLETED,
            content=result.content,
            result=result,
            iteration=iteration,
            usage=dict(result.usage),
            metadata=dict(result.metadata),
        )
    )
