"""A run followed on behalf of one client: to its end, or until something else ends it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from nanobot.agent import STREAM_EVENT_RUN_COMPLETED, STREAM_EVENT_RUN_FAILED, StreamEvent
from nanobot.errors import NanobotError, StoreError
from nanobot.sdk import EventReader, RunStream

from ._api_error import ApiError, error_from_exception, error_from_failure
from ._client import ClientGone

__all__ = ["TERMINAL", "Following", "follow", "noted", "shutting_down"]

_log = logging.getLogger("nanobot.server")

TERMINAL: Final = frozenset({STREAM_EVENT_RUN_COMPLETED, STREAM_EVENT_RUN_FAILED})


class Following:
    """The events of a run, and the reason of its end if that is not its own. Made by `follow`."""

    def __init__(
        self,
        run: RunStream,
        events: EventReader,
        timeout_s: float,
    ) -> None:
        self._run = run
        self._events = events
        self._timeout_s = timeout_s
        self._deadline = trio.current_time() + timeout_s
        self._ended_by: Exception | None = None

    @property
    def ending(self) -> bool:
        """Whether the run is being ended from outside: there is nothing more to wait for but its last event."""
        return self._ended_by is not None

    async def next(self, within_s: float) -> StreamEvent | None:
        """The next event, or None if none came within so many seconds. Past the run's time it is cancelled."""
        within = trio.current_time() + within_s
        with trio.move_on_at(min(within, self._deadline)):
            return await anext(self._events)
        if trio.current_time() >= self._deadline:
            self._deadline = float("inf")
            await self.end(
                ApiError(
                    504,
                    f"The run did not end within {self._timeout_s:g} s.",
                    code="timeout",
                    headers={"x-should-retry": "false"},
                )
            )
        return None

    async def last(self) -> StreamEvent:
        """The event that ends the run."""
        while True:
            event = await self.next(self._timeout_s)
            if event is not None and event.type in TERMINAL:
                return event

    async def end(self, reason: Exception) -> None:
        """Cancel the run, and return when nothing of it is alive. The first reason counts."""
        if self._ended_by is None and not self._run.done:
            self._ended_by = reason
        await self._run.cancel()

    async def failure(self) -> Exception:
        """Why the run has failed: an `ApiError`, or `ClientGone`."""
        if self._ended_by is not None:
            return self._ended_by
        try:
            result = await self._run.wait()
        except Exception as error:  # noqa: BLE001 - a bug of ours, of a hook or of a tool: the client is told that there is one
            return noted(error)
        return error_from_failure(result.stop_reason, result.error, result.metadata)


@asynccontextmanager
async def follow(
    run: RunStream,
    *,
    client_gone: Callable[[], Awaitable[object]],
    hurry: Callable[[], Awaitable[object]],
    timeout_s: float,
) -> AsyncIterator[Following]:
    """Follow a run that was just started, for the length of the block; at its end nothing of the run is alive.

    Args:
      run: The run.
      client_gone: Returns when the client has left; the run is cancelled then.
      hurry: Returns when the server has no more time; the run is cancelled then.
      timeout_s: Seconds that the run may take, its time in the queue included.
    """
    async with run, trio.open_nursery() as watchers:
        following = Following(run, run.stream_events(), timeout_s)

        async def watch(wait: Callable[[], Awaitable[object]], reason: Exception) -> None:
            await wait()
            await following.end(reason)

        watchers.start_soon(watch, client_gone, ClientGone())
        watchers.start_soon(watch, hurry, shutting_down())
        yield following
        watchers.cancel_scope.cancel()


def noted(error: Exception) -> ApiError:
    """What a client is told of what a run raised. The log has what it is not told."""
    if isinstance(error, StoreError):
        _log.error("a run failed: %s", error)
    elif not isinstance(error, NanobotError | ApiError):
        _log.error("a run failed unexpectedly", exc_info=error)
    return error_from_exception(error)


def shutting_down() -> ApiError:
    """What clients are told while the server drains."""
    return ApiError(
        503,
        "The server is shutting down.",
        code="shutting_down",
        headers={"retry-after": "5", "connection": "close"},
    )
