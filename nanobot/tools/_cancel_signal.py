"""The word to a tool that nobody waits for it any more."""

from __future__ import annotations

import threading

from actors import in_async_loop
from nanobot.errors import UsageError

__all__ = ["CancelSignal"]


class CancelSignal:
    """Tells a tool that nobody waits for its call any more: the run was cancelled, or the tool's deadline has passed.

    It is for threads, which nothing can stop: a sync tool, or a thread that an async tool has started. An async tool needs
    it for nothing else, for it is cancelled itself at its next `await`. May be used in any thread, also after the call.
    """

    __slots__ = ("_event", "_requested")

    def __init__(self) -> None:
        self._requested = False
        self._event: threading.Event | None = None  # of six objects, where every call has a signal

    @property
    def requested(self) -> bool:
        """Whether it has been told; once True, always True. Costs nothing: look between pieces of work."""
        return self._requested

    def wait(self, timeout_s: float | None = None) -> bool:
        """Sleep until it is told, or for `timeout_s` seconds; return whether it has been. Blocks the thread.

        Raises:
          UsageError: This is a task of an event loop, which must not block; await something there.
        """
        if in_async_loop():
            raise UsageError(
                "context.cancel.wait() would block the event loop; an async tool is cancelled at its next await"
            )
        with _making:
            event = self._event = self._event or threading.Event()
        # `request` does it the other way around, so one of the two sees what the other did.
        return self._requested or event.wait(timeout_s)

    def request(self) -> None:
        """Tell it; for those who run tools."""
        self._requested = True
        if self._event is not None:
            self._event.set()


_making = threading.Lock()
"""Held while a signal gets the event that its waiters share."""
