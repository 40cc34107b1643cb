"""An answer that is sent while the run goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol, TypeAlias

import trio

from nanobot.agent import (
    STREAM_EVENT_RUN_COMPLETED,
    STREAM_EVENT_RUN_FAILED,
    RunResult,
    StreamEvent,
)

from ._api_error import ApiError
from ._following import Following
from ._limits import HEAD_WITHIN_S, PING_EVERY_S

__all__ = ["AnswerStream", "Send", "send_stream"]

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_PING: Final = b": the run goes on\n\n"

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (
        b"x-accel-buffering",
        b"no",
    ),  # nginx would gather the events, and send them when there are enough
]


class AnswerStream(Protocol):
    """How one API puts a run into server-sent events; each method returns bytes to send, perhaps none."""

    def opening(self) -> bytes:
        """What comes before anything else. May be asked for after the first `next`, and is sent before it."""

    def next(self, event: StreamEvent) -> bytes:
        """What an event of the run adds."""

    def completed(self, result: RunResult) -> bytes:
        """The end of a stream that has its answer."""

    def failed(self, error: ApiError) -> bytes:
        """The end of a stream that has none."""


async def send_stream(
    following: Following,
    stream: AnswerStream,
    send: Send,
    *,
    head_within_s: float = HEAD_WITHIN_S,
    ping_every_s: float = PING_EVERY_S,
) -> Exception | None:
    """Send a run's events as they come; returns why there is no answer, if there is none and the client was not told.

    A run that fails before anything was sent can still become a response whose status says why: that is up to the caller.
    One that fails later becomes an error event, and after it the response just stops: the server cuts the connection, and
    no client takes that for the end of an answer.
    """
    begun = False
    head_at = trio.current_time() + head_within_s

    async def say(said: bytes) -> None:
        nonlocal begun
        if not begun:
            begun = True
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            said = stream.opening() + said
        await send({"type": "http.response.body", "body": said, "more_body": True})

    while True:
        wait_s = ping_every_s if begun else max(0.0, head_at - trio.current_time())
        event = await following.next(wait_s)
        if event is None:
            if not following.ending:
                await say(_PING)
        elif event.type == STREAM_EVENT_RUN_COMPLETED:
            assert event.result is not None  # on this type of event it is there
            await say(stream.completed(event.result))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return None
        elif event.type == STREAM_EVENT_RUN_FAILED:
            error = await following.failure()
            if not begun:
                return error
            if isinstance(error, ApiError):  # else the client has left
                await say(stream.failed(error))
            return None
        elif said := stream.next(event):
            await say(said)
